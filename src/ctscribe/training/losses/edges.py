"""Edge classification: how do two nodes of the scene relate?"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from ctscribe.errors import ConfigError
from ctscribe.scene.regions import in_order, occupancy_on
from ctscribe.scene.relations import RELATIONS, known_relations, relation_of_masks
from ctscribe.training.losses import LossValue
from ctscribe.training.losses.slots import SlotLoss

_MIRROR = {"inside": "encloses", "encloses": "inside"}


def mirrored(relation: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """The relation as the other node sees it."""
    table = [RELATIONS.index(_MIRROR.get(name, name)) for name in RELATIONS]
    return torch.tensor(table, device=relation.device)[relation]


class EdgeLoss:
    """Cross-entropy of the relation of node pairs whose relation is known, every relation weighing the same.

    Known are: two regions that are both there (from the ontology); a lesion node and a region, and a slot that a lesion
    was assigned to and a region (from their masks: inside, near or none).

    Args:
        slots: decides which slot holds which lesion.
    """

    def __init__(self, slots: SlotLoss | None = None) -> None:
        self.slots = slots or SlotLoss()

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scene = outputs.scene
        if scene.relations is None:
            raise ConfigError(
                "the loss 'relations' needs a model that classifies edges", expected="scene.relations=true"
            )
        truth = self.truth(outputs, batch)
        known = truth >= 0
        if not known.any():
            return LossValue.nothing(scene.relations)
        cost = F.cross_entropy(scene.relations[known], truth[known], reduction="none")
        count = torch.bincount(truth[known], minlength=len(RELATIONS)).clamp_min(1)
        weight = 1 / count[truth[known]].to(cost.dtype)
        return LossValue((cost * weight).sum() / weight.sum(), int(known.flatten(1).any(1).sum()))

    def truth(self, outputs: Any, batch: Any) -> Int[Tensor, "b k k"]:
        """Index into `RELATIONS` of every pair, -1 where it is not known."""
        scene, visual = outputs.scene, outputs.visual
        nodes, regions = scene.graph.shape[1], scene.regions.shape[1]
        names = scene.named_regions
        named = len(names)
        table = torch.full((scene.graph.shape[0], nodes, nodes), -1, device=scene.graph.device)
        there = scene.region_present[:, :named]
        both = there.unsqueeze(1) & there.unsqueeze(2)
        anatomy = known_relations(names).to(table.device)
        table[:, :named, :named] = torch.where(both, anatomy, -1)
        for row in range(len(table)):
            fine = scene.region_masks[row].float()
            lesions = named + scene.region_present[row, named:].nonzero().flatten()
            relation = relation_of_masks(fine[lesions], fine[:named], visual.fine.grid)
            self._place(table[row], lesions, relation, fine[:named].any(-1))
        given = in_order(batch.regions, names)
        mid = occupancy_on(given, visual.mid.grid)
        for found in self.slots.matches(outputs, batch):
            if found.lesions.masks is not None:
                relation = relation_of_masks(found.lesions.masks[found.objects], mid[found.row], visual.mid.grid)
                self._place(table[found.row], regions + found.slots, relation, given.present[found.row])
        return table

    @staticmethod
    def _place(table: Tensor, nodes: Tensor, relation: Tensor, there: Tensor) -> None:
        """Write the relations of some nodes to the named regions, and what the regions see of them."""
        relation = torch.where(there, relation, -1)
        named = relation.shape[1]
        table[nodes[:, None], torch.arange(named, device=table.device)] = relation
        back = torch.where(relation >= 0, mirrored(relation.clamp_min(0)), -1)
        table[torch.arange(named, device=table.device)[:, None], nodes] = back.T
