"""Prepared studies as tar shards, for a cluster that streams: a few large files, read from front to back.

```
OUT/train-000000.tar      ID.hu.b2 ID.occupancy.b2 ID.json, study after study; each study once. An earlier scan lies
                          beside its study again (ID.prior_hu.b2 ...), since a stream cannot go back to it
OUT/shards.json           layout, splits, how many studies each shard holds
```

The layout is that of WebDataset: its loader reads these shards, from a disk or through a pipe. `StreamedStudies` reads
them too, without it. Studies are shuffled once, when the shards are written; at reading time whole shards and a buffer
are shuffled. The arrays are Blosc2 frames (extra ``data``). No identifier is written.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from ctscribe.data.batch import Sample
from ctscribe.data.chunked import blosc2_module
from ctscribe.data.store import StudyStore, row_of_sample, sample_of_row
from ctscribe.errors import UnreadableInput, UsageError

ARRAYS = ("hu", "occupancy", "dense")
PRIOR = "prior_"


def write_shards(store: StudyStore, out: Path | str, *, per_shard: int = 256, seed: int = 0) -> dict[str, list[str]]:
    """Write every study of a store into shards of its split.

    Args:
        store: prepared studies; those without a split count as ``train``.
        out: an empty or new folder.
        per_shard: studies in a shard. A prepared study of the demo grid takes about 0.5 MB.
        seed: of the order.

    Returns:
        Split -> names of its shards.

    Raises:
        UsageError: the folder holds shards already.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if (out / "shards.json").exists():
        raise UsageError(f"{out} holds shards already", expected="a new folder", hint="remove it or choose another")
    splits: dict[str, list[int]] = {}
    for index in np.random.default_rng(seed).permutation(len(store)):
        splits.setdefault(str(store.extra(int(index)).get("split", "train")), []).append(int(index))
    names: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for split, members in sorted(splits.items()):
        for number, start in enumerate(range(0, len(members), per_shard)):
            name = f"{split}-{number:06d}.tar"
            part = members[start : start + per_shard]
            _write_shard(store, part, out / name)
            names.setdefault(split, []).append(name)
            counts[name] = len(part)
    plain = {"layout": asdict(store.layout), "splits": names, "studies": counts}
    (out / ".shards.json.partial").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    os.replace(out / ".shards.json.partial", out / "shards.json")
    return names


def _write_shard(store: StudyStore, members: Sequence[int], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    with tarfile.open(temporary, "w") as tar:
        for index in members:
            sample = store[index]
            row = row_of_sample(sample, store.extra(index))
            for name, value in _arrays(sample).items():
                _add(tar, f"{sample.id}.{name}.b2", blosc2_module().pack_tensor(np.ascontiguousarray(value)))
            if sample.prior is not None:
                row["prior"] = row_of_sample(sample.prior, {})
            _add(tar, f"{sample.id}.json", json.dumps(row, ensure_ascii=False).encode("utf-8"))
    os.replace(temporary, path)


def _arrays(sample: Sample) -> dict[str, np.ndarray]:
    """Arrays of a study and, as ``prior_...``, of its earlier scan."""
    own = {name: getattr(sample, name) for name in ARRAYS}
    own["outlines"] = None if sample.outlines is None else sample.outlines.pack()
    earlier = {} if sample.prior is None else _arrays(sample.prior)
    found = own | {f"{PRIOR}{name}": value for name, value in earlier.items()}
    return {name: value for name, value in found.items() if value is not None}


def _sample(row: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Sample:
    """A study with its earlier scan, see `_arrays`."""
    sample = sample_of_row(row, arrays)
    if "prior" not in row:
        return sample
    earlier = {name.removeprefix(PRIOR): value for name, value in arrays.items() if name.startswith(PRIOR)}
    return replace(sample, prior=sample_of_row(row["prior"], earlier))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # its default owner and time are 0: equal studies make equal shards
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


class StreamedStudies(IterableDataset[Sample]):
    """Studies of a split, read shard by shard.

    Processes of a run and workers of a loader each take their own shards, so no study is seen twice in an epoch, and a
    split needs at least as many shards as there are readers. Set `epoch` before each to be given another order.

    Args:
        root: the folder `write_shards` filled.
        split: which studies.
        seed: of the order of shards and of the buffer; None reads in the order of writing.
        buffer: studies that are mixed at a time.
        rank, ranks: this process and how many there are.

    Raises:
        UsageError: no shards, an unknown split, or fewer shards than readers.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        *,
        seed: int | None = None,
        buffer: int = 64,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.root, self.split, self.seed, self.buffer = Path(root), split, seed, buffer
        self.rank, self.ranks, self.epoch = rank, ranks, 0
        try:
            plain = json.loads((self.root / "shards.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{root} holds no shards", expected="shards.json", hint="write_shards makes them"
            ) from error
        if split not in plain["splits"]:
            raise UsageError(f"split {split!r} of {root}", expected=", ".join(plain["splits"]), got="no shard")
        self.names: list[str] = plain["splits"][split]
        self.studies = sum(plain["studies"][name] for name in self.names)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        readers = self.ranks * (worker.num_workers if worker else 1)
        me = self.rank * (worker.num_workers if worker else 1) + (worker.id if worker else 0)
        if len(self.names) < readers:
            raise UsageError(
                f"split {self.split!r} of {self.root.name}",
                expected=f"at least {readers} shards, one for each process and worker",
                got=f"{len(self.names)}",
                hint="write smaller shards (per_shard), or use fewer workers",
            )
        names = list(self.names)
        rng = None if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        if rng is not None:
            rng.shuffle(names)
        mine = (sample for name in names[me::readers] for sample in read_shard(self.root / name))
        return mine if rng is None else _mixed(mine, self.buffer, rng)


def _mixed(samples: Iterator[Sample], size: int, rng: np.random.Generator) -> Iterator[Sample]:
    """A random one of the last few, always."""
    held: list[Sample] = []
    for sample in samples:
        held.append(sample)
        if len(held) >= size:
            place = int(rng.integers(len(held)))
            held[place], held[-1] = held[-1], held[place]
            yield held.pop()
    rng.shuffle(held)
    yield from held


def read_shard(path: Path) -> Iterator[Sample]:
    """Studies of one tar file, in its order.

    Raises:
        UnreadableInput: cut short or damaged.
    """
    parts: dict[str, Any] = {}
    try:
        with tarfile.open(path, "r|") as tar:
            for entry in tar:
                file = tar.extractfile(entry)
                if file is None:
                    continue
                _, _, kind = entry.name.partition(".")
                content = file.read()
                if kind == "json":
                    yield _sample(json.loads(content), parts)
                    parts = {}
                else:
                    parts[kind.removesuffix(".b2")] = blosc2_module().unpack_tensor(content)
    except (tarfile.TarError, RuntimeError, ValueError, EOFError) as error:
        raise UnreadableInput(
            f"the shard {path.name} cannot be read",
            code="damaged_shard",
            expected="a whole tar file of `write_shards`",
            got=type(error).__name__,
            hint="copy it again",
        ) from error
