"""Do the slices of one stack speak the same language? A rescale that some slices lack, values that jump between them.

A header that lost its rescale on one slice puts that slice a thousand units off, and nothing but its neighbours can
tell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Shaped

from ctscribe.data.stack import Stack
from ctscribe.data.study import IngestLog, IngestPolicy
from ctscribe.errors import WrongModality

#: Median difference (HU) between neighbouring slices that anatomy and noise never reach: at 7.5 mm apart and the
#: noise of a sharp kernel it stays below 150, a lost rescale gives 1000 or 1024.
JUMP_HU = 400.0
_PADDING = np.iinfo(np.int16).min


def with_common_rescale(stack: Stack, log: IngestLog) -> Stack:
    """Slices that state neither slope nor intercept take those of the others where these agree."""
    stated = {(f.slope, f.intercept) for f in stack.frames} - {(None, None)}
    lacking = sum((f.slope, f.intercept) == (None, None) for f in stack.frames)
    if not lacking or len(stated) != 1:
        return stack
    ((slope, intercept),) = stated
    log.note("rescale_filled", "warning", f"{lacking} slice(s) state no rescale; that of the other slices was applied")
    return replace(stack, frames=tuple(replace(f, slope=slope, intercept=intercept) for f in stack.frames))


def odd_slices(hu: Shaped[np.ndarray, "n rows columns"], policy: IngestPolicy) -> list[int]:
    """Indices of slices whose values lie elsewhere than those of the rest; they count as missing.

    Raises:
        WrongModality: ``values_jump``, when they are more than may be interpolated.
    """
    levels = _levels(hu)
    odd = sorted(k for level in levels[1:] for k in level)
    if len(odd) > policy.max_filled_slices:
        raise WrongModality(
            "the values jump between slices of the series",
            code="values_jump",
            expected="the same rescale to Hounsfield units in every slice",
            got=f"{len(odd)} of {len(hu)} slices whose values lie {JUMP_HU:g} or more off their neighbours",
            hint="export the series again; slope or intercept were lost or changed in part of it",
        )
    return odd


def _levels(hu: np.ndarray) -> list[list[int]]:
    """Slices whose values go on from one to the next, the largest set first; slices of one value say nothing."""
    step = max(1, hu.shape[1] // 64), max(1, hu.shape[2] // 64)
    coarse = hu[:, :: step[0], :: step[1]].astype(np.float32)
    levels: list[list[int]] = []
    for k, values in enumerate(coarse):
        if np.ptp(values) == 0:
            continue
        near = [(_difference(values, coarse[level[-1]]), i) for i, level in enumerate(levels)]
        if near and min(near)[0] <= JUMP_HU:
            levels[min(near)[1]].append(k)
        else:
            levels.append([k])
    return sorted(levels, key=len, reverse=True)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    inside = (a > _PADDING) & (b > _PADDING)
    return float(np.median(np.abs(a - b)[inside])) if inside.any() else 0.0
