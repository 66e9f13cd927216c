"""Losses of the scene: each equals its formula, leaves out what is not known, and teaches what it says it teaches."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests import scene_kit as kit
from tests.scene_kit import Batch, Outputs
from torch import Tensor

from ctscribe import ontology
from ctscribe.data.objects import objects_of
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.report import Finding
from ctscribe.scene.regions import occupancy_on
from ctscribe.scene.relations import RELATIONS
from ctscribe.tensors import VisualTokens
from ctscribe.training.losses.alignment import AlignmentLoss, leaf_regions
from ctscribe.training.losses.edges import EdgeLoss
from ctscribe.training.losses.masks import MaskLoss, dice_loss
from ctscribe.training.losses.priors import PriorsLoss
from ctscribe.training.losses.slots import SlotLoss, boxes_in_mm, generalised_iou, match

KINDS = list(ontology.findings())
PLACE = {name: i for i, name in enumerate(kit.NAMES)}


def outputs(visual: VisualTokens | None = None, **changes: Any) -> Outputs:
    """What a scene of zeros says, with some of it changed."""
    visual = visual or kit.visual()
    with torch.no_grad():
        scene = kit.station(slot_objects=True, relations=True)(visual, kit.masks())
    return Outputs(visual, replace(scene, **changes))


def outlined(*studies: dict[str, tuple[slice, slice, slice]] | None) -> Targets:
    """Targets with lesions drawn as boxes of tokens, None for a study without outlines."""
    dense = []
    for study in studies:
        flags = torch.zeros(len(KINDS), *kit.FINE, dtype=torch.bool)
        for kind, where in (study or {}).items():
            flags[KINDS.index(kind)][where] = True
        dense.append(None if study is None else flags.numpy())
    found = [[Finding(kind) for kind in study or {}] for study in studies]
    return targets_from_findings(found, dense=dense)


BOX = (slice(2, 4), slice(1, 2), slice(0, 3))
FAR = (slice(6, 8), slice(3, 4), slice(3, 4))


# -------------------------------------------------------------------------------------------- objects
def test_objects_are_the_connected_pieces_of_the_most_specific_kind() -> None:
    targets = outlined({"consolidation": BOX, "lung_opacity": BOX, "lung_nodule": FAR}, {}, None)
    found = objects_of(targets)
    assert found is not None
    assert [[KINDS[i] for i in row if i >= 0] for row in found.kind.tolist()] == [
        ["consolidation", "lung_nodule"],
        [],
        [],
    ]
    assert found.boxes[0, 0].tolist() == [2, 1, 0, 4, 2, 3]
    assert float(found.masks[0, 0].sum()) == 6
    assert found.known.tolist() == [True, True, False]
    two = outlined({"lung_nodule": FAR})
    two.dense[0, KINDS.index("lung_nodule"), 0, 0, 0] = 1
    assert (objects_of(two).kind >= 0).sum() == 2
    assert (objects_of(two, most=1).masks.sum((2, 3, 4))).tolist() == [[2.0]]
    assert objects_of(outlined(None)) is None


def test_boxes_become_millimetres_of_the_grid() -> None:
    box = boxes_in_mm(torch.tensor([[0.0, 0, 0, *kit.FINE], [2, 1, 0, 4, 2, 3]]), kit.visual().fine, 0)
    assert box[0].tolist() == [-40, -40, -40, 40, 40, 40]
    assert box[1].tolist() == [-20, -20, -40, 0, 0, 20]


def test_generalised_iou_of_boxes() -> None:
    one = torch.tensor([0.0, 0, 0, 2, 2, 2])
    assert float(generalised_iou(one, one)) == 1
    half = torch.tensor([0.0, 0, 0, 2, 2, 4])
    assert float(generalised_iou(one, half)) == pytest.approx(0.5)
    away = torch.tensor([0.0, 0, 2, 2, 2, 4])
    assert float(generalised_iou(one, away)) == pytest.approx(0.0)
    gap = torch.tensor([0.0, 0, 4, 2, 2, 6])
    assert float(generalised_iou(one, gap)) == pytest.approx(-1 / 3)


def test_the_assignment_is_the_cheapest_of_all() -> None:
    cost = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    slots, objects = match(cost)
    best = min(sum(float(cost[s, o]) for o, s in enumerate(order)) for order in itertools.permutations(range(5), 3))
    assert float(cost[slots, objects].sum()) == pytest.approx(best)
    assert match(torch.rand(4, 0))[0].tolist() == []


# ---------------------------------------------------------------------------------------------- slots
def perfect(targets: Targets, order: tuple[int, ...] = (0, 1, 2, 3)) -> Outputs:
    """Slots that hold the first study's lesions exactly, in some order."""
    out = outputs()
    found = objects_of(targets)
    boxes, kinds = torch.zeros(2, 4, 6), torch.full((2, 4, len(KINDS) + 1), -10.0)
    masks = torch.zeros_like(out.scene.slot_masks)
    kinds[..., -1] = 10
    for slot, place in enumerate(order):
        if place < int((found.kind[0] >= 0).sum()):
            boxes[0, slot] = boxes_in_mm(found.boxes[0, place : place + 1], out.visual.fine, 0)[0]
            pooled = torch.nn.functional.adaptive_avg_pool3d(found.masks[0, place : place + 1], out.visual.mid.grid)
            masks[0, slot] = pooled.flatten()
            kinds[0, slot, found.kind[0, place]], kinds[0, slot, -1] = 10, -10
    scene = replace(out.scene, slot_boxes=boxes, slot_kinds=kinds, slot_masks=masks)
    return replace(out, scene=scene)


def test_slots_that_hold_the_lesions_cost_nothing_in_any_order() -> None:
    targets = outlined({"consolidation": BOX, "lung_nodule": FAR}, {})
    values = [
        float(SlotLoss()(perfect(targets, order), Batch(kit.masks(), targets)).value)
        for order in itertools.permutations(range(4))
    ]
    assert max(values) < 1e-3


@pytest.mark.parametrize("part", ["slot_boxes", "slot_masks", "slot_kinds"])
def test_every_part_of_a_slot_counts(part: str) -> None:
    targets = outlined({"consolidation": BOX, "lung_nodule": FAR}, {})
    right = perfect(targets)
    wrong = replace(right, scene=replace(right.scene, **{part: getattr(right.scene, part).roll(1, dims=-1) * 0.5}))
    assert float(SlotLoss()(wrong, Batch(kit.masks(), targets)).value) > 0.05


def test_studies_without_outlines_teach_slots_nothing() -> None:
    for targets in (None, outlined(None, None)):
        result = SlotLoss()(outputs(), Batch(kit.masks(), targets))
        assert (float(result.value), result.seen) == (0.0, 0)
    both = outlined({"lung_nodule": FAR}, None)
    assert SlotLoss()(outputs(), Batch(kit.masks(), both)).seen == 1


def test_boxes_without_outlines_teach_boxes_and_kinds_but_no_masks() -> None:
    outlines = outlined({"consolidation": BOX, "lung_nodule": FAR}, {})
    found, right = objects_of(outlines), perfect(outlines)
    boxes = torch.stack([boxes_in_mm(b, right.visual.fine, 0) for b in found.boxes])
    boxed = replace(outlined(None, None), boxes=boxes, box_kinds=found.kind)
    result = SlotLoss()(right, Batch(kit.masks(), boxed))
    assert result.seen == 1  # a study without boxes may still have lesions
    assert float(result.value) < 1e-3
    noise = replace(right, scene=replace(right.scene, slot_masks=torch.rand_like(right.scene.slot_masks)))
    assert torch.equal(SlotLoss()(noise, Batch(kit.masks(), boxed)).value, result.value)
    away = replace(right, scene=replace(right.scene, slot_boxes=right.scene.slot_boxes + 30))
    assert float(SlotLoss()(away, Batch(kit.masks(), boxed)).value) > 0.5
    assert not bool((EdgeLoss().truth(right, Batch(kit.masks(), boxed))[:, len(kit.NAMES) :] >= 0).any())


def test_gradient_descent_brings_a_box_to_its_lesion() -> None:
    targets = outlined({"lung_nodule": FAR}, {})
    out = outputs()
    boxes = out.scene.slot_boxes.clone().requires_grad_()
    optimizer = torch.optim.Adam([boxes], lr=4.0)
    for _ in range(60):
        loss = SlotLoss()(replace(out, scene=replace(out.scene, slot_boxes=boxes)), Batch(kit.masks(), targets))
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    wanted = boxes_in_mm(objects_of(targets).boxes[0, :1], out.visual.fine, 0)
    assert float(generalised_iou(boxes[0].detach(), wanted).max()) > 0.6


# ---------------------------------------------------------------------------------------------- masks
def test_dice_is_zero_for_equal_masks_and_one_for_disjoint_ones() -> None:
    a = torch.tensor([1.0, 0.5, 0, 0])
    assert float(dice_loss(a, a)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(a, a.flip(0))) == pytest.approx(1, abs=1e-3)


def test_own_masks_learn_the_given_ones_and_absent_masks_teach_nothing() -> None:
    regions, visual = kit.masks(), kit.visual()
    hard = replace(regions, occupancy=(regions.occupancy > 0.6).float())
    truth = occupancy_on(hard, kit.FINE)
    right, wrong = 40 * (truth - 0.5), -40 * (truth - 0.5)
    values = [float(MaskLoss()(outputs(mask_logits=x), Batch(hard)).value) for x in (right, wrong)]
    assert values[0] < 1e-3
    assert values[1] > 1
    # Region 3 is absent: whatever is said about it costs nothing.
    loud = right.clone()
    loud[:, 3] = 30
    assert float(MaskLoss()(outputs(mask_logits=loud), Batch(hard)).value) == pytest.approx(values[0])
    none = replace(hard, present=torch.zeros_like(hard.present))
    assert MaskLoss()(outputs(visual, mask_logits=right), Batch(none)).seen == 0


# ------------------------------------------------------------------------------------------ alignment
def aligned(masks: Tensor) -> float:
    regions = kit.masks()
    occupancy = torch.zeros_like(regions.occupancy)
    for step, name in enumerate(("right_upper_lobe", "left_upper_lobe", "heart", "thyroid")):
        occupancy[:, PLACE[name], 2 * step : 2 * step + 2] = 1
    present = occupancy.flatten(2).any(-1)
    return float(
        AlignmentLoss()(outputs(slot_masks=masks), Batch(replace(regions, occupancy=occupancy, present=present))).value
    )


def test_alignment_is_what_slots_leave_open_about_the_region() -> None:
    own = torch.eye(4).repeat_interleave(4, 1).expand(2, -1, -1)  # mid grid (4, 2, 2): one slot a layer
    assert aligned(own) == pytest.approx(0, abs=1e-3)
    assert aligned(own[:, torch.tensor([2, 0, 3, 1])]) == pytest.approx(0, abs=1e-3)
    assert aligned(torch.full((2, 4, 16), 0.25)) == pytest.approx(1, abs=1e-3)
    one = torch.zeros(2, 4, 16)
    one[:, 0] = 1
    assert aligned(one) == pytest.approx(1, abs=1e-3)
    half = torch.cat((torch.eye(2).repeat_interleave(8, 1), torch.zeros(2, 16))).expand(2, -1, -1)
    assert aligned(half) == pytest.approx(0.5, abs=1e-3)
    none = replace(kit.masks(), present=torch.zeros_like(kit.masks().present))
    assert AlignmentLoss()(outputs(), Batch(none)).seen == 0
    assert "right_lung" not in leaf_regions(kit.NAMES)
    assert {"heart", "right_upper_lobe", "ribs"} <= set(leaf_regions(kit.NAMES))


# ---------------------------------------------------------------------------------------------- edges
def test_edges_know_anatomy_and_where_a_matched_lesion_lies() -> None:
    targets = outlined({"lung_nodule": (slice(0, 2), slice(0, 2), slice(0, 2))}, None)
    regions = kit.masks()
    occupancy = torch.zeros_like(regions.occupancy)
    occupancy[:, PLACE["right_upper_lobe"], :4] = 1
    occupancy[:, PLACE["right_pleura"], 4:6] = 1
    present = occupancy.flatten(2).any(-1)
    given = replace(regions, occupancy=occupancy, present=present)
    visual = kit.visual()
    with torch.no_grad():
        scene = kit.station(slot_objects=True, relations=True)(visual, given)
    out = Outputs(visual, scene)
    truth = EdgeLoss().truth(out, Batch(given, targets))
    lobe, pleura = PLACE["right_upper_lobe"], PLACE["right_pleura"]
    assert int(truth[0, lobe, pleura]) == RELATIONS.index("none")
    assert int(truth[0, lobe, PLACE["right_lung"]]) == -1  # the lung has no mask here
    slots = truth[0, len(kit.NAMES) :, : len(kit.NAMES)]
    (row,) = (
        (slots >= 0).any(1).nonzero().flatten().tolist()
    )  # one slot holds the lesion, of the others nothing is known
    assert RELATIONS[int(slots[row, lobe])] == "inside"
    assert RELATIONS[int(slots[row, pleura])] == "none"
    assert RELATIONS[int(truth[0, lobe, len(kit.NAMES) + row])] == "encloses"
    assert int(truth.diagonal(dim1=1, dim2=2).max()) == -1
    assert not bool((truth[1, len(kit.NAMES) :] >= 0).any())
    right = torch.nn.functional.one_hot(truth.clamp_min(0), len(RELATIONS)).float() * 20
    assert float(EdgeLoss()(replace(out, scene=replace(scene, relations=right)), Batch(given, targets)).value) < 1e-3
    assert float(EdgeLoss()(replace(out, scene=replace(scene, relations=-right)), Batch(given, targets)).value) > 1


# --------------------------------------------------------------------------------------------- priors
def test_priors_punish_attention_along_forbidden_edges_and_forbidding_them_ends_it() -> None:
    visual, regions = kit.visual(), kit.masks()
    with torch.no_grad():
        free, bound = (kit.station(priors=p)(visual, regions) for p in (False, True))
    only = {}
    for name, scene in (("free", free), ("bound", bound)):
        with_it, without = (float(PriorsLoss(w)(Outputs(visual, scene), Batch(regions)).value) for w in (1.0, 0.0))
        only[name] = with_it - without
    assert only["free"] > 0.01
    assert only["bound"] == pytest.approx(0, abs=1e-6)
