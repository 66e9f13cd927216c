"""Draw the pictures of docs/explanation/phantoms.md.

    python benchmarks/phantom_pictures.py [--real ../shared/data/volumes/lidc-idri-0314_ct.nii.gz]

The real scan is LIDC-IDRI-0314 (CC BY 3.0), reduced to the demo grid; without it that row is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, zoom

from ctscribe.phantom import PREVALENCE, GridSpec, LesionPrior, PhantomStudy, generate

OUT = Path(__file__).parents[1] / "docs" / "assets" / "phantoms"
LUNG, SOFT, BONE = (-1350.0, 150.0), (-160.0, 280.0), (-350.0, 1000.0)
FINE = GridSpec(shape=(107, 200, 200), spacing=(3.0, 1.76, 1.76))
TILE = 150
# Windows for kinds that are not lung disease.
WINDOWS = dict.fromkeys(("rib_fracture", "vertebral_fracture", "bone_lesion", "medical_material"), BONE)
WINDOWS |= dict.fromkeys(("arterial_wall_calcification", "coronary_artery_wall_calcification"), (-250.0, 600.0))
WINDOWS |= dict.fromkeys(
    (
        "cardiomegaly", "pericardial_effusion", "aortic_aneurysm", "enlarged_pulmonary_artery", "hiatal_hernia",
        "lymphadenopathy", "pleural_effusion", "pleural_thickening", "thyroid_nodule", "hepatic_cyst", "adrenal_nodule",
    ),
    SOFT,
)  # fmt: skip


def tile(plane: np.ndarray, spacing: tuple[float, float], window: tuple[float, float], size: int = TILE) -> Image.Image:
    """A plane (rows, columns) as a square grey picture with square millimetres."""
    low, high = window
    grey = np.clip((plane.astype(float) - low) / (high - low), 0, 1) * 255
    image = Image.fromarray(grey.astype(np.uint8))
    height, width = plane.shape[0] * spacing[0], plane.shape[1] * spacing[1]
    scale = size / max(height, width)
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    square = Image.new("L", (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def planes(hu: np.ndarray, spacing: tuple[float, float, float]) -> list[Image.Image]:
    """Two axial planes in the lung window, one in the soft-tissue window, coronal, sagittal."""
    _, y, x = hu.shape
    air = ((hu < -500) & (hu > -980))[:, y // 4 : -y // 4, x // 4 : -x // 4].sum(axis=(1, 2))
    lungs = np.flatnonzero(air > 0.06 * air.max())
    low, high = int(lungs[0]), int(lungs[-1])
    upper, lower = low + int(0.66 * (high - low)), low + int(0.36 * (high - low))
    return [
        tile(hu[upper], spacing[1:], LUNG),
        tile(hu[lower], spacing[1:], LUNG),
        tile(hu[lower], spacing[1:], SOFT),
        tile(hu[::-1, int(0.47 * y)], (spacing[0], spacing[2]), LUNG),
        tile(hu[::-1, :, int(0.36 * x)], (spacing[0], spacing[1]), LUNG),
    ]


def real(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The scan reduced to the spacing of `FINE`."""
    import SimpleITK as sitk

    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    hu = sitk.GetArrayFromImage(image).astype(np.float32)
    ratio = [s / f for s, f in zip(image.GetSpacing()[::-1], FINE.spacing, strict=True)]
    hu = zoom(gaussian_filter(hu, [0.4 * max(0.0, 1 / r - 1) for r in ratio]), ratio, order=1)
    cut = [max(0, (n - m) // 2) for n, m in zip(hu.shape, FINE.shape, strict=True)]
    hu = hu[:, cut[1] : cut[1] + FINE.shape[1], cut[2] : cut[2] + FINE.shape[2]]
    return hu, FINE.spacing


def sheet(rows: list[tuple[str, list[Image.Image]]], path: Path, label: int = 16) -> None:
    """Rows of tiles with a line of text above each."""
    width = max(sum(t.width for t in tiles) for _, tiles in rows)
    height = sum(label + tiles[0].height for _, tiles in rows)
    page = Image.new("L", (width, height))
    draw = ImageDraw.Draw(page)
    top = 0
    for text, tiles in rows:
        draw.text((4, top + 2), text, fill=230)
        left = 0
        for one in tiles:
            page.paste(one, (left, top + label))
            left += one.width
        top += label + tiles[0].height
    page.quantize(64).save(path, optimize=True)


def eight(path: Path | None) -> None:
    """Eight phantoms and a real scan, five planes each."""
    rows = []
    if path is not None and path.exists():
        rows.append(("REAL: LIDC-IDRI-0314 (CC BY 3.0, reduced)", planes(*real(path))))
    for seed in range(8):
        study = generate(seed + 20, FINE)
        kinds = ", ".join(sorted({x.kind for x in study.lesions})) or "nothing"
        who = f"{study.meta['sex']} {study.meta['age']}, contrast {study.meta['contrast_phase']}"
        rows.append((f"SYNTHETIC {seed + 20}: {who}: {kinds}"[:124], planes(study.volume.hu, FINE.spacing)))
    sheet(rows, OUT / "eight.png")


FIRST = {"consolidation": 209, "cavity": 44}  # seeds whose lesion lies free of the heart and the spine


def closeup(kind: str, grid: GridSpec, seeds: range | None = None) -> list[Image.Image]:
    """Two planes through the middle of the largest lesion of a kind, cut to its surroundings."""
    seeds = seeds or range(FIRST.get(kind, 40), FIRST.get(kind, 40) + 12)
    study, lesion = next(
        (s, max(s.lesions, key=lambda x: int(s.lesion_masks[x.label].mask.sum())))
        for s in (generate(seed, grid, lesions=LesionPrior(force=(kind,))) for seed in seeds)
        if s.lesions and not {"mild", "small"} & {v for _, v in s.lesions[0].attributes}
    )
    return _cut(study, lesion.label, kind)


def _cut(study: PhantomStudy, label: int, kind: str) -> list[Image.Image]:
    piece = study.lesion_masks[label]
    window = WINDOWS.get(kind, LUNG)
    hu, (dz, dy, dx) = study.volume.hu, study.volume.spacing
    inside = np.argwhere(piece.mask)
    # The lesion voxel nearest to the lesion's middle: a curved lesion's middle may lie outside it.
    middle = inside[np.abs(inside - inside.mean(axis=0)).sum(axis=1).argmin()]
    z, y, x = (int(m) + s.start for m, s in zip(middle, piece.slices, strict=True))
    spread = max(float(np.ptp(inside[:, axis])) * step for axis, step in enumerate((dz, dy, dx)))
    reach = float(np.clip(0.8 * spread, 45, 150))

    def view(plane: np.ndarray, row: int, column: int, steps: tuple[float, float]) -> Image.Image:
        rows, columns = (round(reach / step) for step in steps)
        top = min(max(0, row - rows), max(0, plane.shape[0] - 2 * rows))
        left = min(max(0, column - columns), max(0, plane.shape[1] - 2 * columns))
        return tile(plane[top : top + 2 * rows, left : left + 2 * columns], steps, window)

    if kind == "rib_fracture":  # a rib leaves every plane: the brightest within a centimetre, as one reads ribs
        thick, wide = round(10 / dz), round(10 / dy)
        slab = hu[max(0, z - thick) : z + thick + 1].max(axis=0)
        side = hu[::-1, max(0, y - wide) : y + wide + 1].max(axis=1)
        return [view(slab, y, x, (dy, dx)), view(side, hu.shape[0] - 1 - z, x, (dz, dx))]
    first = view(hu[z], y, x, (dy, dx))
    if kind in ("vertebral_fracture", "airway_stenosis", "hiatal_hernia"):
        return [first, view(hu[::-1, :, x], hu.shape[0] - 1 - z, y, (dz, dy))]
    return [first, view(hu[::-1, y], hu.shape[0] - 1 - z, x, (dz, dx))]


def kinds() -> None:
    """Every kind, four kinds a row, on a grid finer than the network's."""
    order = [k for k in PREVALENCE if k != "lung_opacity"]
    rows = []
    for start in range(0, len(order), 4):
        group = order[start : start + 4]
        tiles = [t for kind in group for t in closeup(kind, FINE)]
        rows.append(("   |   ".join(group), tiles))
    sheet(rows, OUT / "kinds.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=OUT.parents[3] / "shared/data/volumes/lidc-idri-0314_ct.nii.gz")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    eight(arguments.real)
    kinds()


if __name__ == "__main__":
    main()
