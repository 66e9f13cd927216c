"""CT-RATE's labels: how its annotators count, sentence by sentence, and how well the parser meets them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.report import Finding, join_sentences, render_findings, sample_findings
from ctscribe.report.parse import ct_rate_labels, ct_rate_labels_of, parse, scan
from ctscribe.report.parse.labels import habits

REPORTS = Path(__file__).parents[2] / "shared" / "data" / "reports" / "ct_rate_reports_800.csv"

# Sentences written for this test, and the labels they make positive.
COUNTED = {
    # nodes count when described, whatever their size; denied or unassessable ones do not
    "A few lymph nodes below 1 cm are noted in the mediastinum.": ["Lymphadenopathy"],
    "Lymph nodes that are not pathological in size are present.": ["Lymphadenopathy"],
    "Lymph nodes of pathological size were not detected.": [],
    "Lymph nodes could not be assessed without contrast.": [],
    # opacity: ground glass, plain and linear density, not consolidation, infiltration or bands
    "Consolidation in the left lower lobe.": ["Consolidation"],
    "Pneumonic infiltration in the right lung.": [],
    "Frosted glass areas in both lungs.": ["Lung opacity"],
    "Density increases in the dependent parts of both lungs.": ["Lung opacity"],
    "Linear density increases compatible with sequelae in the lingula.": ["Lung opacity", "Pulmonary fibrotic sequela"],
    "Crazy paving and ground-glass areas in both lungs.": ["Lung opacity"],
    "Subpleural density increases and fibrotic bands in the left lung.": ["Lung opacity", "Pulmonary fibrotic sequela"],
    "Densities are observed in the lower lobe of the left lung.": ["Lung opacity"],
    "Soft tissue densities in the left lung.": [],
    "Density increases compatible with sequelae in the left lung.": ["Pulmonary fibrotic sequela"],
    "An 8 mm ground-glass nodule in the right upper lobe.": ["Lung nodule", "Lung opacity"],
    # nodules: calcified ones too, not masses or those of other organs
    "A calcified nodule of 4 mm in the right lung.": ["Lung nodule"],
    "A 5 cm mass in the left upper lobe.": [],
    "A hypodense nodule in the left thyroid lobe.": [],
    # walls of the bronchi are not the tissue around them
    "Bronchial wall thickening.": [],
    "Peribronchial thickening in both lower lobes.": ["Peribronchial thickening"],
    # scars that pull, collapse that scars
    "Fibroatelectatic changes in the middle lobe.": ["Pulmonary fibrotic sequela"],
    "Fixators are seen in the dorsal vertebrae.": ["Medical material"],
    "Calcified plaques in the LAD.": ["Coronary artery wall calcification"],
    "Smear-like fluid in the pericardial recess.": ["Pericardial effusion"],
    # the possible counts, what another examination showed does not
    "Atelectasis cannot be excluded.": ["Atelectasis"],
    "A nodule that was not seen in the previous examination is present.": ["Lung nodule"],
    "The effusion of the right pleura seen earlier is no longer visible.": [],
    "Emphysema is not observed.": [],
    "Lymph nodes could not be distinguished.": [],
    "Atelectasis is observed and it did not exist in the previous examination.": ["Atelectasis"],
}


@pytest.mark.parametrize(("text", "labels"), COUNTED.items())
def test_what_counts(text: str, labels: list[str]) -> None:
    assert [label for label, positive in ct_rate_labels(text, "en").items() if positive] == labels


def test_there_is_a_habit_for_each_label_in_order() -> None:
    assert list(habits()) == list(ontology.ct_rate_labels()) == list(ct_rate_labels(""))
    for label, kind in ontology.ct_rate_labels().items():
        assert kind in habits()[label].kinds


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_labels_of_a_text_are_those_of_its_findings(language: ontology.Language) -> None:
    """Except for what only words can tell: a ground-glass nodule is also an opacity, a bronchial wall is no sheath."""
    spoken = {"Lung opacity", "Peribronchial thickening"}
    for seed in range(150):
        findings = sample_findings(np.random.default_rng(seed))
        text = join_sentences(render_findings(findings, language, seed), language)
        read, given = ct_rate_labels(text, language), ct_rate_labels_of(findings)
        assert {k: v for k, v in read.items() if k not in spoken} == {k: v for k, v in given.items() if k not in spoken}


def test_uncertain_findings_count_unless_told_otherwise() -> None:
    possible = [Finding("emphysema", "uncertain")]
    assert ct_rate_labels_of(possible)["Emphysema"]
    assert not ct_rate_labels_of(possible, uncertain=False)["Emphysema"]


@pytest.mark.real_data
@pytest.mark.skipif(not REPORTS.exists(), reason="the CT-RATE reports do not lie beside this checkout")
def test_real_reports_agree_with_their_hand_labels() -> None:
    with REPORTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:400]
    read = np.array([list(ct_rate_labels(row["report_text"], "en").values()) for row in rows])
    truth = np.array([[row[label] == "1" for label in ontology.ct_rate_labels()] for row in rows])
    f1 = 2 * (read & truth).sum(axis=0) / (read.sum(axis=0) + truth.sum(axis=0))
    assert f1.mean() > 0.96
    assert 2 * (read & truth).sum() / (read.sum() + truth.sum()) > 0.96
    assert f1.min() > 0.9


def test_labels_and_findings_read_a_sentence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is evaluated by both: whichever comes second finds the sentences read."""
    text = "A 7 mm nodule lies in the left upper lobe beside an unheard-of stripe. No effusion on this unheard-of day."
    reads: list[str] = []
    known = scan.mentions
    monkeypatch.setattr(scan, "mentions", lambda *given: reads.append(given[0]) or known(*given))
    parse(text, "en")
    assert len(reads) == 2
    ct_rate_labels(text, "en")
    assert len(reads) == 2
