"""Prepared studies on disk, so that a scan is read and resampled once.

A file is named by a hash of what it was made from and how; it holds no identifier. Reading a scan again after it
or its preparation changed gives another name, so a cache is never stale. Removing files is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ctscribe.data.batch import Sample, with_outlines
from ctscribe.data.outlines import unpack


class StudyCache:
    """A folder of prepared studies without their words (those come from the manifest).

    Args:
        root: made if needed.
        recipe: everything that decides how a scan is prepared (grid, segmentation, version), as JSON values.
    """

    def __init__(self, root: Path | str, recipe: dict[str, Any]) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self._recipe = json.dumps(recipe, sort_keys=True)

    def key(self, *sources: Path) -> str:
        """Name of what is made from these files or folders: path, size and time of change of every file in them."""
        digest = hashlib.sha256(self._recipe.encode())
        for source in sources:
            for file in _files(source):
                status = file.stat()
                digest.update(f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:32]

    def get(self, key: str, study: str) -> Sample | None:
        """The prepared study under the name `study`, None when it is not there or cut short."""
        try:
            with safe_open(self._path(key), framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return None
        z, y, x = (float(step) for step in arrays["spacing"])
        valid = arrays.get("valid")
        sample = Sample(
            id=study,
            hu=arrays["hu"],
            spacing=(z, y, x),
            occupancy=arrays["occupancy"],
            present=arrays["present"].astype(bool),
            valid=None
            if valid is None
            else np.unpackbits(valid, count=arrays["hu"].size).reshape(arrays["hu"].shape).astype(bool),
            outlines=unpack(arrays["outlines"]) if "outlines" in arrays else None,
        )
        return with_outlines(sample)

    def put(self, key: str, sample: Sample) -> None:
        """Write the voxels, regions, geometry and outlined lesions of a study; whole or not at all."""
        arrays = {
            "hu": np.ascontiguousarray(sample.hu),
            "spacing": np.asarray(sample.spacing, np.float64),
            "occupancy": np.ascontiguousarray(sample.occupancy),
            "present": sample.present.astype(np.uint8),
        }
        if sample.valid is not None:
            arrays["valid"] = np.packbits(sample.valid)
        if sample.outlines is not None:
            arrays["outlines"] = sample.outlines.pack()
        temporary = self.root / f".{key}.{os.getpid()}.partial"
        save_file(arrays, temporary)
        os.replace(temporary, self._path(key))

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(path for path in source.rglob("*") if path.is_file())
    return [source]
