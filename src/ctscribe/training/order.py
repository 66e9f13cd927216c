"""Which sample is read when: a pure function of (seed, position), never of what was read before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ctscribe.errors import TrainingError
from ctscribe.training.seeds import derive_seed

BatchSource = Callable[..., Iterator[Any]]
"""``source(first, stop, stride=1)`` yields the batches with the numbers of `range` of one endless, fixed order."""

Transform = Callable[[Any, np.random.Generator], Any]
"""Takes a sample and a generator, returns the changed sample; draws randomness from nowhere else."""


@runtime_checkable
class Samples(Protocol):
    """A map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class Measured(Samples, Protocol):
    """Samples that tell how long each is without being read."""

    def length_of(self, index: int) -> float: ...


class EpochOrder:
    """Each epoch is its own permutation; position p of the endless stream lies in epoch ``p // n``."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def batch(self, number: int, size: int) -> list[tuple[int, int]]:
        """(epoch, index) of each sample of one batch."""
        return [self.at(position) for position in range(number * size, (number + 1) * size)]

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, index) of one position."""
        epoch, place = divmod(position, self.n)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n)
        return epoch, int(self._order[place])


class BucketOrder(EpochOrder):
    """The same stream, in which `bucket` neighbouring batches exchange samples so that each holds like lengths.

    A batch is padded to its longest member; samples of one length waste nothing. Samples move within their bucket
    only, so any batch is found from its number alone, and every sample is still read once an epoch (give or take
    the bucket that straddles two epochs).

    Args:
        length: index -> the length that padding depends on.
        bucket: batches that are sorted together.
    """

    def __init__(self, n: int, seed: int, length: Callable[[int], float], bucket: int) -> None:
        super().__init__(n, seed)
        self.length, self.bucket = length, bucket
        self._held: tuple[int, list[list[tuple[int, int]]]] = (-1, [])

    def batch(self, number: int, size: int) -> list[tuple[int, int]]:
        """(epoch, index) of each sample of one batch."""
        which, place = divmod(number, self.bucket)
        if self._held[0] != which:
            keys = [
                self.at(position) for position in range(which * self.bucket * size, (which + 1) * self.bucket * size)
            ]
            keys.sort(key=lambda key: self.length(key[1]))
            turns = np.random.default_rng([self.seed, which, 1]).permutation(self.bucket)
            self._held = which, [keys[turn * size : (turn + 1) * size] for turn in turns]
        return self._held[1][place]


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
    bucket: int = 0,
) -> BatchSource:
    """Turn a map-style dataset into what the loop reads.

    Args:
        samples: e.g. a `ctscribe.data.dataset.StudyStore`.
        collate: list of samples -> batch.
        batch_size: samples in a batch; a batch may straddle two epochs, so none is ever short.
        seed: a seed, or a path for `derive_seed` such as ``(config.seed, stage.name)``.
        transforms: applied in order to each sample, with a generator seeded from (seed, epoch, index).
        workers: loader processes; the order and every sample are the same for any number.
        bucket: neighbouring batches that are sorted by length, see `BucketOrder`; 0 for none. The samples must tell
            their lengths.

    Raises:
        TrainingError: the dataset is empty, or cannot be sorted by length.
    """
    if len(samples) == 0:
        raise TrainingError("the training data is empty", expected="at least one study", hint="check the split")
    root = derive_seed(*seed) if isinstance(seed, tuple) else seed
    if bucket and not isinstance(samples, Measured):
        raise TrainingError(
            f"{type(samples).__name__} cannot be sorted by length",
            expected="samples with a method length_of(index)",
            got=f"bucket = {bucket}",
            hint="set bucket=0",
        )
    drawn = _Drawn(samples, transforms, derive_seed(root, "transforms"))

    def source(first: int, stop: int, stride: int = 1) -> Iterator[Any]:
        numbers, root_order = range(first, stop, stride), derive_seed(root, "order")
        if bucket and isinstance(samples, Measured):
            order: EpochOrder = BucketOrder(len(samples), root_order, samples.length_of, bucket)
        else:
            order = EpochOrder(len(samples), root_order)
        keys = (order.batch(n, batch_size) for n in numbers)
        # The loader draws a base seed for its workers; a private generator keeps it off the global one.
        loader = DataLoader(
            drawn,
            batch_sampler=_Keys(keys, len(numbers)),
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
