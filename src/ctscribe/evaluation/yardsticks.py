"""What every measure is read beside: the same measure of baselines, and of reports that belong to other studies.

The work is spread over the crew scorer by scorer; every process finds the sample and the baselines' reports in one
file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ctscribe.evaluation.baselines import drawn
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Scorer
from ctscribe.evaluation.shuffle import Control, shuffled_control
from ctscribe.evaluation.stream import Crew, filed_scorers, into_file, out_of_file, sendable


@dataclass(frozen=True)
class Beside:
    """What the measures of one scorer are read beside.

    Attributes:
        baselines: baseline -> measure -> value.
        control: measure -> its values when reports are given to other studies.
    """

    baselines: Mapping[str, Mapping[str, float]]
    control: Mapping[str, Control] = field(default_factory=dict)


@dataclass(frozen=True)
class Yardsticks:
    """The pairs of the system and of the baselines, and how often the control is drawn (None: not at all)."""

    sample: Sequence[Pair]
    rivals: Mapping[str, Sequence[Pair]]
    permutations: int | None
    seed: int

    def beside(self, scorer: Scorer) -> Beside:
        """Tally everything under one fitted scorer."""
        others = {name: _values(scorer, rival) for name, rival in self.rivals.items()}
        # A model takes too long for twenty more sets.
        if self.permutations is None or getattr(scorer, "uses_model", False):
            return Beside(others)
        control = shuffled_control(scorer, self.sample, permutations=self.permutations, seed=self.seed)
        return Beside(others, control)

    def all_beside(self, scorers: Sequence[Scorer], crew: Crew, folder: Path) -> list[Beside]:
        """`beside` for each scorer.

        Raises:
            UsageError: a scorer that cannot be sent to another process.
        """
        if crew.processes == 1:
            return [self.beside(scorer) for scorer in scorers]
        files = folder / "yardsticks", folder / "yardsticks-scorers"
        into_file(files[0], self)
        files[1].write_bytes(sendable(scorers))
        return list(crew.map(_beside, [(*files, i) for i in range(len(scorers))]))


def _values(scorer: Scorer, pairs: Sequence[Pair]) -> dict[str, float]:
    return {name: float(value) for name, value in scorer.values(scorer.tally(pairs).sum(axis=0)).items()}


def rivals_of(pairs: Sequence[Pair], pool: Sequence[Record] | None, seed: int) -> dict[str, list[Pair]]:
    """Baseline name -> its reports paired with the references; drawn from ``pool``, or from the references."""
    truth = [pair.reference for pair in pairs]
    found = drawn([pair.candidate for pair in pairs], truth, truth if pool is None else pool, seed)
    return {
        name: [Pair(record, reference) for record, reference in zip(records, truth, strict=True)]
        for name, records in found.items()
    }


def _beside(task: tuple[Path, Path, int]) -> Beside:
    yardsticks, scorers, number = task
    return _filed(yardsticks).beside(filed_scorers(scorers)[number])


@lru_cache(maxsize=1)
def _filed(path: Path) -> Yardsticks:
    yardsticks: Yardsticks = out_of_file(path)
    return yardsticks
