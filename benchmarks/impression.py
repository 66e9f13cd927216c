"""Is the follow-up of an impression right, and is nothing unsupported in what the rules write?

    python benchmarks/impression.py [--n 1000] [--seed 0] [--processes 1] [--sampled]

Follow-up: the findings of synthetic phantoms (or, faster, findings drawn at random: --sampled) are written as a report,
English and Chinese in turn, worded at random, read back, and put before the guideline tables with a random patient. A
second, separate implementation (`follow_up_reference.py`) says what is right. Each study is asked twice: with every
fact, where exactly one answer must come and be the right one, and with one fact left out, where the options must be
exactly the answers that the reference gives over all values of that fact, and the fact must be asked for.

Support: the rule-written impression of the same study, in the language of its report, is read by the guard sentence by
sentence, as if a stranger had written it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import follow_up_reference as reference
import numpy as np

from ctscribe import ontology
from ctscribe.impression.context import Context, Details
from ctscribe.impression.guidelines import load, recommend, shipped
from ctscribe.impression.inputs import from_text
from ctscribe.impression.result import Recommendation
from ctscribe.impression.station import Station
from ctscribe.phantom import GridSpec, LesionPrior, generate
from ctscribe.report import Finding, render_text, sample_findings

GRID = GridSpec(shape=(32, 44, 44), spacing=(10.0, 8.0, 8.0))
"""Coarse: only the truth is used, and that does not depend on the grid."""
CORES = (2.0, 4.9, 5.4, 5.5, 5.9, 6.0, 7.9, 8.0, 9.9, 10.0, 14.0)
SIZED = ("lung_nodule", "mass", "lymphadenopathy", "thyroid_nodule", "adrenal_nodule", "aortic_aneurysm",
         "enlarged_pulmonary_artery")  # fmt: skip
TWO_AXES = ("lung_nodule", "mass", "lymphadenopathy")
MISSING = ("risk", "age", "solid_part_mm", "attenuation_hu", "extent_percent", "subpleural")


def main() -> None:
    parser = argparse.ArgumentParser(description="Is the follow-up of an impression right?")
    parser.add_argument("--n", type=int, default=1000, help="phantom reports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sampled", action="store_true", help="draw findings at random instead of drawing phantoms")
    options = parser.parse_args()
    follow_up(options.n, options.seed, options.processes, options.sampled)


def follow_up(n: int, seed: int, processes: int, sampled: bool) -> None:
    """Print how often the engine agrees with the reference, by guideline."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    statements = unsupported = 0
    with ProcessPoolExecutor(processes) as pool:
        for asked, written, objections in pool.map(one_study, [seed] * n, range(n), [sampled] * n, chunksize=10):
            statements += written
            unsupported += objections
            for kind, agrees in asked:
                total[kind] += 1
                right[kind] += agrees
    what = f"{n} {'sampled' if sampled else 'phantom'} reports (synthetic)"
    print(f"{what}, {sum(total.values())} recommendations: {share(right, total)} right")
    for kind in sorted(total):
        print(f"  {kind:36s} {right[kind]:5d} of {total[kind]:5d}")
    print(f"{unsupported} of {statements} statements in the rule-written impressions objected to by the guard")


def one_study(seed: int, study: int, sampled: bool) -> tuple[list[tuple[str, bool]], int, int]:
    """Guideline and whether the engine was right, for everything that one study asks; statements and objections."""
    rule_sets = [*load(), shipped()["c_lung_rads_2024"]]
    rng = np.random.default_rng([seed, study])
    truth = sampled_truth(rng) if sampled else generate(seed + study, GRID, lesions=LesionPrior.crowded(3)).findings
    language: ontology.Language = "en" if study % 2 else "zh"
    findings = report_of(truth, language, rng)
    known = patient(rng, findings)
    missing = MISSING[study % len(MISSING)]
    asked = [*complete(findings, known, rule_sets), *incomplete(findings, known, rule_sets, missing)]
    written = Station().write(findings, language, context=context_of(known, findings))
    return asked, len(written.statements), len(written.check.objections) if written.check else 0


def share(right: Counter[str], total: Counter[str]) -> str:
    """Right ones among all, in per cent."""
    return f"{sum(right.values()) / max(1, sum(total.values())):.2%}"


def sampled_truth(rng: np.random.Generator) -> tuple[Finding, ...]:
    """Findings drawn at random, with every size, density and place that a guideline asks for."""
    return tuple(_filled(f, rng) if f.status == "present" else f for f in sample_findings(rng, uncertain=0.0))


def _filled(finding: Finding, rng: np.random.Generator) -> Finding:
    limits = ontology.findings()[finding.kind].size_mm
    if limits and finding.kind in SIZED:
        long = round(float(rng.uniform(*limits)))
        finding = replace(finding, size_mm=(long, max(1, round(long * 0.8))) if finding.kind in TWO_AXES else (long,))
    if finding.kind == "lung_nodule" and not finding.value("density"):
        density = str(rng.choice(["solid", "part_solid", "ground_glass"]))
        finding = replace(finding, attributes=(*finding.attributes, ("density", density)))
    if finding.kind == "lymphadenopathy" and not finding.regions:
        finding = replace(finding, regions=("mediastinum",))
    return finding


def report_of(truth: tuple[Finding, ...], language: ontology.Language, rng: np.random.Generator) -> tuple[Finding, ...]:
    """Findings after a way through a written report."""
    read = from_text(render_text(truth, language, seed=int(rng.integers(2**31)))).findings if truth else ()
    if set(read) != set(truth):
        raise AssertionError(f"a report does not read back to its findings: {truth}")
    return read


def patient(rng: np.random.Generator, findings: Sequence[Finding]) -> dict[str, Any]:
    """A random patient in which every fact is known; the density of a mass is not, so none is screened with one."""
    mass = any(f.kind == "mass" for f in findings)
    return {
        "age": int(rng.choice([25, 34, 35, 50, 70])),
        "screening": bool(rng.random() < 0.4 and not mass),
        "cancer": bool(rng.random() < 0.15),
        "immunosuppressed": bool(rng.random() < 0.15),
        "high": bool(rng.random() < 0.5),
        "core": float(rng.choice(CORES)),
        "hu": float(rng.choice([-5, 10, 11, 35])),
        "percent": float(rng.choice([2, 5, 20])),
        "subpleural": bool(rng.random() < 0.5),
        "in_mediastinum": lambda f: any("mediastinum" in ontology.ancestors(r) for r in f.regions),
    }


def context_of(known: dict[str, Any], findings: Sequence[Finding], without: str = "") -> Context:
    """The same patient as the engine is told, one fact left out."""
    fibrosis = any(f.kind == "honeycombing" for f in findings)
    facts = {
        "solid_part_mm": known["core"],
        "attenuation_hu": known["hu"],
        "extent_percent": known["percent"],
        "subpleural": known["subpleural"],
        "fibrosis_signs": fibrosis,
    }
    details = tuple(Details(i, **{k: v for k, v in facts.items() if k != without}) for i in range(len(findings)))
    patient = {k: known[k] for k in ("age", "screening", "cancer", "immunosuppressed") if k != without}
    high = {} if without == "risk" else {"smoker": known["high"], "family_history": False, "exposure": False}
    return Context(**patient, **high, details=details)


def complete(
    findings: Sequence[Finding], known: dict[str, Any], rule_sets: Sequence[Any]
) -> Iterator[tuple[str, bool]]:
    """With every fact: exactly the reference's answers, each of them definite."""
    expected = reference.expected(findings, known)
    made = by_kind(recommend(findings, context_of(known, findings), rule_sets), findings)
    for key, answer in expected.items():
        found = made.get(key)
        yield key[0], found is not None and found.definite and answers(found) == {answer}
    for key in made.keys() - expected.keys():
        yield key[0], made[key].options == ()  # it may only say why it does not apply


def incomplete(
    findings: Sequence[Finding], known: dict[str, Any], rule_sets: Sequence[Any], fact: str
) -> Iterator[tuple[str, bool]]:
    """With one fact left out: the options are the answers over its values, and it is asked for where they differ."""
    made = by_kind(recommend(findings, context_of(known, findings, fact), rule_sets), findings)
    over = [reference.expected(findings, known | change) for change in values(fact)]
    for key in over[0].keys() | over[-1].keys():
        possible = {answers_of[key] for answers_of in over if key in answers_of}
        found = made.get(key)
        asked = found is not None and fact in [need.fact for need in found.needs]
        yield (
            f"{key[0]}, a fact missing",
            found is not None and answers(found) == possible and (asked or len(possible) == 1),
        )


def values(fact: str) -> list[dict[str, Any]]:
    """Every value of a fact that the guidelines tell apart."""
    return {
        "risk": [{"high": False}, {"high": True}],
        "age": [{"age": 25}, {"age": 60}],
        "solid_part_mm": [{"core": core} for core in CORES],
        "attenuation_hu": [{"hu": 10}, {"hu": 11}],
        "extent_percent": [{"percent": 4}, {"percent": 5}],
        "subpleural": [{"subpleural": True}, {"subpleural": False}],
    }[fact]


def by_kind(made: Sequence[Recommendation], findings: Sequence[Finding]) -> dict[tuple[str, str], Recommendation]:
    """Recommendations by guideline and kind of finding, as the reference names them; emphysema is only classified."""
    lungs = ("lung_nodule", "mass", "reticulation", "honeycombing")
    found = {}
    for one in made:
        kind = findings[one.findings[0]].kind if one.findings else "lung"
        if kind != "emphysema" and (one.guideline, kind) != ("c_lung_rads_2024", "lung"):
            found[one.guideline, "lung" if kind in lungs else kind] = one
    return found


def answers(made: Recommendation) -> set[reference.Answer]:
    """Its options in the reference's form; the modifier for other findings is left out."""
    return {(o.category.removesuffix("S"), o.months, o.modality) for o in made.options}


if __name__ == "__main__":
    main()
