"""How often does the parser misread a headed US-style report, and what does it misread?

    python benchmarks/parser_headed.py

Reads the reports of tests/reports (our own words, written with what they state) and counts for every statement whether
it was found with its status, side, lobe or finer place, and size. Prints a row for each set, then for each kind of
finding with an error. The rules were mended on these reports, so the rates are those of a text that the parser knows;
run against an earlier version of the package, they are those of a text that it had not seen.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.report import Finding
from ctscribe.report.parse import parse

FOLDER = Path(__file__).parents[1] / "tests" / "reports"
MARKS = {"+": "present", "?": "uncertain", "-": "absent"}
SETS = ("us", "us_templates", "us_dictated", "us_unseen", *(f"us_round{n}" for n in range(1, 8)), "us_other_hand")
ERRORS = ("missed", "invented", "status", "side", "place", "size")


def stated(line: str) -> Finding:
    """A line of the tables (``+kind regions size``) as a finding."""
    kind, *rest = line[1:].split()
    size = next((part for part in rest if part[0].isdigit()), "")
    regions = next((part for part in rest if not part[0].isdigit()), "")
    axes = tuple(float(axis) for axis in size.split("x")) if size else ()
    return Finding(kind, MARKS[line[0]], tuple(regions.split(",")) if regions else (), axes)  # type: ignore[arg-type]


def sides(finding: Finding) -> set[str]:
    """Sides that its places name."""
    return {side for region in finding.regions if (side := ontology.regions()[region].side)}


def differences(truth: Finding, read: Finding, kinds_only: list[str]) -> tuple[str, ...]:
    """In what two findings of one kind differ, () in nothing that the tables tell."""
    wrong = ["status"] if truth.status != read.status else []
    if truth.kind in kinds_only:
        return tuple(wrong)
    if set(truth.regions) != set(read.regions):
        wrong.append("side" if sides(truth) != sides(read) else "place")
    if truth.size_mm != read.size_mm:
        wrong.append("size")
    return tuple(wrong)


def misread(case: dict[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """(kind of finding, its errors) of each statement misread: every one goes to the reading nearest to it."""
    kinds_only = case.get("kinds_only", [])
    read = list({(f.kind, f.status, f.regions, f.size_mm): f for f in parse(case["text"], "en")}.values())
    found: list[tuple[str, tuple[str, ...]]] = []
    truths = [stated(line) for line in case["states"]]
    pairs = [
        (len(differences(t, r, kinds_only)), i, j)
        for i, t in enumerate(truths)
        for j, r in enumerate(read)
        if t.kind == r.kind
    ]
    left, free = set(range(len(truths))), set(range(len(read)))
    for _, i, j in sorted(pairs):
        if i in left and j in free:
            left.remove(i)
            free.remove(j)
            if errors := differences(truths[i], read[j], kinds_only):
                found.append((truths[i].kind, errors))
    found += [(truths[i].kind, ("missed",)) for i in left]
    return found + [(read[j].kind, ("invented",)) for j in free if read[j].kind not in kinds_only]


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(description="Misreadings of headed reports by kind.").parse_args()
    total: Counter[tuple[str, str]] = Counter()
    print(f"| reports | statements | misread | wrong reports | {' | '.join(ERRORS)} |\n| --- |{' ---: |' * 9}")
    for name in SETS:
        cases = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        each = [misread(case) for case in cases]
        pairs = [(kind, error) for wrong in each for kind, errors in wrong for error in errors]
        count = Counter(error for _, error in pairs)
        total.update(pairs)
        statements = sum(len(case["states"]) for case in cases)
        cells = [statements, sum(map(len, each)), sum(map(bool, each)), *(count[e] for e in ERRORS)]
        print(f"| {name} ({len(cases)}) | {' | '.join(map(str, cells))} |")
    if total:
        print("\n| kind | errors |\n| --- | --- |")
    for kind in sorted({kind for kind, _ in total}):
        print(f"| {kind} | {', '.join(f'{e} ({total[kind, e]})' for e in ERRORS if total[kind, e])} |")


if __name__ == "__main__":
    main()
