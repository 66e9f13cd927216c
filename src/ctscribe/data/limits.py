"""What is refused for its size alone: too few slices, too short, too large for memory, a voxel that cannot be."""

from __future__ import annotations

import math

from ctscribe.data.study import IngestPolicy
from ctscribe.errors import GeometryRefused, InputRefused
from ctscribe.tensors import Volume

#: No scanner has a field of view longer than this, mm; a larger one means a broken header.
LONGEST_MM = 2500.0
#: The volume is held twice while it is being put together, as int16.
BYTES_PER_VOXEL = 4


def check_size(n_slices: int, policy: IngestPolicy) -> None:
    """Refuse what is too short to be a chest (``too_few_slices``)."""
    if n_slices < policy.min_slices:
        raise GeometryRefused(
            "the series has too few slices",
            code="too_few_slices",
            expected=f"at least {policy.min_slices}",
            got=str(n_slices),
            hint="give the folder that holds the whole series",
        )


def check_memory(shape: tuple[int, ...], policy: IngestPolicy) -> None:
    """Refuse, before anything is decoded, a volume that would not fit (``too_large``)."""
    gigabytes = BYTES_PER_VOXEL * math.prod(shape) / 1e9
    if gigabytes > policy.max_memory_gb:
        raise InputRefused(
            "the scan is larger than the memory set aside for it",
            code="too_large",
            expected=f"at most {policy.max_memory_gb:g} GB",
            got=f"{gigabytes:.1f} GB for {' x '.join(map(str, shape))} voxels",
            hint="raise `max_memory_gb` of the ingest policy, or give a thicker reconstruction",
        )


def check_spacing(volume: Volume, policy: IngestPolicy) -> None:
    """Refuse voxels no scanner makes (``absurd_spacing``)."""
    low, high = min(volume.spacing), max(volume.spacing)
    if low < policy.min_spacing_mm or high > policy.max_spacing_mm:
        raise GeometryRefused(
            "the voxel size cannot be right",
            code="absurd_spacing",
            expected=f"{policy.min_spacing_mm:g} to {policy.max_spacing_mm:g} mm",
            got=" x ".join(f"{s:g}" for s in volume.spacing) + " mm (slice, row, column)",
            hint="check the header; the file may use another unit than mm",
        )


def check_extent(volume: Volume, policy: IngestPolicy) -> None:
    """Refuse a canonical volume that cannot hold a chest (``short_coverage``, ``absurd_extent``)."""
    z, y, x = volume.extent_mm
    check_size(volume.shape[0], policy)
    if z < policy.min_coverage_mm:
        raise GeometryRefused(
            "the scan is too short to be a chest",
            code="short_coverage",
            expected=f"at least {policy.min_coverage_mm:g} mm from head to foot",
            got=f"{z:.0f} mm",
            hint="give the whole series",
        )
    if min(y, x) < policy.min_coverage_mm or max(z, y, x) > LONGEST_MM:
        raise GeometryRefused(
            "the field of view cannot be that of a chest",
            code="absurd_extent",
            expected=f"{policy.min_coverage_mm:g} to {LONGEST_MM:g} mm along each axis",
            got=f"{z:.0f} x {y:.0f} x {x:.0f} mm",
            hint="check the voxel size in the header",
        )
