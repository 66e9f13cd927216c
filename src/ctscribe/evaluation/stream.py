"""Many reports in bounded memory, over one process or several.

Pairs are cut into shards. Preparing a shard parses and tokenises it once; scoring it tallies it under every scorer.
Since metrics are functions of summed tallies, nothing else has to be joined. A small set is held in memory; a large
one, or one that several processes share, lies in a private temporary folder, one file a shard, and only the shard
being worked on is in memory. Either way the numbers are the same.

    rows ──prepare──► shard files, facts ──fitted──► scorers ──score──► tallies, report lines, worst reports
"""

from __future__ import annotations

import gc
import io
import json
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copyreg import dispatch_table
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from ctscribe.errors import UsageError
from ctscribe.evaluation.facts import Facts, facts_of
from ctscribe.evaluation.faithfulness import contradicted, hallucinated, omitted
from ctscribe.evaluation.reading import FindingsFrom, Row, record_of
from ctscribe.evaluation.record import Pair, Records
from ctscribe.evaluation.scorecard import rows_of
from ctscribe.evaluation.scorer import PairScore, Scorer, score_pairs
from ctscribe.evaluation.worst import Worst, worst_of

# Pairs of one shard: a few megabytes, a second or two of work.
SHARD = 1000

# Pairs held in memory at most when one process does the work.
HELD_MOST = 10_000

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Crew:
    """Runs tasks here, or in worker processes; answers come in the order of the tasks."""

    def __init__(self, processes: int = 1) -> None:
        if processes < 1:
            raise UsageError("processes", expected="at least 1", got=str(processes))
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Crew:
        if self.processes > 1:  # fresh interpreters: forking a process that has threads is not safe
            self._pool = ProcessPoolExecutor(self.processes, get_context("spawn"), initializer=_settle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Task], Answer], tasks: Iterable[Task]) -> Iterator[Answer]:
        """Each task's answer.

        Raises:
            MemoryError: a worker died, which is what the system does when memory runs out.
            Any exception of a task.
        """
        if self._pool is None:
            yield from map(work, tasks)
            return
        try:
            yield from self._pool.map(work, tasks)
        except BrokenProcessPool as error:
            raise MemoryError("a worker process ended; fewer processes need less memory") from error


def _settle() -> None:
    """A worker makes many records and few cycles: look for those less often."""
    gc.set_threshold(100_000, 50, 50)


@contextmanager
def _no_collection() -> Iterator[None]:
    """While records are read, nothing of them can be garbage, and looking for it takes as long as reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# --------------------------------------------------------------------------------------------- shards


@dataclass
class Shards:
    """Pairs in shards, held or filed.

    Attributes:
        sizes: pairs in each shard.
        held: the shards themselves, None when they lie in `folder`.
        folder: where the files are.
    """

    sizes: list[int]
    held: list[list[Pair]] | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return sum(self.sizes)

    def load(self, shard: int) -> list[Pair]:
        """The pairs of one shard."""
        return self.held[shard] if self.held is not None else _filed(self._path(shard))

    def task(self, shard: int) -> list[Pair] | Path:
        """What a worker is given to find them."""
        return self.held[shard] if self.held is not None else self._path(shard)

    def pairs(self, indices: Iterable[int]) -> list[Pair]:
        """The pairs at ascending places."""
        ends = np.cumsum([0, *self.sizes])
        found: list[Pair] = []
        wanted = np.asarray(list(indices), dtype=np.int64)
        for shard in range(len(self.sizes)):
            inside = wanted[(wanted >= ends[shard]) & (wanted < ends[shard + 1])]
            if len(inside):
                loaded = self.load(shard)
                found += [loaded[i - ends[shard]] for i in inside.tolist()]
        return found

    @property
    def references(self) -> Records:
        """The references of all shards as one sequence: what scorers are fitted on."""
        return Records(len(self), lambda places: [pair.reference for pair in self.pairs(places)])

    def _path(self, shard: int) -> Path:
        if self.folder is None:
            raise UsageError("shards", expected="pairs in memory or a folder", got="neither")
        return self.folder / f"shard-{shard:05d}"


def into_file(path: Path, value: object) -> None:
    """Put something into a file of this run's private folder."""
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)


def out_of_file(path: Path) -> Any:
    """What `into_file` or `sendable` put there a moment ago, in a folder that only its owner can write to."""
    with path.open("rb") as file, _no_collection():
        return pickle.load(file)  # noqa: S301


@lru_cache(maxsize=3)
def _filed(path: Path) -> list[Pair]:
    pairs: list[Pair] = out_of_file(path)
    return pairs


# --------------------------------------------------------------------------------------------- prepare


@dataclass(frozen=True)
class _Unparsed:
    """One shard of checked rows, and where its pairs go."""

    rows: Sequence[tuple[Row, Row]]
    paths: tuple[Path, Path]
    source: FindingsFrom
    file: Path | None


def _prepare(task: _Unparsed) -> tuple[Facts, list[Pair] | None]:
    ours, theirs = task.paths
    pairs = [
        Pair(record_of(ours, row, task.source, "predictions"), record_of(theirs, truth, task.source, "references"))
        for row, truth in task.rows
    ]
    facts = facts_of(pairs)
    if task.file is None:
        return facts, pairs
    _read_whole(pairs)
    into_file(task.file, pairs)
    return facts, None


def _read_whole(pairs: Sequence[Pair]) -> None:
    """Read what metrics will ask of the texts, while the parser still knows their sentences.

    Scoring comes when all shards are prepared: the parser has forgotten a large set's sentences by then.
    """
    for pair in pairs:
        mistaken = (hallucinated(pair), (*omitted(pair), *contradicted(pair)))
        for record, kinds in zip((pair.candidate, pair.reference), mistaken, strict=True):
            _ = record.ct_rate, record.contradictions, record.statements if kinds else ()


@contextmanager
def workroom() -> Iterator[Path]:
    """A private temporary folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ctscribe-evaluate-") as folder:
        yield Path(folder)


def prepared(
    rows: Sequence[tuple[Row, Row]], paths: tuple[Path, Path], source: FindingsFrom, crew: Crew, folder: Path
) -> tuple[Shards, Facts]:
    """Parse matched rows (prediction, reference).

    Raises:
        UnreadableInput, InputRefused: a row cannot be made a record.
    """
    filed = crew.processes > 1 or len(rows) > HELD_MOST
    cuts = range(0, len(rows), SHARD)
    files = [folder / f"shard-{i:05d}" if filed else None for i in range(len(cuts))]
    tasks = (
        _Unparsed(rows[start : start + SHARD], paths, source, file) for start, file in zip(cuts, files, strict=True)
    )
    facts: list[Facts] = []
    held: list[list[Pair]] = []
    for found, pairs in crew.map(_prepare, tasks):
        facts.append(found)
        if pairs is not None:
            held.append(pairs)
    sizes = [len(found.clusters) for found in facts]
    return Shards(sizes, None if filed else held, folder if filed else None), Facts.joined(facts)


def from_records(pairs: Sequence[Pair], crew: Crew, folder: Path) -> tuple[Shards, Facts]:
    """Shards of pairs that are records already."""
    parts = [list(pairs[start : start + SHARD]) for start in range(0, len(pairs), SHARD)]
    sizes = [len(part) for part in parts]
    facts = Facts.joined([facts_of(part) for part in parts])
    if crew.processes == 1:
        return Shards(sizes, held=parts), facts
    shards = Shards(sizes, folder=folder)
    for i, part in enumerate(parts):
        into_file(folder / f"shard-{i:05d}", part)
    return shards, facts


# --------------------------------------------------------------------------------------------- score


@dataclass(frozen=True)
class _Unscored:
    """One shard to score: its pairs or their file, the scorers or theirs, and where the report lines go."""

    pairs: list[Pair] | Path
    scorers: Sequence[Scorer] | Path
    lines: Path | None
    details: bool


@dataclass(frozen=True)
class _Scored:
    tallies: dict[str, np.ndarray]
    per_report: dict[str, list[PairScore]]
    worst: list[Worst]


@dataclass(frozen=True)
class Scores:
    """All shards under all scorers.

    Attributes:
        tallies: scorer name -> float64 (pairs, counts).
        per_report: scorer name -> one PairScore a pair; empty when they were written to files or not wanted.
        worst: the reports with most mistakes.
    """

    tallies: dict[str, np.ndarray]
    per_report: dict[str, list[PairScore]] = field(default_factory=dict)
    worst: tuple[Worst, ...] = ()


@lru_cache(maxsize=1)
def filed_scorers(path: Path) -> Sequence[Scorer]:
    """The scorers that `sendable` made bytes of, read once."""
    scorers: Sequence[Scorer] = out_of_file(path)
    return scorers


def _score(task: _Unscored) -> _Scored:
    pairs = task.pairs if isinstance(task.pairs, list) else _filed(task.pairs)
    scorers = filed_scorers(task.scorers) if isinstance(task.scorers, Path) else task.scorers
    tallies = {scorer.name: scorer.tally(pairs) for scorer in scorers}
    if not task.details:
        return _Scored(tallies, {}, worst_of(pairs))
    details = {scorer.name: score_pairs(scorer, pairs, tallies[scorer.name]) for scorer in scorers}
    if task.lines is None:
        return _Scored(tallies, details, worst_of(pairs))
    with task.lines.open("w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(details))
    return _Scored(tallies, {}, worst_of(pairs))


def scored(
    scorers: Sequence[Scorer], shards: Shards, crew: Crew, folder: Path, *, details: bool, lines: Path | None
) -> Scores:
    """Tally every shard.

    Args:
        scorers: fitted.
        details: score each report by itself, too, with reasons.
        lines: file for one line of details a report; None keeps them in the answer.

    Raises:
        UsageError: a scorer that cannot be sent to another process.
    """
    handed: Sequence[Scorer] | Path = scorers
    if crew.processes > 1:
        handed = folder / "scorers"
        handed.write_bytes(sendable(scorers))
    parts = [None if lines is None else folder / f"lines-{i:05d}" for i in range(len(shards.sizes))]
    tasks = (_Unscored(shards.task(i), handed, part, details) for i, part in enumerate(parts))
    answers = list(crew.map(_score, tasks))
    if lines is not None and details:
        with lines.open("w", encoding="utf-8", newline="") as whole:
            for part in parts:
                if part is not None:
                    whole.write(part.read_text(encoding="utf-8"))
    names = [scorer.name for scorer in scorers]
    return Scores(
        tallies={name: np.concatenate([answer.tallies[name] for answer in answers]) for name in names},
        per_report={
            name: [score for answer in answers for score in answer.per_report[name]]
            for name in names
            if details and lines is None
        },
        worst=tuple(worst_of([], [worst for answer in answers for worst in answer.worst])),
    )


def _read_only(table: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(table)


def sendable(scorers: Sequence[Scorer]) -> bytes:
    """Scorers for another process.

    Raises:
        UsageError: one of them cannot be sent.
    """
    content = io.BytesIO()
    try:
        pickler = pickle.Pickler(content, protocol=pickle.HIGHEST_PROTOCOL)
        # Vocabularies are read-only mappings, which pickle does not know.
        pickler.dispatch_table = {**dispatch_table, MappingProxyType: lambda view: (_read_only, (dict(view),))}
        pickler.dump(list(scorers))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            "a scorer cannot be sent to another process",
            expected="scorers defined at the top of a module, holding plain data",
            got=str(error)[:200],
            hint="define it in a module, or use one process",
        ) from error
    return content.getvalue()
