"""Scans as the scene station sees them: random visual tokens and region masks, small and seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctscribe import ontology
from ctscribe.data.targets import Targets
from ctscribe.scene.station import Scene, SceneConfig
from ctscribe.tensors import RegionMasks, ScaleTokens, SceneTokens, VisualTokens

Size = tuple[int, int, int]
NAMES = ontology.model_regions()
WIDTHS = (24, 32, 40)
FINE: Size = (8, 4, 4)
CELL_MM = (10.0, 20.0, 20.0)


@dataclass(frozen=True)
class Outputs:
    visual: VisualTokens
    scene: SceneTokens

    @property
    def findings(self) -> Any:
        return self.scene.findings


@dataclass(frozen=True)
class Batch:
    regions: RegionMasks
    targets: Targets | None = None


def scale(batch: int, grid: Size, width: int, cell: tuple[float, ...], generator: torch.Generator) -> ScaleTokens:
    """Random tokens on a grid, centres in mm from the middle of the field of view."""
    axes = [(torch.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(grid, cell, strict=True)]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3).expand(batch, -1, -1)
    count = grid[0] * grid[1] * grid[2]
    tokens = torch.randn(batch, count, width, generator=generator)
    return ScaleTokens(tokens, grid, centres.contiguous(), torch.ones(batch, count, dtype=torch.bool))


def visual(batch: int = 2, seed: int = 0, widths: tuple[int, int, int] = WIDTHS, fine: Size = FINE) -> VisualTokens:
    """Three scales, each half as fine as the one before."""
    generator = torch.Generator().manual_seed(seed)
    scales = []
    for step, width in zip((1, 2, 4), widths, strict=True):
        grid = (fine[0] // step, fine[1] // step, fine[2] // step)
        scales.append(scale(batch, grid, width, tuple(mm * step for mm in CELL_MM), generator))
    return VisualTokens(*scales)


def masks(batch: int = 2, seed: int = 1, fine: Size = FINE) -> RegionMasks:
    """Random soft masks; region 3 is absent."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(batch, len(NAMES), dtype=torch.bool)
    present[:, 3] = False
    occupancy = torch.rand(batch, len(NAMES), *fine, generator=generator)
    return RegionMasks(occupancy * present[:, :, None, None, None], present, NAMES)


def station(seed: int = 0, **changes: Any) -> Scene:
    """A small scene station with some words of its configuration changed."""
    torch.manual_seed(seed)
    return Scene(SceneConfig(**{"dim": 32, "slots": 4, "graph_layers": 2, "heads": 2} | changes), WIDTHS).eval()


def declared(scene: Any) -> dict[str, Tensor]:
    """Every tensor a scene declares, by name."""
    found: dict[str, Tensor] = {}
    for prefix, holder in (("", scene), ("findings.", scene.findings)):
        for name, value in vars(holder).items():
            for key, item in value.items() if isinstance(value, dict) else ((None, value),):
                if isinstance(item, Tensor):
                    found[prefix + name + (f".{key}" if key else "")] = item
    return found
