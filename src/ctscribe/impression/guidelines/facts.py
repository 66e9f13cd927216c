"""From findings and context to the facts that tables ask about; a fact nobody gave is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.impression import growth
from ctscribe.impression.context import Context, Prior
from ctscribe.impression.guidelines.tables import Fact
from ctscribe.impression.measure import Size, half_up, mean_mm
from ctscribe.report import Finding

_NOT_FACTS = ("prior", "details", "extra", "risk")


def facts_of(
    index: int,
    findings: Sequence[Finding],
    context: Context,
    known: Mapping[str, Fact],
    rounding_mm: float = 1.0,
) -> dict[str, Any]:
    """Everything known about one finding and its patient, by fact name.

    Args:
        index: of the finding.
        findings: of the whole study.
        known: the facts that the table may ask about; those whose silence means no are False instead of None.
        rounding_mm: step to which mean diameters are rounded, half up.
    """
    finding, details = findings[index], context.details_of(index)
    facts: dict[str, Any] = patient_facts(findings, context)
    facts |= {f.name: getattr(details, f.name) for f in fields(details) if f.name in known}
    facts |= dict(finding.attributes)
    facts["kind"] = finding.kind
    if finding.value("margin") == "spiculated":
        facts["risk"] = context.risk or "high"
        facts["suspicious"] = True
    facts["size"] = Size(mean_mm(finding, rounding_mm), details.volume_mm3)
    facts["long_mm"] = finding.size_mm[0] if finding.size_mm else None
    facts["short_mm"] = finding.size_mm[1] if len(finding.size_mm) == 2 else None
    if details.solid_part_mm is not None:
        facts["solid_part_mm"] = half_up(details.solid_part_mm, rounding_mm)
    facts["number"] = _number(index, findings)
    facts["place"] = frozenset(a for region in finding.regions for a in ontology.ancestors(region)) or None
    if any(f.kind == "honeycombing" and f.status == "present" for f in findings):
        facts["fibrosis_signs"] = True
    facts |= _since(index, findings, context)
    return close(facts | dict(context.extra), known)


def patient_facts(findings: Sequence[Finding], context: Context) -> dict[str, Any]:
    """What is known about the patient and the examination."""
    facts = {f.name: getattr(context, f.name) for f in fields(context) if f.name not in _NOT_FACTS}
    return {**facts, "risk": risk(findings, context)}


def exam_facts(findings: Sequence[Finding], context: Context, known: Mapping[str, Fact]) -> dict[str, Any]:
    """The facts that rows about the whole examination may ask about."""
    return close(patient_facts(findings, context) | dict(context.extra), known)


def close(facts: Mapping[str, Any], known: Mapping[str, Fact]) -> dict[str, Any]:
    """Facts whose silence means no, said as no; everything the table knows of, present as a key."""
    said = {name: facts.get(name) for name in known}
    return {name: False if value is None and known[name].unstated == "no" else value for name, value in said.items()}


def risk(findings: Sequence[Finding], context: Context) -> str | None:
    """Risk of lung cancer, ``"low"`` or ``"high"``; None while the facts do not settle it.

    High when any factor is there, seen on the scan or told; low only when every factor of ``low_needs`` was denied.
    """
    if context.risk is not None:
        return context.risk
    seen = {f.kind for f in findings if f.status == "present"}
    factors = {name: getattr(context, name) for name in _risk_table()["high_if_any"]}
    for name, kinds in _risk_table()["seen_on_the_scan"].items():
        factors[name] = bool(factors[name] or seen & set(kinds))
    if any(factors.values()):
        return "high"
    denied = all(factors[name] is False for name in _risk_table()["low_needs"])
    return "low" if denied else None


def _number(index: int, findings: Sequence[Finding]) -> str | None:
    """One or several of the kind in the whole study."""
    finding = findings[index]
    same = [f for f in findings if f.kind == finding.kind and f.status != "absent"]
    several = len(same) > 1 or any(f.value("number") == "multiple" or len(f.regions) > 1 for f in same)
    return "multiple" if several else "single"


def _since(index: int, findings: Sequence[Finding], context: Context) -> dict[str, Any]:
    """What changed since the earlier scan; without one, what is seen is a baseline.

    New is what an earlier scan denied, or did not list among others of its kind; what it kept silent about is unknown.
    """
    details, prior = context.details_of(index), context.prior
    facts: dict[str, Any] = {"change": details.change, "solid_part_change": details.solid_part_change}
    if prior is None:
        facts["change"] = details.change or "baseline"
        return facts
    if prior.days is not None:
        facts["months_since"] = half_up(prior.days / growth.DAYS_PER_MONTH)
    pair = next((p for p in growth.pairs(findings, context) if p.now == index), None)
    if details.change is None and pair is not None:
        facts["change"] = pair.change
    elif details.change is None and any(f.kind == findings[index].kind for f in prior.findings):
        facts["change"] = "new"
    if pair is not None and details.solid_part_change is None:
        facts["solid_part_change"] = _solid_part_change(index, pair, context, prior)
    return facts


def _solid_part_change(index: int, pair: growth.Pair, context: Context, prior: Prior) -> str | None:
    now = context.details_of(index).solid_part_mm
    before = next((d.solid_part_mm for d in prior.details if d.finding == pair.before), None)
    if now is None or before is None:
        return None
    if before == 0 < now:
        return "new"
    return growth.change_of(half_up(now - before, 0.1), None, prior.days, growth.limits("lung_nodule"))


@cache
def _risk_table() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "risk.yaml").read_text(encoding="utf-8"))
