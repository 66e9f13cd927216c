"""CT-text contrast: the vector of a scan and the vector of its report find each other among many.

```
 scan ──► encoder ──► mean and max of fine | mid | coarse ─┐
                                                           ├─► standardised over the batch ──► linear ──► unit vectors
 report ──► tokens of the writer ──► small transformer ────┘             scale * dot + bias (`losses.clip`, `siglip`)
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

from ctscribe.engines.gather import gathered_rows
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
        bias: starting bias on every pair, learned; read by ``siglip``, where most pairs are negatives. Minus the log of
            a batch's negatives starts at what guessing costs: -3 for some 20, the published -10 for 32 thousand.
    """

    dim: int = 64
    width: int = 128
    layers: int = 2
    heads: int = 4
    longest: int = 256
    scale: float = 10.0
    bias: float = -3.0


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


def pooled(visual: VisualTokens) -> Float[Tensor, "b c"]:
    """Mean and greatest value of every channel at every scale, valid tokens only.

    The mean is what is everywhere; the greatest is what is somewhere, as a nodule of a few tokens is.
    """
    views = []
    for scale in visual.scales:
        valid = scale.valid.unsqueeze(-1)
        views.append((scale.tokens * valid).sum(1) / valid.sum(1).clamp_min(1))
        greatest = scale.tokens.masked_fill(~valid, -torch.inf).amax(1)
        views.append(torch.where(valid.any(1), greatest, torch.zeros_like(greatest)))
    return torch.cat(views, dim=-1)


def standardised(rows: Float[Tensor, "b c"], known: Bool[Tensor, " b"]) -> Float[Tensor, "b c"]:
    """Every channel with mean 0 and spread 1 over the known rows of all processes.

    Chests differ in size and brightness far more than in what a report says of them; left as they are, the few
    channels that vary most decide every similarity, and what findings change is never heard.
    """
    everyone, counted = gathered_rows(rows.float()), gathered_rows(known.float().detach()).unsqueeze(-1)
    count = counted.sum().clamp_min(1)
    mean = (everyone * counted).sum(0) / count
    spread = (((everyone - mean).square() * counted).sum(0) / count + 1e-6).sqrt()
    return (rows.float() - mean) / spread


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
        self.from_image = nn.Linear(2 * sum(widths), config.dim, bias=False)
        self.from_text = nn.Linear(config.width, config.dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.bias = nn.Parameter(torch.tensor(float(config.bias)))

    def forward(
        self, visual: VisualTokens, ids: Int[Tensor, "b l"] | None, labels: Int[Tensor, "b l"] | None
    ) -> Contrast:
        """Vectors of a batch; a batch without any text gives vectors of nothing, so that other processes need not wait.

        ``labels`` say which tokens belong to the report; the prompt would tell only the language.
        """
        return self.compared(pooled(visual), ids, labels)

    def compared(
        self, scans: Float[Tensor, "b c"], ids: Int[Tensor, "b l"] | None, labels: Int[Tensor, "b l"] | None
    ) -> Contrast:
        """The same from what `pooled` gave."""
        images = self.from_image(standardised(scans, torch.ones_like(scans[:, 0], dtype=torch.bool)))
        if ids is None or labels is None:
            ids = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
            labels = torch.full_like(ids, IGNORE)
        said = labels != IGNORE
        texts = self.from_text(standardised(self.text(ids, said), said.any(1)))
        return Contrast(
            F.normalize(images.float(), dim=-1),
            F.normalize(texts.float(), dim=-1),
            said.any(1),
            self.log_scale.float().clamp(max=math.log(100.0)).exp(),
            self.bias.float(),
        )
