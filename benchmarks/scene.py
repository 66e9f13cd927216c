"""What each option of the scene station costs: parameters, and CPU time of a forward and of a training step.

    python benchmarks/scene.py [--repeats 5]

Size of the bundled checkpoint: fine tokens on a (32, 16, 16) grid, widths 96, 192, 224, 128 channels, one study, one
thread. The tokens are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

import torch
from timing import milliseconds

from ctscribe import ontology
from ctscribe.scene.station import Scene, SceneConfig
from ctscribe.tensors import RegionMasks, ScaleTokens, VisualTokens

WIDTHS = (96, 192, 224)
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "pooling=align": {"pooling": "align"},
    "masks=own": {"masks": "own"},
    "masks=given_or_own": {"masks": "given_or_own"},
    "hierarchy=lobes": {"hierarchy": "lobes"},
    "hierarchy=segments, lesions=8": {"hierarchy": "segments", "lesions": 8},
    "slot_scales=fine,mid,coarse": {"slot_scales": ("fine", "mid", "coarse")},
    "slot_parents=4": {"slot_parents": 4},
    "slot_objects=true": {"slot_objects": True},
    "graph=fixed": {"graph": "fixed"},
    "graph=learned": {"graph": "learned"},
    "relations=true": {"relations": True},
    "priors=true": {"priors": True},
}


def visual() -> VisualTokens:
    scales = []
    for step, width in zip((1, 2, 4), WIDTHS, strict=True):
        grid = (32 // step, 16 // step, 16 // step)
        count = grid[0] * grid[1] * grid[2]
        valid = torch.ones(1, count, dtype=torch.bool)
        scales.append(ScaleTokens(torch.randn(1, count, width), grid, torch.randn(1, count, 3) * 100, valid))
    return VisualTokens(*scales)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ontology.model_regions()
    masks = RegionMasks(torch.rand(1, len(names), 32, 16, 16), torch.ones(1, len(names), dtype=torch.bool), names)
    tokens = visual()
    print(f"{len(fields(SceneConfig))} fields; {'option':26s} {'parameters':>10s} {'forward ms':>10s} {'step ms':>8s}")
    for name, changes in OPTIONS.items():
        torch.manual_seed(0)
        scene = Scene(SceneConfig(**changes), WIDTHS)

        def look(scene: Scene = scene) -> None:
            with torch.no_grad():
                scene(tokens, masks)

        def learn(scene: Scene = scene) -> None:
            scene.zero_grad(set_to_none=True)
            found = scene(tokens, masks)
            total = found.findings.presence.sum() + found.findings.where.sum() + found.graph.square().mean()
            if found.relations is not None:
                total = total + found.relations.square().mean()
            if found.slot_boxes is not None:
                total = total + found.slot_boxes.square().mean()
            total.backward()

        count = sum(p.numel() for p in scene.parameters())
        row = milliseconds(look, options.repeats), milliseconds(learn, options.repeats)
        print(f"{name:37s} {count:10,d} {row[0]:10.0f} {row[1]:8.0f}", flush=True)


if __name__ == "__main__":
    main()
