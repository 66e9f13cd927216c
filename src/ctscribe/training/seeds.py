"""Randomness has one door: every stream is a function of the run's seed and of where the run stands.

Nothing random is carried from step to step, so a checkpoint needs no generator state to resume exactly.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any path of numbers and words; equal paths give equal seeds on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed Python's, numpy's and torch's global generators from one path."""
    seed = derive_seed(*parts)
    random.seed(seed)
    # Third-party code (scipy, transforms) may draw from numpy's global generator.
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
