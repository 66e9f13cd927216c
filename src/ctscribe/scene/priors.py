"""Medical priors as tensors: which finding may be located where (from the ontology)."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Bool
from torch import Tensor

from ctscribe import ontology


@cache
def _allowed(names: tuple[str, ...]) -> tuple[tuple[bool, ...], ...]:
    rows = []
    for kind in ontology.findings().values():
        reach: set[str] = set()
        for region in kind.regions:
            nearest = next(a for a in ontology.ancestors(region) if a in names)
            reach |= set(ontology.ancestors(nearest)) | set(ontology.descendants(region))
        rows.append(tuple(name in reach for name in names))
    return tuple(rows)


def allowed(names: tuple[str, ...]) -> Bool[Tensor, "f r"]:
    """True where a finding kind may be located in a model region: its allowed regions, what is inside and around them.

    A region that the network does not pool (pericardium) is stood in for by its nearest pooled ancestor (heart).
    A lung nodule is never allowed inside the mediastinum.
    """
    return torch.tensor(_allowed(names))
