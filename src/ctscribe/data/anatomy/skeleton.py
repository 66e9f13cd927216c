"""Spine, ribs and the midline."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ctscribe.data.anatomy import grid

BONE_HU = 150.0
"""Trabecular bone at the averaged working resolution; cortical bone is well above."""
BACKWARD_MM = 100.0
"""Bone counts e times as much when it lies this much farther back, so that the spine outweighs an enhanced heart."""
BODY_MM = 17.0
"""Half the front-to-back depth of a thoracic vertebral body."""
BEHIND_MM = 40.0
"""The vertebral column's centre is not farther than this in front of the backs of the lungs."""


def spine_line(
    hu: Float[np.ndarray, "z y x"],
    solid: Bool[np.ndarray, "z y x"],
    air: Bool[np.ndarray, "z y x"],
    spacing: grid.Spacing,
) -> Float[np.ndarray, "z 2"] | None:
    """Centre (y, x) of the vertebral bodies for each slice, None when no bone column is seen.

    The column is the maximum of the bone density, smoothed over some centimetres and weighted towards the back:
    a contrast-filled heart or aorta is strong too, but lies in front of it. ``air`` is the air inside the body: the
    spine lies between the backs of the lungs.
    """
    bone = np.clip(hu, 100.0, 350.0) - 100.0
    bone[~solid] = 0
    sigma = [12.0 / s for s in spacing]
    sigma[0] = 18.0 / spacing[0]
    density = ndimage.gaussian_filter(bone, sigma, mode="nearest", truncate=2.5)
    whole = density.mean(axis=0)
    rows = np.flatnonzero(air.any(axis=(0, 2)))
    front = 0
    if rows.size:
        share = np.cumsum(air.sum(axis=(0, 2))) / air.sum()
        front = max(0, int(np.searchsorted(share, 0.95)) - round(BEHIND_MM / spacing[1]))
    if whole[front:].max() < 5.0:
        return None
    density *= np.exp(np.arange(hu.shape[1], dtype=np.float32) * spacing[1] / BACKWARD_MM)[None, :, None]
    whole = density[:, front:].mean(axis=0)
    y, x = np.unravel_index(int(whole.argmax()), whole.shape)
    line = _follow(density, (int(y) + front, int(x)), spacing)
    return _body_centres(hu, line, spacing)


def _follow(
    density: Float[np.ndarray, "z y x"], start: tuple[int, int], spacing: grid.Spacing
) -> Float[np.ndarray, "z 2"]:
    """Follow the peak from the middle slice up and down, at most a few millimetres a slice; then smooth."""
    depth, height, width = density.shape
    line = np.zeros((depth, 2))
    reach = [max(1, round((4.0 + spacing[0]) / s)) for s in spacing[1:]]
    wide = [max(2, round(12.0 / s)) for s in spacing[1:]]
    for sequence in (range(depth // 2, depth), range(depth // 2, -1, -1)):
        y, x = start
        for i, z in enumerate(sequence):
            ry, rx = wide if i == 0 else reach
            y0, x0 = max(0, y - ry), max(0, x - rx)
            window = density[z, y0 : min(height, y + ry + 1), x0 : min(width, x + rx + 1)]
            dy, dx = np.unravel_index(int(window.argmax()), window.shape)
            y, x = y0 + int(dy), x0 + int(dx)
            line[z] = y, x
    return ndimage.gaussian_filter1d(line, 12.0 / spacing[0], axis=0, mode="nearest")


def _body_centres(
    hu: Float[np.ndarray, "z y x"], line: Float[np.ndarray, "z 2"], spacing: grid.Spacing
) -> Float[np.ndarray, "z 2"]:
    """Move the line from the densest part of the column (often the arches) to the vertebral bodies.

    The front of the bodies is the first rise of density met from the front, looked for a little right of the midline:
    an enhanced aorta lies to the left.
    """
    y, x = (np.arange(n) for n in hu.shape[1:])
    near = np.abs((x[None, :] - line[:, 1, None]) * spacing[2] + 5.0) < 9.0
    bright = np.clip(hu, 70.0, 220.0) - 70.0
    profile = np.einsum("zyx,zx->zy", bright, near) / np.maximum(near.sum(axis=1), 1)[:, None]
    profile = ndimage.gaussian_filter(profile, [15.0 / spacing[0], 2.0 / spacing[1]], mode="nearest")
    offset = (y[None, :] - line[:, 0, None]) * spacing[1]
    search = np.where((offset > -58.0) & (offset < 4.0), profile, 0.0)
    ahead = np.where((offset > -90.0) & (offset < -58.0), profile, 0.0).max(axis=1, keepdims=True)
    peak = search.max(axis=1, keepdims=True)
    risen = search > np.minimum(ahead, 0.6 * peak) + np.maximum(0.15 * peak, 10.0)
    cut_off = line[:, 0] > hu.shape[1] - 1 - BODY_MM / spacing[1]  # only the bodies are in the image
    known = risen.any(axis=1) & ~cut_off
    front = np.where(known, risen.argmax(axis=1), line[:, 0] - BODY_MM / spacing[1])
    front = ndimage.gaussian_filter1d(
        ndimage.median_filter(front.astype(float), max(3, round(40 / spacing[0])), mode="nearest"),
        12.0 / spacing[0],
        mode="nearest",
    )
    return np.stack([front + BODY_MM / spacing[1], line[:, 1]], axis=1)


def spine_mask(
    hu: Float[np.ndarray, "z y x"],
    line: Float[np.ndarray, "z 2"] | None,
    spacing: grid.Spacing,
    blocked: Bool[np.ndarray, "z y x"],
) -> Bool[np.ndarray, "z y x"]:
    """Vertebrae: bone in the place of the vertebral bodies and, behind them, of the arches; lung is left out.

    In front and to the left of the bodies lies the aorta, as bright as bone when enhanced: that corner is left out.
    """
    out = np.zeros(hu.shape, dtype=bool)
    if line is None:
        return out
    y = (np.arange(hu.shape[1])[None, :, None] - line[:, 0, None, None]) * spacing[1]
    x = (np.arange(hu.shape[2])[None, None, :] - line[:, 1, None, None]) * spacing[2]
    body = x**2 + y**2 < 21.0**2
    arch = (np.abs(x) < 34.0) & (y > 10.0) & (y < 55.0)
    core = x**2 + y**2 < 15.0**2
    bone = (body | arch) & (hu > BONE_HU)
    return (grid.close(bone, 6.0, spacing) | core) & ~blocked
