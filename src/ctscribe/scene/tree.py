"""Regions as a tree: lung -> lobe -> segment -> lesion.

```
 right_lung ─┬─ right_upper_lobe ─┬─ rul_apical_segment ─── lesion
             │                    └─ ...
             └─ right_lower_lobe ─── ...          token(parent) = norm(own mask's token + compose(mean of its children))
```

Every node has a token. A node whose own mask is absent but which has a present part is present: it is known by its
parts. Leaves are what their own mask says.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.layers import MLP

Hierarchy = Literal["flat", "lobes", "segments"]


def tree_names(hierarchy: Hierarchy) -> tuple[str, ...]:
    """Names of the region nodes: the model regions, and below the lobes their segments if asked for."""
    finer = [r.id for r in ontology.regions().values() if r.level == "segment" and not r.model]
    return ontology.model_regions() + (tuple(finer) if hierarchy == "segments" else ())


def parents(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each name the place of its nearest named ancestor, -1 for a root."""
    place = {name: i for i, name in enumerate(names)}
    return tuple(next((place[a] for a in ontology.ancestors(name)[1:] if a in place), -1) for name in names)


def depths(names: tuple[str, ...]) -> tuple[int, ...]:
    """Steps from the root to each name."""
    up = parents(names)

    def depth(i: int) -> int:
        return 0 if up[i] < 0 else 1 + depth(up[i])

    return tuple(depth(i) for i in range(len(names)))


@torch.no_grad()
def lesion_parents(
    lesions: Float[Tensor, "b l n"], regions: Float[Tensor, "b r n"], names: tuple[str, ...]
) -> Bool[Tensor, "b l r"]:
    """The region each lesion belongs to: the deepest one that holds at least half of what the tree holds of it."""
    inside = torch.einsum("bln,brn->blr", lesions.float(), regions.float())
    enough = (inside >= inside.amax(-1, keepdim=True) / 2) & (inside > 0)
    depth = torch.tensor(depths(names), device=lesions.device, dtype=inside.dtype)
    # Deeper wins; among equals the one that holds more.
    rank = torch.where(enough, depth + inside / inside.amax(-1, keepdim=True).clamp_min(1e-6) / 2, -1.0)
    chosen = torch.zeros_like(enough).scatter(-1, rank.argmax(-1, keepdim=True), True)
    return chosen & enough.any(-1, keepdim=True)


class RegionTree(nn.Module):
    """Own tokens of all nodes -> tokens that also hold what the parts say, from the leaves up."""

    up: Tensor
    depth: Tensor

    def __init__(self, dim: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.deepest = max(depths(names))
        self.register_buffer("depth", torch.tensor(depths(names)), persistent=False)
        table = torch.zeros(len(names), len(names))
        for child, parent in enumerate(parents(names)):
            if parent >= 0:
                table[parent, child] = 1
        self.register_buffer("up", table, persistent=False)
        self.compose = MLP(dim, 2 * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Float[Tensor, "b k c"],
        present: Bool[Tensor, "b k"],
        centres: Float[Tensor, "b k 3"],
        lesion_parents: Bool[Tensor, "b l r"] | None = None,
    ) -> tuple[Float[Tensor, "b k c"], Bool[Tensor, "b k"], Float[Tensor, "b k 3"]]:
        """Named nodes first, then lesions; ``lesion_parents`` says which named node holds each lesion.

        Returns tokens, which nodes are present (by their own mask or by a part), and centres (a node without a mask
        lies in the middle of its parts).
        """
        regions = self.up.shape[0]
        links = self._links(tokens, lesion_parents)
        for depth in range(self.deepest, -1, -1):
            here = torch.cat((self.depth == depth, present.new_zeros(tokens.shape[1] - regions)))
            shares = links * present.unsqueeze(1)
            count = shares.sum(-1, keepdim=True)
            shares = shares / count.clamp_min(1)
            composed = self.norm(tokens + self.compose(shares.to(tokens.dtype) @ tokens))
            parts = (count.squeeze(-1) > 0) & here
            centres = torch.where((parts & ~present).unsqueeze(-1), shares @ centres, centres)
            tokens = torch.where(parts.unsqueeze(-1), composed, tokens)
            present = present | parts
        return tokens, present, centres

    def _links(self, tokens: Tensor, lesion_parents: Tensor | None) -> Float[Tensor, "b k k"]:
        """1 where the column is a part of the row."""
        batch, nodes = tokens.shape[:2]
        links = self.up.new_zeros(batch, nodes, nodes)
        regions = self.up.shape[0]
        links[:, :regions, :regions] = self.up
        if lesion_parents is not None:
            links[:, :regions, regions:] = lesion_parents.transpose(1, 2).to(links.dtype)
        return links
