"""Top-down refinement: the decoder runs twice over the same weights, first with an overview, then with the detail.

```
 words ──────────────┬─► layers 1..L, reading coarse + structure ─► draft
                     │                                                │
                     └────────────── + gate * bridge(draft) ◄─────────┘
                                     │
                                     └─► layers 1..L, reading fine + mid ─► next word
```

The draft of a word has seen only the words before it, so the model stays causal and is trained in one go. A pass keeps
its own keys and values: one cache of 2 L layers holds both, so beams and reordering work as always.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from ctscribe.language.plan import DETAIL, OVERVIEW
from ctscribe.layers import TanhGate


class Bridge(nn.Module):
    """What the draft of the first pass adds to the words that enter the second; nothing while its gate is zero."""

    def __init__(self, dim: int, gate: float) -> None:
        super().__init__()
        self.norm, self.carry, self.gate = nn.LayerNorm(dim), nn.Linear(dim, dim), TanhGate(gate)

    def forward(self, draft: Tensor) -> Tensor:
        return self.gate(self.carry(self.norm(draft.to(self.carry.weight.dtype)))).to(draft.dtype)


def read_twice(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of the host's inner model: runs the first pass and hands the second its input."""
    embeds = kwargs.get("inputs_embeds")
    if embeds is None:
        embeds = model.embed_tokens(args[0] if args else kwargs["input_ids"])
    given = {name: value for name, value in kwargs.items() if name not in ("input_ids", "inputs_embeds")}
    name, cache = _cache_in(given)
    first = dict(given)
    if cache is None:
        given["use_cache"] = first["use_cache"] = False
    else:
        first[name] = _lower_half(cache, len(model.layers))
    draft = model.forward(inputs_embeds=embeds, **first, memory_pass=OVERVIEW).last_hidden_state
    return (), {**given, "inputs_embeds": embeds + model.bridge(draft), "memory_pass": DETAIL}


def _cache_in(kwargs: dict[str, Any]) -> tuple[str, Any]:
    """The keyword (its name changed between versions of transformers) and the cache that it holds, if any."""
    from transformers import Cache

    return next(((name, value) for name, value in kwargs.items() if isinstance(value, Cache)), ("", None))


def _lower_half(cache: Any, layers: int) -> Any:
    """A cache over the second ``layers`` entries of ``cache``; they are added when they are not there yet."""
    while len(cache.layers) < 2 * layers:
        new = cache.layer_class_to_replicate
        cache.layers.append(new() if new is not None else copy.deepcopy(cache.layers[len(cache.layers) - layers]))
    half = copy.copy(cache)
    half.layers = cache.layers[layers:]
    return half
