"""Probabilities that can be taken at their word, the words for them, and silence where the model is not sure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from ctscribe import ontology
from ctscribe.facts import attribute_table
from ctscribe.model import Thresholds, decide, detections
from ctscribe.pipeline import framing
from ctscribe.pipeline.certainty import level
from ctscribe.tensors import FindingLogits
from ctscribe.training.thresholds import calibration_error, temperature, tune

KINDS = list(ontology.findings())


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_probabilities_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 6000)
    truth = rng.random(6000) < expit(logits)
    assert temperature(expit(logits * true), truth) == pytest.approx(true, rel=0.1)
    assert temperature(expit(logits), np.zeros(6000, bool)) == 1.0


def test_calibration_lowers_the_error_and_says_so() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (400, len(KINDS)))
    truth = rng.random(logits.shape) < expit(logits)
    thresholds, _ = tune(expit(3 * logits), truth)
    before, after = thresholds.calibration_error
    assert before == pytest.approx(calibration_error(expit(3 * logits), truth), abs=1e-4)
    assert after < before / 3


def logits_of(presence: float) -> FindingLogits:
    count, places = len(KINDS), len(ontology.model_regions())
    values = {name: torch.zeros(1, count, len(v)) for name, v in attribute_table().items()}
    return FindingLogits(torch.full((1, count), presence), torch.zeros(1, count, places), torch.ones(1, count), values)


def test_a_temperature_softens_what_a_detection_says() -> None:
    hot = Thresholds(temperature=dict.fromkeys(KINDS, 2.0))
    for limits, expected in ((Thresholds(), expit(3.0)), (hot, expit(1.5))):
        found = detections(logits_of(3.0), limits, (1, 1, 1))
        assert found[0].probability == pytest.approx(expected, abs=1e-5)
        assert not found[0].abstained


def test_below_the_limit_the_model_does_not_commit_itself() -> None:
    limits = Thresholds(abstain=0.8)
    for presence, abstains in ((0.5, True), (-0.5, True), (3.0, False), (-3.0, False)):
        assert detections(logits_of(presence), limits, (1, 1, 1))[0].abstained == abstains
    assert int(decide(logits_of(0.5), limits).state.sum()) == 0
    assert int(decide(logits_of(0.5), Thresholds()).state.min()) == 2
    note = framing.note("abstained", kinds=("mass",))
    assert "lung mass" in note.message["en"]


def test_three_words_for_how_sure_in_both_languages() -> None:
    chances = {"mass": 0.95, "lung_nodule": 0.7, "pleural_effusion": 0.3}
    note = framing.confidence_note({kind: level(chance) for kind, chance in chances.items()})
    english, chinese = note.message["en"], note.message["zh"]
    assert "Definite: lung mass; Likely: lung nodule; Possible: pleural effusion." in english
    assert [word in chinese for word in ("肯定", "很可能", "可能")] == [True] * 3


def test_a_broken_rule_of_anatomy_is_told_in_both_languages() -> None:
    rule = next(iter(ontology.rules().values()))
    note = framing.violation_note(0.42, {code: names[0] for code, names in rule.names.items()})
    assert note.severity == "warning"
    assert "42 %" in note.message["en"]
    assert rule.names["zh"][0] in note.message["zh"]
