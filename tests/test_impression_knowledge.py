"""The knowledge base: complete in both languages, referenced, modest, and able to carry what the rule writer says."""

from __future__ import annotations

import re

import pytest

from ctscribe import ontology
from ctscribe.impression import terms
from ctscribe.impression.guidelines import shipped as rule_sets
from ctscribe.impression.passages import knowledge, knowledge_entries, meaning, references
from ctscribe.impression.rules import _significance, write
from ctscribe.report import Finding

ASPECTS = ("definition", "appearance", "differential", "urgent")
NOT_COMPARED = {"en": "not been compared with the publication", "zh": "尚未与原文核对"}
CLAIMS = re.compile(
    r"validat|proven accura|clinically proven|approved|certified|guarantee|验证|获批|认证|保证", re.IGNORECASE
)
FILE_MARK = "Not reviewed by a radiologist"


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_every_kind_of_finding_has_a_passage_with_every_aspect(language: str) -> None:
    for kind in ontology.findings():
        (entry,) = [e for e in knowledge_entries().values() if kind in e.get("kinds", ())]
        assert tuple(entry[language]) == ASPECTS, kind
        assert all(text.strip() for text in entry[language].values()), kind


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_every_rule_set_has_a_summary(language: str) -> None:
    told = {e["guideline"]: e[language] for e in knowledge_entries().values() if "guideline" in e}
    assert told.keys() == rule_sets().keys()
    assert all(tuple(parts) == ("summary", "caution") for parts in told.values())


def test_summaries_mark_what_their_tables_mark_as_not_compared() -> None:
    for entry in (e for e in knowledge_entries().values() if "guideline" in e):
        rules = rule_sets()[entry["guideline"]]
        unread = rules.checked == "no" or any(row.checked == "no" for row in rules.all_rows)
        for language, mark in NOT_COMPARED.items():
            assert (mark in entry[language]["caution"]) == unread, entry["guideline"]
            if rules.checked == "no":  # none of its numbers may be told as if it had been read
                numbers = re.findall(
                    r"\d+(?:\.\d+)?\s*(?:mm|HU|cm|%|months?|years|个月|年内)", entry[language]["summary"]
                )
                assert numbers == [], entry["guideline"]


def test_ids_are_unique_and_each_passage_names_its_references() -> None:
    names = [p.id for p in knowledge()]
    assert len(names) == len(set(names)) == 2 * len(knowledge_entries())
    used = {name for entry in knowledge_entries().values() for name in entry["after"]}
    assert used <= references().keys()
    assert all(entry["after"] for entry in knowledge_entries().values())
    for text in references().values():
        assert re.search(r"\b(?:19|20)\d\d\b", text), text


def test_the_first_ids_are_still_there() -> None:
    """Ids are cited in impressions that people have kept."""
    first = ("nodule", "mass", "ground_glass", "consolidation", "cavity", "nodes", "effusion", "honeycombing")
    assert {f"kb:{name}_meaning:en" for name in first} <= {p.id for p in knowledge()}


def test_nothing_is_claimed_for_patients_and_everything_is_marked_as_not_reviewed() -> None:
    for passage in knowledge():
        assert not CLAIMS.search(passage.text), passage.id
        mark = "not reviewed by a radiologist" if passage.language == "en" else "未经放射科医师审阅"
        assert mark in passage.source


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_what_the_rule_writer_considers_stands_in_the_passage_it_cites(language) -> None:
    for key, entry in _significance().items():
        passage = meaning(key.split()[0], language)
        for part in ("differential", "significance"):
            named = terms.diseases(entry[part][language], language) if part in entry else ()
            missing = [t for t in named if not terms.supported(t, passage.text.lower(), language)]
            assert missing == [], (key, part)


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_the_rule_writer_cites_the_knowledge_base(language) -> None:
    made = write([Finding("cavity", "present", ("right_upper_lobe",), (25,))], language)
    (differential,) = [s for s in made.statements if s.role == "differential"]
    assert differential.citations == (f"kb:cavity_meaning:{language}",)
    assert differential.citations[0] in [c.id for c in made.citations]
    assert differential.citations[0] in made.lines[0].citations
