"""Which sample is read when: a pure function of (seed, position), never of what was read before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ctscribe.errors import TrainingError
from ctscribe.training.seeds import derive_seed

BatchSource = Callable[[int, int], Iterator[Any]]
"""``source(first, stop)`` yields the batches numbered first .. stop-1 of one endless, fixed order."""

Transform = Callable[[Any, np.random.Generator], Any]
"""Takes a sample and a generator, returns the changed sample; draws randomness from nowhere else."""


@runtime_checkable
class Samples(Protocol):
    """A map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class EpochOrder:
    """Each epoch is its own permutation; position p of the endless stream lies in epoch ``p // n``."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, index) of one position."""
        epoch, place = divmod(position, self.n)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n)
        return epoch, int(self._order[place])


class _Drawn(Dataset):
    """Reads ``(epoch, index)``; the transforms' generator depends on nothing else, so workers may vary."""

    def __init__(self, samples: Samples, transforms: Sequence[Transform], seed: int) -> None:
        self.samples, self.transforms, self.seed = samples, tuple(transforms), seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        sample = self.samples[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


def ordered_batches(
    samples: Samples,
    collate: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    seed: int | tuple[int | str, ...],
    transforms: Sequence[Transform] = (),
    workers: int = 0,
) -> BatchSource:
    """Turn a map-style dataset into what the loop reads.

    Args:
        samples: e.g. a `ctscribe.data.dataset.StudyStore`.
        collate: list of samples -> batch.
        batch_size: samples in a batch; a batch may straddle two epochs, so none is ever short.
        seed: a seed, or a path for `derive_seed` such as ``(config.seed, stage.name)``.
        transforms: applied in order to each sample, with a generator seeded from (seed, epoch, index).
        workers: loader processes; the order and every sample are the same for any number.

    Raises:
        TrainingError: the dataset is empty.
    """
    if len(samples) == 0:
        raise TrainingError("the training data is empty", expected="at least one study", hint="check the split")
    root = derive_seed(*seed) if isinstance(seed, tuple) else seed
    drawn = _Drawn(samples, transforms, derive_seed(root, "transforms"))

    def source(first: int, stop: int) -> Iterator[Any]:
        order = EpochOrder(len(samples), derive_seed(root, "order"))
        keys = (
            [order.at(position) for position in range(n * batch_size, (n + 1) * batch_size)] for n in range(first, stop)
        )
        # The loader draws a base seed for its workers; a private generator keeps it off the global one.

        loader = DataLoader(
            drawn,
            batch_sampler=_Keys(keys, stop - first),
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=False,
            generator=torch.Generator().manual_seed(root),
        )
        return iter(loader)

    return source


class _Keys:
    """An iterable with a length, as DataLoader wants its batch sampler."""

    def __init__(self, keys: Iterator[list[tuple[int, int]]], length: int) -> None:
        self.keys, self.length = keys, length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.keys

    def __len__(self) -> int:
        return self.length
