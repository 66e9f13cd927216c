"""Word pieces of texts in batches of similar length, for the metrics that ask a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def padded(
    pieces: Sequence[Sequence[int]], batch: int, *, padding: int, device: str
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Short texts first: indices of the texts, their ids and attention mask, both int64 (texts, longest)."""
    import torch

    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        longest = max(len(pieces[i]) for i in chosen)
        ids = [[*pieces[i], *[padding] * (longest - len(pieces[i]))] for i in chosen]
        mask = [[1] * len(pieces[i]) + [0] * (longest - len(pieces[i])) for i in chosen]
        yield chosen, torch.tensor(ids, device=device), torch.tensor(mask, device=device)
