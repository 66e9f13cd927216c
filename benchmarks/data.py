"""Storing and streaming prepared scans, and telling near-duplicates from other chests: which format, which threshold.

    python benchmarks/data.py            # minutes on one core; synthetic scans

Every format holds the same phantoms. Random reading is one study at a time in random order; streaming is front to back.
Files were read shortly before, so numbers are about decoding, not about a disk.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctscribe.data.augment import roll_in
from ctscribe.data.batch import Sample
from ctscribe.data.cache import StudyCache
from ctscribe.data.chunked import open_volume, save_volume
from ctscribe.data.fingerprint import fingerprint, vector
from ctscribe.data.shards import read_shard, write_shards
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.phantom import DEMO_GRID, GridSpec, generate
from ctscribe.training.phantoms import PhantomPlan, phantom_sample

SCANS, COPIES = 8, 3


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds, the best of three: other work on the machine hardly changes them."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def size(path: Path) -> float:
    """MiB on disk, holes not counted."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files) / 2**20


def formats(samples: list[Sample], folder: Path) -> None:
    """Rows of the table: write, random read, stream, size; per study."""
    count = len(samples)
    rows: list[tuple[str, float, float, float, float]] = []

    def memory_map(target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        with StudyStoreWriter(
            target, StoreLayout.current(DEMO_GRID.shape, (32, 16, 16), (32, 16, 16)), capacity=count
        ) as w:
            for sample in samples:
                w.append(sample)

    place = folder / "store"
    written = seconds(lambda: memory_map(place))
    store = StudyStore(place)
    order = np.random.default_rng(0).permutation(count)
    read = seconds(lambda: [store[int(i)] for i in order])
    rows.append(("memory-mapped store", written, read, seconds(lambda: list(store)), size(place)))

    cache = StudyCache(folder / "cache", {})
    written = seconds(lambda: [cache.put(s.id, s) for s in samples])
    read = seconds(lambda: [cache.get(samples[int(i)].id, "x") for i in order])
    rows.append(("safetensors, a file each", written, read, read, size(folder / "cache")))

    def tar() -> None:
        shutil.rmtree(folder / "tar", ignore_errors=True)
        write_shards(store, folder / "tar", per_shard=count)

    written = seconds(tar)
    shard = next((folder / "tar").glob("*.tar"))
    rows.append(
        ("tar shard of Blosc2 frames", written, float("nan"), seconds(lambda: list(read_shard(shard))), size(shard))
    )

    import webdataset

    def web() -> int:
        return sum(1 for _ in webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False))

    rows.append(("the same through webdataset, not decoded", float("nan"), float("nan"), seconds(web), size(shard)))
    if importlib.util.find_spec("litdata"):
        rows.append(("litdata", *lightning(samples, folder / "lit"), size(folder / "lit")))
    print("\n| format | write ms | random read ms | stream ms | MiB |\n| --- | --- | --- | --- | --- |")
    for name, *times, mib in rows:
        cells = ["-" if t != t else f"{1000 * t / count:.1f}" for t in times]
        print(f"| {name} | {' | '.join(cells)} | {mib / count:.2f} |")


def lightning(samples: list[Sample], folder: Path) -> tuple[float, float, float]:
    """LitData where a developer has installed it: (write, random read, stream) seconds."""
    litdata = importlib.import_module("litdata")
    writer = importlib.import_module("litdata.streaming.writer").BinaryWriter

    def write() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        chunks = writer(str(folder), chunk_bytes="64MB")
        for index, sample in enumerate(samples):
            chunks[index] = {"hu": sample.hu, "occupancy": sample.occupancy, "id": sample.id}
        chunks.done()
        chunks.merge()

    written = seconds(write)
    data = litdata.StreamingDataset(str(folder))
    order = np.random.default_rng(0).permutation(len(samples))
    return written, seconds(lambda: [data[int(i)] for i in order]), seconds(lambda: list(data))


def full_resolution(folder: Path) -> None:
    """One large scan: chunked against gzip NIfTI."""
    import nibabel as nib

    study = generate(3, GridSpec((128, 256, 256), (2.6, 1.4, 1.4)))
    path = folder / "scan.b2nd"
    hu = study.volume.hu.astype(np.int16)
    volume = replace(study.volume, hu=hu)
    write = seconds(lambda: save_volume(path, volume))
    whole = seconds(lambda: open_volume(path).volume())
    patch = seconds(lambda: open_volume(path)[40:72, 80:176, 80:176])
    image = nib.Nifti1Image(hu, np.eye(4))
    gz = folder / "scan.nii.gz"
    gz_write = seconds(lambda: nib.save(image, gz))
    gz_read = seconds(lambda: np.asanyarray(nib.load(gz).dataobj))
    assert np.array_equal(open_volume(path).volume().hu, hu)
    print("\n| 128x256x256 scan | write ms | whole ms | 32x96x96 patch ms | ratio |\n| --- | --- | --- | --- | --- |")
    ratio = hu.nbytes / 2**20
    print(f"| Blosc2 | {1e3 * write:.0f} | {1e3 * whole:.0f} | {1e3 * patch:.1f} | {ratio / size(path):.2f} |")
    print(f"| gzip NIfTI | {1e3 * gz_write:.0f} | {1e3 * gz_read:.0f} | {1e3 * gz_read:.1f} | {ratio / size(gz):.2f} |")


def duplicates(samples: list[Sample]) -> None:
    """Correlation of fingerprints: other chests, and changed copies of the same."""
    rng = np.random.default_rng(0)
    table = np.stack([vector(fingerprint(s.hu)) for s in samples])
    others = (table @ table.T)[np.triu_indices(len(samples), 1)]
    copies = {
        "noise 30 HU": lambda hu: hu + rng.normal(0, 30, hu.shape),
        "moved by one voxel": lambda hu: roll_in(hu, (1, 1, 1), -1024),
        "contrast 5 %, level 10 HU": lambda hu: hu * 1.05 + 10,
        "every second slice": lambda hu: np.repeat(hu[::2], 2, axis=0),
    }
    print(f"\nother chests: at most {others.max():.4f}, 99th percentile {np.quantile(others, 0.99):.4f}")
    for name, change in copies.items():
        alike = [
            float(vector(fingerprint(change(s.hu.astype(np.float32)))) @ t) for s, t in zip(samples, table, strict=True)
        ]
        print(f"copies, {name}: at least {min(alike):.4f}")


def main() -> None:
    plan = PhantomPlan(SCANS)
    samples = [phantom_sample(seed, plan)[0] for seed in plan.seeds]
    with tempfile.TemporaryDirectory() as folder:
        many = [replace(sample, id=f"{sample.id}-{n}") for n in range(COPIES) for sample in samples]
        formats(many, Path(folder))
        full_resolution(Path(folder))
    duplicates(samples)


if __name__ == "__main__":
    sys.exit(main())
