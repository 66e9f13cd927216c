"""The engine: findings and context, through the tables, to recommendations.

```
finding ─ facts ─ scope ─┬─ no ─────────────── silent, or one that says why it does not apply
                         ├─ not known ──────── a proviso and a question
                         └─ yes ── rows ─┬──── the first row that holds: one option
                                         └──── rows that may hold: every option, and the facts that decide
```

No fact is guessed. What a table does not cover is said, not filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ctscribe.impression.context import Context
from ctscribe.impression.guidelines.conditions import Condition, all_of, bounds_in_words, with_unit
from ctscribe.impression.guidelines.facts import exam_facts, facts_of
from ctscribe.impression.guidelines.tables import Fact, Limit, Row, RuleSet, common_facts
from ctscribe.impression.measure import Size
from ctscribe.impression.result import Need, Option, Recommendation, Words
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Finding

_NOTHING: Words = {"en": "", "zh": ""}
_COMMA: Words = {"en": ", ", "zh": "、"}
_AND: Words = {"en": " and ", "zh": "且"}
_NO_ROW: Words = {"en": "the table has no row for this finding", "zh": "表中无适用于该所见的行"}
_SOME_WITHOUT_ROW: Words = {"en": "the table has no row for one of them", "zh": "表中无适用于其中之一的行"}
_DOUBT: Words = {"en": "the finding is confirmed", "zh": "该所见得到证实"}


_NONE = Row("", (), "")
"""Stands for the end of a table that no row of it decided."""


@dataclass(frozen=True)
class _Answer:
    """A row that applies, or may apply, and the conditions of it that are still open."""

    row: Row
    open: tuple[Condition, ...] = ()


def recommend(
    findings: Sequence[Finding], context: Context, rule_sets: Sequence[RuleSet]
) -> tuple[Recommendation, ...]:
    """What the guidelines say about a study, in the order of the rule sets and findings.

    Args:
        findings: of the whole study; what is absent is left out.
        context: the patient, the examination and the earlier scan.
        rule_sets: from `tables.load`.

    Raises:
        UsageError: the context has details of a finding that does not exist.
    """
    context.check(findings)
    return tuple(r for rule_set in rule_sets for r in _Judge(rule_set, findings, context).all())


class _Judge:
    """One rule set before one study."""

    def __init__(self, rule_set: RuleSet, findings: Sequence[Finding], context: Context) -> None:
        self.rule_set, self.findings, self.context = rule_set, findings, context
        self.known: Mapping[str, Fact] = {**common_facts(), **rule_set.facts}
        self.about = tuple(i for i, f in enumerate(findings) if f.kind in rule_set.about and f.status != "absent")

    def all(self) -> list[Recommendation]:
        """Recommendations of this rule set; none when it is silent."""
        exam = exam_facts(self.findings, self.context, self.known)
        if not self.about and self.rule_set.nothing_found is None:
            return []
        outside, open_limits = self._scope(exam)
        if outside is not None:
            return [self._outside(outside)] if outside.otherwise and self.about else []
        if any(limit.unknown == "withhold" for limit in open_limits):
            return []
        if self.rule_set.exam and (answers := self._first(self.rule_set.exam, exam)) and not answers[0].open:
            return [self._recommendation(self.about, answers[:1], open_limits)]
        if not self.about:
            last = self.rule_set.nothing_found
            return [self._recommendation((), [_Answer(last)], open_limits)] if last is not None else []
        if self.rule_set.judge == "together":
            return [self._together(open_limits)]
        answered = [(i, self._rows(i)) for i in self.about]
        told = [(i, rows) for i, rows in answered if rows or self.rule_set.no_row == "say"]
        return [self._recommendation((i,), rows, open_limits) for i, rows in told]

    def _scope(self, facts: Mapping[str, Any]) -> tuple[Limit | None, list[Limit]]:
        """The limit that rules the set out, if any, and those that nobody can answer yet."""
        answers = [(limit, limit.condition.holds(facts.get(limit.condition.fact))) for limit in self.rule_set.scope]
        outside = next((limit for limit, answer in answers if answer is False), None)
        return outside, [limit for limit, answer in answers if answer is None]

    def _rows(self, index: int) -> list[_Answer]:
        """Rows that apply or may apply to one finding, upgrades included."""
        facts = facts_of(index, self.findings, self.context, self.known, self.rule_set.rounding_mm)
        return [self._upgraded(answer, facts) for answer in self._first(self.rule_set.rows, facts)]

    def _first(self, rows: Sequence[Row], facts: Mapping[str, Any]) -> list[_Answer]:
        """In order: rows that may hold, up to the first that does; that one alone when nothing before it may."""
        found: list[_Answer] = []
        for row in rows:
            answers = [(all_of(conditions, facts), conditions) for conditions in row.when]
            if any(answer is True for answer, _ in answers):
                return [*found, _Answer(row)]
            for answer, conditions in answers:
                if answer is None:
                    open_ = tuple(c for c in conditions if c.holds(facts.get(c.fact)) is None)
                    found.append(_Answer(row, open_))
        alternatives = [conditions for row in rows for conditions in row.when]
        ends = found and _may_end_without(alternatives, facts, self.known)
        return [*found, _Answer(_NONE)] if ends else found

    def _upgraded(self, answer: _Answer, facts: Mapping[str, Any]) -> _Answer:
        for upgrade in self.rule_set.upgrades:
            if answer.row.category in upgrade.categories and all_of(upgrade.when, facts) is True:
                return replace(answer, row=upgrade.row)
        return answer

    def _together(self, open_limits: list[Limit]) -> Recommendation:
        """Several findings by the one that asks for most.

        With open questions an option stays possible unless another finding is sure to ask for more.
        """
        answers = {i: self._rows(i) for i in self.about}
        floors = [min(a.row.rank for a in found) for found in answers.values() if found]  # `_NONE` asks for nothing
        floor = max(floors, default=0.0)
        kept = [a for found in answers.values() for a in found if a.row.rank >= floor]
        made = self._recommendation(self.about, kept, open_limits)
        if kept and not all(answers.values()):
            return replace(made, rationale=_joined([made.rationale, _SOME_WITHOUT_ROW]))
        return made

    # ------------------------------------------------------------------------------------- the outcome
    def _recommendation(
        self, indices: tuple[int, ...], answers: Sequence[_Answer], open_limits: Sequence[Limit]
    ) -> Recommendation:
        options = self._options(answers)
        conditional = any(option.condition["en"] for option in options)
        deciding = [self._need(n) for n in dict.fromkeys(c.fact for a in answers if conditional for c in a.open)]
        applying = [self._need(limit.condition.fact) for limit in open_limits]
        provisos = [self._condition_words(limit.condition) for limit in open_limits]
        if indices and all(self.findings[i].status == "uncertain" for i in indices):
            provisos.append(_DOUBT)
        return Recommendation(
            guideline=self.rule_set.id,
            title=self.rule_set.title,
            findings=indices,
            options=options,
            needs=tuple(applying + [need for need in deciding if need not in applying]),
            rationale=self._rationale(indices) if options else _NO_ROW,
            citation=self.rule_set.citation,
            provisos=_joined(provisos),
            signed_off_by=self.rule_set.signed_off_by,
            deciding=tuple(deciding),
            about_the_table=not options,
        )

    def _options(self, answers: Sequence[_Answer]) -> tuple[Option, ...]:
        """One option for each distinct thing to do, with everything under which it would be the one."""
        grouped: dict[tuple[str, str], list[_Answer]] = {}
        for answer in (a for a in answers if a.row is not _NONE):
            grouped.setdefault((answer.row.do, answer.row.category), []).append(answer)
        options = []
        for (do, category), group in grouped.items():
            action = self.rule_set.actions[do]
            conditions = [_joined([self._condition_words(c) for c in answer.open], _AND) for answer in group]
            alone = len(grouped) == 1 and not any(a.row is _NONE for a in answers)
            options.append(
                Option(
                    rule=group[0].row.id,
                    action=action.words,
                    category=category + (self._modifier() if category else ""),
                    category_name=self._category_name(category),
                    modality=action.modality,
                    months=action.months,
                    condition=_NOTHING if alone else _either(conditions),
                    verified=all(answer.row.checked != "no" for answer in group),
                )
            )
        return tuple(options)

    def _category_name(self, category: str) -> Words:
        if not category:
            return _NOTHING
        plain = category + self._modifier()
        return self.rule_set.category_names.get(category) or {"en": f"category {plain}", "zh": f"{plain}类"}

    def _modifier(self) -> str:
        present = {f.kind for f in self.findings if f.status == "present"}
        return self.rule_set.modifier if present & set(self.rule_set.modifier_kinds) else ""

    def _outside(self, limit: Limit) -> Recommendation:
        return Recommendation(
            guideline=self.rule_set.id,
            title=self.rule_set.title,
            findings=self.about,
            options=(),
            needs=(),
            rationale=limit.otherwise,
            citation=self.rule_set.citation,
            signed_off_by=self.rule_set.signed_off_by,
        )

    def _need(self, name: str) -> Need:
        return Need(name, self.known[name].ask)

    def _rationale(self, indices: tuple[int, ...]) -> Words:
        """The facts of the findings that the table speaks about, in words."""
        used = {c.fact for row in self.rule_set.all_rows for conditions in row.when for c in conditions}
        parts: dict[Language, list[str]] = {language: [] for language in LANGUAGES}
        for index in indices:
            facts = facts_of(index, self.findings, self.context, self.known, self.rule_set.rounding_mm)
            said = {name: facts[name] for name in self.known if name in used and facts.get(name) not in (None, False)}
            for language in LANGUAGES:
                shown = [_shown(value, self.known[name], language) for name, value in said.items()]
                parts[language].append(_COMMA[language].join(text for text in shown if text))
        return {language: "; ".join(dict.fromkeys(filter(None, parts[language]))) for language in LANGUAGES}

    def _condition_words(self, condition: Condition) -> Words:
        """A condition as it is said: "at high risk", "if the solid part is 6 mm or more"."""
        fact = self.known[condition.fact]
        return {language: _said(condition, fact, language) for language in LANGUAGES}


def _may_end_without(
    alternatives: Sequence[Sequence[Condition]], facts: Mapping[str, Any], known: Mapping[str, Fact]
) -> bool:
    """Whether some values of the facts that are not known would leave every row of a table behind.

    Tried out fact by fact, with each value of a fact in words and with numbers on either side of every limit, as long
    as some row is still open.
    """
    answers = [(conditions, all_of(conditions, facts)) for conditions in alternatives]
    if any(answer is True for _, answer in answers):
        return False
    open_ = [conditions for conditions, answer in answers if answer is None]
    if not open_:
        return True
    name = next(c.fact for c in open_[0] if c.holds(facts.get(c.fact)) is None)
    asked = [c for conditions in open_ for c in conditions if c.fact == name]
    values = _values(asked, known[name], facts.get(name))
    return any(_may_end_without(open_, {**facts, name: value}, known) for value in values)


def _values(conditions: Sequence[Condition], fact: Fact, before: Any) -> list[Any]:
    """Values that a fact which is not known might have, one from every part that the conditions tell apart."""
    bounds = [bound for condition in conditions for bound in condition.bounds]
    values: list[Any] = list(fact.values)
    if bounds:
        limits = {limit for bound in bounds if bound.unit != "mm3" for _, limit in bound.comparisons}
        points = sorted({limit + step for limit in limits for step in (-0.01, 0.0, 0.01)})
        values = [Size(mm=point) for point in points] if isinstance(before, Size) else list(points)
    apart = {tuple(condition.holds(value) for condition in conditions): value for value in values}
    return list(apart.values())


def _said(condition: Condition, fact: Fact, language: Language) -> str:
    if condition.bounds:
        bounds = bounds_in_words(condition.bounds[0], language, fact.unit.get(language, ""))
        return fact.number[language].format(**{"is": bounds})
    words = [fact.values[word][language] for word in condition.words if word in fact.values]
    return (" or " if language == "en" else "或").join(words)


def _shown(value: Any, fact: Fact, language: Language) -> str:
    """A fact as the rationale says it, "" where there is nothing to say."""
    if isinstance(value, Size):
        parts = [f"{value.mm:g} mm" if value.mm is not None else "", f"{value.mm3:g} mm3" if value.mm3 else ""]
        return " / ".join(part for part in parts if part)
    if isinstance(value, frozenset):
        return ""
    if isinstance(value, float | int) and not isinstance(value, bool) and fact.number:
        return fact.number[language].format(**{"is": with_unit(value, fact.unit.get(language, ""))})
    return fact.values.get(value, {}).get(language, "")


def _joined(parts: Iterable[Words], link: Words = _COMMA) -> Words:
    """Conditions that must all hold, as one."""
    listed = [part for part in parts if part["en"]]
    return {language: link[language].join(part[language] for part in listed) for language in LANGUAGES}


def _either(parts: Sequence[Words]) -> Words:
    """Conditions of which one must hold, as one."""
    listed = [dict(pair) for pair in dict.fromkeys(tuple(sorted(part.items())) for part in parts)]
    if any(not part["en"] for part in listed):
        return {"en": "otherwise", "zh": "其他情况"}
    return {"en": ", or ".join(p["en"] for p in listed), "zh": "，或".join(p["zh"] for p in listed)}
