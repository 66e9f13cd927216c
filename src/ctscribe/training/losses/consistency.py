"""Multi-scale consistency: fine, mid and coarse tokens of one scan say the same thing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ctscribe.errors import TrainingError
from ctscribe.training.losses import LossValue


class ConsistencyLoss:
    """InfoNCE between the pooled tokens of each pair of scales.

    The pooled vector of one scale must pick out the same study's vector at another scale among the batch,
    both ways (the symmetric form of CLIP). It needs at least two studies. All scales must share their width.

    Args:
        temperature: of the softmax over the batch.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        self.temperature = temperature

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scales = outputs.visual.scales
        widths = {scale.tokens.shape[-1] for scale in scales}
        if len(widths) > 1:
            raise TrainingError(
                "the consistency loss compares tokens of different widths",
                expected="one channel width at all scales",
                got=", ".join(str(w) for w in sorted(widths)),
            )
        pooled = [pool(scale.tokens, scale.valid) for scale in scales]
        studies = pooled[0].shape[0]
        if studies < 2:
            return LossValue.nothing(pooled[0])
        own = torch.arange(studies, device=pooled[0].device)
        costs = []
        for one, other in combinations(pooled, 2):
            similarity = one @ other.T / self.temperature
            costs += [F.cross_entropy(similarity, own), F.cross_entropy(similarity.T, own)]
        return LossValue(torch.stack(costs).mean(), studies)


def pool(tokens: Tensor, valid: Tensor) -> Tensor:
    """Unit-length mean (b, c) of the valid tokens (b, n, c), in float32."""
    weight = valid[..., None].float()
    mean = (tokens.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    return F.normalize(mean, dim=-1)
