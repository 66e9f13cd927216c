"""Fewer tokens for the writer to read: a Q-Former for everything at once, a perceiver resampler for each scale.

```
 qformer     32 questions ◄── fine + mid + coarse + structure     (BLIP-2, Li et al., ICML 2023)
 resampler   32 latents ◄── fine      32 latents ◄── mid      32 latents ◄── coarse     (Flamingo, Alayrac et al. 2022)
```

Both cost time in proportion to the volume and leave a memory that does not grow with it. What is invalid is never seen.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.language.config import Compress
from ctscribe.language.fusion import Memory
from ctscribe.language.plan import QUARTERS
from ctscribe.layers import MLP, Attention


class AskLayer(nn.Module):
    """Queries attend to each other (optional), then to the tokens, then think."""

    def __init__(self, dim: int, heads: int, *, talk: bool) -> None:
        super().__init__()
        self.norm_talk = nn.LayerNorm(dim) if talk else None
        self.talk = Attention(dim, heads) if talk else None
        self.norm, self.norm_tokens, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ask, self.mlp = Attention(dim, heads), MLP(dim, 2 * dim)

    def forward(
        self, queries: Float[Tensor, "b q d"], tokens: Float[Tensor, "b m d"], valid: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b q d"]:
        if self.talk is not None and self.norm_talk is not None:
            queries = queries + self.talk(self.norm_talk(queries))[0]
        remembered = self.ask.remember(self.norm_tokens(tokens))
        queries = queries + self.ask(self.norm(queries), remembered, valid=valid)[0]
        return queries + self.mlp(self.norm_mlp(queries))


class Asker(nn.Module):
    """Learned queries that read a set of tokens of any number.

    Args:
        talk: queries attend to each other before they ask (Q-Former); a resampler's do not.
    """

    def __init__(self, dim: int, heads: int, queries: int, layers: int, *, talk: bool) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, dim) * 0.5)
        self.layers = nn.ModuleList(AskLayer(dim, heads, talk=talk) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, tokens: Float[Tensor, "b m d"], valid: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b q d"], Bool[Tensor, "b q"]]:
        """Answers, and whether there was anything to ask."""
        asked = self.queries.expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            asked = layer(asked, tokens, valid)
        return self.norm(asked), valid.any(-1, keepdim=True).expand(-1, self.queries.shape[0])


class QFormer(nn.Module):
    """`Memory` -> `Memory` with ``queries`` that have read fine, mid, coarse and structure together."""

    def __init__(self, dim: int, heads: int, queries: int, layers: int) -> None:
        super().__init__()
        self.asker = Asker(dim, heads, queries, layers, talk=True)

    def forward(self, memory: Memory) -> Memory:
        answers, valid = self.asker(*memory.gather(QUARTERS))
        return replace(memory, queries=answers, queries_valid=valid)


class Resampler(nn.Module):
    """`Memory` -> `Memory` whose three scales hold a fixed number of latents each; the structure stays as it is."""

    SCALES = ("fine", "mid", "coarse")

    def __init__(self, dim: int, heads: int, queries: int, layers: int) -> None:
        super().__init__()
        self.askers = nn.ModuleDict({s: Asker(dim, heads, queries, layers, talk=False) for s in self.SCALES})

    def forward(self, memory: Memory) -> Memory:
        changed: dict[str, Tensor] = {}
        for name, asker in self.askers.items():
            changed[name], changed[f"{name}_valid"] = asker(*memory.gather((name,)))
        return replace(memory, **changed)


def build_compressor(kind: Compress, dim: int, heads: int, queries: int, layers: int) -> nn.Module | None:
    """The module that a word of the configuration stands for; None for ``none``."""
    if kind == "none":
        return None
    return (QFormer if kind == "qformer" else Resampler)(dim, heads, queries, layers)
