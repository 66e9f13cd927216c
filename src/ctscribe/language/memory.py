"""Visual tokens, scene tokens and detected facts -> the `Memory` that the writer reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.facts import LARGEST_MM, FindingFacts, attribute_table
from ctscribe.language.fusion import Memory
from ctscribe.layers import MLP
from ctscribe.tensors import ScaleTokens, SceneTokens, VisualTokens


class FactTokens(nn.Module):
    """One token per finding kind: what was decided about it (state, places, size, attributes).

    What is not said adds nothing, and a size is the sum of its decimal digits, so that a writer who can spell 17 and 42
    can spell 12. All parts start at about the same length: none drowns another.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        kinds, regions = len(ontology.findings()), len(ontology.model_regions())
        self.kind = nn.Parameter(torch.randn(kinds, dim) * 0.7)
        self.state = nn.Embedding(3, dim)
        self.digits = nn.ModuleList(nn.Embedding(10, dim) for _ in str(LARGEST_MM))
        self.where = nn.Linear(regions, dim, bias=False)
        nn.init.normal_(self.where.weight)
        self.attributes = nn.ModuleDict(
            {n: nn.Embedding(len(v) + 1, dim, padding_idx=0) for n, v in attribute_table().items()}
        )
        self.mlp = MLP(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, facts: FindingFacts) -> Float[Tensor, "b f d"]:
        # Several places share one place's length.
        where = self.where(facts.where) / facts.where.sum(-1, keepdim=True).clamp_min(1).sqrt()
        token = self.kind + self.state(facts.state) + where + self._size(facts.size_mm)
        for name, table in self.attributes.items():
            token = token + table(facts.attributes[name] + 1)
        return self.norm(token + self.mlp(token))

    def _size(self, mm: Int[Tensor, "b f"]) -> Float[Tensor, "b f d"]:
        """Sum of one embedding per decimal digit; zero where no size is said."""
        places = [table(mm // 10**power % 10) for power, table in enumerate(self.digits)]
        return torch.stack(places).sum(0) * (mm > 0).unsqueeze(-1)


class MemoryWriter(nn.Module):
    """Projects every kind of token to the memory's width and marks what it is.

    Fine tokens are averaged over ``fine_pool`` neighbours first: the writer needs places, not every voxel.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        scene_dim: int,
        dim: int,
        fine_pool: tuple[int, int, int] = (2, 2, 2),
    ) -> None:
        super().__init__()
        self.fine_pool = fine_pool
        self.project = nn.ModuleList(nn.Linear(w, dim) for w in widths)
        self.place = nn.Linear(3, dim, bias=False)
        self.structure = nn.Linear(scene_dim, dim)
        self.marks = nn.Parameter(torch.randn(6, dim) * 0.02)
        self.facts = FactTokens(dim)

    def forward(self, visual: VisualTokens | None, scene: SceneTokens | None, facts: FindingFacts) -> Memory:
        """Without a scan (language pretraining) the visual memories are a single invalid token each."""
        findings = self.facts(facts)
        if visual is None or scene is None:
            empty = findings.new_zeros(findings.shape[0], 1, findings.shape[-1])
            none = torch.zeros(empty.shape[:2], dtype=torch.bool, device=empty.device)
            return Memory(empty, none, empty, none, empty, none, empty, none, findings)
        fine, mid, coarse = (
            self._scale(scale, project, mark)
            for scale, project, mark in zip(
                (pool_tokens(visual.fine, self.fine_pool), visual.mid, visual.coarse),
                self.project,
                self.marks,
                strict=False,
            )
        )
        structure, real = self._structure(scene)
        return Memory(*fine, *mid, *coarse, structure, real, findings)

    def _scale(self, scale: ScaleTokens, project: nn.Module, mark: Tensor) -> tuple[Tensor, Tensor]:
        return project(scale.tokens) + self.place(scale.centres / 100) + mark, scale.valid

    def _structure(self, scene: SceneTokens) -> tuple[Tensor, Tensor]:
        regions, slots = scene.regions.shape[1], scene.slots.shape[1]
        tokens = torch.cat((scene.regions, scene.slots.to(scene.regions.dtype), scene.graph), dim=1)
        kinds = torch.cat(
            (
                self.marks[3].expand(regions, -1),
                self.marks[4].expand(slots, -1),
                self.marks[5].expand(regions + slots, -1),
            )
        )
        alive = torch.cat((scene.region_present, torch.ones_like(scene.region_present[:, :1]).expand(-1, slots)), dim=1)
        return self.structure(tokens) + kinds, torch.cat((alive, alive), dim=1)


def pool_tokens(scale: ScaleTokens, pool: tuple[int, int, int]) -> ScaleTokens:
    """Average the valid tokens and their centres over blocks of the grid; a block is valid when any of its tokens is.

    A grid that the blocks do not divide ends in smaller ones: no token is left out.
    """
    if pool == (1, 1, 1):
        return scale
    t, h, w = scale.grid
    block = (min(pool[0], t), min(pool[1], h), min(pool[2], w))

    def grid(x: Tensor) -> Tensor:
        return F.avg_pool3d(rearrange(x, "b (t h w) c -> b c t h w", t=t, h=h, w=w), block, ceil_mode=True)

    real = scale.valid.unsqueeze(-1)
    share = grid(real.to(scale.centres.dtype))
    some = share.clamp_min(torch.finfo(share.dtype).tiny)
    tokens = grid(scale.tokens * real) / some.to(scale.tokens.dtype)
    centres = grid(scale.centres * real) / some
    flat = [rearrange(x, "b c t h w -> b (t h w) c") for x in (tokens, centres, share)]
    size = tuple(tokens.shape[2:])
    return ScaleTokens(flat[0], (size[0], size[1], size[2]), flat[1], flat[2].squeeze(-1) > 0)
