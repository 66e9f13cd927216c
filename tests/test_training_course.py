"""The course from phantoms to a model folder, at the smallest size, and the texts it teaches."""

from __future__ import annotations

import numpy as np
import pytest
from tests import tiny as small

from ctscribe import checkpoint, ontology
from ctscribe.facts import canonical, facts_of, findings_of
from ctscribe.report.parse import parse
from ctscribe.training.course import HELDOUT_SEED, VALIDATION_SEED, auroc
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


def test_seed_ranges_of_training_validation_and_heldout_never_meet() -> None:
    data = demo.config().data
    assert data.first_seed + data.studies <= VALIDATION_SEED
    assert VALIDATION_SEED + data.validation <= HELDOUT_SEED


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
