"""Phase 3: a small dense graph over slots and regions, edges as attention biases.

Edge types: *spatial* (the k nearest nodes in mm), *anatomical* (parent and child in the region tree) and *learned*
(how much a slot's mask overlaps a region, and a bilinear score of the two nodes). Every type adds its own learned
bias per head to the attention scores; a node always hears itself.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.layers import Block


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
    place = {name: i for i, name in enumerate(names)}
    for name, i in place.items():
        parent = next((a for a in ontology.ancestors(name)[1:] if a in place), None)
        if parent is not None:
            edges[i, place[parent]] = edges[place[parent], i] = 1
    return edges


class GraphTransformer(nn.Module):
    """Slots + regions -> the same nodes after message passing, and the attention that was paid."""

    anatomy: Tensor

    def __init__(self, dim: int, heads: int, layers: int, names: tuple[str, ...], neighbours: int = 5) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio=2.0) for _ in range(layers))
        self.edge_bias = nn.Parameter(torch.zeros(layers, heads, 3))
        self.left, self.right = nn.Linear(dim, 32, bias=False), nn.Linear(dim, 32, bias=False)
        self.register_buffer("anatomy", anatomical_edges(names), persistent=False)

    def forward(
        self,
        nodes: Float[Tensor, "b k c"],
        present: Bool[Tensor, "b k"],
        centres: Float[Tensor, "b k 3"],
        overlap: Float[Tensor, "b s r"],
    ) -> tuple[Float[Tensor, "b k c"], Float[Tensor, "b k k"]]:
        """``overlap`` is the share of each slot's mask that falls into each region; regions come first in ``nodes``."""
        regions = overlap.shape[-1]
        learned = self.left(nodes) @ self.right(nodes).transpose(-1, -2) * 32**-0.5
        learned = learned.float()
        cross = torch.zeros_like(learned)
        cross[:, regions:, :regions] = overlap
        cross[:, :regions, regions:] = overlap.transpose(-1, -2)
        anatomy = torch.zeros_like(learned)
        anatomy[:, :regions, :regions] = self.anatomy
        edges = torch.stack((spatial_edges(centres, present, self.neighbours), anatomy, learned + cross), dim=-1)
        weights = nodes.new_zeros(1)
        for index, block in enumerate(self.blocks):
            bias = torch.einsum("bijt,ht->bhij", edges, self.edge_bias[index].float())
            nodes, weights = block(nodes, valid=present, bias=bias, return_weights=True)
        return nodes, weights.float()
