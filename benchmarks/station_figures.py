"""Draw the figures of docs/explanation: what each station of the bundled model makes of one synthetic scan.

    PYTHONPATH=. python benchmarks/station_figures.py [--seen seen.npz]

All that is drawn is an output of the code: tokens, masks, edges, heat and gates of the bundled checkpoint, the plan of
the writer's layers, the stages of the recipe ``demo``. ``--seen`` keeps what the model said, to draw it again.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import station_drawings as drawings
import torch

from ctscribe.model import on_grid
from ctscribe.phantom import GridSpec, LesionPrior, generate
from ctscribe.phantom.write import write_nifti
from ctscribe.pipeline import Reporter, ReportResult
from ctscribe.scene.graph import anatomical_edges, spatial_edges
from ctscribe.scene.tree import parents
from ctscribe.tensors import RegionMasks, ScaleTokens, VisualTokens
from ctscribe.training.losses.alignment import AlignmentLoss
from ctscribe.vision.build import build_encoder

OUT = Path(__file__).parents[1] / "docs" / "assets" / "stations"
STEPS = 150
SEED, LESIONS = 4, ("consolidation", "pleural_effusion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seen", type=Path, help="file to keep the model's outputs in")
    options = parser.parse_args()
    if options.seen is not None and options.seen.exists():
        seen = dict(np.load(options.seen, allow_pickle=False))
    else:
        seen = look()
        if options.seen is not None:
            np.savez_compressed(options.seen, **seen)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, draw in drawings.FIGURES.items():
        (OUT / f"{name}.svg").write_text(draw(seen), encoding="utf-8")
        print(OUT / f"{name}.svg")


@torch.no_grad()
def look() -> dict[str, np.ndarray]:
    """Report on one phantom with the bundled model, and keep what each station said."""
    reporter = Reporter()
    config = reporter.model.model.config
    grid = GridSpec(config.grid.shape, config.grid.spacing)
    study = generate(SEED, grid, lesions=LesionPrior(force=LESIONS))
    with tempfile.TemporaryDirectory() as folder:
        result = reporter.report(write_nifti(study, folder) / "ct.nii.gz", language="both")
    placed, model = result.placed, reporter.model.model
    volume, masks = on_grid(placed.volume, placed.occupancy, placed.present)
    visual, scene = model.see(volume, masks)
    torch.manual_seed(0)
    routed = build_encoder(replace(config.encoder, mapping="routed"), config.windows).eval()(volume).routing
    names = scene.named_regions
    seen: dict[str, Any] = {
        "hu": placed.volume.hu.astype(np.int16),
        "spacing": np.array(placed.volume.spacing),
        "occupancy": placed.occupancy.astype(np.float16),
        "present": scene.region_present[0].numpy(),
        "regions": np.array(names),
        "parents": np.array(parents(names)),
        "slot_masks": scene.slot_masks[0].reshape(-1, *visual.mid.grid).numpy().astype(np.float32),
        "slots_taught": taught_slots(model.scene, visual, masks),
        "edges": scene.edges[0].numpy(),
        "nodes": scene.centres[0].numpy(),
        "spatial": spatial_edges(scene.centres, alive(scene), config.scene.neighbours)[0].numpy(),
        "anatomical": anatomical_edges(names).numpy(),
        "routed": routed.shares[0].numpy(),
        "depths": np.array(config.encoder.depths),
        "gates": np.array([next(v for k, v in row.items() if k != "layer") for row in model.language.decoder.gates()]),
    }
    seen |= {
        f"tokens_{name}": colours(scale) for name, scale in zip(("fine", "mid", "coarse"), visual.scales, strict=True)
    }
    return {k: np.asarray(v) for k, v in (seen | words(result)).items()}


@torch.enable_grad()
def taught_slots(station: Any, visual: VisualTokens, masks: RegionMasks) -> np.ndarray:
    """Masks of the slots after `STEPS` steps of the loss ``alignment`` on this scan alone: nothing else moves."""
    station, loss = copy.deepcopy(station), AlignmentLoss()
    learning = [p for n, p in station.named_parameters() if n.startswith("slot_attention.")]
    optimiser = torch.optim.AdamW(learning, lr=2e-3)
    for _ in range(STEPS):
        scene = station(visual, masks)
        value = loss(SimpleNamespace(scene=scene, visual=visual), SimpleNamespace(regions=masks)).value
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    print(f"alignment after {STEPS} steps: {value.item():.2f}")
    return scene.slot_masks[0].detach().reshape(-1, *visual.mid.grid).numpy().astype(np.float32)


def alive(scene: Any) -> torch.Tensor:
    slots = torch.ones(1, scene.slots.shape[1], dtype=torch.bool)
    return torch.cat((scene.region_present, slots), dim=1)


def colours(scale: ScaleTokens) -> np.ndarray:
    """Tokens (t, h, w, 3) as colours: their first three principal components, each from 0 to 1 by rank."""
    tokens = scale.tokens[0].float()
    tokens = tokens - tokens.mean(0)
    found = tokens @ torch.linalg.eigh(tokens.T @ tokens)[1][:, -3:].flip(1)
    ranks = found.argsort(0).argsort(0).float() / max(1, len(found) - 1)
    return ranks.reshape(*scale.grid, 3).numpy().astype(np.float32)


def words(result: ReportResult) -> dict[str, np.ndarray]:
    """What was detected and written."""
    stated = {f.kind for f in result.report.findings if f.status != "absent"}
    told = [d for d in result.detections if d.kind in stated]
    return {
        "kinds": np.array([d.kind for d in told]),
        "chances": np.array([d.probability for d in told]),
        "limits": np.array([d.threshold for d in told]),
        "heat": np.stack([d.heat for d in told]).astype(np.float32),
        "said": np.array(json.dumps([
            {"text": s.text, "kinds": [result.report.findings[i].kind for i in s.findings]}
            for s in result.report.text("en").findings
        ])),
        "said_zh": np.array([s.text for s in result.report.text("zh").findings]),
    }  # fmt: skip


if __name__ == "__main__":
    main()
