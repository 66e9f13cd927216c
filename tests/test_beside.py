"""What is known beside the scan: laws of the parts, and phantoms that only they can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    change_labels,
    history_ids,
    lab_values,
    read_labs,
)
from ctscribe.data.batch import Collate, Sample
from ctscribe.data.targets import targets_from_findings
from ctscribe.data.withhold import Withhold
from ctscribe.errors import ConfigError, UsageError
from ctscribe.model import CTReportModel
from ctscribe.phantom import GridSpec
from ctscribe.phantom.follow_up import ambiguous, follow_up
from ctscribe.report import Finding
from ctscribe.scene.beside import ChangeHead, When
from ctscribe.tensors import Affine, FindingLogits, RegionMasks, Volume
from ctscribe.training.losses.change import ChangeLoss
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
    whole = sample("a", ambiguous(0, GRID).study)
    whole = replace(whole, history="Fever.", labs=(("crp", 80.0),), prior=whole, prior_days=9.0)
    rng, withhold = np.random.default_rng(0), Withhold(prior=0.2, history=0.4, labs=0.6)
    seen = [withhold(whole, rng) for _ in range(2000)]
    shares = [np.mean([getattr(s, part) == gone for s in seen]) for part, gone in (("history", ""), ("labs", ()))]
    assert shares == pytest.approx([0.4, 0.6], abs=0.04)
    assert np.mean([s.prior is None for s in seen]) == pytest.approx(0.2, abs=0.04)
    assert all((s.prior is None) == (s.prior_days is None) for s in seen)
    assert Withhold(0, 0, 0)(whole, rng) is whole


def test_what_a_model_does_not_read_is_refused() -> None:
    model, grid = build(InputsConfig(history=True)), tiny.model().grid
    hu = np.zeros(grid.shape, np.float32)
    matrix = np.diag([*grid.spacing[::-1], 1.0])
    regions = len(ontology.model_regions())
    arguments = (Volume(hu, Affine(matrix)), np.zeros((regions, 16, 8, 8), np.float32), np.zeros(regions, bool))
    with pytest.raises(UsageError, match="not trained to read prior and labs"):
        model.describe(*arguments, ["en"], None, known(1))


def test_a_share_is_a_share() -> None:
    for name in ("drop", "drop_prior", "drop_history", "drop_labs"):
        with pytest.raises(ConfigError, match=f"inputs.{name} is a share"):
            InputsConfig(**{name: 1.1})  # type: ignore[arg-type]


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


def learn(parameters: Iterable[torch.nn.Parameter], cost: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(steps):
        loss = cost()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("part", ["history", "labs"])
def test_history_and_labs_tell_apart_what_the_voxels_cannot(part: str) -> None:
    cases = [ambiguous(seed, GRID) for seed in range(2)]
    assert np.array_equal(cases[0].study.volume.hu, cases[1].study.volume.hu)
    assert cases[0].kind != cases[1].kind
    batch = Collate()([replace(sample(c.kind, c.study), **{part: getattr(c, part)}) for c in cases])
    model = build(replace(InputsConfig(drop=0.0), **{part: True}))
    assert batch.beside is not None
    beside, ear = batch.beside, model.scene.beside
    assert ear is not None
    with torch.no_grad():
        graph = model.see(batch.volume, batch.regions)[1].graph
    truth, opinion = torch.tensor([0, 1]), torch.nn.Linear(graph.shape[-1], 2)

    def said(nodes: torch.Tensor) -> torch.Tensor:
        return opinion(nodes.mean(1))

    parameters = [*ear.parameters(), *opinion.parameters()]
    learn(parameters, lambda: torch.nn.functional.cross_entropy(said(ear(graph, beside, None)), truth), 30)
    with torch.no_grad():
        assert said(ear(graph, beside, None)).argmax(-1).tolist() == [0, 1]
        deaf = said(graph)
    torch.testing.assert_close(deaf[0], deaf[1])


def seen(findings: list[tuple[Finding, ...]]) -> FindingLogits:
    """What a detector that misses nothing would say."""
    targets = targets_from_findings(findings)
    dense = torch.full((*targets.presence.shape, 8), -8.0)
    dense[..., 0] = targets.presence * 12 - 8
    return FindingLogits(targets.presence * 8 - 4, targets.where, targets.size, {}, dense)


def test_both_scans_together_tell_what_became_of_a_nodule_of_any_size() -> None:
    torch.manual_seed(0)
    head, when = ChangeHead(32), When(32)
    sizes = np.random.default_rng(0).uniform(4, 30, (240, 2)).round()
    sizes[::4, 0], sizes[1::4, 1], sizes[2::4, 0] = 0, 0, sizes[2::4, 1]
    scans: list[list[tuple[Finding, ...]]] = [
        [(Finding("lung_nodule", "present", ("right_upper_lobe",), (mm,)),) if mm else () for mm in column]
        for column in sizes.T
    ]
    labels = change_labels([change_between(a, b) for a, b in zip(*scans, strict=True)])
    assert labels is not None
    assert set(labels[:, NODULE].tolist()) == set(range(len(CHANGES)))
    before, now, days = seen(scans[0]), seen(scans[1]), torch.full((240,), 90.0)
    outputs = SimpleNamespace(scene=None)

    def cost() -> torch.Tensor:
        given = torch.arange(240) < 160
        outputs.scene = SimpleNamespace(change=head(now, before, when(days)), change_given=given, graph=None)
        value = ChangeLoss()(outputs, SimpleNamespace(targets=SimpleNamespace(change=labels)))
        assert value.seen == 160
        return value.value

    learn([*head.parameters(), *when.parameters()], cost, 150)
    right = outputs.scene.change[:, NODULE].argmax(-1) == labels[:, NODULE]
    assert right[160:].float().mean().item() > 0.85


def test_an_earlier_phantom_travels_with_its_study_and_says_what_became_of_it() -> None:
    pair = follow_up(3, "larger", GRID)
    late = replace(sample("now", pair.now), prior=sample("before", pair.before), prior_days=pair.days)
    batch = Collate()([late, sample("alone", pair.now)])
    assert batch.beside is not None
    assert batch.beside.prior_given is not None
    assert batch.beside.prior_given.tolist() == [True, False]
    assert batch.targets is not None
    assert batch.targets.change is not None
    assert batch.targets.change[:, NODULE].tolist() == [CHANGES.index("larger"), -1]
    model = build(InputsConfig(prior=True, drop=0.0))
    with torch.no_grad():
        _, scene = model.see(batch.volume, batch.regions, batch.beside)
    assert scene.change_given is not None
    assert ChangeLoss()(SimpleNamespace(scene=scene), batch).seen == 1


def test_what_is_followed_up_is_outlined_where_the_scans_differ() -> None:
    new, grown = (follow_up(5, change, GRID, "mass") for change in ("new", "larger"))
    assert new.before.lesions == ()
    ball, smaller, larger = (study.lesion_masks[1] for study in (new.now, grown.before, grown.now))
    assert smaller.mask.sum() < larger.mask.sum()
    changed = new.before.volume.hu != new.now.volume.hu
    assert changed[ball.slices][ball.mask].mean() > 0.9
    assert changed.sum() < 8 * ball.mask.sum() + 64
    assert [f.size_mm for f in grown.now.findings[:1]] == [lesion.size_mm for lesion in grown.now.lesions]
    column = list(ontology.findings()).index("mass")
    assert new.now.dense_kinds()[column].sum() == ball.mask.sum()


def test_only_what_can_be_followed_up_is() -> None:
    with pytest.raises(UsageError, match="a cyst cannot be followed up"):
        follow_up(5, "new", GRID, "cyst")
