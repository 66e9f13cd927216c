"""How two nodes of the scene relate: "the nodule lies in the right upper lobe", "near the pleura"."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctscribe import ontology

RELATIONS = ("none", "inside", "encloses", "near", "vessel", "airway", "coupled")
"""``relation[i, j]`` of node i to node j: i lies inside j, encloses it, lies near it without being inside, is tied to
it by a vessel, by the airway, or shares a wall or cavity with it."""


@cache
def known_relations(names: tuple[str, ...]) -> Int[Tensor, "r r"]:
    """What anatomy says about every pair of regions; a diagonal of -1: a node has no relation to itself."""
    table = torch.zeros(len(names), len(names), dtype=torch.long, device="cpu")
    place = {name: i for i, name in enumerate(names)}
    for link in ontology.connections():
        if link.a in place and link.b in place:
            table[place[link.a], place[link.b]] = table[place[link.b], place[link.a]] = RELATIONS.index(link.relation)
    for name, i in place.items():
        for ancestor in ontology.ancestors(name)[1:] if name in ontology.regions() else ():
            if ancestor in place and table[i, place[ancestor]] == 0:
                table[i, place[ancestor]] = RELATIONS.index("inside")
                table[place[ancestor], i] = RELATIONS.index("encloses")
    return table.fill_diagonal_(-1)


def relation_of_masks(
    objects: Float[Tensor, "o n"], regions: Float[Tensor, "r n"], grid: tuple[int, int, int]
) -> Int[Tensor, "o r"]:
    """Inside when the region holds at least half of the object, near when it reaches within one cell of it."""
    share = objects @ regions.T / objects.sum(-1, keepdim=True).clamp_min(1e-6)
    grown = F.max_pool3d(objects.unflatten(-1, grid).unsqueeze(1), 3, 1, 1).flatten(1)
    near = (grown.unsqueeze(1) * regions).amax(-1) > 0.1
    table = torch.where(near, RELATIONS.index("near"), RELATIONS.index("none"))
    return torch.where(share >= 0.5, RELATIONS.index("inside"), table)


class RelationHead(nn.Module):
    """Nodes -> logits of the relation of every ordered pair."""

    def __init__(self, dim: int, hidden: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.this, self.that = nn.Linear(dim, hidden), nn.Linear(dim, hidden, bias=False)
        self.offset = nn.Linear(3, hidden, bias=False)
        self.out = nn.Linear(hidden, len(RELATIONS))

    def forward(self, nodes: Float[Tensor, "b k c"], centres: Float[Tensor, "b k 3"]) -> Float[Tensor, "b k k e"]:
        nodes = self.norm(nodes)
        between = (centres[:, None] - centres[:, :, None]) / 100
        pair = self.this(nodes)[:, :, None] + self.that(nodes)[:, None] + self.offset(between.to(nodes.dtype))
        return self.out(F.gelu(pair)).float()
