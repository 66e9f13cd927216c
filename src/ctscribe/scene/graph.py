"""Phase 3: a small dense graph over slots and regions, edges as attention biases.

Edge types: *spatial* (the k nearest nodes in mm), *anatomical* (parent and child in the region tree, and what the
medical priors tie together) and *learned* (how much a slot's mask overlaps a region, which parent a slot belongs to,
and a bilinear score of the two nodes). Every type adds its own learned bias per head to the attention scores; a node
always hears itself.

```
 fixed    a node hears only nodes that a spatial or anatomical edge ties to it
 learned  every node may hear every other, biased by learned edges
 hybrid   every node may hear every other, biased by all three types
```

Forbidden edges carry no attention, in all three.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.layers import UNHEARD, Block
from ctscribe.scene.priors import connected_regions
from ctscribe.scene.tree import parents

GraphKind = Literal["fixed", "learned", "hybrid"]
EdgeType = Literal["spatial", "anatomical", "learned"]
EDGES_OF: dict[GraphKind, tuple[EdgeType, ...]] = {
    "fixed": ("spatial", "anatomical"),
    "learned": ("learned",),
    "hybrid": ("spatial", "anatomical", "learned"),
}


def spatial_edges(centres: Float[Tensor, "b k 3"], present: Bool[Tensor, "b k"], neighbours: int = 5) -> Tensor:
    """(b, k, k) 1 where the column is among the row's nearest present nodes (Euclidean, mm)."""
    distance = torch.cdist(centres.float(), centres.float())
    distance = distance.masked_fill(~present[:, None, :], float("inf"))
    distance = distance.diagonal_scatter(torch.full_like(distance.diagonal(dim1=1, dim2=2), float("inf")), 0, 1, 2)
    count = min(neighbours, distance.shape[-1])
    values, nearest = distance.topk(count, largest=False)
    return torch.zeros_like(distance).scatter(-1, nearest, torch.isfinite(values).to(distance.dtype))


def anatomical_edges(names: tuple[str, ...]) -> Float[Tensor, "r r"]:
    """1 between a region and its nearest named ancestor, both ways."""
    edges = torch.zeros(len(names), len(names))
    for child, parent in enumerate(parents(names)):
        if parent >= 0:
            edges[child, parent] = edges[parent, child] = 1
    return edges


class GraphTransformer(nn.Module):
    """Slots + regions -> the same nodes after message passing, and the attention that was paid.

    Args:
        names: the named regions, which come first among the nodes.
        neighbours: nearest nodes tied by a spatial edge.
        kind: see above.
        without: edge types of that kind that are switched off.
        connected: regions that the medical priors tie together get an anatomical edge too.
    """

    anatomy: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        layers: int,
        names: tuple[str, ...],
        neighbours: int = 5,
        *,
        kind: GraphKind = "hybrid",
        without: tuple[EdgeType, ...] = (),
        connected: bool = False,
    ) -> None:
        super().__init__()
        self.neighbours, self.kind = neighbours, kind
        self.types = tuple(t for t in EDGES_OF[kind] if t not in without)
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio=2.0) for _ in range(layers))
        self.edge_bias = nn.Parameter(torch.zeros(layers, heads, len(self.types)))
        if "learned" in self.types:
            self.left, self.right = nn.Linear(dim, 32, bias=False), nn.Linear(dim, 32, bias=False)
        anatomy = anatomical_edges(names)
        if connected:
            anatomy = torch.maximum(anatomy, connected_regions(names))
        self.register_buffer("anatomy", anatomy, persistent=False)

    def forward(
        self,
        nodes: Float[Tensor, "b k c"],
        present: Bool[Tensor, "b k"],
        centres: Float[Tensor, "b k 3"],
        overlap: Float[Tensor, "b s r"],
        *,
        lesion_parents: Bool[Tensor, "b l q"] | None = None,
        slot_parents: Float[Tensor, "b p d"] | None = None,
        forbidden: Bool[Tensor, "b k k"] | None = None,
    ) -> tuple[Float[Tensor, "b k c"], Float[Tensor, "b k k"]]:
        """Nodes are named regions, lesions, child slots, parent slots, in this order.

        Args:
            overlap: share of each slot's mask that falls into each region (named ones and lesions).
            lesion_parents: the named region that holds each lesion.
            slot_parents: share of each child slot that each parent slot takes.
            forbidden: pairs between which nothing is heard.
        """
        edges = self.edges(nodes, present, centres, overlap, lesion_parents, slot_parents)
        unheard = forbidden
        if self.kind == "fixed":
            tied = (edges > 0).any(-1) if self.types else torch.zeros_like(edges[..., 0], dtype=torch.bool)
            alone = ~(tied | torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device))
            unheard = alone if forbidden is None else alone | forbidden
        weights = nodes.new_zeros(1)
        for index, block in enumerate(self.blocks):
            bias = torch.einsum("bijt,ht->bhij", edges, self.edge_bias[index].float())
            if unheard is not None:
                bias = bias.masked_fill(unheard.unsqueeze(1), UNHEARD)
            nodes, weights = block(nodes, valid=present, bias=bias, return_weights=True)
        return nodes, weights.float()

    def edges(
        self,
        nodes: Float[Tensor, "b k c"],
        present: Bool[Tensor, "b k"],
        centres: Float[Tensor, "b k 3"],
        overlap: Float[Tensor, "b s r"],
        lesion_parents: Bool[Tensor, "b l q"] | None,
        slot_parents: Float[Tensor, "b p d"] | None,
    ) -> Float[Tensor, "b k k t"]:
        """Strength of every type of edge between every pair of nodes."""
        made = []
        for name in self.types:
            if name == "spatial":
                made.append(spatial_edges(centres, present, self.neighbours))
            elif name == "anatomical":
                made.append(self._anatomical(nodes, lesion_parents))
            else:
                made.append(self._learned(nodes, overlap, slot_parents))
        if not made:
            return nodes.new_zeros(*nodes.shape[:2], nodes.shape[1], 0, dtype=torch.float32)
        return torch.stack(made, dim=-1)

    def _anatomical(self, nodes: Tensor, lesion_parents: Tensor | None) -> Float[Tensor, "b k k"]:
        anatomy = nodes.new_zeros(*nodes.shape[:2], nodes.shape[1], dtype=torch.float32)
        named = self.anatomy.shape[0]
        anatomy[:, :named, :named] = self.anatomy
        if lesion_parents is not None:
            last = named + lesion_parents.shape[1]
            anatomy[:, named:last, :named] = lesion_parents.float()
            anatomy[:, :named, named:last] = lesion_parents.transpose(1, 2).float()
        return anatomy

    def _learned(self, nodes: Tensor, overlap: Tensor, slot_parents: Tensor | None) -> Float[Tensor, "b k k"]:
        regions = overlap.shape[-1]
        learned = self.left(nodes) @ self.right(nodes).transpose(-1, -2) * 32**-0.5
        learned = learned.float()
        cross = torch.zeros_like(learned)
        cross[:, regions:, :regions] = overlap
        cross[:, :regions, regions:] = overlap.transpose(-1, -2)
        if slot_parents is not None:
            middle = regions + slot_parents.shape[2]
            cross[:, middle:, regions:middle] = slot_parents
            cross[:, regions:middle, middle:] = slot_parents.transpose(-1, -2)
        return learned + cross
