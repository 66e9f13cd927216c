"""A learned mapping of scales to layers: before each layer, every token chooses which scales it listens to.

```
                 token ── norm ── linear ── softmax ──► gates (fine, mid, coarse), the best `routes` of them kept
 fine   tubelets ──► on the stage's grid ──┐
 mid    tubelets ──►        "              ├── weighted sum ──► injected into the layer
 coarse tubelets ──►        "              ┘
```

The router starts with a lean towards the stage's own scale, which is the fixed mapping by thirds, and is free to leave
it. The load-balance loss is that of mixtures of experts (Fedus et al. 2021, equation 4) over all layers together: it is
one when the scales are used alike, so a layer may well specialise as long as another makes up for it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.tensors import Routing

#: How much more likely (in logits) a layer starts out to choose its own stage's scale.
LEAN = 1.0


class Router(nn.Module):
    """Gates over the three scales, for every token of one layer."""

    def __init__(self, width: int, own: int, routes: int) -> None:
        super().__init__()
        self.routes = routes
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 3)
        with torch.no_grad():
            self.score.weight.mul_(0.1)
            self.score.bias.zero_()
            self.score.bias[own] = LEAN

    def forward(
        self, x: Float[Tensor, "b n c"], valid: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b 3"], Float[Tensor, "b 3"], Float[Tensor, "b 3"]]:
        """Returns the gates and, averaged over valid tokens: gates, probabilities and first choices."""
        chances = self.score(self.norm(x)).float().softmax(-1)
        order = chances.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        kept = chances * (order < self.routes)
        gates = kept / kept.sum(-1, keepdim=True)
        first = (order == 0).float()
        weights = valid.unsqueeze(-1).float()
        total = weights.sum(1).clamp_min(1)
        means = [(part * weights).sum(1) / total for part in (gates, chances, first)]
        return gates.to(x.dtype), means[0], means[1], means[2]


def routing_of(gates: list[Tensor], chances: list[Tensor], firsts: list[Tensor]) -> Routing:
    """The declared output from what the routers of all layers reported."""
    load = torch.stack(firsts).mean((0, 1))
    chance = torch.stack(chances).mean((0, 1))
    return Routing(shares=torch.stack(gates, dim=1), balance=3 * (load * chance).sum())
