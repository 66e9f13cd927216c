"""Medical priors as a penalty: what anatomy forbids costs something."""

from __future__ import annotations

from typing import Any

import torch

from ctscribe.scene.priors import forbidden_lesions, forbidden_nodes, forbidden_regions, rule_amounts
from ctscribe.scene.regions import lesion_kinds
from ctscribe.training.losses import LossValue


class PriorsLoss:
    """Mean amount by which the ontology's rules are broken, plus the attention that flows along forbidden edges.

    Needs no label: it reads ``outputs.findings.dense``, the region masks that the scene pooled (with gradients where
    they are the model's own) and the graph's attention. Where the configuration forbids the edges, their part is 0.

    Args:
        attention: weight of the attention part.
    """

    def __init__(self, attention: float = 1.0) -> None:
        self.attention = attention

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scene = outputs.scene
        named = scene.named_regions
        amounts = rule_amounts(scene.findings.dense, scene.region_masks, scene.region_names, outputs.visual.fine.grid)
        kinds = lesion_kinds(batch.regions, len(scene.region_names) - len(named))
        tables = forbidden_regions(named).to(amounts.device), forbidden_lesions(named).to(amounts.device)
        alive = torch.ones(scene.edges.shape[:2], dtype=torch.bool, device=amounts.device)
        alive[:, : scene.region_present.shape[1]] = scene.region_present
        leak = (scene.edges.float() * forbidden_nodes(*tables, kinds, alive.shape[1])).sum(-1)
        leak = (leak * alive).sum(-1) / alive.sum(-1)
        return LossValue((amounts.mean(-1) + self.attention * leak).mean(), len(amounts))
