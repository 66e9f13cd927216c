"""How good is the classical segmentation, on the real scans at hand and on synthetic ones?

    python benchmarks/segmentation.py [--data ../shared/data/volumes] [--phantoms 20]

For every scan of the data folder: seconds, lung volumes, what the body-part check says, and Dice where a reference mask
lies beside it. For phantoms: mean Dice per region against the drawn truth. References are what their makers drew: lung
contours for radiotherapy leave out hilar vessels and the tumour, so a Dice of 1 is neither reached nor wanted there.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from ctscribe.data import bodypart, load_study
from ctscribe.data.anatomy import Segmentation, from_label_map, segment
from ctscribe.errors import InputRefused
from ctscribe.tensors import Volume

#: Reference masks: scan -> (file, {label value: region}, label value left out of the second Dice or None).
REFERENCES: dict[str, list[tuple[str, dict[int, str], int | None]]] = {
    "nsclc-lung1-001_ct": [("nsclc-lung1-001_labels", {2: "left_lung", 3: "right_lung"}, 1)],
    "totalsegmentator_pulmonary_ct": [
        ("totalsegmentator_pulmonary_heart", {1: "heart"}, None),
        ("totalsegmentator_pulmonary_pa", {1: "pulmonary_artery"}, None),
    ],
}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks, 1 when equal; NaN when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")


def against_references(name: str, folder: Path, volume: Volume, found: Segmentation) -> list[str]:
    """One text per reference region of a scan."""
    lines = []
    for file, values, excluded in REFERENCES.get(name, []):
        path = folder / f"{file}.nii.gz"
        if not path.is_file():
            lines.append(f"reference {path.name} is missing")
            continue
        for value, region in values.items():
            truth = _mask(path, volume, value)
            text = f"{region} Dice {dice(found.mask(region), truth):.3f}"
            if excluded is not None:
                outside = ~_mask(path, volume, excluded)
                text += f" (tumour left out: {dice(found.mask(region) & outside, truth & outside):.3f})"
            lines.append(text)
    return lines


def _mask(path: Path, volume: Volume, value: int) -> np.ndarray:
    """Voxels of one label value on the volume's grid."""
    return from_label_map(path, volume, {value: "thorax"}).mask("thorax")


def real_scans(folder: Path) -> None:
    """Print the table of real scans."""
    print(f"{'scan':38s} {'grid':>14s} {'CPU s':>6s} {'right ml':>9s} {'left ml':>8s}  verdict and overlap")
    paths = sorted(folder.glob("*_ct*.nii.gz"))
    if not paths:
        print(f"no scan lies in {folder}")
    for path in paths:
        name = path.name.removesuffix(".nii.gz")
        volume = load_study(path).volume
        started = time.process_time()
        found = segment(volume)
        seconds = time.process_time() - started
        try:
            verdict = ["accepted: " + (", ".join(n.code for n in bodypart.check_chest(volume, found)) or "whole chest")]
        except InputRefused as refusal:
            verdict = [f"refused: {refusal.code}"]
        grid = "x".join(map(str, volume.shape))
        right, left = found.quality["right_lung_ml"], found.quality["left_lung_ml"]
        print(f"{name:38s} {grid:>14s} {seconds:6.2f} {right:9.0f} {left:8.0f}  {verdict[0]}")
        for line in against_references(name, folder, volume, found):
            print(f"{'':80s} {line}")


def phantoms(count: int, first_seed: int = 900_000) -> None:
    """Print mean Dice per region over synthetic studies."""
    from ctscribe import ontology, phantom

    scores: dict[str, list[float]] = defaultdict(list)
    seconds = []
    refused = 0
    for seed in range(first_seed, first_seed + count):
        study = phantom.generate(seed)
        truth = Segmentation(study.regions, study.region_names, "drawn")
        started = time.process_time()
        found = segment(study.volume)
        seconds.append(time.process_time() - started)
        try:
            bodypart.check_chest(study.volume, found)
        except InputRefused as refusal:
            refused += 1
            print(f"  phantom {seed} refused: {refusal.code}")
        for region in ontology.model_regions():
            if truth.has(region):
                scores[region].append(dice(found.mask(region), truth.mask(region)))
    print(f"\n{count} phantoms (synthetic): {np.mean(seconds):.2f} CPU s each, {refused} refused")
    print(f"{'region':24s} {'mean':>6s} {'worst':>6s}  present in")
    for region, values in scores.items():
        print(f"{region:24s} {np.mean(values):6.3f} {np.min(values):6.3f}  {len(values)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/volumes")
    parser.add_argument("--phantoms", type=int, default=20)
    options = parser.parse_args()
    real_scans(options.data)
    if options.phantoms:
        phantoms(options.phantoms)


if __name__ == "__main__":
    main()
