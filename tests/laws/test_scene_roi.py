"""ROIAlign in three dimensions: equals a loop over sample points, and what a mask leaves out is not heard."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ctscribe.scene.regions import RegionPool, masked_mean
from ctscribe.scene.roi import align_weights, boxes_of, roi_align
from ctscribe.tensors import ScaleTokens

GRID = (4, 3, 5)
CELLS = 60


def example(seed: int = 0, channels: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, CELLS, channels, generator=generator, dtype=dtype)
    low = torch.rand(2, 2, 3, generator=generator, dtype=dtype) * 1.5
    high = low + 0.7 + torch.rand(2, 2, 3, generator=generator, dtype=dtype) * 1.4
    masks = torch.rand(2, 2, CELLS, generator=generator, dtype=dtype)
    return tokens, torch.cat((low, high), -1), masks


def at_point(point: list[float], mask: Tensor) -> dict[int, float]:
    """Trilinear weights of the cells around one point, as far as they are in the grid, times the mask."""
    axes = []
    for value, size in zip(point, GRID, strict=True):
        first = math.floor(value - 0.5)
        share = value - 0.5 - first
        axes.append([(i, s) for i, s in ((first, 1 - share), (first + 1, share)) if 0 <= i < size])
    found: dict[int, float] = {}
    for (t, a), (h, b), (w, c) in itertools.product(*axes):
        cell = (t * GRID[1] + h) * GRID[2] + w
        found[cell] = found.get(cell, 0.0) + a * b * c * float(mask[cell])
    return found


def by_loop(tokens: Tensor, box: Tensor, mask: Tensor, bins: int, samples: int) -> Tensor:
    """(bins^3, c): every sample point of every bin by hand."""
    rows = []
    for cell in itertools.product(range(bins), repeat=3):
        total, weight = torch.zeros(tokens.shape[-1]), 0.0
        for step in itertools.product(range(samples), repeat=3):
            point = []
            for axis in range(3):
                low, high = float(box[axis]), float(box[3 + axis])
                size = (high - low) / bins
                point.append(low + size * (cell[axis] + (step[axis] + 0.5) / samples))
            for index, share in at_point(point, mask).items():
                total, weight = total + share * tokens[index], weight + share
        rows.append(total / weight)
    return torch.stack(rows)


@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_a_loop_over_sample_points(masked: bool) -> None:
    tokens, boxes, masks = example()
    given = masks if masked else None
    bins = roi_align(tokens, GRID, boxes, bins=(2, 2, 2), samples=2, masks=given)
    for b, r in itertools.product(range(2), range(2)):
        mask = masks[b, r] if masked else torch.ones(CELLS)
        torch.testing.assert_close(bins[b, r], by_loop(tokens[b], boxes[b, r], mask, 2, 2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_a_constant_stays_the_constant(masked: bool) -> None:
    _, boxes, masks = example()
    masks[:, :, :40] = 0  # whole bins without any mask
    bins = roi_align(torch.full((2, CELLS, 3), 7.5), GRID, boxes, masks=masks if masked else None)
    torch.testing.assert_close(bins, torch.full_like(bins, 7.5))


def test_gradients_of_features_boxes_and_masks_are_right() -> None:
    tokens, boxes, masks = example(1, channels=2, dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in (tokens, boxes, masks))
    assert torch.autograd.gradcheck(
        lambda t, b, m: roi_align(t, GRID, b, bins=(2, 1, 2), samples=2, masks=m), inputs, atol=1e-6
    )


def test_a_soft_mask_of_zeros_and_ones_is_the_hard_mask() -> None:
    """The mean is that of the cells inside, ROIAlign that of a loop over inside cells, and the outside is silent."""
    tokens, _, _ = example()
    mask = torch.zeros(2, 1, *GRID)
    mask[:, :, 1:3, 0:2, 2:5] = 1
    flat = mask.flatten(2)
    box = boxes_of(flat, GRID)
    assert box[0, 0].tolist() == [1, 0, 2, 3, 2, 5]
    aligned = roi_align(tokens, GRID, box, bins=(2, 2, 1), samples=3, masks=flat)
    hard = flat[0, 0] > 0
    cube = roi_align(tokens, GRID, box, bins=(2, 2, 2), samples=2, masks=flat)
    torch.testing.assert_close(cube[0, 0], by_loop(tokens[0], box[0, 0], hard, 2, 2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(masked_mean(tokens, flat)[0][0, 0], tokens[0, hard].mean(0))
    loud = tokens + 100 * (1 - flat.transpose(1, 2))
    torch.testing.assert_close(roi_align(loud, GRID, box, bins=(2, 2, 1), samples=3, masks=flat), aligned)


def test_weights_sum_to_one_and_an_empty_mask_gives_nothing() -> None:
    _, boxes, masks = example()
    masks[0, 1] = 0
    sums = align_weights(boxes, GRID, (2, 2, 2), 4, masks).sum(-1)
    torch.testing.assert_close(sums[0, 0], torch.ones(8))
    assert float(sums[0, 1].abs().max()) == 0
    assert boxes_of(masks, GRID)[0, 1].tolist() == [0, 0, 0, *GRID]


@pytest.mark.parametrize("pooling", ["mean", "align"])
def test_padding_and_what_lies_outside_the_mask_are_not_heard(pooling: str) -> None:
    torch.manual_seed(0)
    pool = RegionPool(3, 2, pooling=pooling)
    tokens, _, masks = example()
    valid = torch.ones(2, CELLS, dtype=torch.bool)
    valid[:, 45:] = False
    masks = masks * (masks > 0.3) * valid.unsqueeze(1)
    quiet = masks.sum(1) == 0
    places = torch.randn(2, CELLS, 3)
    before = pool(ScaleTokens(tokens, GRID, places, valid), masks)[0]
    after = pool(ScaleTokens(tokens + 50 * quiet.unsqueeze(-1), GRID, places, valid), masks)[0]
    assert bool(quiet[:, :45].any())
    torch.testing.assert_close(before, after)
