"""Every standard loss leaves out the studies that lack its labels, teaches them nothing, and says how many it saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from tests import scene_kit as kit
from torch import Tensor

from ctscribe import ontology
from ctscribe.beside import CHANGES
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.report import Finding
from ctscribe.scene.relations import RELATIONS
from ctscribe.tensors import RegionMasks, Routing
from ctscribe.training.losses import LossValue, standard_losses
from ctscribe.training.pretraining.contrast import Contrast
from ctscribe.training.pretraining.masked import Reconstruction

STUDIES = 5
LABELLED = (0, 2, 3)
"""Rows with labels of every kind; the two others have none."""
NEEDS_LABELS = (
    "report", "presence", "where", "size", "attributes", "dense", "masks", "slots", "alignment", "relations", "clip",
    "siglip", "change",
)  # fmt: skip
NEEDS_NONE = ("consistency", "priors", "slot_use", "slot_overlap", "masked", "routing")
"""They compare what the model says with itself: every study counts."""


@dataclass(frozen=True)
class Outputs(kit.Outputs):
    text_logits: Tensor
    scale_embeddings: Tensor
    contrast: Contrast
    reconstruction: Reconstruction


@dataclass(frozen=True)
class Batch:
    regions: RegionMasks
    targets: Targets
    labels: Tensor


def some(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def said() -> Outputs:
    """What a model may say about five studies, with every optional output."""
    visual, regions = kit.visual(STUDIES), labels(LABELLED).regions
    with torch.no_grad():
        scene = kit.station(slot_objects=True, relations=True)(visual, regions)
    kinds, cells = len(ontology.findings()), visual.fine.tokens.shape[1]
    scene = replace(
        scene,
        mask_logits=some(1, STUDIES, len(kit.NAMES), cells),
        change=some(2, STUDIES, kinds, len(CHANGES)),
        change_given=torch.tensor([row in LABELLED for row in range(STUDIES)]),
    )
    unit = torch.nn.functional.normalize
    return Outputs(
        visual=replace(visual, routing=Routing(some(3, STUDIES, 4, 3).softmax(-1), some(4, 1).abs().sum() + 1)),
        scene=scene,
        text_logits=some(5, STUDIES, 6, 11),
        scale_embeddings=some(6, STUDIES, 3, 8),
        contrast=Contrast(
            unit(some(7, STUDIES, 8), dim=-1),
            unit(some(8, STUDIES, 8), dim=-1),
            torch.tensor([row in LABELLED for row in range(STUDIES)]),
            torch.tensor(5.0),
            torch.tensor(-1.0),
        ),
        reconstruction=Reconstruction(
            some(9, STUDIES, cells, 12), some(10, STUDIES, cells, 12), some(11, STUDIES, cells) > 0
        ),
    )


def labels(rows: tuple[int, ...]) -> Batch:
    """Truth of some of the five studies: findings, outlines, masks, a text and what changed."""
    kinds = list(ontology.findings())
    dense = torch.zeros(STUDIES, len(kinds), *kit.FINE, dtype=torch.bool)
    dense[:, kinds.index("lung_nodule"), 2:4, 1, 1] = True
    dense[:, kinds.index("consolidation"), 5:7, 2:4, 0:2] = True
    nodule = Finding("lung_nodule", "present", ("right_upper_lobe",), (12.0,), (("density", "solid"),))
    told = [nodule, Finding("consolidation", "present", ("left_lower_lobe",))]
    known = [row in rows for row in range(STUDIES)]
    targets = targets_from_findings(
        [told if there else [] for there in known],
        exhaustive=known,
        dense=[outline if there else None for outline, there in zip(dense.numpy(), known, strict=True)],
    )
    there = torch.tensor(known)
    change = torch.full((STUDIES, len(kinds)), -1)
    change[there, :5] = 1
    masks = kit.masks(STUDIES)
    present = masks.present & there.unsqueeze(1)
    text = torch.full((STUDIES, 6), -100)
    text[there, 2:5] = torch.tensor([3, 7, 1])
    return Batch(
        RegionMasks(masks.occupancy * present[:, :, None, None, None], present, masks.names),
        replace(targets, change=change),
        text,
    )


def each(value: Any, change: Any) -> Any:
    """The same nest of dataclasses and mappings with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if dataclasses.is_dataclass(value):
        return replace(value, **{f.name: each(getattr(value, f.name), change) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {name: each(item, change) for name, item in value.items()}
    return value


def rows_of(value: Any, rows: tuple[int, ...]) -> Any:
    return each(value, lambda x: x[list(rows)] if x.ndim and len(x) == STUDIES else x)


def taught(name: str, outputs: Outputs, batch: Batch) -> tuple[LossValue, list[Tensor]]:
    """The loss, and the gradient of everything the model said that has a row for each study."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        leaves.append(x.clone().requires_grad_())
        return leaves[-1]

    result = standard_losses()[name](each(outputs, leaf), batch)
    if result.value.requires_grad:
        result.value.backward()
    return result, [leaf.grad for leaf in leaves if leaf.grad is not None]


def test_every_loss_is_here() -> None:
    assert {*NEEDS_LABELS, *NEEDS_NONE} == set(standard_losses())
    assert said().scene.relations.shape[-1] == len(RELATIONS)


@pytest.mark.parametrize("name", NEEDS_LABELS)
def test_without_labels_it_is_zero_and_saw_none(name: str) -> None:
    outputs = said()
    contrast = replace(outputs.contrast, paired=torch.zeros(STUDIES, dtype=torch.bool))
    nowhere = torch.zeros_like(outputs.scene.region_present)
    nothing = torch.zeros_like(outputs.scene.change_given)
    scene = replace(outputs.scene, region_present=nowhere, change_given=nothing)
    result, gradients = taught(name, replace(outputs, contrast=contrast, scene=scene), labels(()))
    assert (result.value.item(), result.seen) == (0.0, 0)
    assert all(bool((gradient == 0).all()) for gradient in gradients)


@pytest.mark.parametrize("name", NEEDS_LABELS)
def test_a_mixed_batch_is_worth_what_its_labelled_studies_are_worth(name: str) -> None:
    mixed, gradients = taught(name, said(), labels(LABELLED))
    alone, _ = taught(name, rows_of(said(), LABELLED), rows_of(labels(LABELLED), LABELLED))
    assert mixed.seen == alone.seen == len(LABELLED)
    assert mixed.value.item() > 0
    torch.testing.assert_close(mixed.value, alone.value)
    assert gradients
    rest = [row for row in range(STUDIES) if row not in LABELLED]
    for gradient in gradients:
        assert bool(torch.isfinite(gradient).all())
        if gradient.ndim and len(gradient) == STUDIES:
            assert bool((gradient[rest] == 0).all()), "a study without labels was taught something"


@pytest.mark.parametrize("name", NEEDS_NONE)
def test_what_needs_no_labels_sees_every_study(name: str) -> None:
    without, gradients = taught(name, said(), labels(()))
    assert without.seen == STUDIES
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    torch.testing.assert_close(without.value, taught(name, said(), labels(LABELLED))[0].value)
