"""How well do language models write impressions on this machine, before the guard and after it?

    python benchmarks/writers.py --writer local --folder models/SmolLM2-135M-Instruct [--n 20] [--grammar]
    python benchmarks/writers.py --writer head --folder runs/impression_head/head --n 100

Synthetic studies (random plausible findings, one of a kind, a random patient) that no recipe trains on. Counted are
the statements of the first proposal that the guard objects to, the statements of the finished impression that a
separate, simpler reader (`unsupported`) cannot find in the truth, what the guard did, and processor seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guard
import numpy as np

from ctscribe import ontology
from ctscribe.errors import EndpointError
from ctscribe.facts import canonical
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.result import Statement
from ctscribe.impression.writers import Choice, LocalWriter
from ctscribe.impression.writing import write_with
from ctscribe.pipeline.writers import make
from ctscribe.report import Finding, sample_findings
from ctscribe.report.parse import parse

HELDOUT_SEED = 930_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writer", required=True, help="local, tuned or head")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--grammar", action="store_true", help="constrained decoding")
    parser.add_argument("--lines", action="store_true", help="ask a local model for plain lines at once")
    parser.add_argument("--max-tokens", type=int, default=600, help="of one answer of a local model")
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--again", type=int, default=1, help="how often a writer may correct its text")
    parser.add_argument("--show", type=int, default=2, help="impressions to print")
    options = parser.parse_args()
    watched = Watched(build(options))
    counts: Counter[str] = Counter()
    for number in range(options.n):
        one(watched, number, options, counts)
        if (number + 1) % 5 == 0:
            print(json.dumps(dict(counts)), flush=True)
    report(counts, watched, options)


def build(options: argparse.Namespace) -> Any:
    """The writer, as the command line makes it."""
    if options.writer == "local":
        shape = {"constrained": options.grammar, "plain": options.lines}
        return LocalWriter(options.folder, max_tokens=options.max_tokens, **shape)
    return make(options.writer, Choice(None, options.folder, constrained=options.grammar))


@dataclass
class Watched:
    """A writer whose first proposal to each study is kept, and its processor seconds."""

    writer: Any
    first: tuple[Statement, ...] | None = None
    known: Known | None = None
    seconds: list[float] = field(default_factory=list)
    tries: int = 0

    @property
    def name(self) -> str:
        return str(self.writer.name)

    def draft(self, known: Known, language: Any, context: Any, found: Sequence[Any] = ()) -> tuple[Statement, ...]:
        """What the writer proposes."""
        begun = time.process_time()
        self.known, self.tries = known, self.tries + 1
        try:
            made = self.writer.draft(known, language, context, found)
        finally:
            self.seconds.append(time.process_time() - begun)
        if not found:
            self.first = made
        return made


def study(number: int) -> tuple[tuple[Finding, ...], Any]:
    """Findings and patient of one held-out study."""
    rng = np.random.default_rng([HELDOUT_SEED, number])
    found = canonical(sample_findings(rng, mean_present=4.0, uncertain=0.1, fine_regions=0.0))
    return found, guard.patient(random.Random(number))


def one(watched: Watched, number: int, options: argparse.Namespace, counts: Counter[str]) -> None:
    """Write one impression and count."""
    findings, context = study(number)
    watched.first = None
    try:
        made = write_with(watched, findings, options.language, context=context, again=options.again)
    except EndpointError as error:
        raise SystemExit(str(error)) from error
    counts["impressions"] += 1
    counts[made.check.verdict if made.check else "unchecked"] += 1
    if watched.first is None:
        counts["no proposal"] += 1
    else:
        objected = problems(watched.first, watched.known or Known(findings), options.language)
        counts["proposed"] += len(watched.first)
        counts["proposed, objected to"] += len({p.statement for p in objected if p.statement is not None})
        counts["left something out"] += any(p.statement is None for p in objected)
    own = [] if made.method == "rules" else made.statements
    counts["statements"] += len(made.statements)
    counts["statements of impressions by the model"] += len(own)
    counts["unsupported"] += sum(unsupported(s.text, findings, options.language) for s in made.statements)
    if number < options.show:
        print(f"--- {number} ({made.check.verdict if made.check else ''})", flush=True)
        print("\n".join(s.text for s in watched.first or ()) or "(no proposal)")
        print(f"=>\n{made.text}\n{' | '.join(made.remarks)}", flush=True)


def unsupported(text: str, truth: Sequence[Finding], language: Any) -> bool:
    """Whether a sentence states something that the truth does not hold: kind, certainty, place and size."""
    return any(not any(_says(f, t) for t in truth) for f in parse(text, language) if f.status == "present")


def _says(said: Finding, true: Finding) -> bool:
    here = all(any(r in ontology.ancestors(t) for t in true.regions) for r in said.regions) or not true.regions
    size = all(any(abs(a - b) <= 0.5 for b in true.size_mm) for a in said.size_mm)
    return true.status == "present" and said.kind in ontology.implied(true.kind) and here and size


def report(counts: Counter[str], watched: Watched, options: argparse.Namespace) -> None:
    """Print the numbers."""
    n, how = counts["impressions"], " with the grammar" if options.grammar else ""
    print(f"{watched.name}{how}: {n} impressions of synthetic findings ({options.language})")
    print(f"  accepted without repair      {counts['passed']} ({counts['passed'] / n:.0%})")
    for verdict in ("corrected", "cut", "replaced", "objected"):
        print(f"  {verdict:28s} {counts[verdict]}")
    print(f"  no proposal at all           {counts['no proposal']}")
    proposed = max(1, counts["proposed"])
    print(
        f"  before the guard             {counts['proposed, objected to']} of {counts['proposed']} statements objected"
        f" to ({counts['proposed, objected to'] / proposed:.1%}); {counts['left something out']} left something out"
    )
    print(
        f"  after the guard              {counts['unsupported']} of {counts['statements']} statements unsupported, "
        f"{counts['statements of impressions by the model']} of them in impressions by the model"
    )
    seconds = sum(watched.seconds) / n
    print(f"  seconds                      {seconds:.1f} of processor time an impression, {watched.tries} proposals")


if __name__ == "__main__":
    main()
