"""Which prediction belongs to which reference: by id, and nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Sequence

from ctscribe.errors import InputRefused
from ctscribe.evaluation.reading import Row, listed
from ctscribe.evaluation.record import Pair, Record


def pair_up(
    predictions: Sequence[Record], references: Sequence[Record], *, partial: bool = False, where: str = ""
) -> tuple[list[Pair], list[str]]:
    """Match reports by id, in the order of the references.

    Args:
        partial: allow references without a prediction.
        where: the file of the predictions, for an error; "" for none.

    Returns:
        pairs, and notes on what was left out.

    Raises:
        InputRefused: a prediction without reference, a reference without prediction (unless `partial`), nothing to
            score, or more than one language.
    """
    places, notes = matched(predictions, references, partial=partial, where=where)
    one_language([(predictions[i], references[j]) for i, j in places], where=where)
    return [Pair(predictions[i], references[j]) for i, j in places], notes


def matched(
    predictions: Sequence[Row | Record],
    references: Sequence[Row | Record],
    *,
    partial: bool = False,
    where: str = "",
) -> tuple[list[tuple[int, int]], list[str]]:
    """Places (in the predictions, in the references) of what belongs together, in the order of the references.

    Raises:
        InputRefused: see `pair_up`.
    """
    known = {record.id: place for place, record in enumerate(references)}
    offered = {record.id: place for place, record in enumerate(predictions)}
    if strangers := [name for name in offered if name not in known]:
        raise InputRefused(
            _in(where, "predictions without a reference"),
            code="missing_ids",
            expected="the id of every prediction among the references",
            got=listed(strangers),
            hint="check that both files name studies alike and hold the same split",
        )
    absent = [name for name in known if name not in offered]
    if absent and not partial:
        raise InputRefused(
            _in(where, "references without a prediction"),
            code="missing_ids",
            expected="one prediction for each reference",
            got=listed(absent),
            hint="predict them, or allow it (partial) to score the others and say so",
        )
    places = [(offered[name], place) for name, place in known.items() if name in offered]
    if not places:
        raise InputRefused(_in(where, "nothing to score"), code="no_reports", expected="at least one pair", got="none")
    left_out = [f"{len(absent)} of {len(known)} references have no prediction and were left out."] if absent else []
    return places, left_out


def one_language(pairs: Sequence[tuple[Row | Record, Row | Record]], *, where: str = "") -> None:
    """Refuse pairs in two languages.

    Raises:
        InputRefused: languages differ within a pair, or between pairs.
    """
    crossed = [ours.id for ours, theirs in pairs if ours.language != theirs.language]
    spoken = sorted({record.language for pair in pairs for record in pair})
    if crossed or len(spoken) > 1:
        raise InputRefused(
            _in(where, "mixed languages"),
            code="mixed_languages",
            expected="predictions and references in one language",
            got=f"languages differ within {listed(crossed)}" if crossed else " and ".join(spoken),
            hint="choose one with language en or zh, and score them one after the other",
        )


def _in(where: str, what: str) -> str:
    return f"{where}: {what}" if where else what
