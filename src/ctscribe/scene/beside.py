"""What is known beside the scan joins the structure: every node may listen to history, labs and the earlier scan.

```
 history bytes ─► convolutions ─► tokens ─┐
 lab values    ─► one token each          ├─► nodes attend to them ─► added to the graph
 earlier scan  ─► its nodes + when        ┘
 findings now, findings before, when ─► what became of each finding
```

The attention starts by adding nothing, and adds exactly nothing to a study that brings nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.beside import CHANGES, InputsConfig, StudyBeside, lab_names
from ctscribe.layers import MLP, Attention
from ctscribe.tensors import FindingLogits, SceneTokens

Tokens = tuple[Float[Tensor, "b m c"], Bool[Tensor, "b m"]]


class HistoryReader(nn.Module):
    """Bytes -> one token for every eight of them; bytes know every language."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(257, dim, padding_idx=0)
        self.convs = nn.ModuleList((nn.Conv1d(dim, dim, 8, stride=4, padding=4), nn.Conv1d(dim, dim, 4, 2, 1)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids: Int[Tensor, "b l"]) -> Tokens:
        ids = nn.functional.pad(ids, (0, -ids.shape[1] % 8))
        real = (ids > 0).unfold(1, 8, 8).any(-1)
        fours = nn.functional.pad((ids > 0).unfold(1, 4, 4).any(-1), (0, 1))
        # What lies beyond the end of a text is silent, so that a longer neighbour in the batch changes nothing.
        x = nn.functional.gelu(self.convs[0](self.table(ids).transpose(1, 2))) * fours.unsqueeze(1)
        return self.norm(nn.functional.gelu(self.convs[1](x)).transpose(1, 2)), real


class LabReader(nn.Module):
    """One token for each laboratory value that is known."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.name = nn.Parameter(torch.randn(len(lab_names()), dim) * 0.5)
        self.value, self.mlp, self.norm = nn.Linear(1, dim), MLP(dim), nn.LayerNorm(dim)

    def forward(self, values: Float[Tensor, "b v"]) -> Tokens:
        tokens = self.name + self.value(values.nan_to_num(0.0).unsqueeze(-1))
        return self.norm(tokens + self.mlp(tokens)), ~values.isnan()


class When(nn.Module):
    """How long ago: an embedding of the days between two scans, and of not knowing them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = MLP(2, dim, dim)

    def forward(self, days: Float[Tensor, " b"]) -> Float[Tensor, "b c"]:
        years = torch.log1p(days.nan_to_num(0.0).clamp_min(0) / 30)
        return self.mlp(torch.stack((years, (~days.isnan()).float()), dim=-1))


class ChangeHead(nn.Module):
    """What the detector found in both scans -> what became of each kind of finding (`ctscribe.beside.CHANGES`)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(len(ontology.findings()), dim) * 0.2)
        self.measures = nn.Linear(9, dim)
        self.mlp = MLP(dim, 2 * dim, len(CHANGES))

    def forward(self, now: FindingLogits, before: FindingLogits, when: Float[Tensor, "b c"]) -> Float[Tensor, "b f k"]:
        pairs = [self._read(now), self._read(before)]
        both = torch.cat((*pairs, pairs[0] - pairs[1]), dim=-1)
        return self.mlp(self.measures(both) + self.kind + when.unsqueeze(1))

    @staticmethod
    def _read(logits: FindingLogits) -> Float[Tensor, "b f 3"]:
        """Presence, log size, log of the tokens that hold it."""
        dense = logits.presence.unsqueeze(-1) if logits.dense is None else logits.dense
        extent = torch.log1p(dense.float().sigmoid().sum(-1))
        return torch.stack((logits.presence.float() / 4, logits.size.float(), extent), dim=-1)


class Beside(nn.Module):
    """Graph nodes + `StudyBeside` -> graph nodes that know it."""

    def __init__(self, config: InputsConfig, dim: int, heads: int) -> None:
        super().__init__()
        self.config = config
        self.history = HistoryReader(dim) if config.history else None
        self.labs = LabReader(dim) if config.labs else None
        self.when = When(dim) if config.prior else None
        self.change = ChangeHead(dim) if config.prior else None
        self.norm, self.norm_beside = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.listen = Attention(dim, heads)
        nn.init.zeros_(self.listen.out.weight)
        nn.init.zeros_(self.listen.out.bias)

    def forward(
        self, graph: Float[Tensor, "b k c"], beside: StudyBeside, before: SceneTokens | None
    ) -> Float[Tensor, "b k c"]:
        parts: list[Tokens] = []
        if self.history is not None and beside.history is not None:
            parts.append(self.history(beside.history))
        if self.labs is not None and beside.labs is not None:
            parts.append(self.labs(beside.labs))
        if self.when is not None and before is not None and beside.days is not None and beside.prior_given is not None:
            tokens = before.graph + self.when(beside.days).unsqueeze(1)
            parts.append((tokens, beside.prior_given.unsqueeze(1).expand(tokens.shape[:2])))
        if not parts:
            return graph
        tokens = torch.cat([part.to(graph.dtype) for part, _ in parts], dim=1)
        real = torch.cat([mask for _, mask in parts], dim=1)
        heard, _ = self.listen(self.norm(graph), self.listen.remember(self.norm_beside(tokens)), valid=real)
        return graph + heard

    def became(
        self, now: FindingLogits, beside: StudyBeside, before: SceneTokens | None
    ) -> tuple[Float[Tensor, "b f k"] | None, Bool[Tensor, " b"] | None]:
        """What became of each finding, and for which studies that means anything; None without earlier scans."""
        if self.change is None or self.when is None or before is None or beside.days is None:
            return None, None
        return self.change(now, before.findings, self.when(beside.days)), beside.prior_given
