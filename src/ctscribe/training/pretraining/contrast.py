"""CT-text contrast: the vector of a scan and the vector of its report find each other among many.

```
 scan ──► encoder ──► mean of fine | mid | coarse ──► linear ──► unit vector ─┐
                                                                              ├─► scale * dot + bias
 report ──► tokens of the writer's tokenizer ──► small transformer ──► linear ┘   (`losses.clip`, `losses.siglip`)
```

The text side is a small transformer of its own. It starts from nothing, reads both languages and is thrown away after
pretraining: the writer is trained later, and better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ctscribe.layers import Block
from ctscribe.tensors import VisualTokens
from ctscribe.training.losses.report import IGNORE


@dataclass(frozen=True)
class ContrastConfig:
    """The two sides of the contrast.

    Attributes:
        dim: length of the vectors that are compared.
        width: channels of the text encoder.
        layers: its layers.
        heads: its attention heads.
        longest: tokens it reads; what follows is cut.
        scale: starting sharpness, the factor on the dot product; it is learned, up to 100. CLIP starts at 14.3, SigLIP
            at 10.
        bias: starting bias on every pair, learned; read by ``siglip``, where most pairs are negatives.
    """

    dim: int = 64
    width: int = 128
    layers: int = 2
    heads: int = 4
    longest: int = 256
    scale: float = 10.0
    bias: float = -10.0


@dataclass(frozen=True)
class Contrast:
    """Unit vectors of scans and reports; ``paired`` is False where a study has no report."""

    images: Float[Tensor, "b e"]
    texts: Float[Tensor, "b e"]
    paired: Bool[Tensor, " b"]
    scale: Float[Tensor, ""]
    bias: Float[Tensor, ""]


class TextEncoder(nn.Module):
    """Token ids -> one vector: embeddings, places, a few transformer blocks, the mean over real tokens."""

    def __init__(self, config: ContrastConfig, vocab: int) -> None:
        super().__init__()
        self.longest = config.longest
        self.words = nn.Embedding(vocab, config.width)
        self.places = nn.Parameter(torch.randn(config.longest, config.width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "b l"], real: Bool[Tensor, "b l"]) -> Float[Tensor, "b c"]:
        ids, real = ids[:, : self.longest], real[:, : self.longest]
        x = self.words(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, valid=real)[0]
        share = real.unsqueeze(-1).to(x.dtype)
        return (self.norm(x) * share).sum(1) / share.sum(1).clamp_min(1)


class ContrastHead(nn.Module):
    """Both projections, the text encoder and the sharpness.

    Args:
        config: sizes.
        widths: channels of the fine, mid and coarse tokens.
        vocab: size of the tokenizer.
    """

    def __init__(self, config: ContrastConfig, widths: tuple[int, int, int], vocab: int) -> None:
        super().__init__()
        self.text = TextEncoder(config, vocab)
        self.from_image = nn.Linear(sum(widths), config.dim, bias=False)
        self.from_text = nn.Linear(config.width, config.dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.bias = nn.Parameter(torch.tensor(float(config.bias)))

    def forward(
        self, visual: VisualTokens, ids: Int[Tensor, "b l"] | None, labels: Int[Tensor, "b l"] | None
    ) -> Contrast:
        """Vectors of a batch; a batch without any text gives vectors of nothing, so that other processes need not wait.

        ``labels`` say which tokens belong to the report; the prompt would tell only the language.
        """
        means = [
            (s.tokens * s.valid.unsqueeze(-1)).sum(1) / s.valid.sum(1, keepdim=True).clamp_min(1) for s in visual.scales
        ]
        images = self.from_image(torch.cat(means, dim=-1))
        if ids is None or labels is None:
            ids = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
            labels = torch.full_like(ids, IGNORE)
        said = labels != IGNORE
        texts = self.from_text(self.text(ids, said))
        return Contrast(
            F.normalize(images.float(), dim=-1),
            F.normalize(texts.float(), dim=-1),
            said.any(1),
            self.log_scale.float().clamp(max=math.log(100.0)).exp(),
            self.bias.float(),
        )
