"""From slices in space to one regular stack: order, duplicates, gaps, uneven steps, tilt.

Order comes from the position along the slice normal and from nothing else: file names and instance numbers lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctscribe.data.headers import Frame
from ctscribe.data.study import IngestPolicy
from ctscribe.errors import GeometryRefused

Kind = Literal["single", "regular", "gaps", "mixed", "irregular"]

MIN_RUN = 3  # steps of one size in a row before it counts as a part with a spacing of its own


@dataclass(frozen=True)
class Stack:
    """Slices of one orientation, sorted along their normal, measured.

    Attributes:
        frames: one per position.
        extra: groups (kept, others...) of frames that share a position.
        depth: mm along the normal from the first slice; step: regular step in mm.
        slots: place of each frame on the regular grid (only meaningful for ``regular`` and ``gaps``).
        jitter: largest deviation from the regular place, mm.
        drift: in-plane shift (world vector) per mm along the normal; sideways: deviation from it, mm.
        runs: (number of steps, step in mm) of each part with steps of one size.
    """

    frames: tuple[Frame, ...]
    extra: tuple[tuple[Frame, ...], ...]
    depth: np.ndarray
    step: float
    slots: tuple[int, ...]
    kind: Kind
    jitter: float
    drift: np.ndarray
    sideways: float
    runs: tuple[tuple[int, float], ...]

    @property
    def missing(self) -> int:
        """Slices absent between the first and the last."""
        return self.slots[-1] + 1 - len(self.slots) if self.kind == "gaps" else 0

    @property
    def largest_step(self) -> float:
        return float(np.max(np.diff(self.depth))) if len(self.depth) > 1 else 0.0

    @property
    def tilt_degrees(self) -> float:
        """Angle between the slice normal and the direction in which the slices follow each other."""
        return float(np.degrees(np.arctan(np.linalg.norm(self.drift))))

    @property
    def coverage(self) -> float:
        """Outer edge to outer edge along the normal, mm."""
        return float(self.depth[-1] + self.step)


def measure(frames: list[Frame]) -> Stack:
    """Sort frames that share an orientation and say how regular they lie; judges nothing.

    The order of positions that coincide is fixed by instance number and SOP Instance UID, so that the result does
    not depend on the order of files.
    """
    normal = frames[0].normal
    frames = sorted(frames, key=lambda f: (float(np.dot(f.at, normal)), f.instance or 0, f.sop_uid, f.index or 0))
    raw = np.array([np.dot(f.at, normal) for f in frames])
    groups = _same_place(raw)
    kept = [frames[g[0]] for g in groups]
    extra = tuple(tuple(frames[i] for i in g) for g in groups if len(g) > 1)
    depth = raw[[g[0] for g in groups]] - raw[0]
    drift, sideways = _drift(kept, depth, normal)
    if len(kept) == 1:
        step = kept[0].thickness or 1.0
        return Stack(tuple(kept), extra, depth, step, (0,), "single", 0.0, drift, sideways, ())
    runs = _runs(np.diff(depth))
    slots, step, jitter = _slots(depth)
    return Stack(
        tuple(kept), extra, depth, step, slots, _kind(runs, slots, step, jitter), jitter, drift, sideways, runs
    )


def _same_place(depth: np.ndarray) -> list[list[int]]:
    steps = np.diff(depth)
    real = steps[steps > 0.005]
    tolerance = max(0.005, 0.05 * float(np.median(real))) if len(real) else 0.005
    groups = [[0]]
    for i, step in enumerate(steps, start=1):
        if step <= tolerance:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _drift(frames: list[Frame], depth: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, float]:
    """Straight line through the in-plane positions: its slope (world mm per mm) and the largest distance from it."""
    places = np.stack([f.at for f in frames])
    places = places - places[0]
    in_plane = places - np.outer(places @ normal, normal)
    if len(frames) < 2:
        return np.zeros(3), 0.0
    design = np.stack([depth, np.ones_like(depth)], axis=1)
    line, *_ = np.linalg.lstsq(design, in_plane, rcond=None)
    return line[0], float(np.max(np.linalg.norm(in_plane - design @ line, axis=1)))


def _runs(steps: np.ndarray) -> tuple[tuple[int, float], ...]:
    runs: list[list[float]] = []
    for step in steps:
        if runs and abs(step - np.mean(runs[-1])) <= 0.1 * np.mean(runs[-1]):
            runs[-1].append(float(step))
        else:
            runs.append([float(step)])
    return tuple((len(run), float(np.mean(run))) for run in runs)


def _slots(depth: np.ndarray) -> tuple[tuple[int, ...], float, float]:
    """Nearest places on a regular grid, the step that fits best, and the largest deviation in mm.

    First without any gap: a missing slice leaves a deviation of a quarter step or more, uneven steps less.
    """
    slots = np.arange(len(depth), dtype=float)
    step, jitter = _fit(slots, depth)
    if jitter > 0.2 * step:
        middle = float(np.median(np.diff(depth)))
        slots = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(np.diff(depth) / middle)))])
        step, jitter = _fit(slots, depth)
    return tuple(int(s) for s in slots), step, jitter


def _fit(slots: np.ndarray, depth: np.ndarray) -> tuple[float, float]:
    """Step of the regular grid that fits best, and the largest deviation from it, mm."""
    design = np.stack([slots, np.ones_like(slots)], axis=1)
    line, *_ = np.linalg.lstsq(design, depth, rcond=None)
    return float(line[0]), float(np.max(np.abs(depth - design @ line)))


def _kind(runs: tuple[tuple[int, float], ...], slots: tuple[int, ...], step: float, jitter: float) -> Kind:
    fits = jitter <= 0.1 * step
    if fits and slots[-1] + 1 == len(slots):
        return "regular"
    if 1 < len(runs) <= 6 and all(n >= MIN_RUN for n, _ in runs):
        return "mixed"
    return "gaps" if fits else "irregular"


@dataclass(frozen=True)
class Placement:
    """How the slices of the regular stack are made: slice k is ``lower[k]`` and ``upper[k]`` blended by ``weight``.

    ``weight`` 0 means a copy of the lower one. ``made`` counts slices that no file holds.
    """

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray
    step: float

    @property
    def is_identity(self) -> bool:
        return bool(np.all(self.weight == 0)) and np.array_equal(self.lower, np.arange(len(self.lower)))

    @property
    def made(self) -> int:
        return int(np.count_nonzero(self.weight))


def place(stack: Stack, policy: IngestPolicy) -> Placement:
    """Decide between taking, repairing and refusing.

    Raises:
        GeometryRefused: ``single_slice``, ``slices_not_aligned``, ``missing_slices``, ``mixed_spacing`` or
            ``irregular_spacing``.
    """
    pixel = min(stack.frames[0].spacing or (1.0, 1.0))
    if stack.kind == "single":
        raise GeometryRefused(
            "the series has a single slice",
            code="single_slice",
            expected=f"at least {policy.min_slices} slices",
            got="1",
            hint="give the folder that holds the whole series, not one file of it",
        )
    if stack.sideways > max(0.5 * pixel, 0.25):
        raise GeometryRefused(
            "the slices do not lie above one another",
            code="slices_not_aligned",
            expected="slices that follow a straight line",
            got=f"slices up to {stack.sideways:.1f} mm beside it",
            hint="the field of view was moved during the scan; give the parts as separate series",
        )
    if stack.kind == "regular":
        return _copy(stack, policy)
    if stack.kind == "gaps":
        return _fill(stack, policy)
    return _even_out(stack, policy)


def _copy(stack: Stack, policy: IngestPolicy) -> Placement:
    if stack.jitter > policy.jitter_fraction * stack.step:
        return _even_out(stack, policy)
    n = len(stack.frames)
    return Placement(np.arange(n), np.arange(n), np.zeros(n), stack.step)


def _fill(stack: Stack, policy: IngestPolicy) -> Placement:
    if stack.missing > policy.max_filled_slices or stack.largest_step > policy.max_gap_mm + 0.01:
        raise GeometryRefused(
            "slices are missing inside the series",
            code="missing_slices",
            expected=f"no gap, or at most {policy.max_filled_slices} slices across {policy.max_gap_mm:g} mm",
            got=f"{stack.missing} of {stack.slots[-1] + 1} slices missing, largest step {stack.largest_step:.2f} mm"
            f" at a regular {stack.step:.2f} mm",
            hint="send the series again; the transfer was probably cut short",
        )
    return _interpolate(np.asarray(stack.slots, dtype=float), np.arange(stack.slots[-1] + 1.0), stack.step)


def _even_out(stack: Stack, policy: IngestPolicy) -> Placement:
    steps = np.diff(stack.depth)
    repairable = stack.largest_step <= policy.max_mixed_step_mm + 0.01
    if stack.kind != "mixed":
        repairable &= bool(stack.jitter <= 0.5 * stack.step and steps.max() <= 3 * steps.min())
    if policy.mixed_spacing == "refuse" or not repairable:
        mixed = stack.kind == "mixed"
        raise GeometryRefused(
            "the slices are not evenly spaced",
            code="mixed_spacing" if mixed else "irregular_spacing",
            expected=f"one step, or parts with steps of at most {policy.max_mixed_step_mm:g} mm",
            got=f"steps from {steps.min():.2f} to {steps.max():.2f} mm",
            hint="send the series again, or give a reconstruction with one slice spacing",
        )
    step = min(s for _, s in stack.runs) if stack.kind == "mixed" else float(np.median(steps))
    count = int(np.floor(stack.depth[-1] / step + 1e-3)) + 1
    return _interpolate(stack.depth, np.arange(count) * step, step)


def _interpolate(at: np.ndarray, wanted: np.ndarray, step: float) -> Placement:
    """Linear weights of the two slices around each wanted place; a slice closer than 1 % of a step is copied."""
    upper = np.clip(np.searchsorted(at, wanted), 1, len(at) - 1)
    lower = upper - 1
    weight = np.clip((wanted - at[lower]) / (at[upper] - at[lower]), 0, 1)
    lower = np.where(weight > 0.99, upper, lower)
    weight = np.where((weight > 0.99) | (weight < 0.01), 0.0, weight)
    return Placement(lower, upper, weight, step)
