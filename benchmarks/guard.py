"""Does the guard notice what is wrong with an impression, and leave a faithful one alone?

    python benchmarks/guard.py [--errors 1000] [--seed 0]

Synthetic phantoms with known findings and random patients are put before the guideline tables. `adversary.py` words
a faithful impression of each, English and Chinese in turn, and puts one error of eight kinds into a copy. Caught
means that the guard objects to the copy in a way in which it does not object to the faithful one; a false alarm is any
objection to a faithful impression. The rule writer's own impressions are read as well, not taken on trust. The writer
may use the knowledge base, so its passages on the findings are known to the guard.

Then every wrong copy is handed to the whole station by a writer that never learns (`write_with`): got through counts
the impressions that still hold the wrong sentence, or still lack what was left out.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import adversary

from ctscribe.impression import Context, write
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.result import Statement
from ctscribe.impression.retrieval import shipped
from ctscribe.impression.writing import write_with
from ctscribe.ontology import Language
from ctscribe.phantom import GridSpec, LesionPrior, generate

GRID = GridSpec(shape=(32, 44, 44), spacing=(10.0, 8.0, 8.0))
"""Coarse: only the truth is used, and that does not depend on the grid."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What the guard catches.")
    parser.add_argument("--errors", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report(*measure(options.errors, options.seed, whole=True))


@dataclass
class Liar:
    """A writer that proposes the same text however often it is asked."""

    statements: tuple[Statement, ...]
    name: str = "liar"

    def draft(self, *_: Any) -> tuple[Statement, ...]:
        """Its text."""
        return self.statements


def measure(errors: int, seed: int, whole: bool = False) -> tuple[Counter[str], Counter[str], list[str]]:
    """(caught, asked, what went wrong) by kind of error.

    ``faithful`` and ``rules`` count objections, ``through`` wrong copies that get through the whole station, where that
    is asked for; ``milliseconds`` are those of the rule writer and of the guard reading its text.
    """
    caught: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    wrong: list[str] = []
    study = seed
    while sum(asked[kind] for kind in adversary.KINDS) < errors:
        rng = random.Random(study)
        language: Language = "en" if study % 2 else "zh"
        findings = tuple(generate(study, GRID, lesions=LesionPrior.crowded(3)).findings)
        context = patient(rng)
        begun = time.process_time()
        ruled = write(findings, language, context=context)
        written = time.process_time()
        known = known_of(findings, ruled, language)
        strange = problems(ruled.statements, known, language, trust=False)
        asked["write milliseconds"] += round(1e3 * (written - begun))
        asked["guard milliseconds"] += round(1e3 * (time.process_time() - written))
        faithful = adversary.faithful(findings, ruled.recommendations, language, rng, rest(ruled))
        objections = problems(faithful.statements, known, language)
        asked["faithful"] += 1
        caught["faithful"] += bool(objections)
        wrong += [f"false alarm ({language}): {p.kind}: {p.message}" for p in objections]
        asked["rules"] += 1
        caught["rules"] += bool(strange)
        wrong += [f"rules ({language}): {p.kind}: {p.message}" for p in strange]
        for kind in adversary.KINDS:
            made = adversary.with_error(kind, faithful, findings, ruled.recommendations, language, rng)
            if made is None:
                continue
            asked[kind] += 1
            if len(problems(made.statements, known, language)) > len(objections):
                caught[kind] += 1
            else:
                wrong.append(f"missed ({language}): {kind}: {made.detail}")
            if whole:
                asked["through"] += 1
                caught["through"] += got_through(made, faithful, known, context, language)
        study += 1
    return caught, asked, wrong


def known_of(findings: Any, ruled: Any, language: Language) -> Known:
    """What the station would let a writer rest on."""
    passages = shipped().about(findings, language, guidelines={r.guideline for r in ruled.recommendations if r.options})
    return Known(findings, ruled.recommendations, ruled.statements, tuple((p.id, p.text) for p in passages))


def got_through(made: Any, faithful: Any, known: Known, context: Context, language: Language) -> bool:
    """Whether the error is still there after the station has done what it can."""
    out = write_with(Liar(made.statements), known.findings, language, context=context)
    lies = {s.text for s in made.statements} - {s.text for s in faithful.statements} - {s.text for s in known.ruled}
    missing = made.error in ("missed_critical", "missing_follow_up")
    still = problems(out.statements, known, language, trust=False) if missing else ()
    return bool(lies & {s.text for s in out.statements} or still)


def patient(rng: random.Random) -> Context:
    """A random patient in whom what most guidelines ask for is known."""
    return Context(
        age=rng.choice((45, 61, 70)),
        smoker=rng.random() < 0.5,
        family_history=False,
        exposure=False,
        cancer=False,
        immunosuppressed=False,
        screening=rng.random() < 0.3,
    )


def rest(ruled: Any) -> list[Statement]:
    """Statements that the faithful writer repeats: comments, and advice that still depends on a fact."""
    definite = {r.citation.id for r in ruled.recommendations if r.definite}
    return [
        s
        for s in ruled.statements
        if s.role in ("differential", "significance") or (s.role == "follow_up" and not definite & set(s.citations))
    ]


def report(caught: Counter[str], asked: Counter[str], wrong: list[str]) -> None:
    """Print the table and what went wrong."""
    total = sum(asked[kind] for kind in adversary.KINDS)
    found = sum(caught[kind] for kind in adversary.KINDS)
    print(f"{total} injected errors in synthetic impressions: {found / total:.2%} caught")
    for kind in adversary.KINDS:
        print(f"  {kind:20s} {caught[kind]:4d} of {asked[kind]:4d}")
    print(f"{caught['faithful']} of {asked['faithful']} faithful impressions objected to")
    print(f"{caught['rules']} of {asked['rules']} rule-written impressions objected to, read as if a stranger's")
    if asked["through"]:
        print(f"{caught['through']} of {asked['through']} wrong impressions got through the whole station")
    share = {name: asked[f"{name} milliseconds"] / asked["rules"] for name in ("write", "guard")}
    rate = 1e3 / max(1e-9, sum(share.values()))
    print(
        f"rule writer {share['write']:.0f} ms, guard {share['guard']:.0f} ms CPU each: {rate:.0f} impressions a second"
    )
    print("\n".join(wrong[:40]))


if __name__ == "__main__":
    main()
