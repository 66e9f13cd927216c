"""Multi-scale consistency: fine, mid and coarse tokens of one scan say the same thing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch.nn import functional as F

from ctscribe.training.losses import LossValue


class ConsistencyLoss:
    """InfoNCE between each pair of scales.

    Reads ``outputs.scale_embeddings`` (b, scales, e): one vector per scale and study, projected to a common width.
    The vector of one scale must pick out the same study's vector at another scale among the batch, both ways (the
    symmetric form of CLIP). It needs at least two studies.

    Args:
        temperature: of the softmax over the batch.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        self.temperature = temperature

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        vectors = outputs.scale_embeddings.float()
        studies = vectors.shape[0]
        if studies < 2:
            return LossValue.nothing(vectors)
        # What all scans share is most of every vector; without taking it out the loss starts, and stays, at chance.
        vectors = F.normalize(vectors - vectors.mean(0, keepdim=True), dim=-1)
        own = torch.arange(studies, device=vectors.device)
        costs = []
        for one, other in combinations(vectors.unbind(1), 2):
            similarity = one @ other.T / self.temperature
            costs += [F.cross_entropy(similarity, own), F.cross_entropy(similarity.T, own)]
        return LossValue(torch.stack(costs).mean(), studies)
