"""CT-RATE's 18 labels of a report: what its annotators would have ticked.

Their habits differ from what the words say (a described lymph node counts whatever its size, a consolidation alone is
no "lung opacity"); they are written down, label by label, in ``reading/ct_rate.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.parse.lexicon import label_table
from ctscribe.report.parse.sentence import Reading, read_sentence
from ctscribe.report.parse.text import detect_language
from ctscribe.report.parse.topics import pieces
from ctscribe.report.words import Finding


@dataclass(frozen=True)
class Habit:
    """How one label is given.

    Attributes:
        label: as CT-RATE spells it.
        kinds: finding kinds that make it positive.
        except_words: a mention in these words does not count, None when all do.
        except_sentence: nor does one in a sentence that says this, None when all do.
    """

    label: str
    kinds: frozenset[str]
    except_words: re.Pattern[str] | None = None
    except_sentence: re.Pattern[str] | None = None

    def counts(self, reading: Reading, sentence: str) -> bool:
        """Whether one statement makes the label positive.

        The merely possible does, except as a question in brackets: that is a differential diagnosis.
        """
        if reading.finding.status == "absent" or (reading.bracketed and reading.finding.status == "uncertain"):
            return False
        if reading.label is not None:
            return reading.label == self.label
        if reading.finding.kind not in self.kinds:
            return False
        if self.except_sentence is not None and self.except_sentence.search(sentence):
            return False
        return self.except_words is None or not all(map(self.except_words.search, reading.names))


@cache
def habits() -> Mapping[str, Habit]:
    """Label -> habit, in CT-RATE's column order."""
    table = label_table()
    return {
        label: Habit(
            label,
            frozenset(table[label]["kinds"]),
            *(
                re.compile(rule) if (rule := table[label].get(key)) else None
                for key in ("except_words", "except_sentence")
            ),
        )
        for label in ontology.ct_rate_labels()
    }


@lru_cache(maxsize=65536)
def sentence_labels(sentence: str, language: Language, topic: str = "") -> frozenset[str]:
    """Labels that one normalised sentence makes positive."""
    readings = read_sentence(sentence, language, topic)
    return frozenset(habit.label for habit in habits().values() if any(habit.counts(r, sentence) for r in readings))


def ct_rate_labels(text: str, language: Language | None = None) -> dict[str, bool]:
    """CT-RATE's 18 labels of a report text, in CT-RATE's column order.

    Args:
        text: one or more sections, headed or not.
        language: ``"en"`` or ``"zh"``; detected from the letters when None.
    """
    chosen = detect_language(text) if language is None else language
    positive: set[str] = set()
    for piece in pieces(text, chosen):
        positive |= sentence_labels(piece.sentence, chosen, piece.topic)
    return {label: label in positive for label in habits()}


def ct_rate_labels_of(findings: Iterable[Finding], *, uncertain: bool = True) -> dict[str, bool]:
    """CT-RATE's 18 labels of structured findings, in CT-RATE's column order.

    A label is true when one of its kinds is present; `uncertain` says whether an uncertain finding counts, as it does
    for the annotators of CT-RATE.
    """
    counted = ("present", "uncertain") if uncertain else ("present",)
    kinds = {f.kind for f in findings if f.status in counted}
    return {label: not kinds.isdisjoint(habit.kinds) for label, habit in habits().items()}
