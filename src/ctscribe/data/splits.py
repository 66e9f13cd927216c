"""Which studies of a prepared store belong to a split."""

from __future__ import annotations

from pathlib import Path

from ctscribe.data.store import StudyStore
from ctscribe.errors import UsageError


def ids_of_split(root: Path | str, split: str) -> tuple[str, ...]:
    """Ids of the studies of one split, in the store's order.

    Raises:
        UsageError: there is no store, or no study of it is in this split.
    """
    store = StudyStore(root)
    found = tuple(name for index, name in enumerate(store.ids) if store.extra(index).get("split") == split)
    if not found:
        there = sorted({str(store.extra(index).get("split", "none")) for index in range(len(store))})
        raise UsageError(f"split {split!r} of {root}", expected=", ".join(there) or "a study", got="no study")
    return found
