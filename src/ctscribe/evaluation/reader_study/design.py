"""Who reads which text, and in which order.

    crossed   every reader reads every system's text of every case
    split     shared cases go to every reader, the others are dealt out; whoever has a case reads all its texts
    once      every reader reads every case once, each time another system's text; shared cases are read by everybody
              under the same system

The order of a reader, in rounds: each round brings every case at most once, and two texts of one case lie more than
half a round apart; over the rounds the systems take turns, so that no system gains from fatigue or from coming second.

    cases in random order    A A A A | B B B
    round 1                  shuffled A, shuffled B
    round 2                  shuffled A, shuffled B       more than half a round between two texts of a case
    second readings          shuffled part of A
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from ctscribe.errors import UsageError

Design = Literal["crossed", "split", "once"]
T = TypeVar("T")


@dataclass(frozen=True)
class Slot:
    """One text that one reader reads.

    Attributes:
        case: number of the case.
        system: number of the system that wrote the text.
        repeat: True for the second reading of a text.
    """

    case: int
    system: int
    repeat: bool = False


def assign(
    cases: int,
    systems: int,
    readers: int,
    *,
    design: Design,
    overlap: int,
    repeats: int | None,
    rng: np.random.Generator,
) -> list[list[Slot]]:
    """The texts of each reader, in reading order.

    Args:
        overlap: cases read by all readers; ignored in a crossed design, where all are.
        repeats: texts that each reader reads twice; None for a tenth of the reader's texts.

    Raises:
        UsageError: the numbers do not fit together.
    """
    _check(cases, systems, readers, design, overlap)
    return [
        _ordered(work, repeats, reader, rng)
        for reader, work in enumerate(_work(cases, systems, readers, design, overlap, rng))
    ]


def _check(cases: int, systems: int, readers: int, design: Design, overlap: int) -> None:
    if design != "crossed" and overlap > cases:
        raise UsageError("--overlap", expected=f"at most the number of cases, {cases}", got=str(overlap))
    if design == "once" and readers < systems:
        raise UsageError(
            "design `once`",
            expected=f"at least as many readers as systems ({systems}), so that every text is read",
            got=f"{readers} readers",
            hint="take more readers, or the design `split`",
        )
    if design == "split" and cases - overlap < readers and cases != overlap:
        raise UsageError(
            "design `split`",
            expected=f"at least one unshared case for each of {readers} readers",
            got=f"{cases} cases, {overlap} of them shared",
            hint="more cases, fewer readers, or the design `crossed`",
        )


def _work(
    cases: int, systems: int, readers: int, design: Design, overlap: int, rng: np.random.Generator
) -> list[dict[int, list[int]]]:
    """For each reader, case -> the systems whose texts are read."""
    order = [int(case) for case in rng.permutation(cases)]
    if design == "crossed":
        return [{case: list(range(systems)) for case in order} for _ in range(readers)]
    shared, others = order[:overlap], order[overlap:]
    if design == "split":
        dealt = [shared + others[reader::readers] for reader in range(readers)]
        return [{case: list(range(systems)) for case in mine} for mine in dealt]
    turn = {case: i for i, case in enumerate(shared)}
    later = {case: i for i, case in enumerate(others)}
    return [
        {c: [turn[c] % systems] for c in shared} | {c: [(later[c] + reader) % systems] for c in others}
        for reader in range(readers)
    ]


def _ordered(work: dict[int, list[int]], repeats: int | None, reader: int, rng: np.random.Generator) -> list[Slot]:
    cases = shuffled(list(work), rng)
    first_half = cases[: (len(cases) + 1) // 2]
    halves = (first_half, cases[len(first_half) :])
    turns = {case: _turn(work[case], i + reader) for i, case in enumerate(cases)}
    slots = [
        Slot(case, turns[case][number])
        for number in range(max(len(systems) for systems in work.values()))
        for half in halves
        for case in shuffled([case for case in half if number < len(turns[case])], rng)
    ]
    wanted = round(len(slots) / 10) if repeats is None else repeats
    if repeats is not None and repeats > len(first_half):
        raise UsageError(
            "--repeats",
            expected=f"at most {len(first_half)}, half of a reader's {len(cases)} cases, so that readings lie apart",
            got=str(repeats),
        )
    again = shuffled(first_half, rng)[: min(wanted, len(first_half))]
    return slots + [
        Slot(case, turns[case][i % len(turns[case])], repeat=True)
        for i, case in enumerate(sorted(again, key=lambda _: rng.random()))
    ]


def _turn(systems: list[int], number: int) -> list[int]:
    """The systems of one case in the order in which they come.

    As many cases in a row as there are systems make a Latin square: each system is equally often first, second, ...
    Every other square runs backwards, so that no system always follows the same one.
    """
    start, backwards = number % len(systems), number // len(systems) % 2
    rotated = systems[start:] + systems[:start]
    return [rotated[0], *rotated[:0:-1]] if backwards else rotated


def shuffled(values: Sequence[T], rng: np.random.Generator) -> list[T]:
    """The same values in random order."""
    return [values[i] for i in rng.permutation(len(values))]
