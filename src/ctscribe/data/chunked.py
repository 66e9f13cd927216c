"""Scans at full resolution as chunked, compressed arrays: a patch is read without unpacking the rest.

One ``.b2nd`` file for each scan (Blosc2, extra ``data``): int16 Hounsfield units in canonical orientation, the affine
among its metadata. No identifier is written. Why this format: ``docs/adr/0014-storage-of-scans.md``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int16

from ctscribe.errors import DependencyMissing, UnreadableInput
from ctscribe.tensors import Affine, Volume

CHUNK = (32, 128, 128)
BLOCK = (8, 64, 64)
LEVEL = 5
FORMAT = 1


@dataclass(frozen=True)
class ChunkedVolume:
    """A scan on disk; ``scan[z0:z1, y0:y1, x0:x1]`` reads only the chunks it needs."""

    array: Any
    affine: Affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        z, y, x = self.array.shape
        return z, y, x

    def __getitem__(self, part: tuple[slice, slice, slice]) -> Int16[np.ndarray, "z y x"]:
        return np.asarray(self.array[part])

    def volume(self) -> Volume:
        """The whole scan."""
        return Volume(np.asarray(self.array[:]), self.affine)


def save_volume(path: Path, volume: Volume) -> None:
    """Write a scan; whole or not at all. Fractions of a Hounsfield unit are rounded.

    Raises:
        DependencyMissing: Blosc2 is not installed.
    """
    blosc2 = blosc2_module()
    hu = volume.hu if volume.hu.dtype == np.int16 else np.rint(np.clip(volume.hu, -32768, 32767)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    temporary.unlink(missing_ok=True)
    blosc2.asarray(
        np.ascontiguousarray(hu),
        chunks=tuple(map(min, CHUNK, hu.shape)),
        blocks=tuple(map(min, BLOCK, hu.shape)),
        cparams={"codec": blosc2.Codec.ZSTD, "clevel": LEVEL, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1},
        urlpath=str(temporary),
        mode="w",
        meta={"ctscribe": {"format": FORMAT, "affine": volume.affine.matrix.ravel().tolist()}},
    )
    os.replace(temporary, path)


def open_volume(path: Path) -> ChunkedVolume:
    """Open a scan without reading its voxels.

    Raises:
        UnreadableInput: no such file, cut short, or not written by `save_volume`.
    """
    blosc2 = blosc2_module()
    try:
        array = blosc2.open(str(path), mode="r")
        meta = array.schunk.meta["ctscribe"]
        affine = Affine(np.array(meta["affine"], dtype=float).reshape(4, 4))
    except (RuntimeError, OSError, KeyError, ValueError, AttributeError) as error:
        raise UnreadableInput(
            f"the cached scan {path.name} cannot be read",
            code="not_chunked",
            expected="a .b2nd file that ctscribe wrote",
            got=type(error).__name__,
            hint="remove it: it is made again from the scan",
        ) from error
    return ChunkedVolume(array, affine)


def blosc2_module() -> ModuleType:
    """Blosc2, on one thread: the processes that prepare and load are many already.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        import blosc2
    except ImportError as error:
        raise DependencyMissing(
            "compressed scans need Blosc2", expected="the package blosc2", hint="pip install 'ctscribe[data]'"
        ) from error
    blosc2.set_nthreads(1)
    module: ModuleType = blosc2
    return module
