"""Segmentations made by other software, read from files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml
from jaxtyping import Shaped
from scipy import ndimage

from ctscribe import ontology
from ctscribe.data.anatomy.segmentation import Segmentation
from ctscribe.errors import GeometryRefused, UnreadableInput, UsageError
from ctscribe.tensors import Affine, Volume


@cache
def schemes() -> Mapping[str, Mapping[int, str]]:
    """Known label schemes: name -> {label value: region id}."""
    text = (files(__package__) / "label_schemes.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    return MappingProxyType({name: MappingProxyType(_expand(entry)) for name, entry in table.items()})


def _expand(entry: dict[str, Any]) -> dict[int, str]:
    """``{region: 3 | "4-7" | [..]}`` -> ``{value: region}``."""
    names: dict[int, str] = {}
    for region, values in entry.items():
        for item in values if isinstance(values, list) else [values]:
            first, _, last = str(item).partition("-")
            names.update(dict.fromkeys(range(int(first), int(last or first) + 1), region))
    return names


def from_label_map(path: str | Path, volume: Volume, scheme: str | Path | Mapping[int, str]) -> Segmentation:
    """Read a NIfTI label map and bring it onto the volume's grid (nearest voxel, by world coordinates).

    Args:
        path: label map in any orientation and spacing; integer values.
        volume: the scan, in canonical orientation.
        scheme: a name in `schemes`, a JSON file ``{"1": "right_lung", ...}`` of region ids, or such a mapping.

    Raises:
        UsageError: unknown scheme, or a names file that does not fit the ontology.
        UnreadableInput: ``label_map_unreadable``, ``label_map_not_integer``, ``label_map_unknown`` (no value known).
        GeometryRefused: ``label_map_elsewhere`` (it does not overlap the scan).
    """
    names = _names(scheme)
    stored, affine = _read(Path(path))
    on_grid = _resample(stored, affine, volume)
    if not on_grid.any():
        raise _elsewhere(Path(path), stored)
    present = [int(v) for v in np.unique(on_grid) if v]
    known = [v for v in present if v in names]
    if not known:
        raise UnreadableInput(
            f"the label map {Path(path).name} holds no label that is named ({_source(scheme)})",
            code="label_map_unknown",
            expected=f"values among {sorted(names)[:12]} ...",
            got=f"values {present[:12]}",
            hint="give the scheme it was made with, or a JSON file of names",
        )
    labels, merged = _renumber(on_grid, {v: names[v] for v in known})
    left_out = len(present) - len(known)
    notes = (f"{left_out} label values that no region of a chest report has were left out",) if left_out else ()
    return Segmentation(labels, merged, _source(scheme), _quality(labels, merged, volume), notes)


def _source(scheme: str | Path | Mapping[int, str]) -> str:
    """Where the names come from, in words."""
    if isinstance(scheme, Mapping):
        return "labels named by the caller"
    return str(scheme) if str(scheme) in schemes() else f"labels named by {Path(scheme).name}"


def _names(scheme: str | Path | Mapping[int, str]) -> Mapping[int, str]:
    """Label names of a scheme or a JSON file."""
    if isinstance(scheme, Mapping):
        return _checked(scheme, "the mapping")
    if str(scheme) in schemes():
        return schemes()[str(scheme)]
    path = Path(scheme)
    if not path.is_file():
        raise UsageError(
            f"unknown label scheme {str(scheme)!r}",
            expected="one of " + ", ".join(schemes()) + ", or a JSON file of names",
        )
    try:
        table = {int(value): str(region) for value, region in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"{path.name} is not a table of label names",
            expected='JSON such as {"1": "right_lung", "2": "left_lung"}',
            got=str(error),
        ) from error
    return _checked(table, path.name)


def _checked(table: Mapping[int, str], origin: str) -> Mapping[int, str]:
    """The table, if it fits the ontology."""
    strange = sorted(set(table.values()) - set(ontology.regions()))
    if strange or any(value < 1 for value in table):
        raise UsageError(
            f"{origin} names regions that do not exist" if strange else f"{origin} names label 0 or below",
            expected="positive values and region ids of the ontology (`ctscribe info` lists them)",
            got=", ".join(strange) or str(min(table)),
        )
    return table


def _read(path: Path) -> tuple[Shaped[np.ndarray, "z y x"], Affine]:
    """Label values in (z, y, x) order and the affine in LPS+."""
    import nibabel as nib

    try:
        image = nib.load(path)
        data = np.asanyarray(image.dataobj)
        matrix = np.asarray(image.affine, dtype=float)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise UnreadableInput(
            f"cannot read the label map {path.name}",
            code="label_map_unreadable",
            expected="a NIfTI file (.nii or .nii.gz)",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
        ) from error
    data = data.reshape(data.shape[:3]) if data.ndim > 3 and data.size == np.prod(data.shape[:3]) else data
    whole = data.ndim == 3 and (np.issubdtype(data.dtype, np.integer) or bool((data == np.rint(data)).all()))
    if not whole or data.min() < 0 or data.max() > 65535:
        raise UnreadableInput(
            f"{path.name} is not a label map",
            code="label_map_not_integer",
            expected="a three-dimensional image of whole numbers from 0 to 65535",
            got=f"{data.ndim} dimensions, values from {data.min()} to {data.max()}, type {data.dtype}",
        )
    return data.astype(np.uint16).transpose(2, 1, 0), Affine(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)


def _resample(stored: Shaped[np.ndarray, "a b c"], affine: Affine, volume: Volume) -> Shaped[np.ndarray, "z y x"]:
    """Nearest label at the centre of every voxel of the volume."""
    to_stored = np.linalg.inv(affine.matrix) @ volume.affine.matrix
    linear = to_stored[:3, :3][::-1, ::-1]
    shift = to_stored[:3, 3][::-1]
    if stored.shape == volume.shape and np.allclose(to_stored, np.eye(4), atol=1e-3):
        return stored
    return ndimage.affine_transform(stored, linear, shift, output_shape=volume.shape, order=0, mode="constant", cval=0)


def _elsewhere(path: Path, stored: np.ndarray) -> GeometryRefused:
    empty = not stored.any()
    return GeometryRefused(
        f"the label map {path.name} " + ("is empty" if empty else "does not overlap the scan"),
        code="label_map_elsewhere",
        expected="labels in the same patient coordinates as the scan",
        got="no label at all" if empty else "labels only outside the scan",
        hint="was the map made from another series, or saved without its affine?",
    )


def _renumber(values: Shaped[np.ndarray, "z y x"], names: Mapping[int, str]) -> tuple[np.ndarray, dict[int, str]]:
    """Give every region one label value from 1 up (several stored values may share a region)."""
    regions = sorted(set(names.values()), key=list(ontology.regions()).index)
    number = {region: i for i, region in enumerate(regions, start=1)}
    table = np.zeros(65536, dtype=np.uint8)
    for value, region in names.items():
        table[value] = number[region]
    return table[values], {i: region for region, i in number.items()}


def _quality(labels: np.ndarray, names: dict[int, str], volume: Volume) -> dict[str, float]:
    """Lung volumes in ml and their ratio."""
    found = Segmentation(labels, names, "")
    voxel = float(np.prod(volume.spacing)) / 1000
    right, left = (float(found.mask(side).sum()) * voxel for side in ("right_lung", "left_lung"))
    ratio = left / right if right else 0.0
    return {"right_lung_ml": right, "left_lung_ml": left, "left_to_right_ratio": ratio}
