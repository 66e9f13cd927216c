"""Findings -> sentences: canonical wording, variety, grammar, and which sentence states what."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.report import Evidence, Finding, render_findings, render_text, sample_findings
from ctscribe.report.english import article, listed, plural, sizes

NODULE = Finding(
    "lung_nodule",
    regions=("right_upper_lobe",),
    size_mm=(12.0, 9.0),
    attributes=(("density", "solid"), ("margin", "spiculated"), ("number", "single")),
)


def test_canonical_wording():
    assert render_text([NODULE], "en") == (
        "There is a solitary 12 x 9 mm spiculated solid nodule in the right upper lobe."
    )
    assert render_text([NODULE], "zh") == "右肺上叶见一枚实性结节，大小约12×9 mm，边缘毛刺。"
    absent = [Finding(kind, "absent") for kind in ("consolidation", "mass", "lung_nodule")]
    assert render_text(absent, "en") == "No nodule, mass or consolidation in either lung."
    assert render_text(absent, "zh") == "双肺未见结节、肿块及实变。"
    both = Finding("pleural_effusion", regions=("left_pleura", "right_pleura"), attributes=(("severity", "small"),))
    assert render_text([both], "en") == "There are small bilateral pleural effusions."
    assert render_text([Finding("pneumothorax", "uncertain")], "en") == "Possible pneumothorax."


def test_an_empty_list_is_no_sentence():
    assert render_findings([], "en") == []


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_every_finding_is_stated_once_and_evidence_follows_it(language):
    rng = np.random.default_rng(3)
    for seed in range(60):
        findings = list(sample_findings(rng))
        rng.shuffle(findings)
        marked = [
            Finding(f.kind, f.status, f.regions, f.size_mm, f.attributes, evidence=(Evidence(weight=float(i)),))
            for i, f in enumerate(findings)
        ]
        sentences = render_findings(marked, language, seed)
        assert sorted(i for s in sentences for i in s.findings) == list(range(len(marked)))
        for sentence in sentences:
            assert [e.weight for e in sentence.evidence] == [float(i) for i in sentence.findings]


def test_a_seed_reproduces_and_seeds_vary():
    findings = sample_findings(np.random.default_rng(1), mean_present=8)
    for language in ontology.LANGUAGES:
        assert render_text(findings, language, 5) == render_text(findings, language, 5)
        assert len({render_text(findings, language, seed) for seed in range(40)}) == 40
        assert len({render_text([NODULE], language, seed) for seed in range(200)}) > 20


def test_english_is_grammatical_in_form():
    rng = np.random.default_rng(7)
    for seed in range(400):
        for sentence in render_findings(sample_findings(rng, mean_present=6), "en", seed):
            text = sentence.text
            assert text[0].isupper() or text[0].isdigit(), text
            assert text.endswith(".")
            assert not re.search(r"\s[\s.,]", text), text
            assert not re.search(r"\ba (?:8|11|18|[aeio])", text.lower()), text
            assert not re.search(r"\ban (?!8|11 |18 |[aeiou])", text.lower()), text
            assert not re.search(r"\b(?:there is|there are no|is no) (?:multiple|several)", text.lower()), text
            assert not re.search(r"\bthere are an? ", text.lower()), text


def test_chinese_uses_chinese_punctuation():
    rng = np.random.default_rng(8)
    for seed in range(200):
        for sentence in render_findings(sample_findings(rng, mean_present=6), "zh", seed):
            assert sentence.text.endswith("。")
            assert not set(",{") & set(sentence.text)
            assert not re.search(r"[A-Za-z]", sentence.text.replace("mm", "")), sentence.text


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("nodule", "nodules"),
        ("mass", "masses"),
        ("cavity", "cavities"),
        ("pneumothorax", "pneumothoraces"),
        ("aneurysm of the thoracic aorta", "aneurysms of the thoracic aorta"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


def test_articles_sizes_and_lists():
    assert [article(x) for x in ("8 mm nodule", "11 mm", "12 mm", "enlarged heart", "81 mm", "mass")] == [
        "an", "an", "a", "an", "an", "a",
    ]  # fmt: skip
    assert sizes((12.0, 9.5)) == "12 x 9.5 mm"
    assert listed(["a", "b", "c"], "or") == "a, b or c"


def test_sampled_findings_obey_the_ontology():
    rng = np.random.default_rng(11)
    statuses = set()
    for _ in range(300):
        findings = sample_findings(rng, mean_present=6)
        present = {f.kind for f in findings if f.status != "absent"}
        for finding in findings:
            kind = ontology.findings()[finding.kind]
            statuses.add(finding.status)
            assert all(ontology.allowed(kind.id, region) for region in finding.regions)
            assert all(axis == int(axis) for axis in finding.size_mm)
            if finding.size_mm and kind.size_mm:
                assert kind.size_mm[0] <= finding.size_mm[0] <= kind.size_mm[1]
            if finding.status == "absent" and not finding.regions:
                assert kind.id not in present
    assert statuses == {"present", "absent", "uncertain"}
