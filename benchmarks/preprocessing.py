"""Preparing a scan for the network against MONAI and TorchIO: seconds of one core, and how far the outputs differ.

    python benchmarks/preprocessing.py --scan CT.nii.gz [--repeats 3]

Every pipeline reads an uncompressed NIfTI, turns it to canonical orientation, resamples it to 5 x 2.75 x 2.75 mm
without aliasing, cuts (64, 128, 128) voxels around its middle, and clips to -1024 to 3071 HU. MONAI is measured
smoothed (a Gaussian, then linear interpolation) and as it is mostly used, without smoothing. Regions are not found:
the others have no counterpart. Processor seconds, the best of the repeats, each library on one thread; libraries that
are not installed are named and left out. They are no dependency of ctscribe:

    pip install --no-deps --target PEERS monai torchio humanize deprecated wrapt SimpleITK; PYTHONPATH=PEERS python ...
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
import torch

from ctscribe.data import load_study
from ctscribe.data.geometry import to_grid

SHAPE, SPACING, LOW, HIGH = (64, 128, 128), (5.0, 2.75, 2.75), -1024.0, 3071.0
Pipeline = Callable[[Path], np.ndarray]


def ours(path: Path) -> np.ndarray:
    """Includes every check of the file, its geometry and its values."""
    volume = to_grid(load_study(path).volume, SHAPE, SPACING)
    return np.clip(volume.hu, LOW, HIGH)


def monai_pipeline(smooth: bool) -> Pipeline:
    """With ``smooth``: a Gaussian before linear interpolation."""
    kit = importlib.import_module("monai.transforms")
    spacing, shape = SPACING[::-1], SHAPE[::-1]

    def run(path: Path) -> np.ndarray:
        steps = [kit.LoadImage(image_only=True), kit.EnsureChannelFirst(), kit.Orientation(axcodes="LPS", labels=None)]
        image = kit.Compose(steps)(path)
        if smooth:
            image = kit.GaussianSmooth(sigma=antialias(image.pixdim.tolist(), spacing))(image)
        rest = [
            kit.Spacing(pixdim=spacing, mode="bilinear", padding_mode="border"),
            kit.ResizeWithPadOrCrop(shape, value=LOW),
            kit.ScaleIntensityRange(LOW, HIGH, LOW, HIGH, clip=True),
        ]
        return np.asarray(kit.Compose(rest)(image))[0].T

    return run


def antialias(before: list[float], after: tuple[float, ...]) -> list[float]:
    """Spread of the Gaussian in old voxels (Cardoso et al., MICCAI 2015); 0 where nothing is lost."""
    factor = (2 * np.sqrt(2 * np.log(2))) ** -1
    return [float(factor * np.sqrt(max((new / old) ** 2 - 1, 0.0))) for old, new in zip(before, after, strict=True)]


def torchio_pipeline() -> Pipeline:
    torchio = importlib.import_module("torchio")
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    run_all = torchio.Compose(
        [
            torchio.ToOrientation("LPS"),
            torchio.Resample(SPACING[::-1], antialias=True),
            torchio.CropOrPad(SHAPE[::-1], padding_mode=LOW),
            torchio.Clamp(LOW, HIGH),
        ]
    )
    return lambda path: run_all(torchio.ScalarImage(path)).numpy()[0].T


def measure(run: Pipeline, path: Path, repeats: int) -> tuple[float, np.ndarray]:
    """Best processor seconds, and the output."""
    seconds, made = [], np.empty(0)
    for _ in range(repeats + 1):
        started = time.process_time()
        made = run(path)
        seconds.append(time.process_time() - started)
    return min(seconds[1:]), made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "scan.nii"
        nibabel.save(nibabel.load(options.scan), plain)
        print(json.dumps({"voxels": list(nibabel.load(plain).shape), "spacing": _spacing(plain)}), flush=True)
        own_seconds, reference = measure(ours, plain, options.repeats)
        print(json.dumps({"ctscribe": {"cpu_s": round(own_seconds, 3)}}), flush=True)
        for name, module, build in (
            ("monai, smoothed", "monai", lambda: monai_pipeline(smooth=True)),
            ("monai, aliased", "monai", lambda: monai_pipeline(smooth=False)),
            ("torchio", "torchio", torchio_pipeline),
        ):
            if importlib.util.find_spec(module) is None:
                print(json.dumps({name: "not installed"}), flush=True)
                continue
            seconds, made = measure(build(), plain, options.repeats)
            print(json.dumps({name: compare(seconds, own_seconds, made, reference)}), flush=True)


def compare(seconds: float, own: float, made: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    inside = reference > LOW + 1
    apart = np.abs(made - reference)[inside]
    return {
        "cpu_s": round(seconds, 3),
        "times_ours": round(seconds / own, 2),
        "median_difference_hu": round(float(np.median(apart)), 1),
        "correlation": round(float(np.corrcoef(made[inside], reference[inside])[0, 1]), 4),
    }


def _spacing(path: Path) -> list[float]:
    return [round(float(step), 3) for step in nibabel.load(path).header.get_zooms()]


if __name__ == "__main__":
    main()
