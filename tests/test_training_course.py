"""The course from phantoms to a model folder, at the smallest size, and the texts it teaches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import tiny as small

from ctscribe import checkpoint, ontology
from ctscribe.data.batch import Sample
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.errors import ConfigError, UsageError
from ctscribe.facts import canonical, facts_of, findings_of
from ctscribe.report.parse import parse
from ctscribe.training import course
from ctscribe.training.course import HELDOUT_SEED, VALIDATION_SEED, PhantomData, auroc
from ctscribe.training.pretraining.transfer import StartConfig
from ctscribe.training.routed import BALANCE, with_balance
from ctscribe.training.wording import WordingSamples, collate_wording, with_every_negative
from recipes import demo, tiny


def test_tiny_course_ends_in_a_model_that_describes(tmp_path) -> None:
    folder = tiny.run(tiny.config(), tmp_path / "run")
    loaded = checkpoint.load(folder)
    assert loaded.info.synthetic
    assert set(loaded.info.watermark) == set(ontology.LANGUAGES)
    assert set(loaded.thresholds.present) == set(ontology.findings())
    again = tiny.run(tiny.config(), tmp_path / "run")
    assert checkpoint.load(again).info.checkpoint_hash == loaded.info.checkpoint_hash


def test_a_routed_course_is_balanced_and_its_card_shows_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, grid = tiny.config(), tiny.model().grid
    noise, regions, cells = np.random.default_rng(0), len(ontology.model_regions()), (16, 8, 8)
    masks = np.zeros((regions, *cells), np.uint8), np.zeros(regions, bool)
    with StudyStoreWriter(tmp_path / "store", StoreLayout.current(grid.shape, cells, cells), capacity=2) as writer:
        for name, finding in (("a", small.NODULE), ("b", small.EFFUSION)):
            hu = noise.integers(-1000, 400, grid.shape, np.int16)
            writer.append(Sample(name, hu, grid.spacing, *masks, (finding,)))
    monkeypatch.setattr(course, "open_studies", lambda *_: StudyStore(tmp_path / "store"))
    monkeypatch.setattr(course, "tokenizer_of", lambda *_: small.tokenizer())
    routed = replace(config.model, encoder=replace(config.model.encoder, mapping="routed"))
    detect = replace(config.train.stages[1], steps=2)
    config = replace(config, model=routed, train=replace(config.train, stages=(detect,)))
    folder = tiny.run(config, tmp_path / "run")
    losses = [
        json.loads(line).get("losses", {}) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert any(row.get("routing") is not None for row in losses)
    rows = checkpoint.load(folder).info.results["layers_listen_to"]
    assert [row["layer"] for row in rows] == [1, 2, 3]
    assert all(sum(row[scale] for scale in ("fine", "mid", "coarse")) == pytest.approx(1, abs=1e-3) for row in rows)
    assert "| layer | fine | mid | coarse |" in (folder / "README.md").read_text(encoding="utf-8")


def test_only_stages_that_move_routers_are_balanced_and_a_named_weight_stays() -> None:
    text, detect, write = tiny.config().train.stages
    chosen = replace(detect, losses={**detect.losses, "routing": 0.0})
    frozen = replace(detect, frozen=("vision.routers.*",))
    made = with_balance((text, detect, write, chosen, frozen))
    assert [stage.losses.get("routing") for stage in made] == [None, BALANCE, None, 0.0, None]


def test_seed_ranges_of_training_validation_and_heldout_never_meet() -> None:
    data = demo.config().data
    assert data.first_seed + data.studies <= VALIDATION_SEED
    assert VALIDATION_SEED + data.validation <= HELDOUT_SEED


@pytest.mark.parametrize(
    "wrong",
    [
        {"studies": 0},
        {"validation": 0},
        {"processes": 0},
        {"longest_report": 0},
        {"variety": 7.0},
        {"crowding": 0.0},
        {"first_seed": -1},
        {"languages": ()},
        {"first_seed": VALIDATION_SEED - 1, "studies": 2},
    ],
)
def test_phantoms_that_cannot_be_drawn_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"data.{next(iter(wrong))}|reach into the seeds"):
        PhantomData(**wrong)


def test_a_plan_that_does_not_fit_the_network_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(course, "open_data", drawn)
    monkeypatch.setattr(course, "tokenizer_of", lambda *_: small.tokenizer())
    config = tiny.config()
    for wrong, words in (
        (replace(config.train, device="nonsense"), "cannot be used"),
        (replace(config.train, stages=(replace(config.train.stages[0], losses={"none": 1.0}),)), "unknown loss"),
        (replace(config.train, stages=(replace(config.train.stages[0], trainable=("lang.*",)),)), "no parameter"),
    ):
        with pytest.raises(UsageError, match=words):
            course.run(replace(config, train=wrong), tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        course.run(replace(config, start=StartConfig("nowhere.pt")), tmp_path)


def test_wording_sample_is_a_function_of_its_index_and_says_its_findings() -> None:
    free, plain = WordingSamples(3, variety=1.0), WordingSamples(3)
    for index in range(40):
        findings, text, language = free[index]
        assert free[index] == (findings, text, language)
        assert canonical(parse(text, language)) == findings
        same, plainly, _ = plain[index]
        assert same == findings
        assert canonical(parse(plainly, language)) == canonical(with_every_negative(findings))


def test_wording_batch_carries_the_facts_of_its_texts() -> None:
    samples = [WordingSamples(3)[i] for i in range(4)]
    batch = collate_wording(small.tokenizer(), 300)(samples)
    assert batch.volume is None
    assert batch.input_ids.shape == batch.labels.shape == batch.attention.shape
    for row, (findings, _, _) in enumerate(samples):
        said = tuple(f for f in findings if f.status != "absent")
        assert findings_of(batch.facts, row) == said
        assert findings_of(facts_of([findings]), 0) == said


def test_auroc_equals_counting_pairs() -> None:
    score, truth = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert auroc(score, truth) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auroc(score, np.ones(4, bool)))
