"""Segmentations made by other software, read from files.

Label values get their names from a shipped scheme (TotalSegmentator, lungmask), from the ``dataset.json`` of an nnU-Net
model, or from a JSON table of one's own. Lesions are read one by one, see `lesions_from_label_map`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float, Int, Shaped, UInt8
from scipy import ndimage

from ctscribe import ontology
from ctscribe.data.anatomy.segmentation import Segmentation, cell_counts
from ctscribe.data.nifti import RAS_TO_LPS
from ctscribe.errors import GeometryRefused, UnreadableInput, UsageError
from ctscribe.tensors import Affine, Volume


@cache
def schemes() -> Mapping[str, Mapping[int, str]]:
    """Known label schemes: name -> {label value: region id}."""
    return _schemes("label_schemes.yaml")


@cache
def lesion_schemes() -> Mapping[str, Mapping[int, str]]:
    """Known schemes of lesion maps: name -> {label value: finding kind}."""
    return _schemes("lesion_schemes.yaml")


def _schemes(name: str) -> Mapping[str, Mapping[int, str]]:
    return MappingProxyType({scheme: MappingProxyType(_expand(entry)) for scheme, entry in _table(name).items()})


def _table(name: str) -> Any:
    return yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))


def _expand(entry: dict[str, Any]) -> dict[int, str]:
    """``{region: 3 | "4-7" | [..]}`` -> ``{value: region}``."""
    names: dict[int, str] = {}
    for region, values in entry.items():
        for item in values if isinstance(values, list) else [values]:
            first, _, last = str(item).partition("-")
            names.update(dict.fromkeys(range(int(first), int(last or first) + 1), region))
    return names


@cache
def _class_patterns() -> tuple[tuple[str, str], ...]:
    """(pattern, region) of the class names that segmentation models use, exact names first."""
    table = _table("class_names.yaml")
    own = [(name, name) for name in ontology.regions()]
    spoken = [(_plain_name(n), r.id) for r in ontology.regions().values() for n in r.names["en"]]
    return (*own, *spoken, *((_plain_name(p), region) for region, patterns in table.items() for p in patterns))


def _plain_name(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def region_of_class(name: str) -> str | None:
    """The region that a segmentation model means by a class name such as ``lung_upper_lobe_left``, None for none."""
    plain = _plain_name(name)
    return next((region for pattern, region in _class_patterns() if fnmatchcase(plain, pattern)), None)


def from_label_map(path: str | Path, volume: Volume, scheme: str | Path | Mapping[int, str]) -> Segmentation:
    """Read a NIfTI label map and bring it onto the volume's grid (nearest voxel, by world coordinates).

    Args:
        path: label map in any orientation and spacing; integer values.
        volume: the scan, in canonical orientation.
        scheme: a name in `schemes`, a JSON file ``{"1": "right_lung", ...}`` of region ids, the ``dataset.json`` of an
            nnU-Net model, or such a mapping.

    Raises:
        UsageError: unknown scheme, or a names file that does not fit the ontology.
        UnreadableInput: ``label_map_unreadable``, ``label_map_not_integer``, ``label_map_unknown`` (no value known).
        GeometryRefused: ``label_map_elsewhere`` (it does not overlap the scan).
    """
    names = names_of(scheme)
    stored, affine = _read(Path(path))
    on_grid = resample(stored, affine, volume)
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


def names_of(scheme: str | Path | Mapping[int, str]) -> Mapping[int, str]:
    """Label value -> region, of a scheme, of a JSON file or of an nnU-Net ``dataset.json``.

    Raises:
        UsageError: unknown scheme, or a names file that does not fit the ontology.
    """
    if isinstance(scheme, Mapping):
        return _checked(scheme, "the mapping")
    if str(scheme) in schemes():
        return schemes()[str(scheme)]
    path = Path(scheme)
    if not path.is_file():
        raise UsageError(
            f"unknown label scheme {str(scheme)!r}" if str(scheme) else "a label map needs the scheme of its labels",
            expected="one of " + ", ".join(schemes()) + ", or a JSON file of names (nnU-Net: its dataset.json)",
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(stored.get("labels"), dict):
            return _of_nnunet(stored["labels"], path)
        table = {int(value): str(region) for value, region in stored.items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"{path.name} is not a table of label names",
            expected='JSON such as {"1": "right_lung", "2": "left_lung"}',
            got=str(error),
        ) from error
    return _checked(table, path.name)


def _of_nnunet(labels: Mapping[str, Any], path: Path) -> Mapping[int, str]:
    """The ``labels`` of an nnU-Net ``dataset.json``: class name -> value (or ``{"1": name}`` of the older format)."""
    named: dict[int, str] = {}
    for key, value in labels.items():
        old = str(key).isdecimal()
        name, values = (str(value), [int(key)]) if old else (str(key), value if isinstance(value, list) else [value])
        region = region_of_class(name)
        if region is not None:
            named.update({int(v): region for v in values if int(v) > 0 and int(v) not in named})
    if not named:
        raise UsageError(
            f"{path.name} names no class that is a region of a chest report",
            expected="class names such as right_lung, lung_upper_lobe_left, heart, aorta, trachea",
            got=", ".join(list(labels)[:8]),
            hint='name the values yourself in a JSON file: {"1": "right_lung"}',
        )
    return named


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
    return data.astype(np.uint16).transpose(2, 1, 0), Affine(RAS_TO_LPS @ matrix)


@dataclass(frozen=True)
class LesionMap:
    """Single lesions on the grid of one volume, largest first.

    Attributes:
        labels: number of the lesion (from 1) at each voxel, 0 where there is none.
        kinds: finding kind of each lesion.
        source: who outlined them.
    """

    labels: UInt8[np.ndarray, "z y x"]
    kinds: tuple[str, ...]
    source: str

    def occupancy(self, grid_shape: tuple[int, int, int]) -> tuple[Float[np.ndarray, "l t h w"], Int[np.ndarray, " l"]]:
        """Share of each cell of a coarse grid that each lesion fills, and the lesions' kinds as indices."""
        voxels = cell_counts(self.labels, grid_shape, len(self.kinds) + 1)
        shares = voxels[:, 1:].T / np.maximum(voxels.sum(axis=1), 1)
        order = list(ontology.findings())
        kinds = np.array([order.index(kind) for kind in self.kinds], dtype=np.int64)
        return shares.reshape(-1, *grid_shape).astype(np.float32), kinds


def lesion_names_of(scheme: str | Path | Mapping[int, str]) -> Mapping[int, str]:
    """Label value -> finding kind, of a scheme in `lesion_schemes`, of a JSON file or of an nnU-Net ``dataset.json``.

    Raises:
        UsageError: unknown scheme, or a finding kind that does not exist.
    """
    if isinstance(scheme, Mapping):
        names = dict(scheme)
    elif str(scheme) in lesion_schemes():
        return lesion_schemes()[str(scheme)]
    elif not Path(scheme).is_file():
        raise UsageError(
            f"unknown scheme of lesions {str(scheme)!r}" if str(scheme) else "a map of lesions needs its scheme",
            expected="one of " + ", ".join(lesion_schemes()) + ", or a JSON file of finding kinds",
        )
    else:
        names = _lesions_of_file(Path(scheme))
    strange = sorted(set(names.values()) - set(ontology.findings()))
    if strange or not names:
        raise UsageError("the scheme names findings that do not exist", got=", ".join(strange) or "no finding at all")
    return names


def _lesions_of_file(path: Path) -> dict[int, str]:
    """A table ``{"1": "lung_nodule"}``, or classes of an nnU-Net model that are findings by id or English name."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored.get("labels"), dict):
            return {int(value): str(kind) for value, kind in stored.items()}
        spoken = {
            _plain_name(n): kind.id for kind in ontology.findings().values() for n in (kind.id, *kind.names["en"])
        }
        pairs = [(k, v) if not str(k).isdecimal() else (v, k) for k, v in stored["labels"].items()]
        named = {int(value): _plain_name(str(name)) for name, value in pairs if not isinstance(value, list)}
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{path.name} is not a table of lesion labels", expected='JSON such as {"1": "lung_nodule"}', got=str(error)
        ) from error
    return {value: spoken[name] for value, name in named.items() if value > 0 and name in spoken}


def lesions_from_label_map(path: str | Path, volume: Volume, scheme: str | Path | Mapping[int, str]) -> LesionMap:
    """Read outlined lesions from a NIfTI label map; every connected piece of a label is a lesion (at most 255).

    Args:
        path: label map in any orientation and spacing; integer values.
        volume: the scan, in canonical orientation.
        scheme: see `lesion_names_of`.

    Raises:
        UsageError: unknown scheme, or a finding kind that does not exist.
        UnreadableInput: see `from_label_map`.
    """
    names = lesion_names_of(scheme)
    stored, affine = _read(Path(path))
    on_grid = resample(stored, affine, volume)
    pieces: list[tuple[int, str, np.ndarray, int]] = []
    for value, kind in names.items():
        numbered, count = ndimage.label(on_grid == value, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)
        pieces += [(int(sizes[n]), kind, numbered, n) for n in np.argsort(-sizes[1:])[:255] + 1]
    pieces = sorted(pieces, key=lambda piece: -piece[0])[:255]
    labels = np.zeros(volume.shape, np.uint8)
    for number, (_, _, numbered, piece) in enumerate(pieces, start=1):
        labels[numbered == piece] = number
    source = "lesions named by the caller" if isinstance(scheme, Mapping) else Path(scheme).name
    return LesionMap(labels, tuple(kind for _, kind, _, _ in pieces), source)


def resample(stored: Shaped[np.ndarray, "a b c"], affine: Affine, volume: Volume) -> Shaped[np.ndarray, "z y x"]:
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
