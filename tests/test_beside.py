"""What is known beside the scan: laws of the parts, and phantoms that only they can tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tiny as small
from ctscribe import ontology
from ctscribe.beside import (
    CHANGES,
    InputsConfig,
    StudyBeside,
    change_between,
    history_ids,
    lab_values,
    read_labs,
)
from ctscribe.data.batch import Collate, Sample, StudyBatch
from ctscribe.errors import ConfigError, UsageError
from ctscribe.model import CTReportModel
from ctscribe.phantom import GridSpec
from ctscribe.phantom.follow_up import ambiguous, follow_up
from ctscribe.report import Finding
from ctscribe.tensors import Affine, RegionMasks, Volume
from ctscribe.training.losses.change import ChangeLoss
from ctscribe.training.losses.findings import PresenceLoss
from recipes import tiny

ALL = InputsConfig(prior=True, history=True, labs=True, drop=0.0)


def build(inputs: InputsConfig = ALL, seed: int = 0) -> CTReportModel:
    torch.manual_seed(seed)
    return CTReportModel(replace(tiny.model(), inputs=inputs), small.tokenizer()).eval()


def known(count: int = 2) -> StudyBeside:
    volume, masks = small.scans(count, seed=5)
    return StudyBeside(
        history=history_ids(["Fever.", "咳嗽，消瘦，长期吸烟。"][:count]),
        labs=lab_values([[("crp", 80.0)], [("cea", 20.0), ("crp", 2.0)]][:count]),
        prior=volume,
        prior_regions=masks,
        prior_given=torch.ones(count, dtype=torch.bool),
        days=torch.tensor([90.0, float("nan")][:count]),
    )


def open_up(model: CTReportModel) -> CTReportModel:
    """As if it had learned to listen."""
    assert model.scene.beside is not None
    torch.nn.init.normal_(model.scene.beside.listen.out.weight, std=0.5)
    return model


def first(masks: RegionMasks) -> RegionMasks:
    return replace(masks, occupancy=masks.occupancy[:1], present=masks.present[:1])


def presence(model: CTReportModel, beside: StudyBeside | None, count: int = 2) -> torch.Tensor:
    with torch.no_grad():
        return model.see(*small.scans(count), beside)[1].findings.presence


# ---------------------------------------------------------------------------------------------- laws
def test_what_is_off_costs_nothing_and_an_untrained_ear_changes_nothing() -> None:
    plain, listening = build(InputsConfig()), build()
    assert plain.scene.beside is None
    extra = [name for name in listening.state_dict() if name not in plain.state_dict()]
    assert extra
    assert all(name.startswith("scene.beside.") for name in extra)
    listening.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(presence(listening, known()), presence(plain, None))


@pytest.mark.parametrize("part", ALL.names)
def test_each_part_is_heard_and_a_study_that_lacks_it_hears_nothing(part: str) -> None:
    model = open_up(build(replace(InputsConfig(drop=0.0), **{part: True})))
    beside, silent = known(), presence(model, None)
    heard = presence(model, beside)
    assert not torch.allclose(heard[0], silent[0], atol=1e-4)
    assert beside.history is not None
    assert beside.labs is not None
    missing = replace(
        beside,
        history=beside.history * torch.tensor([[1], [0]]),
        labs=beside.labs.masked_fill(torch.tensor([[False], [True]]), float("nan")),
        prior_given=torch.tensor([True, False]),
    )
    half = presence(model, missing)
    torch.testing.assert_close(half[0], heard[0])
    torch.testing.assert_close(half[1], silent[1])


def test_a_batch_says_what_each_study_says_alone() -> None:
    model, both = open_up(build()), known()
    assert both.history is not None
    assert both.labs is not None
    volume, masks = small.scans()
    one, regions = replace(volume, hu=volume.hu[:1], spacing=volume.spacing[:1]), first(masks)
    assert both.prior is not None
    assert both.prior_regions is not None
    assert both.prior_given is not None
    assert both.days is not None
    alone = StudyBeside(
        both.history[:1, : len("Fever.")],
        both.labs[:1],
        replace(both.prior, hu=both.prior.hu[:1], spacing=both.prior.spacing[:1]),
        first(both.prior_regions),
        both.prior_given[:1],
        both.days[:1],
    )
    with torch.no_grad():
        said = model.see(one, regions, alone)[1].findings.presence
    torch.testing.assert_close(presence(model, both)[:1], said, atol=1e-5, rtol=1e-4)


def test_training_withholds_each_part_at_the_rate_asked_for() -> None:
    part = build(replace(ALL, drop=0.4)).scene.beside
    assert part is not None
    beside = StudyBeside(
        torch.ones(4000, 1, dtype=torch.long), torch.zeros(4000, 1), prior_given=torch.ones(4000, dtype=torch.bool)
    )
    assert part.withheld(beside) is beside
    torch.manual_seed(0)
    left = part.train().withheld(beside)
    assert left.history is not None
    assert left.labs is not None
    assert left.prior_given is not None
    for kept in (left.history > 0, ~left.labs.isnan(), left.prior_given):
        assert kept.float().mean().item() == pytest.approx(0.6, abs=0.03)


def test_what_a_model_does_not_read_is_refused() -> None:
    model, grid = build(InputsConfig(history=True)), tiny.model().grid
    hu = np.zeros(grid.shape, np.float32)
    matrix = np.diag([*grid.spacing[::-1], 1.0])
    regions = len(ontology.model_regions())
    arguments = (Volume(hu, Affine(matrix)), np.zeros((regions, 16, 8, 8), np.float32), np.zeros(regions, bool))
    with pytest.raises(UsageError, match="not trained to read prior and labs"):
        model.describe(*arguments, ["en"], None, known(1))


def test_a_share_is_a_share() -> None:
    with pytest.raises(ConfigError):
        InputsConfig(drop=1.0)


def test_labs_are_read_as_people_write_them_and_nothing_is_guessed() -> None:
    assert read_labs({"CRP": 10, "C反应蛋白": 20, "Hb": 130}) == (("crp", 20.0), ("haemoglobin", 130.0))
    values = lab_values([read_labs({"crp": 10})])
    assert values is not None
    assert values[0, 0].item() == 1.0
    for wrong in ({"ferritin": 3}, {"crp": "high"}, {"crp": 0}, {"crp": float("nan")}, {"crp": True}):
        with pytest.raises(UsageError):
            read_labs(wrong)


def test_changes_follow_from_two_lists_of_findings() -> None:
    def nodule(mm: float) -> tuple[Finding, ...]:
        return (Finding("lung_nodule", "present", ("right_upper_lobe",), (mm,)),)

    pairs = {(0, 9): "new", (9, 0): "resolved", (9, 9.5): "stable", (9, 12): "larger", (12, 9): "smaller"}
    for (a, b), change in pairs.items():
        assert change_between(nodule(a) if a else (), nodule(b) if b else ()) == {"lung_nodule": change}
    assert set(pairs.values()) == set(CHANGES)


# ------------------------------------------------------------------- phantoms that only they tell apart
GRID = GridSpec(tiny.model().grid.shape, tiny.model().grid.spacing)
NODULE = list(ontology.findings()).index("lung_nodule")


def sample(name: str, study: object) -> Sample:
    hu, findings = study.volume.hu, study.findings  # type: ignore[attr-defined]
    regions = len(ontology.model_regions())
    return Sample(name, hu, GRID.spacing, np.zeros((regions, 16, 8, 8), np.uint8), np.zeros(regions, bool), findings)


def learn(model: CTReportModel, batch: StudyBatch, cost: Callable[[SimpleNamespace], torch.Tensor], steps: int) -> None:
    """Only what listens learns; the scan itself is seen as before."""
    assert model.scene.beside is not None
    parameters = [*model.scene.beside.parameters(), *model.scene.findings.global_vote.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3)
    with torch.no_grad():
        visual = model.vision(batch.volume)
        beside = batch.beside
        assert beside is not None
        before = None
        if beside.prior is not None and beside.prior_regions is not None:
            before = model.scene(model.vision(beside.prior), beside.prior_regions)
    for _ in range(steps):
        scene = model.scene(visual, batch.regions, beside, before)
        loss = cost(SimpleNamespace(scene=scene, findings=scene.findings))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("part", ["history", "labs"])
def test_history_and_labs_tell_apart_what_the_voxels_cannot(part: str) -> None:
    cases = [ambiguous(seed, GRID) for seed in range(4)]
    assert np.array_equal(cases[0].study.volume.hu, cases[1].study.volume.hu)
    assert cases[0].kind != cases[1].kind
    batch = Collate()([replace(sample(c.kind, c.study), **{part: getattr(c, part)}) for c in cases])
    model = build(replace(InputsConfig(drop=0.0), **{part: True}))
    learn(model, batch, lambda out: PresenceLoss(4.0)(out, batch).value, 40)
    kinds = list(ontology.findings())
    columns = [kinds.index("consolidation"), kinds.index("mass")]
    with torch.no_grad():
        _, scene = model.see(batch.volume, batch.regions, batch.beside)
        _, blind = model.see(batch.volume, batch.regions)
    for logits, right in ((scene, 4), (blind, 2)):
        said = logits.findings.presence[:, columns].argmax(-1)
        assert int((said == torch.tensor([columns.index(kinds.index(c.kind)) for c in cases])).sum()) == right


def test_the_earlier_scan_tells_what_became_of_a_nodule() -> None:
    pairs = [follow_up(3, change, GRID) for change in ("new", "smaller", "stable")]
    now = [replace(sample(p.change, p.now), prior=sample("before", p.before), prior_days=p.days) for p in pairs]
    batch = Collate()(now)
    assert batch.targets is not None
    assert batch.targets.change is not None
    assert [CHANGES[i] for i in batch.targets.change[:, NODULE].tolist()] == [p.change for p in pairs]
    model = build(InputsConfig(prior=True, drop=0.0))
    learn(model, batch, lambda out: ChangeLoss()(out, batch).value, 40)
    with torch.no_grad():
        _, scene = model.see(batch.volume, batch.regions, batch.beside)
        _, blind = model.see(batch.volume, batch.regions)
    assert scene.change is not None
    assert scene.change[:, NODULE].argmax(-1).tolist() == batch.targets.change[:, NODULE].tolist()
    assert blind.change is None
    assert ChangeLoss()(SimpleNamespace(scene=blind), batch).seen == 0
