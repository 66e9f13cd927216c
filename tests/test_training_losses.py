"""Losses: each equals its formula, leaves out what is not known, and says what it saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from ctscribe import ontology
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.facts import attribute_table
from ctscribe.report import Finding
from ctscribe.tensors import FindingLogits
from ctscribe.training.losses import standard_losses
from ctscribe.training.losses.consistency import ConsistencyLoss
from ctscribe.training.losses.findings import (
    AttributesLoss,
    DenseLoss,
    PresenceLoss,
    SizeLoss,
    WhereLoss,
)
from ctscribe.training.losses.report import ReportLoss

F, R = len(ontology.findings()), len(ontology.model_regions())
KINDS = list(ontology.findings())
GRID = (2, 2, 2)


@dataclass(frozen=True)
class Outputs:
    findings: FindingLogits | None = None
    text_logits: Tensor | None = None
    scale_embeddings: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    targets: Targets | None = None
    labels: Tensor | None = None


def logits(rows: int, seed: int = 0, value: float | None = None) -> FindingLogits:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        if value is not None:
            return torch.full(shape, value, requires_grad=True)
        return torch.randn(shape, generator=generator).requires_grad_()

    return FindingLogits(
        presence=draw(rows, F),
        where=draw(rows, F, R),
        size=draw(rows, F),
        attributes={name: draw(rows, F, len(values)) for name, values in attribute_table().items()},
        dense=draw(rows, F, math.prod(GRID)),
    )


NODULE = Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(9.0,), attributes=(("density", "part_solid"),))
SILENT = [
    PresenceLoss(),
    WhereLoss(),
    SizeLoss(),
    AttributesLoss(),
    DenseLoss(),
]


def flags(kind: str, *tokens: tuple[int, int, int]) -> Tensor:
    marked = torch.zeros(F, *GRID, dtype=torch.bool)
    for token in tokens:
        marked[KINDS.index(kind)][token] = True
    return marked


def outlined(*studies: tuple[list[Finding], Tensor | None]) -> Batch:
    dense = [None if d is None else d.numpy() for _, d in studies]
    return Batch(targets_from_findings([f for f, _ in studies], dense=dense))


@pytest.mark.parametrize("loss", SILENT, ids=lambda loss: type(loss).__name__)
def test_without_labels_a_loss_is_zero_and_saw_none(loss: PresenceLoss) -> None:
    unknown = Batch(targets_from_findings([[], []], exhaustive=False))
    for batch in (Batch(), unknown):
        result = loss(Outputs(logits(2)), batch)
        assert (float(result.value), result.seen) == (0.0, 0)


@pytest.mark.parametrize("loss", SILENT, ids=lambda loss: type(loss).__name__)
def test_a_study_without_labels_does_not_change_a_loss(loss: PresenceLoss) -> None:
    whole = logits(2, seed=1)
    first = FindingLogits(
        whole.presence[:1],
        whole.where[:1],
        whole.size[:1],
        {name: value[:1] for name, value in whole.attributes.items()},
        whole.dense[:1],
    )
    marks = flags("lung_nodule", (0, 0, 1))
    both = targets_from_findings([[NODULE], []], exhaustive=[True, False], dense=[marks.numpy(), None])
    alone = targets_from_findings([[NODULE]], dense=[marks.numpy()])
    two, one = loss(Outputs(whole), Batch(both)), loss(Outputs(first), Batch(alone))
    assert two.seen == one.seen == 1
    assert torch.isclose(two.value, one.value)


def test_presence_is_binary_cross_entropy() -> None:
    out = logits(2, seed=2)
    targets = targets_from_findings([[NODULE], []])
    expected = torch.nn.functional.binary_cross_entropy(out.presence.sigmoid(), targets.presence)
    assert torch.isclose(PresenceLoss()(Outputs(out), Batch(targets)).value, expected)


def test_presence_weight_counts_positives_only() -> None:
    out = logits(1, value=0.0)
    plain, heavy = (PresenceLoss(w)(Outputs(out), outlined(([NODULE], None))).value for w in (1.0, 3.0))
    assert torch.isclose(heavy - plain, torch.tensor(2 * math.log(2) / F))


def test_an_uncertain_finding_gives_no_gradient() -> None:
    out = logits(1, seed=3)
    PresenceLoss()(Outputs(out), outlined(([Finding("emphysema", "uncertain")], None))).value.backward()
    column = KINDS.index("emphysema")
    assert out.presence.grad is not None
    assert out.presence.grad[0, column] == 0
    assert (out.presence.grad[0].abs() > 0).sum() == F - 1


def test_where_learns_only_from_what_is_there() -> None:
    out = logits(1, seed=4)
    WhereLoss()(Outputs(out), outlined(([NODULE], None))).value.backward()
    assert out.where.grad is not None
    assert out.where.grad.abs().sum(dim=2)[0].nonzero().flatten().tolist() == [KINDS.index("lung_nodule")]


def test_size_costs_the_same_share_at_any_size() -> None:
    costs = []
    for size in (5.0, 50.0):
        out = replace(logits(1), size=torch.full((1, F), math.log1p(size) + 0.3))
        costs.append(float(SizeLoss()(Outputs(out), outlined(([replace(NODULE, size_mm=(size,))], None))).value))
    assert costs[0] == pytest.approx(costs[1], abs=1e-5)
    assert costs[0] == pytest.approx(0.3 - 0.05, abs=1e-5)


def test_attributes_are_cross_entropy_over_their_values() -> None:
    out = logits(1, seed=5)
    column, place = KINDS.index("lung_nodule"), attribute_table()["density"].index("part_solid")
    expected = -out.attributes["density"][0, column].log_softmax(0)[place]
    result = AttributesLoss()(Outputs(out), outlined(([NODULE], None)))
    assert torch.isclose(result.value, expected)
    assert result.seen == 1


def test_dense_weighs_small_lesions_like_large_ones() -> None:
    """A kind's loss is divided by its own positive tokens: eight marked tokens pull no harder together than one."""
    pulls = []
    for marked in ([(1, 1, 1)], [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]):
        batch = outlined(([NODULE], flags("lung_nodule", *marked)))
        out = logits(1, value=-3.0)
        DenseLoss(least=1.0)(Outputs(out), batch).value.backward()
        assert out.dense is not None
        assert out.dense.grad is not None
        pull = out.dense.grad[0, KINDS.index("lung_nodule")]
        pulls.append(float(-pull[pull < 0].sum()))
    assert pulls[0] == pytest.approx(pulls[1], rel=1e-4)


def test_dense_equals_the_published_focal_loss() -> None:
    batch = outlined(([NODULE], flags("lung_nodule", (0, 0, 0))))
    out = logits(1, seed=4)
    assert out.dense is not None
    truth = batch.targets.dense.flatten(2)
    p = out.dense.flatten(2).sigmoid()
    told = torch.where(truth > 0, p, 1 - p)
    alpha = torch.where(truth > 0, 0.25, 0.75)
    by_hand = (-alpha * (1 - told) ** 2 * told.log()).sum(2) / truth.sum(2).clamp(min=10)
    value = DenseLoss(alpha=0.25, gamma=2.0)(Outputs(out), batch).value
    assert torch.isclose(value, by_hand.mean(), rtol=1e-4)


def test_dense_skips_kinds_that_are_present_but_not_outlined() -> None:
    batch = outlined(([NODULE, Finding("cardiomegaly")], flags("lung_nodule", (0, 0, 0))))
    out = logits(1, seed=6)
    DenseLoss()(Outputs(out), batch).value.backward()
    assert out.dense is not None
    assert out.dense.grad is not None
    assert out.dense.grad[0, KINDS.index("cardiomegaly")].abs().sum() == 0
    assert out.dense.grad[0, KINDS.index("emphysema")].abs().sum() > 0


def test_focal_turns_down_what_is_easy() -> None:
    batch = outlined(([NODULE], flags("lung_nodule", (0, 0, 0))))
    out = logits(1, value=-6.0)
    assert DenseLoss(gamma=2.0)(Outputs(out), batch).value < DenseLoss(gamma=0.0)(Outputs(out), batch).value


def test_report_is_the_cross_entropy_of_the_next_token() -> None:
    text = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[-100, 3, 5, -100], [-100, -100, -100, -100]])
    result = ReportLoss()(Outputs(text_logits=text), Batch(labels=labels))
    logp = text.log_softmax(-1)
    assert torch.isclose(result.value, -(logp[0, 0, 3] + logp[0, 1, 5]) / 2)
    assert result.seen == 1


def test_report_without_a_text_is_zero() -> None:
    text = torch.randn(1, 3, 7)
    for labels in (None, torch.full((1, 3), -100)):
        result = ReportLoss()(Outputs(text_logits=text), Batch(labels=labels))
        assert (float(result.value), result.seen) == (0.0, 0)


def test_scales_that_agree_cost_less_than_scales_that_do_not() -> None:
    vectors = torch.eye(4)
    shuffled = vectors[[1, 2, 3, 0]]
    agreeing = ConsistencyLoss()(Outputs(scale_embeddings=torch.stack([vectors] * 3, 1)), Batch())
    mixed = torch.stack([vectors, shuffled, vectors], 1)
    not_agreeing = ConsistencyLoss()(Outputs(scale_embeddings=mixed), Batch())
    assert agreeing.seen == 4
    assert agreeing.value < 0.01 < not_agreeing.value


def test_blind_scales_cost_the_logarithm_of_the_batch() -> None:
    value = ConsistencyLoss()(Outputs(scale_embeddings=torch.ones(5, 3, 8)), Batch()).value
    assert torch.isclose(value, torch.tensor(math.log(5)))


def test_length_of_the_vectors_does_not_count() -> None:
    vectors = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    one, other = (ConsistencyLoss()(Outputs(scale_embeddings=v), Batch()).value for v in (vectors, 7 * vectors))
    assert torch.isclose(one, other)


def test_consistency_needs_company() -> None:
    alone = ConsistencyLoss()(Outputs(scale_embeddings=torch.randn(1, 3, 8)), Batch())
    assert (float(alone.value), alone.seen) == (0.0, 0)


def test_losses_of_half_precision_outputs_are_single_precision() -> None:
    out = logits(2, seed=8)
    half = FindingLogits(
        out.presence.bfloat16(),
        out.where.bfloat16(),
        out.size.bfloat16(),
        {n: v.bfloat16() for n, v in out.attributes.items()},
        out.dense.bfloat16() if out.dense is not None else None,
    )
    batch = outlined(([NODULE], flags("lung_nodule", (0, 0, 0))), ([], None))
    for loss in SILENT:
        assert loss(Outputs(half), batch).value.dtype == torch.float32


def test_the_standard_losses_are_all_here() -> None:
    assert set(standard_losses()) == {
        "report", "presence", "where", "size", "attributes", "dense", "consistency",
        "masks", "slots", "alignment", "relations", "priors", "slot_use", "slot_overlap",
        "routing", "change", "masked", "clip", "siglip",
    }  # fmt: skip
