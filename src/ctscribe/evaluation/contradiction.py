"""Does a report contradict itself? Found sentence by sentence, with the pair of sentences that disagree.

    rule        two sentences of one report disagree when
    presence    one denies a kind in some place (or everywhere) and another reports it there
    side        the findings place every finding of a kind on one side, the impression on the other
    size        findings and impression measure the one finding of its kind and place differently (more than 1 mm and
                20 %)

Precision comes first, because an alarm about a sound report costs trust:

- a denial that is itself limited ("no other nodule", "no large effusion") contradicts nothing it does not cover: the
  limiting words of ``contradiction.yaml`` void it, its attributes must all be met;
- what is said of another time contradicts nothing;
- a denial in one place says nothing of another; what is only possible contradicts nothing;
- two findings of one kind on different sides within one section are two findings.

It needs no reference. The rate of the references under the same rules is in the table: what the parser misreads shows
there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import yaml

from ctscribe import ontology
from ctscribe.evaluation.matching import same_size, sides
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, ratio
from ctscribe.evaluation.statements import Statement, statements
from ctscribe.ontology import Language
from ctscribe.report import Finding

Rule = Literal["presence", "side", "size"]
RULES: tuple[Rule, ...] = ("presence", "side", "size")


@dataclass(frozen=True)
class Contradiction:
    """Two sentences that cannot both be true.

    Attributes:
        rule: why not.
        kind: the kind of finding they disagree on.
        first: the sentence that comes first.
        second: the other; the same when one sentence contradicts itself.
    """

    rule: Rule
    kind: str
    first: str
    second: str


@dataclass(frozen=True)
class _Said:
    place: int
    sentence: str
    finding: Finding
    section: str


@dataclass(frozen=True)
class _Cues:
    """What must be known of one language, see ``contradiction.yaml``."""

    limits: re.Pattern[str]
    past: re.Pattern[str]
    places: re.Pattern[str]
    kind_limits: Mapping[str, re.Pattern[str]]
    placed_only: frozenset[str]


@cache
def _cues(language: Language) -> _Cues:
    table = yaml.safe_load((files("ctscribe.evaluation") / "contradiction.yaml").read_text(encoding="utf-8"))
    placed_only = frozenset(table.pop("placed_only"))
    kinds = {kind: re.compile(words[language]) for kind, words in table.pop("kind_limits").items()}
    return _Cues(
        kind_limits=kinds,
        placed_only=placed_only,
        **{name: re.compile(words[language]) for name, words in table.items()},
    )


def contradictions(text: str, language: Language) -> tuple[Contradiction, ...]:
    """All contradictions of a report, each kind once per rule and pair of sentences, in the order of the text."""
    return _among(statements(text, language), language)


def _among(stated: Sequence[Statement], language: Language) -> tuple[Contradiction, ...]:
    said = _said(stated, language)
    found = [*_presence(said), *_side(said), *_size(said)]
    return tuple(dict.fromkeys(found))


def _said(stated: Sequence[Statement], language: Language) -> list[_Said]:
    """Everything said about today and without limit, in the order of the text."""
    return [
        _Said(place, statement.sentence, finding, statement.section)
        for place, statement in enumerate(stated)
        for finding in statement.findings
        if finding not in statement.qualified and _plain(finding, statement.sentence, language)
    ]


def _plain(finding: Finding, sentence: str, language: Language) -> bool:
    """Whether a sentence denies the kind as such, or reports it as present today."""
    own = _cues(language).kind_limits.get(finding.kind)
    if finding.status == "uncertain" or (own and own.search(sentence)):
        return False
    limited, past, placed = _marks(sentence, language)
    if finding.status == "present":
        return not past and (bool(finding.regions) or finding.kind not in _cues(language).placed_only)
    return not limited and (bool(finding.regions) or not placed)


@lru_cache(maxsize=1 << 16)
def _marks(sentence: str, language: Language) -> tuple[bool, bool, bool]:
    """Whether a sentence holds a word that limits a denial, speaks of another time, names a place."""
    cues = _cues(language)
    return tuple(cue.search(sentence) is not None for cue in (cues.limits, cues.past, cues.places))  # type: ignore[return-value]


def _pair(rule: Rule, kind: str, one: _Said, other: _Said) -> Contradiction:
    first, second = sorted((one, other), key=lambda statement: statement.place)
    return Contradiction(rule, kind, first.sentence, second.sentence)


def _presence(said: Sequence[_Said]) -> Iterator[Contradiction]:
    denied: dict[str, list[_Said]] = {}
    for statement in said:
        if statement.finding.status == "absent":
            denied.setdefault(statement.finding.kind, []).append(statement)
    for statement in said if denied else ():
        if statement.finding.status == "present":
            for denial in denied.get(statement.finding.kind, ()):
                if _covers(denial.finding, statement.finding):
                    yield _pair("presence", statement.finding.kind, denial, statement)


def _covers(denial: Finding, present: Finding) -> bool:
    """Whether what is denied includes what is reported."""
    if not set(denial.attributes) <= set(present.attributes):
        return False
    if not denial.regions:
        return True
    return any(place in denial.regions for region in present.regions for place in ontology.ancestors(region))


def _both_sections(said: Sequence[_Said]) -> Iterator[tuple[str, list[_Said], list[_Said]]]:
    """Kind, what the findings say is present of it, and what the impression says, where both do."""
    groups: dict[str, dict[str, list[_Said]]] = {}
    for statement in said:
        if statement.finding.status == "present":
            groups.setdefault(statement.finding.kind, {}).setdefault(statement.section, []).append(statement)
    for kind, group in groups.items():
        if len(group) == 2:
            yield kind, group["findings"], group["impression"]


def _side(said: Sequence[_Said]) -> Iterator[Contradiction]:
    for kind, described, concluded in _both_sections(said):
        ours = frozenset().union(*(sides(s.finding) for s in described))
        theirs = frozenset().union(*(sides(s.finding) for s in concluded))
        placed = all(sides(s.finding) for s in (*described, *concluded))
        if placed and len(ours) == len(theirs) == 1 and ours != theirs:
            yield _pair("side", kind, described[0], concluded[0])


def _size(said: Sequence[_Said]) -> Iterator[Contradiction]:
    for kind, described, concluded in _both_sections(said):
        ours = [s for s in described if s.finding.size_mm]
        theirs = [s for s in concluded if s.finding.size_mm]
        if len(ours) == len(theirs) == 1 and len(described) == len(concluded) == 1:
            one, other = ours[0].finding, theirs[0].finding
            same_place = not one.regions or not other.regions or one.regions == other.regions
            if same_place and not same_size(one, other):
                yield _pair("size", kind, ours[0], theirs[0])


class Consistency(Scorer):
    """Reports that contradict themselves."""

    name = "consistency"
    measures = (Measure("contradicting", "Share of reports in which two sentences contradict each other.", 1.0, 0.0),)

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: one; contradicting reports and contradictions by rule, of candidates, then of references."""
        rows = [(1, *_row(pair.candidate), *_row(pair.reference)) for pair in pairs]
        return np.array(rows, dtype=np.float64).reshape(-1, 3 + 2 * len(RULES))

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Share of the candidates."""
        return {"contradicting": ratio(totals[..., 1], totals[..., 0])}

    def explain(self, pair: Pair) -> dict[str, Any]:
        """The contradictions of the candidate, with their sentences."""
        if not any(pair.candidate.contradictions):
            return {}
        found = _among(pair.candidate.statements, pair.candidate.language)
        return {"contradictions": [asdict(contradiction) for contradiction in found]}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row for the candidates, one for the references."""
        k = 1 + len(RULES)
        sides_of = (("candidates", totals[1 : 1 + k]), ("references", totals[1 + k :]))
        return [
            {"reports_of": side, "reports": int(totals[0]), "contradicting": int(counts[0])}
            | {rule: int(count) for rule, count in zip(RULES, counts[1:], strict=True)}
            for side, counts in sides_of
        ]


# Without one of these words a report has no impression, and its sections cannot disagree.
_CONCLUDES = re.compile(
    "impress|conclu|opinion|result|summary|assess|interpret|diagnos|诊断|印象|结论|意见", re.IGNORECASE
)


def counted(record: Record) -> tuple[int, ...]:
    """Contradictions of each rule."""
    if record.parsed and not _worth_reading(record):
        return (0,) * len(RULES)
    rules = [found.rule for found in _among(record.statements, record.language)]
    return tuple(rules.count(rule) for rule in RULES)


def _row(record: Record) -> tuple[int, ...]:
    """1 for a contradicting report, and its contradictions of each rule."""
    return (int(any(record.contradictions)), *record.contradictions)


def _worth_reading(record: Record) -> bool:
    """Whether the findings read out of a report leave room for a contradiction: most reports need no second reading."""
    denied = {finding.kind for finding in record.findings if finding.status == "absent"}
    reported = {finding.kind for finding in record.findings if finding.status == "present"}
    return bool(denied & reported) or _CONCLUDES.search(record.text) is not None
