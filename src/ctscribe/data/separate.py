"""One series UID, several scans: frames are taken apart into stacks that can be one volume each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctscribe.data.headers import Frame
from ctscribe.data.stack import Stack, measure
from ctscribe.data.study import IngestLog

#: Fingerprint of a frame's Hounsfield units, None when it cannot be decoded.
Fingerprint = Callable[[Frame], bytes | None]
REFORMAT_WORDS = ("MPR", "REFORMATTED", "CPR", "CURVED")


def stacks_of(frames: list[Frame], fingerprint: Fingerprint, log: IngestLog) -> list[Stack]:
    """The stacks of slices in one series; copies of a slice are dropped on the way."""
    stacks = [stack for part in _split_by_header(frames) for stack in _separate(part, fingerprint, log)]
    if len(stacks) > 1:
        log.note("series_split", "info", f"one series held {len(stacks)} stacks of slices; they were taken apart")
    return stacks


def _split_by_header(frames: list[Frame]) -> list[list[Frame]]:
    """Frames that can share a grid: same size, spacing, orientation, frame of reference and reconstruction.

    A frame whose kernel or frame of reference is not stated goes to the largest part it may belong to, unless that
    part has a slice at its place already.
    """
    parts: list[list[Frame]] = []
    ordered = sorted(frames, key=lambda f: (f.instance or 0, f.sop_uid, f.index or 0))
    for frame in sorted(ordered, key=lambda f: not (f.kernel and f.frame_of_reference)):
        fits = [part for part in parts if _same_grid(part[0], frame)]
        exact = [part for part in fits if all(getattr(part[0], n) == getattr(frame, n) for n in MAY_BE_UNKNOWN)]
        free = [part for part in fits if not _occupied(part, frame)]
        if chosen := exact or sorted(free, key=len, reverse=True):
            chosen[0].append(frame)
        else:
            parts.append([frame])
    return parts


MAY_BE_UNKNOWN = ("kernel", "frame_of_reference")


def _same_grid(a: Frame, b: Frame) -> bool:
    """Nothing that both state differs."""
    return (
        (a.rows, a.columns) == (b.rows, b.columns)
        and all(getattr(a, n) == getattr(b, n) or not (getattr(a, n) and getattr(b, n)) for n in MAY_BE_UNKNOWN)
        and is_reformat(a) == is_reformat(b)
        and np.allclose(a.pixel, b.pixel, rtol=1e-3)
        and np.allclose(a.cosines, b.cosines, atol=5e-3)
    )


def _occupied(part: list[Frame], frame: Frame) -> bool:
    return bool(np.any(np.all(np.abs(np.stack([f.at for f in part]) - frame.at) < 0.01, axis=1)))


def is_reformat(frame: Frame) -> bool:
    """True for images computed from another series on a plane of the operator's choice."""
    return bool(set(frame.image_type) & set(REFORMAT_WORDS))


SPLIT_KEYS: tuple[tuple[str, Callable[[Frame], object]], ...] = (
    ("acquisition number", lambda f: f.acquisition),
    ("temporal position", lambda f: f.temporal),
    ("slice thickness", lambda f: f.thickness),
    ("image type", lambda f: f.image_type),
    ("tube voltage", lambda f: f.kvp),
    ("contrast", lambda f: f.contrast),
    ("display window", lambda f: f.window),
    ("acquisition time", lambda f: f.time),
)


def _separate(frames: list[Frame], fingerprint: Fingerprint, log: IngestLog) -> list[Stack]:
    """Take apart scans that lie in one another: two reconstructions or phases under one series UID."""
    stack = measure(frames)
    if stack.kind == "single" and not stack.extra:
        return [stack]
    stack = _drop_copies(frames, stack, fingerprint, log)
    if not stack.extra and stack.kind in ("regular", "gaps", "mixed"):
        return [stack]
    rest = list(stack.frames) + [f for group in stack.extra for f in group[1:]]
    for name, key in SPLIT_KEYS:
        groups: dict[object, list[Frame]] = {}
        for frame in rest:
            groups.setdefault(key(frame), []).append(frame)
        parts = [measure(group) for group in groups.values()]
        if 1 < len(parts) <= 8 and any(_complete(part, stack, 0.9) for part in parts):
            log.note(
                "stacks_by_tag", "warning", f"{len(parts)} scans lay in one series; they were told apart by {name}"
            )
            return parts
    parts = [measure(group) for group in _by_repetition(rest)] if stack.extra else []
    if len(parts) > 1 and all(_complete(part, stack, 0.8) for part in parts):
        log.note(
            "stacks_by_number",
            "warning",
            f"{len(parts)} scans lay in one series; only their instance numbers tell them apart",
        )
        return parts
    return [stack]


def _drop_copies(frames: list[Frame], stack: Stack, fingerprint: Fingerprint, log: IngestLog) -> Stack:
    """Forget frames that repeat another one at the same place, pixel for pixel."""
    copies: list[Frame] = []
    for group in stack.extra:
        kept: list[tuple[Frame, bytes]] = []
        for frame in group:
            pixels = fingerprint(frame)
            if any(pixels == other and np.allclose(frame.at, k.at, atol=0.01) for k, other in kept):
                copies.append(frame)
            elif pixels is not None:
                kept.append((frame, pixels))
    if not copies:
        return stack
    log.drop("identical copy of a slice", len(copies))
    log.facts["duplicates"] = log.facts.get("duplicates", 0) + len(copies)
    log.note("duplicates_dropped", "info", f"{len(copies)} slices were there more than once, pixel for pixel")
    gone = {id(f) for f in copies}
    return measure([f for f in frames if id(f) not in gone])


def _complete(part: Stack, whole: Stack, share: float) -> bool:
    """True when a part is regular by itself and spans nearly all that the whole spans (so no half is lost)."""
    span = part.depth[-1] if len(part.depth) else 0.0
    return part.kind == "regular" and not part.extra and bool(span >= share * whole.depth[-1])


def _by_repetition(frames: list[Frame]) -> list[list[Frame]]:
    """Cut the series, in order of instance number, where a position comes back."""
    runs: list[list[Frame]] = [[]]
    seen: set[float] = set()
    for frame in sorted(frames, key=lambda f: (f.instance or 0, f.index or 0)):
        place_ = round(float(np.dot(frame.at, frames[0].normal)), 1)
        if place_ in seen:
            runs.append([])
            seen = set()
        runs[-1].append(frame)
        seen.add(place_)
    return runs
