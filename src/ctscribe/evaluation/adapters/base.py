"""What the adapters share: scores of pairs from somebody else's program, without network and without noise."""

from __future__ import annotations

import os
import sys
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.errors import CheckpointError, CTScribeError, DependencyMissing, UsageError
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer, ratio

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class PairModel(Scorer):
    """A metric that scores each pair of texts by itself; the score of a set is the mean of the defined ones.

    A subclass sets `name` and `measures` and provides `scores`.
    """

    uses_model = True

    @abstractmethod
    def scores(self, candidates: list[str], references: list[str]) -> Mapping[str, Sequence[float | None]]:
        """Measure -> one value a pair, None or NaN where undefined."""

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: for each measure its value and one, or twice zero where it is undefined.

        Raises:
            UsageError: a report that is not in English.
            CheckpointError: the program returned something else than one value a pair.
        """
        refuse_other_than_english(self.name, pairs)
        rows = np.zeros((len(pairs), 2 * len(self.measures)))
        if not pairs:
            return rows
        with foreign(self.name):
            found = self.scores([pair.candidate.text for pair in pairs], [pair.reference.text for pair in pairs])
        for i, measure in enumerate(self.measures):
            given = found.get(measure.name)
            if given is None or len(given) != len(pairs):
                got = "nothing" if given is None else f"{len(given)} values"
                raise CheckpointError(f"{self.name}: {measure.name}", expected=f"{len(pairs)} values", got=got)
            values = np.array([np.nan if value is None else float(value) for value in given])
            rows[:, 2 * i] = np.nan_to_num(values)
            rows[:, 2 * i + 1] = ~np.isnan(values)
        return rows

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Means of the defined values."""
        return {m.name: ratio(totals[..., 2 * i], totals[..., 2 * i + 1]) for i, m in enumerate(self.measures)}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """How many pairs each measure is defined for."""
        return [{"measure": m.name, "pairs_scored": int(totals[2 * i + 1])} for i, m in enumerate(self.measures)]


def refuse_other_than_english(name: str, pairs: Sequence[Pair]) -> None:
    """These models read English only.

    Raises:
        UsageError: a report in another language.
    """
    other = next((p.reference.language for p in pairs if p.reference.language != "en"), None)
    if other is not None:
        raise UsageError(f"metric {name}", expected="English reports", got=f"language {other!r}", hint="leave it out")


def package(module: str, install: str, what: str) -> Any:
    """Import a package that is no dependency.

    Raises:
        DependencyMissing: it is not installed, or something it needs is not.
    """
    try:
        with quietly():
            return import_module(module)
    except ImportError as error:
        raise DependencyMissing(
            what, expected=f"the package {module}", got=_told(error), hint=f"pip install {install}"
        ) from error
    except Exception as error:  # what its modules do while they are imported is not ours
        raise DependencyMissing(
            what, expected=f"a package {module} that can be imported", got=f"{type(error).__name__}: {_told(error)}"
        ) from error


def need(folder: Path, names: Sequence[str], what: str, hint: str) -> None:
    """Refuse a folder that lacks something.

    Raises:
        CheckpointError: names what is missing.
    """
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        got = f"no {', '.join(missing)}" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder}: {what}", expected=", ".join(names), got=got, hint=hint)


@contextmanager
def quietly() -> Iterator[None]:
    """What a program prints goes to standard error, and its warnings nowhere: standard output is the result's."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def foreign(name: str) -> Iterator[None]:
    """Run somebody else's program: quiet, without network, its failures as ours.

    Raises:
        CheckpointError: whatever the program raised.
    """
    before = {key: os.environ.get(key) for key in _OFFLINE}
    hub = sys.modules.get("huggingface_hub.constants")
    was = getattr(hub, "HF_HUB_OFFLINE", None)
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    if hub is not None:  # it read the environment when it was imported
        hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        with quietly():
            yield
    except CTScribeError:
        raise
    except Exception as error:  # such programs raise anything, bare exceptions and assertions among them
        raise CheckpointError(
            f"metric {name}",
            expected="its weights and whatever they refer to on this machine",
            got=f"{type(error).__name__}: {_told(error)}",
            hint="nothing is downloaded: place every file first",
        ) from error
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        if hub is not None and was is not None:
            hub.HF_HUB_OFFLINE = was  # type: ignore[attr-defined]


def _told(error: Exception) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def score(name: str, says: str) -> Measure:
    """A measure of 0..1, larger is better."""
    return Measure(name, says)
