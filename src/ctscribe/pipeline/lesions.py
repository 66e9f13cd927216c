"""Outlined lesions of a scan, from a label map, on the model's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from ctscribe.data.anatomy import lesions_from_label_map
from ctscribe.data.anatomy.labelmaps import lesion_names_of
from ctscribe.data.outlines import Outlines, largest_first, outline_of_points
from ctscribe.tensors import Volume


def outlines_of_map(path: Path, scan: Volume, scheme: str | Path, grid: Volume) -> Outlines:
    """Every connected piece of every lesion label, as voxels of the grid.

    Args:
        path: NIfTI label map in the patient coordinates of the scan; it may hold no lesion.
        scan: the scan, in canonical orientation.
        scheme: what its values mean, see `lesions_from_label_map`; those kinds were looked for.
        grid: the model's grid.

    Raises:
        UsageError: unknown scheme. UnreadableInput: see `from_label_map`.
    """
    found = lesions_from_label_map(path, scan, scheme)
    z, y, x = scan.spacing
    lesions = []
    for number, (kind, box) in enumerate(zip(found.kinds, ndimage.find_objects(found.labels), strict=True), start=1):
        place = np.argwhere(found.labels[box] == number) + [part.start for part in box]
        outline = outline_of_points(kind, scan.affine.to_world(place), (x, y, z), grid)
        lesions += [outline] if outline is not None else []
    looked_for = tuple(dict.fromkeys(lesion_names_of(scheme).values()))
    return Outlines(grid.shape, largest_first(lesions), looked_for)
