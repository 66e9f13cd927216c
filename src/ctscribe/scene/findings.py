"""Detect first, then write: which findings, where, how large, of what kind, before any word.

Every fine token votes for every kind (dense evidence). A kind's evidence in a region is the smooth maximum of the
votes inside it; its presence adds what the graph and the whole scan say. Places that the medical priors forbid get no
evidence at all.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.facts import attribute_table, places_of
from ctscribe.layers import MLP, UNHEARD
from ctscribe.scene.priors import allowed
from ctscribe.tensors import FindingLogits, ScaleTokens

FORBIDDEN = -12.0


class FindingHeads(nn.Module):
    """Fused tokens + graph nodes -> `FindingLogits`."""

    allowed: Tensor
    named: Tensor

    def __init__(self, dim: int, names: tuple[str, ...]) -> None:
        super().__init__()
        kinds = len(ontology.findings())
        self.attributes = attribute_table()
        last = nn.Linear(dim, kinds)
        nn.init.constant_(last.bias, -4.6)  # lesions are rare: start at one in a hundred (Lin et al., ICCV 2017)
        self.vote = nn.Sequential(MLP(dim, 2 * dim, dim), nn.LayerNorm(dim), last)
        self.region_vote = MLP(dim, 2 * dim, kinds)
        self.global_vote = MLP(2 * dim, 2 * dim, kinds)
        self.trust = nn.Parameter(torch.ones(2, kinds))
        self.offset = nn.Parameter(torch.zeros(2, kinds))
        self.kind = nn.Parameter(torch.randn(kinds, dim) * 0.02)
        self.size = MLP(dim + 3, 2 * dim, 1)
        self.attribute_heads = nn.ModuleDict({n: MLP(dim + 3, dim, len(v)) for n, v in self.attributes.items()})
        self.register_buffer("allowed", allowed(), persistent=False)
        places = [[name in places_of(kind) for name in names] for kind in ontology.findings()]
        self.register_buffer("named", torch.tensor(places), persistent=False)

    def forward(
        self,
        fused: ScaleTokens,
        weights: Float[Tensor, "b r n"],
        region_nodes: Float[Tensor, "b r c"],
        present: Bool[Tensor, "b r"],
        summary: Float[Tensor, "b c2"],
    ) -> FindingLogits:
        dense = self.vote(fused.tokens).float().transpose(1, 2)
        dense = dense.masked_fill(~fused.valid[:, None, :], FORBIDDEN)
        where = self._where(dense, weights, region_nodes)
        reachable = self.named & present[:, None, :]
        strongest = where.masked_fill(~reachable, FORBIDDEN).amax(-1)
        anywhere = dense.topk(min(8, dense.shape[-1]), dim=-1).values.mean(-1)
        votes = self.trust[0] * strongest + self.trust[1] * anywhere + self.offset[0]
        presence = votes / 2 + self.global_vote(summary).float()
        # Padding weighs exactly nothing where tokens are described.
        described = self._describe(dense.masked_fill(~fused.valid[:, None, :], UNHEARD), fused)
        return FindingLogits(
            presence=presence,
            where=where.masked_fill(~self.allowed, FORBIDDEN),
            size=self.size(described).squeeze(-1).float(),
            attributes={name: head(described).float() for name, head in self.attribute_heads.items()},
            dense=dense,
        )

    def _where(self, dense: Tensor, weights: Tensor, region_nodes: Tensor) -> Float[Tensor, "b f r"]:
        """Smooth maximum of the votes inside each region, plus what the region's own node says."""
        # Squared odds: a few sure tokens must outweigh thousands of quiet ones.
        inside = torch.einsum("bfn,brn->bfr", torch.exp(2 * dense.clamp(-12, 12)), weights.float())
        evidence = torch.log(inside + 1e-5) / 2
        opinion = self.region_vote(region_nodes).float().transpose(1, 2)
        return evidence + opinion + self.offset[1][:, None]

    def _describe(self, dense: Tensor, fused: ScaleTokens) -> Float[Tensor, "b f d"]:
        """Features under each kind's own evidence, and how far that evidence spreads."""
        attention = dense.softmax(-1)
        seen = attention.to(fused.tokens.dtype) @ fused.tokens + self.kind.to(fused.tokens.dtype)
        share = dense.sigmoid()
        count = share.sum(-1)
        peak = dense.amax(-1)
        spread = torch.stack((torch.log1p(count), peak / 5, torch.log1p(share.pow(2).sum(-1))), dim=-1)
        return torch.cat((seen, spread.to(seen.dtype)), dim=-1)
