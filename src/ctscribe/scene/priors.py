"""Medical priors as tensors: which finding may be located where (from the ontology)."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ctscribe import ontology
from ctscribe.facts import reachable


def allowed() -> Bool[Tensor, "f r"]:
    """True where a finding kind may be located in a model region, see `facts.reachable`."""
    return torch.tensor([reachable(kind) for kind in ontology.findings()])
