"""What does each option of the encoder cost, and what does leaving out air save on a real chest?

    python benchmarks/vision.py [--scan ../shared/data/volumes/lidc-idri-0314_ct.nii.gz] [--shape 240 480 480]

Options: CPU milliseconds of a forward and a forward with backward pass, one thread, on the grid of the recipe ``demo``
with its widths (random weights; the public encoders are left out, `encoders.py` times one). Air: the scan is put on the
shape given, and the default encoder sees it with and without ``skip_air``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from timing import cpu_seconds

from ctscribe.data import load_study
from ctscribe.data.geometry import to_grid
from ctscribe.tensors import VolumeBatch
from ctscribe.vision.air import body_cells
from ctscribe.vision.build import build_encoder
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.tubelets import TubeletConfig
from ctscribe.vision.windows import to_windows

WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (500.0, 2000.0))
SMALL = EncoderConfig(TubeletConfig((2, 8, 8), (4, 16, 16), (8, 32, 32), stem=24), depths=(2, 4, 6), mlp_ratio=2.0)
OPTIONS = {
    "default (pyramid)": {},
    "backbone=isotropic": {"backbone": "isotropic"},
    "backbone=swin": {"backbone": "swin"},
    "backbone=timesformer": {"backbone": "timesformer"},
    "injection=concat": {"injection": "concat"},
    "injection=cross": {"injection": "cross"},
    "mapping=routed": {"mapping": "routed"},
    "mapping=parallel": {"mapping": "parallel"},
    "positions=learned": {"positions": ("learned",) * 3},
    "positions=none": {"positions": ("none",) * 3},
    "overlap=(0,.5,.5)": {"tubelets": replace(SMALL.tubelets, overlap=(0.0, 0.5, 0.5))},
    "stem=0 (linear)": {"tubelets": replace(SMALL.tubelets, stem=0)},
    "checkpointing": {"checkpointing": True},
}


def options() -> None:
    """Print parameters and CPU milliseconds of every option."""
    torch.manual_seed(0)
    volume = VolumeBatch(torch.rand(1, 64, 128, 128) * 2000 - 1000, torch.tensor([[5.0, 2.75, 2.75]]))
    print(f"{'option':22s} {'M parameters':>12s} {'forward ms':>11s} {'and back ms':>12s}")
    for name, changes in OPTIONS.items():
        model = build_encoder(replace(SMALL, **changes), WINDOWS)
        million = sum(p.numel() for p in model.parameters()) / 1e6
        with torch.no_grad():
            ahead = min(cpu_seconds(lambda: model(volume), 5))  # noqa: B023 - called at once
        both = min(cpu_seconds(lambda: sum(s.tokens.mean() for s in model(volume).scales).backward(), 5))  # noqa: B023
        print(f"{name:22s} {million:12.2f} {1000 * ahead:11.0f} {1000 * both:12.0f}", flush=True)


def air(path: Path, shape: tuple[int, int, int]) -> None:
    """Print how many tubelets and windows of a scan are air, and what leaving them out saves."""
    study = load_study(path).volume
    spacing = tuple(mm / n for mm, n in zip(study.extent_mm, shape, strict=True))
    hu = torch.from_numpy(to_grid(study, shape, (spacing[0], spacing[1], spacing[2])).hu).float()[None]
    volume = VolumeBatch(hu, torch.tensor([spacing]))
    config = EncoderConfig(TubeletConfig(widths=(96, 192, 384)))
    inside = body_cells(volume, config.tubelets.fine)
    t, h, w = inside.shape[1:]
    whole = [n // k * k for n, k in zip((t, h, w), config.window, strict=True)]
    kept = inside[:, : whole[0], : whole[1], : whole[2]].float().reshape(1, -1, 1)
    windows = to_windows(kept, (whole[0], whole[1], whole[2]), config.window).amax(1)
    print(f"\n{path.name} on {shape}: {1 - float(inside.float().mean()):.0%} of {t * h * w} fine tubelets are air,")
    print(f"{1 - float(windows.mean()):.0%} of the {windows.numel()} windows of the first layer hold nothing else")
    for skip in (False, True):
        torch.manual_seed(0)
        model = build_encoder(replace(config, skip_air=skip), WINDOWS).eval()
        with torch.no_grad():
            started = time.process_time()
            model.see(volume)
            stem = time.process_time() - started
            started = time.process_time()
            model(volume)
            total = time.process_time() - started
        print(f"  skip_air={skip!s:5s} {total:6.1f} CPU s, of which the stems {stem:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, default=None)
    parser.add_argument("--shape", type=int, nargs=3, default=(240, 480, 480))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    options()
    if chosen.scan is not None:
        z, y, x = chosen.shape
        air(chosen.scan, (z, y, x))


if __name__ == "__main__":
    main()
