"""Slots: order means nothing, groups keep to their scale, parents gather children, collapse is a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests import scene_kit as kit

from ctscribe.scene.collapse import slot_health
from ctscribe.scene.objects import ObjectHead
from ctscribe.scene.slots import ScaledSlots, SlotAttention, SlotParents, on_grid_of


def test_groups_parents_and_objects_are_permutation_equivariant() -> None:
    torch.manual_seed(0)
    slots = ScaledSlots(kit.WIDTHS, 16, 6, ("fine", "coarse")).eval()
    parents, head = SlotParents(16, 2).eval(), ObjectHead(16)
    visual, order = kit.visual(), torch.tensor([2, 0, 1])
    found, masks = slots(visual)
    with torch.no_grad():
        slots.groups["coarse"].start.copy_(slots.groups["coarse"].start[order])
    turned, turned_masks = slots(visual)
    whole = torch.cat((torch.arange(3), 3 + order))
    torch.testing.assert_close(turned, found[:, whole], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turned_masks, masks[:, whole], atol=1e-5, rtol=1e-4)
    above, _, shares = parents(found, masks)
    above_turned, _, shares_turned = parents(turned, turned_masks)
    torch.testing.assert_close(above, above_turned, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(shares[:, :, whole], shares_turned, atol=1e-4, rtol=1e-3)
    boxes, kinds = head(found, masks, visual.mid.centres)
    boxes_turned, kinds_turned = head(turned, turned_masks, visual.mid.centres)
    torch.testing.assert_close(boxes[:, whole], boxes_turned, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(kinds[:, whole], kinds_turned, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("scale", ["fine", "mid", "coarse"])
def test_a_group_looks_at_its_scale_only(scale: str) -> None:
    scene, visual = kit.station(slot_scales=(scale,)), kit.visual()
    before = scene(visual, kit.masks()).slots
    for name in ("fine", "mid", "coarse"):
        tokens = getattr(visual, name)
        louder = replace(visual, **{name: tokens.map(tokens.tokens * 3 + 1)})
        same = torch.equal(before, scene(louder, kit.masks()).slots)
        assert same == (name != scale)


def test_every_group_and_every_level_explains_every_token_once() -> None:
    scene = kit.station(slots=7, slot_scales=("fine", "mid", "coarse"), slot_parents=2)
    found = scene(kit.visual(), kit.masks())
    assert found.slot_masks.shape == (2, 9, kit.visual().mid.tokens.shape[1])
    groups = found.slot_masks.split((3, 2, 2, 2), dim=1)
    for masks in groups[:3]:
        torch.testing.assert_close(masks.sum(1), torch.ones(2, 16), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(groups[3].sum(1), torch.full((2, 16), 3.0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.slot_parents.sum(1), torch.ones(2, 7), atol=1e-5, rtol=1e-4)


def test_masks_move_between_grids_without_loss() -> None:
    visual = kit.visual()
    fine = torch.rand(2, 3, visual.fine.tokens.shape[1])
    moved = on_grid_of(visual.mid, fine, visual.fine.grid)
    torch.testing.assert_close(moved.mean(-1), fine.mean(-1))
    coarse = torch.rand(2, 3, visual.coarse.tokens.shape[1])
    torch.testing.assert_close(on_grid_of(visual.mid, coarse, visual.coarse.grid).mean(-1), coarse.mean(-1))


def test_more_steps_refine_with_the_same_weights() -> None:
    torch.manual_seed(0)
    short = SlotAttention(12, 16, slots=4, steps=1).eval()
    long = SlotAttention(12, 16, slots=4, steps=3).eval()
    long.load_state_dict(short.state_dict())
    tokens, valid = torch.randn(1, 20, 12), torch.ones(1, 20, dtype=torch.bool)
    slots, _ = short(tokens, valid)
    for _ in range(2):
        slots, _ = short(tokens, valid, slots)
    torch.testing.assert_close(long(tokens, valid)[0], slots)


def test_collapse_is_a_number() -> None:
    masks = torch.zeros(3, 4, 8)
    masks[0, :, :] = torch.eye(4).repeat_interleave(2, 1)  # each its own two tokens
    masks[1, :, :] = 0.25  # all the same
    masks[2, 0, :] = 1  # one has everything
    health = slot_health(masks)
    torch.testing.assert_close(health.effective, torch.tensor([4.0, 4.0, 1.0]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(health.overlap, torch.tensor([0.0, 1.0, 0.0]))


def test_noise_on_the_starts_is_for_training_only() -> None:
    scene, visual, masks = kit.station(slot_noise=0.5), kit.visual(), kit.masks()
    assert torch.equal(scene(visual, masks).slots, scene(visual, masks).slots)
    scene.train()
    assert not torch.equal(scene(visual, masks).slots, scene(visual, masks).slots)


@pytest.mark.parametrize("parents", [0, 2])
def test_boxes_are_measured_on_the_grid_that_slots_look_at(parents: int) -> None:
    scene = kit.station(slot_scales=("fine",), slot_objects=True, slot_parents=parents)
    visual = kit.visual()
    found = scene(visual, kit.masks())
    slots, own = scene.slot_attention(visual.fine.tokens, visual.fine.valid)
    boxes, _ = scene.objects(slots, own, visual.fine.centres)
    torch.testing.assert_close(found.slot_boxes[:, :4], boxes, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.slot_masks[:, :4], on_grid_of(visual.mid, own, visual.fine.grid))
    assert found.slot_boxes.shape[1] == 4 + parents
