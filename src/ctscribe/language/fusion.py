"""Phase 4: a stock Hugging Face decoder whose layers look at the scan.

```
 LLM layers   first quarter   second quarter   third quarter    last quarter
 memory       fine tokens     mid tokens       coarse tokens    regions + slots + graph
              ───────────────── plus, for every layer, what was detected ─────────────────
```

That is the default; `plan` holds the other strategies. The host is wrapped, never rewritten: each decoder layer becomes
a `FusedLayer` that first attends to its memory and then runs the untouched host layer. Memory travels as keyword
arguments of ``forward``, so ``generate`` with a cache, beams or neither behaves as for any Hugging Face model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.language.adapt import ADAPTER
from ctscribe.language.config import Compress, Strategy
from ctscribe.language.gated import GatedCrossAttention
from ctscribe.language.plan import ONLY, Readers, quarter_of, readers_of
from ctscribe.language.rows import few_rows
from ctscribe.language.two_pass import Bridge, read_twice
from ctscribe.layers import Remembered

__all__ = ["FusedDecoder", "FusedLayer", "Memory", "quarter_of"]


@dataclass(frozen=True)
class Memory:
    """Everything the writer may look at, in the width of the memory: tokens (b, m, d) and which are real (b, m).

    ``findings`` are read by every layer, the others as `plan` says. ``queries`` are what a Q-Former made of the four
    visual memories, None without one.
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
    queries: Float[Tensor, "b q d"] | None = None
    queries_valid: Bool[Tensor, "b q"] | None = None

    def gather(self, fields: Iterable[str]) -> tuple[Float[Tensor, "b m d"], Bool[Tensor, "b m"]]:
        """Several memories side by side, in the precision of the findings, and which of their tokens are real."""
        tokens, masks = [], []
        for name in fields:
            field = getattr(self, name).to(self.findings.dtype)
            valid = None if name == "findings" else getattr(self, f"{name}_valid")
            tokens.append(field)
            masks.append(torch.ones(field.shape[:2], dtype=torch.bool, device=field.device) if valid is None else valid)
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)


class FusedLayer(nn.Module):
    """Gated cross-attention to one memory or several at once, then the host's own layer.

    Args:
        cross: one `GatedCrossAttention`, or a `ModuleDict` of one for each reader.
        reads: see `plan.Readers`.
    """

    cross: Any

    def __init__(self, host: nn.Module, cross: nn.Module, index: int, reads: Readers) -> None:
        super().__init__()
        self.host, self.cross, self.reads = host, cross, reads
        self.number(index)

    def number(self, index: int) -> None:
        """Say which layer this is, and so under which keyword arguments parts of `Remembered` travel to its readers."""
        self.index = index
        self.keywords = {
            name: [f"memory_{part}_{index}" + (f"_{name}" if name else "") for part in Remembered._fields]
            for name in self.reads
        }

    def reader(self, name: str) -> GatedCrossAttention:
        """The cross-attention of one reader."""
        return self.cross if name == ONLY else self.cross[name]

    def remember(self, memory: Memory) -> dict[str, Tensor]:
        """What this layer may look at, made ready, as keyword arguments."""
        kwargs: dict[str, Tensor] = {}
        for name, fields in self.reads.items():
            tokens, valid = memory.gather(fields)
            kwargs |= dict(zip(self.keywords[name], self.reader(name).remember(tokens, valid), strict=True))
        return kwargs

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: Any) -> object:
        before = hidden_states
        for name, keywords in self.keywords.items():
            parts: list[Any] = [kwargs.get(keyword) for keyword in keywords]
            if kwargs.get("memory_pass", name) == name and parts[0] is not None:
                hidden_states = hidden_states + self._heard(name, before, Remembered(*parts))
        return self.host(hidden_states, *args, **{k: v for k, v in kwargs.items() if not k.startswith("memory_")})

    def _heard(self, name: str, x: Tensor, remembered: Remembered) -> Tensor:
        """What one reader adds; a host in half precision is answered in its own."""
        cross = self.reader(name)
        casting = not x.is_meta and torch.is_autocast_enabled(x.device.type)  # meta tensors know no autocast
        if x.dtype != cross.norm.weight.dtype and not casting:
            return cross(x.to(cross.norm.weight.dtype), remembered)[0].to(x.dtype)
        return cross(x, remembered)[0]


def declare_memory(host: Any) -> None:
    """Tell ``generate``, which refuses arguments it cannot find in a signature, that the memory is one of them."""
    prepare = host.prepare_inputs_for_generation

    @functools.wraps(prepare)
    def with_memory(*args: object, **kwargs: object) -> object:
        return prepare(*args, **kwargs)

    known = inspect.signature(prepare)
    extra = [
        inspect.Parameter(keyword, inspect.Parameter.KEYWORD_ONLY, default=None)
        for layer in host.model.layers
        for keywords in layer.keywords.values()
        for keyword in keywords
    ]
    listed = list(known.parameters.values())
    with_memory.__signature__ = known.replace(parameters=[*listed[:-1], *extra, listed[-1]])  # type: ignore[attr-defined]
    object.__setattr__(host, "prepare_inputs_for_generation", with_memory)


def positions_of(attention_mask: Int[Tensor, "b l"]) -> Int[Tensor, "b l"]:
    """Position of every token, counted from its row's first real one, so that padding on the left shifts nothing."""
    return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)


class FusedDecoder(nn.Module):
    """A Hugging Face causal LM with a `FusedLayer` around every decoder layer.

    Args:
        host: any ``*ForCausalLM`` of the Llama family.
        memory_dim: width of the memory.
        gate: where the gates start; 0 leaves a pretrained host unchanged, a host trained from scratch may start open.
        reach: where the bias on tokens of the scan starts, see `GatedCrossAttention`.
        strategy: see `plan`.
        compress: what the memory went through, see `compress`.
    """

    host: Any

    def __init__(
        self,
        host: nn.Module,
        memory_dim: int,
        heads: int,
        *,
        gate: float = 0.0,
        reach: float = -6.0,
        strategy: Strategy = "quarters",
        compress: Compress = "none",
    ) -> None:
        super().__init__()
        self.host, self.strategy = host, strategy
        dim = self.host.config.hidden_size
        layers = self.host.model.layers
        facts = len(ontology.findings())
        for index, layer in enumerate(layers):
            reads = readers_of(strategy, compress, index, len(layers))
            made = {
                name: GatedCrossAttention(
                    dim, memory_dim, heads, gate=gate, near=facts if len(fields) > 1 else 0, reach=reach
                )
                for name, fields in reads.items()
            }
            cross = made[ONLY] if ONLY in made else nn.ModuleDict(made)
            layers[index] = FusedLayer(layer, cross, index, reads)
        if strategy == "top_down":
            self.host.model.bridge = Bridge(dim, gate)
            self.host.model.register_forward_pre_hook(read_twice, with_kwargs=True)
        declare_memory(self.host)

    def fusion_params(self) -> list[str]:
        """Names of the parameters that the host did not bring."""
        return [n for n, _ in self.named_parameters() if ".cross." in n or ".bridge." in n or ADAPTER in n]

    def gates(self) -> list[dict[str, float]]:
        """One row per layer: how far each of its gates is open, in -1..1 (``tanh`` of the learned number).

        A gate is called by what lies behind it: a memory, or in two passes ``overview`` and ``detail``.
        """
        rows = []
        for layer in self.host.model.layers:
            row: dict[str, float] = {"layer": layer.index}
            for name, fields in layer.reads.items():
                row[name or fields[-1]] = float(torch.tanh(layer.reader(name).gate.scale.detach()))
            rows.append(row)
        return rows

    def remember(self, memory: Memory) -> dict[str, Tensor]:
        """The memory as keyword arguments of the host: flat tensors, so that ``generate`` can repeat them for beams."""
        kwargs: dict[str, Tensor] = {}
        for layer in self.host.model.layers:
            kwargs |= layer.remember(memory)
        return kwargs

    def forward(
        self,
        input_ids: Int[Tensor, "b l"],
        attention_mask: Int[Tensor, "b l"] | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "b l v"]:
        """Next-token logits; rows may be padded on either side."""
        kwargs = {} if memory is None else self.remember(memory)
        if attention_mask is not None:
            kwargs["position_ids"] = positions_of(attention_mask)
        return self.host(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **kwargs).logits

    @torch.no_grad()
    def generate(
        self, prompt: Int[Tensor, "b l"], attention_mask: Int[Tensor, "b l"], memory: Memory, **options: Any
    ) -> Int[Tensor, "n t"]:
        """The tokens after the prompt; keys and values of the memory are computed here, once."""
        remembered = self.remember(memory)
        with few_rows(self.host, len(prompt) * options.get("num_beams", 1)):
            made = self.host.generate(input_ids=prompt, attention_mask=attention_mask, **options, **remembered)
        return made[:, prompt.shape[1] :]
