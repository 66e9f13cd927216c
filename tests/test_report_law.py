"""The law that ties words to findings: ``parse(render(findings)) == findings``, in both languages, for any phrasing."""

from __future__ import annotations

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.report import Finding, join_sentences, render_findings, report_order, sample_findings
from ctscribe.report.parse import parse

CASES = 2000


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_what_is_written_reads_back_the_same(language):
    failures = []
    for seed in range(CASES):
        findings = sample_findings(np.random.default_rng(seed), mean_present=2.5, negatives=0.25)
        sentences = render_findings(findings, language, None if seed % 8 == 0 else seed)
        if tuple(parse(join_sentences(sentences, language), language)) != findings:
            failures += [
                s.text for s in sentences if tuple(parse(s.text, language)) != tuple(findings[i] for i in s.findings)
            ]
    assert not failures


def every_single_finding():
    """Each kind in each status: at each of its places once, at the first with every attribute value and size."""
    for kind in ontology.findings().values():
        places = [(r,) for r in kind.regions] + [()]
        sizes = [(), (17.0,), (17.5, 9.0)] if kind.size_mm else [()]
        values = [()] + [((name, v),) for name, allowed in kind.attributes.items() for v in allowed]
        for place in places:
            yield Finding(kind.id, "absent", place)
        for status in ("present", "uncertain"):
            for place in places:
                for size in sizes if place == places[0] else sizes[-1:]:
                    for attributes in values if place == places[0] else values[-1:]:
                        yield Finding(kind.id, status, place, size, attributes)


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_every_finding_the_ontology_allows_can_be_said(language):
    for finding in every_single_finding():
        (sentence,) = render_findings([finding], language)
        assert parse(sentence.text, language) == [finding], sentence.text


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_segments_and_stations_can_be_said(language):
    for region in ontology.regions().values():
        if region.level in ("segment", "station"):
            kind = "lung_nodule" if region.level == "segment" else "lymphadenopathy"
            finding = Finding(kind, "present", (region.id,))
            (sentence,) = render_findings([finding], language)
            assert parse(sentence.text, language) == [finding], sentence.text


def test_findings_that_say_the_same_are_equal():
    assert Finding("cardiomegaly") == Finding("cardiomegaly", regions=("heart",))
    assert Finding("lung_nodule", "absent", ("lungs",)) == Finding("lung_nodule", "absent")
    assert Finding("pleural_effusion", "absent", ("right_pleura", "left_pleura")) == Finding(
        "pleural_effusion", "absent"
    )
    assert Finding("pleural_effusion", "absent", ("right_pleura",)) != Finding("pleural_effusion", "absent")
    a, b = (("density", "solid"), ("margin", "smooth")), (("margin", "smooth"), ("density", "solid"))
    assert Finding("lung_nodule", attributes=a) == Finding("lung_nodule", attributes=b)
    assert Finding("lung_nodule", size_mm=(4.0, 6.0)) == Finding("lung_nodule", size_mm=(6.0, 4.0))


def test_report_order_is_a_fixed_point_and_follows_the_sections():
    rng = np.random.default_rng(0)
    for _ in range(50):
        findings = sample_findings(rng)
        assert report_order(reversed(findings)) == findings
        ranks = [ontology.SECTIONS.index(ontology.findings()[f.kind].section) for f in findings]
        assert ranks == sorted(ranks)
