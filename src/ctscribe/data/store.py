"""Thousands of prepared studies on disk, read without decoding anything: memory-mapped arrays in shards.

```
store.json                        what every shard holds: shapes, regions, finding kinds
shard-0000/hu.npy                 int16 (capacity, z, y, x), Hounsfield units
shard-0000/occupancy.npy          uint8 (capacity, r, gz, gy, gx), 255 = the region fills the cell
shard-0000/dense.npy              uint8 (capacity, bytes), lesion tokens (f, t, h, w) packed to bits
shard-0000/outlines.bin           outlined lesions of the studies that have them, packed, see `data.outlines`
shard-0000/studies.jsonl          one line per study: id, spacing, regions present, findings, texts, history, labs
```

An earlier scan is a study of the store like any other: ``extra`` of a row names it (``prior``), so it is stored once.

The line is the commit: it is written, and flushed to the disk, after the arrays. A writer that dies in the middle
leaves at most a slot without a line, which the next one overwrites. Each writer owns a shard, so several may
fill one store at once. Arrays are allocated whole but sparse, so that unused capacity takes no space.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import open_memmap

from ctscribe import ontology
from ctscribe.data.batch import Sample, with_outlines
from ctscribe.data.outlines import unpack
from ctscribe.errors import TrainingError, UsageError
from ctscribe.report import Finding
from ctscribe.report.codec import from_plain, to_plain

FORMAT = 1
OUTLINES = "outlines.bin"
BESIDE = ("prior", "history", "labs")
"""What a study may bring beside its scan."""
_Findings = tuple[Finding, ...]
_Place = tuple[str, int, dict[str, Any]]
"""Shard, slot and row of a study."""


@dataclass(frozen=True)
class StoreLayout:
    """Shapes every study of a store shares, and the vocabulary its arrays are ordered by.

    Attributes:
        shape: voxels (z, y, x).
        region_grid: cells of the region masks (z, y, x).
        token_grid: fine tokens (t, h, w) of the lesion flags, None for a store without them.
    """

    shape: tuple[int, int, int] = (64, 128, 128)
    region_grid: tuple[int, int, int] = (32, 16, 16)
    token_grid: tuple[int, int, int] | None = (32, 16, 16)
    regions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    format: int = FORMAT

    @classmethod
    def current(
        cls,
        shape: tuple[int, int, int] = (64, 128, 128),
        region_grid: tuple[int, int, int] = (32, 16, 16),
        token_grid: tuple[int, int, int] | None = (32, 16, 16),
    ) -> StoreLayout:
        """A layout with today's vocabulary."""
        return cls(shape, region_grid, token_grid, ontology.model_regions(), tuple(ontology.findings()))

    @property
    def dense_bytes(self) -> int:
        """Bytes of one study's packed lesion flags."""
        cells = 0 if self.token_grid is None else int(np.prod(self.token_grid))
        return (len(self.kinds) * cells + 7) // 8

    @property
    def study_bytes(self) -> int:
        """Bytes one study takes."""
        return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in self.arrays().values())

    def arrays(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Array name -> (shape of one study, type)."""
        found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "hu": (self.shape, np.int16),
            "occupancy": ((len(self.regions), *self.region_grid), np.uint8),
        }
        if self.token_grid is not None:
            found["dense"] = ((self.dense_bytes,), np.uint8)
        return found


class StudyStoreWriter:
    """Appends studies to one shard of a store; use it in a ``with`` block.

    Args:
        root: the store's folder, made if needed.
        layout: must equal that of the store if it exists.
        shard: number of the shard this writer owns; one writer at a time.
        capacity: most studies the shard may hold; fixed when the shard is made.

    Raises:
        TrainingError: another writer holds the shard, or it is full.
        UsageError: the store has another layout.
    """

    def __init__(self, root: Path | str, layout: StoreLayout, *, shard: int = 0, capacity: int = 4096) -> None:
        self.root, self.layout = Path(root), layout
        self.folder = self.root / f"shard-{shard:04d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        _settle_layout(self.root, layout)
        self._lock = _take(self.folder)
        self._arrays = {
            name: _Column.open(self.folder / f"{name}.npy", (capacity, *shape), kind)
            for name, (shape, kind) in layout.arrays().items()
        }
        self.rows = _read_rows(self.folder / "studies.jsonl", repair=True)
        self._lines = (self.folder / "studies.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> StudyStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ids(self) -> frozenset[str]:
        """Studies this shard already holds."""
        return frozenset(row["id"] for row in self.rows)

    def append(self, sample: Sample, **extra: Any) -> None:
        """Write one study; `extra` are JSON values kept beside it (a phantom's seed, texts by language).

        Its prior is only named, by id: append that one as a study of its own.
        """
        slot = len(self.rows)
        if slot >= self._arrays["hu"].capacity:
            raise TrainingError(f"{self.folder.name} is full", got=f"{slot} studies", hint="use another shard")
        values: dict[str, np.ndarray] = {"hu": sample.hu, "occupancy": sample.occupancy}
        if self.layout.token_grid is not None:
            shape = (len(self.layout.kinds), *self.layout.token_grid)
            flags = np.zeros(shape, bool) if sample.dense is None else sample.dense
            values["dense"] = np.packbits(flags.reshape(-1))
        for name, (expected, _) in self.layout.arrays().items():
            if values[name].shape != expected:
                raise UsageError(f"study {sample.id}: {name}", expected=str(expected), got=str(values[name].shape))
        for name, value in values.items():
            self._arrays[name].write(slot, value)
        named = {} if sample.prior is None else {"prior": sample.prior.id}
        row = row_of_sample(sample, {**named, **extra})
        if sample.outlines is not None:
            row["outlines"] = _append(self.folder / OUTLINES, sample.outlines.pack())
        self._lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self.rows.append(row)

    def close(self) -> None:
        """Give the shard back."""
        self._lines.close()
        for array in self._arrays.values():
            array.handle.close()
        os.close(self._lock)


def _append(path: Path, content: np.ndarray) -> list[int]:
    """Add bytes to a file; where they begin and how many they are. Bytes without a line are never read."""
    with path.open("ab") as handle:
        start = handle.seek(0, os.SEEK_END)
        handle.write(content.tobytes())
        handle.flush()
        os.fsync(handle.fileno())
    return [start, len(content)]


@dataclass
class _Column:
    """One .npy file being filled in place.

    Written through the file, not through a memory map: on a full disk a map kills the process, a file says so.
    """

    handle: BinaryIO
    offset: int
    capacity: int
    kind: np.dtype

    @classmethod
    def open(cls, path: Path, shape: tuple[int, ...], kind: type[np.generic]) -> _Column:
        """Open an array, or make it: whole but sparse."""
        if not path.exists():
            temporary = path.with_name(f".{path.name}.partial")
            open_memmap(temporary, mode="w+", dtype=kind, shape=shape)
            os.replace(temporary, path)
        existing = np.load(path, mmap_mode="r", allow_pickle=False)
        return cls(path.open("r+b"), existing.offset, len(existing), existing.dtype)

    def write(self, slot: int, value: np.ndarray) -> None:
        content = np.ascontiguousarray(value, self.kind).tobytes()
        self.handle.seek(self.offset + slot * len(content))
        self.handle.write(content)
        self.handle.flush()
        os.fsync(self.handle.fileno())


class StudyStore:
    """A map-style dataset over all shards of a store.

    Studies are ordered by id, so the order does not depend on how many writers filled the store.

    Args:
        root: the store's folder.
        ids: only these studies.
        beside: what samples bring beside their scan, out of `BESIDE`. An earlier scan is read again for each study it
            belongs to, so leave out ``prior`` where no model looks at it.

    Raises:
        UsageError: there is no store, or it was made with another vocabulary.
    """

    def __init__(self, root: Path | str, ids: Sequence[str] | None = None, *, beside: Sequence[str] = BESIDE) -> None:
        self.root, self.beside = Path(root), tuple(beside)
        self.layout = read_layout(self.root)
        _check_vocabulary(self.root, self.layout)
        wanted = None if ids is None else set(ids)
        found: dict[str, _Place] = {}
        for folder in sorted(self.root.glob("shard-*")):
            for slot, row in enumerate(_read_rows(folder / "studies.jsonl", repair=False)):
                found.setdefault(row["id"], (folder.name, slot, row))
        self._places = [found[key] for key in sorted(found) if wanted is None or key in wanted]
        named = {self.extra(index).get("prior") for index in range(len(self))}
        self._priors = {key: place for key, place in found.items() if key in named}
        self._maps: dict[tuple[str, str], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        place = self._places[index]
        sample = self._read(place)
        before = self.prior_of(index)
        return replace(
            sample,
            prior=None if before is None else self._read(before),
            prior_days=None if before is None else sample.prior_days,
            history=sample.history if "history" in self.beside else "",
            labs=sample.labs if "labs" in self.beside else (),
        )

    def prior_of(self, index: int) -> _Place | None:
        """Where the earlier scan of a study lies; None where there is none, or none could be read."""
        return self._priors.get(self.extra(index).get("prior", "")) if "prior" in self.beside else None

    def known(self, names: Sequence[str] = BESIDE) -> dict[str, int]:
        """How many studies bring each of these parts, without touching a voxel."""
        rows = [row for _, _, row in self._places]
        has = {
            "prior": sum(self.prior_of(index) is not None for index in range(len(self))),
            "history": sum(bool(row.get("history")) for row in rows),
            "labs": sum(bool(row.get("labs")) for row in rows),
        }
        return {name: has[name] if name in self.beside else 0 for name in names}

    def _read(self, place: _Place) -> Sample:
        shard, slot, row = place
        dense = None
        if row["outlined"] and self.layout.token_grid is not None:
            shape = (len(self.layout.kinds), *self.layout.token_grid)
            bits = np.unpackbits(self._array(shard, "dense")[slot], count=int(np.prod(shape)))
            dense = bits.reshape(shape).view(bool)
        arrays = {name: np.array(self._array(shard, name)[slot]) for name in ("hu", "occupancy")}
        if "outlines" in row:
            start, count = row["outlines"]
            arrays["outlines"] = np.fromfile(self.root / shard / OUTLINES, np.uint8, count, offset=start)
        return sample_of_row(row, arrays if dense is None else {**arrays, "dense": dense})

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @property
    def ids(self) -> tuple[str, ...]:
        """In order of the index."""
        return tuple(row["id"] for _, _, row in self._places)

    def findings(self, index: int) -> tuple[Finding, ...] | None:
        """Structured truth of one study, without touching its voxels."""
        return findings_of_row(self._places[index][2])

    def length_of(self, index: int) -> float:
        """How long a report of the study is: its text's characters, or the number of its findings where it has none."""
        row = self._places[index][2]
        # A Chinese text has about a third as many characters for as many tokens.
        return len(row["text"]) * (3 if row["language"] == "zh" else 1) if row["text"] else len(row["findings"] or ())

    def rows(self) -> Iterator[dict[str, Any]]:
        """What stands beside the arrays of each study, in order (see `row_of_sample`)."""
        return (row for _, _, row in self._places)

    def extra(self, index: int) -> dict[str, Any]:
        """What the writer kept beside the study."""
        return self._places[index][2].get("extra", {})

    def __getstate__(self) -> dict[str, Any]:
        # Loader processes open their own maps.
        return {**self.__dict__, "_maps": {}}

    def _array(self, shard: str, name: str) -> np.ndarray:
        key = shard, name
        if key not in self._maps:
            self._maps[key] = np.load(self.root / shard / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return self._maps[key]


def row_of_sample(sample: Sample, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about a study but its arrays, as JSON types."""
    return {
        "id": sample.id,
        "spacing": list(sample.spacing),
        "present": "".join("1" if there else "0" for there in sample.present),
        "outlined": sample.dense is not None,
        "exhaustive": sample.exhaustive,
        "findings": None if sample.findings is None else to_plain(sample.findings, _Findings),
        "text": sample.text,
        "language": sample.language,
        **_beside_of(sample),
        **({} if sample.boxes is None else {"boxes": sample.boxes.tolist(), "box_kinds": list(sample.box_kinds)}),
        **({"extra": dict(extra)} if extra else {}),
    }


def _beside_of(sample: Sample) -> dict[str, Any]:
    """What is known beside the scan and fits into a line; the prior does not."""
    known = {"history": sample.history, "labs": dict(sample.labs), "prior_days": sample.prior_days}
    return {name: value for name, value in known.items() if value or value == 0}


def sample_of_row(row: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Sample:
    """The study again, from its row and its arrays: ``hu``, ``occupancy``, if outlined ``dense`` and ``outlines``."""
    z, y, x = row["spacing"]
    sample = Sample(
        id=row["id"],
        hu=arrays["hu"],
        spacing=(z, y, x),
        occupancy=arrays["occupancy"],
        present=np.array([flag == "1" for flag in row["present"]]),
        findings=findings_of_row(row),
        exhaustive=row["exhaustive"],
        dense=arrays.get("dense"),
        text=row["text"],
        language=row["language"],
        boxes=np.array(row["boxes"], np.float32).reshape(-1, 6) if "boxes" in row else None,
        box_kinds=tuple(row.get("box_kinds", ())),
        history=row.get("history", ""),
        labs=tuple(row.get("labs", {}).items()),
        prior_days=row.get("prior_days"),
        outlines=unpack(arrays["outlines"]) if "outlines" in arrays else None,
    )
    return with_outlines(sample)


def findings_of_row(row: Mapping[str, Any]) -> tuple[Finding, ...] | None:
    """Structured truth of a row, None where it has none."""
    plain = row["findings"]
    return None if plain is None else from_plain(_Findings, plain, "findings")


def written_ids(root: Path | str) -> frozenset[str]:
    """Ids of every study committed to a store so far; empty where there is none."""
    return frozenset(row["id"] for row in written_rows(root))


def written_rows(root: Path | str) -> Iterator[dict[str, Any]]:
    """What stands beside the arrays of every study committed to a store so far; nothing where there is none."""
    for path in sorted(Path(root).glob("shard-*/studies.jsonl")):
        yield from _read_rows(path, repair=False)


def read_layout(root: Path) -> StoreLayout:
    """The layout of an existing store.

    Raises:
        UsageError: there is none, or another version of this program wrote it.
    """
    try:
        plain = json.loads((root / "store.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{root} is not a study store",
            expected="a folder with store.json",
            hint="fill one with `ctscribe prepare ROOT --out STORE`",
        ) from error
    if plain.get("format") != FORMAT:
        raise UsageError(f"{root}: format of the store", expected=str(FORMAT), got=str(plain.get("format")))
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
    return StoreLayout(**values)


def _settle_layout(root: Path, layout: StoreLayout) -> None:
    """Write store.json once; every later writer must agree with it."""
    path = root / "store.json"
    temporary = root / f".store.{os.getpid()}.partial"
    temporary.write_text(json.dumps(asdict(layout), indent=1) + "\n", encoding="utf-8")
    try:
        os.link(temporary, path)  # fails where another writer came first
    except FileExistsError:
        existing = read_layout(root)
        if existing != layout:
            changed = [key for key, value in asdict(layout).items() if asdict(existing)[key] != value]
            raise UsageError(
                f"{root} holds studies of another layout ({', '.join(changed)})",
                hint="fill a new folder, or remove this one",
            ) from None
    finally:
        temporary.unlink()


def _check_vocabulary(root: Path, layout: StoreLayout) -> None:
    now = StoreLayout.current(layout.shape, layout.region_grid, layout.token_grid)
    for key in ("regions", "kinds"):
        if getattr(now, key) != getattr(layout, key):
            raise UsageError(
                f"{root} was made with another vocabulary of {key}",
                expected=", ".join(getattr(now, key)),
                got=", ".join(getattr(layout, key)),
                hint="make the store again with this version",
            )


def _take(folder: Path) -> int:
    """Lock a shard for as long as the descriptor is open, also against a crashed owner."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise TrainingError(f"another writer is filling {folder}", hint="give each writer its own shard") from None
    return descriptor


def _read_rows(path: Path, *, repair: bool) -> list[dict[str, Any]]:
    """Whole lines only; with `repair` a half line at the end is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if repair and len(whole) < len(content):
        with path.open("r+b") as handle:
            handle.truncate(len(whole))
    return [json.loads(line) for line in whole.splitlines()]
