"""Phase 4: a stock Hugging Face decoder whose layers look at the scan.

```
 LLM layers   first quarter   second quarter   third quarter    last quarter
 memory       fine tokens     mid tokens       coarse tokens    regions + slots + graph
              ───────────────── plus, for every layer, what was detected ─────────────────
```

The host is wrapped, never rewritten: each decoder layer becomes a `FusedLayer` that first attends to its memory and
then runs the untouched host layer. Memory travels as keyword arguments of ``forward``, so ``generate`` with a cache,
beams or neither behaves as for any Hugging Face model.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.language.gated import GatedCrossAttention

QUARTERS = ("fine", "mid", "coarse", "structure")


@dataclass(frozen=True)
class Memory:
    """Everything the writer may look at, in the width of the memory: tokens (b, m, d) and which are real (b, m).

    ``findings`` are read by every layer, the four others by their quarter.
    """

    fine: Float[Tensor, "b m1 d"]
    fine_valid: Bool[Tensor, "b m1"]
    mid: Float[Tensor, "b m2 d"]
    mid_valid: Bool[Tensor, "b m2"]
    coarse: Float[Tensor, "b m3 d"]
    coarse_valid: Bool[Tensor, "b m3"]
    structure: Float[Tensor, "b m4 d"]
    structure_valid: Bool[Tensor, "b m4"]
    findings: Float[Tensor, "b f d"]


def quarter_of(layer: int, layers: int) -> str:
    """Which memory a layer reads; ranges are fractions, so any depth works."""
    return QUARTERS[min(3, 4 * layer // layers)]


class FusedLayer(nn.Module):
    """Gated cross-attention to one memory, then the host's own layer."""

    def __init__(self, host: nn.Module, cross: GatedCrossAttention, index: int, quarter: str) -> None:
        super().__init__()
        self.host, self.cross, self.index, self.quarter = host, cross, index, quarter

    def remember(self, memory: Memory) -> tuple[Float[Tensor, "b m kv"], Bool[Tensor, "b m"]]:
        """Keys, values and validity of what this layer may look at: the findings and its quarter's memory."""
        tokens, valid = getattr(memory, self.quarter), getattr(memory, f"{self.quarter}_valid")
        everything = torch.cat((memory.findings, tokens.to(memory.findings.dtype)), dim=1)
        mask = torch.cat((valid.new_ones(memory.findings.shape[:2]), valid), dim=1)
        return self.cross.remember(everything), mask

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> object:
        remembered, valid = kwargs.get(f"memory_kv_{self.index}"), kwargs.get(f"memory_valid_{self.index}")
        if isinstance(remembered, Tensor) and isinstance(valid, Tensor):
            hidden_states, _ = self.cross(hidden_states, remembered, valid)
        return self.host(hidden_states, *args, **{k: v for k, v in kwargs.items() if not k.startswith("memory_")})


def declare_memory(host: Any) -> None:
    """Tell ``generate``, which refuses arguments it cannot find in a signature, that the memory is one of them."""
    prepare = host.prepare_inputs_for_generation

    @functools.wraps(prepare)
    def with_memory(*args: object, **kwargs: object) -> object:
        return prepare(*args, **kwargs)

    known = inspect.signature(prepare)
    extra = [
        inspect.Parameter(f"memory_{what}_{layer}", inspect.Parameter.KEYWORD_ONLY, default=None)
        for layer in range(len(host.model.layers))
        for what in ("kv", "valid")
    ]
    listed = list(known.parameters.values())
    with_memory.__signature__ = known.replace(parameters=[*listed[:-1], *extra, listed[-1]])  # type: ignore[attr-defined]
    object.__setattr__(host, "prepare_inputs_for_generation", with_memory)


class FusedDecoder(nn.Module):
    """A Hugging Face causal LM with a `FusedLayer` around every decoder layer.

    Args:
        host: any ``*ForCausalLM`` of the Llama family.
        memory_dim: width of the memory.
        gate: where the gates start; 0 leaves a pretrained host unchanged, a host trained from scratch may start open.
        mlp: give every cross-attention its own gated MLP.
        reach: where the bias on tokens of the scan starts, see `GatedCrossAttention`.
    """

    host: Any

    def __init__(
        self,
        host: nn.Module,
        memory_dim: int,
        heads: int,
        *,
        gate: float = 0.0,
        mlp: bool = False,
        reach: float = -6.0,
    ) -> None:
        super().__init__()
        self.host = host
        dim = self.host.config.hidden_size
        layers = self.host.model.layers
        for index, layer in enumerate(layers):
            facts = len(ontology.findings())
            cross = GatedCrossAttention(dim, memory_dim, heads, mlp=mlp, gate=gate, near=facts, reach=reach)
            layers[index] = FusedLayer(layer, cross, index, quarter_of(index, len(layers)))
        declare_memory(self.host)

    def fusion_params(self) -> list[str]:
        """Names of the parameters that the host did not bring."""
        return [name for name, _ in self.named_parameters() if ".cross." in name]

    def remember(self, memory: Memory) -> dict[str, Tensor]:
        """The memory as keyword arguments of the host: flat tensors, so that ``generate`` can repeat them for beams."""
        kwargs = {}
        for layer in self.host.model.layers:
            kwargs[f"memory_kv_{layer.index}"], kwargs[f"memory_valid_{layer.index}"] = layer.remember(memory)
        return kwargs

    def forward(
        self,
        input_ids: Int[Tensor, "b l"],
        attention_mask: Int[Tensor, "b l"] | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "b l v"]:
        """Next-token logits."""
        kwargs = {} if memory is None else self.remember(memory)
        return self.host(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **kwargs).logits
