"""How large decoders are and what memory they need: counted on the meta device, where nothing is allocated.

```
 weights       of the decoder in its precision, of the grafts and adapters in float32
 gradients     of what learns                                         training only
 moments       AdamW's two, for each gradient                         training only
 activations   what the backward pass needs, counted by autograd itself in one pass over meta tensors
 cache         keys and values of the text, and of the memory         inference only
```

Arithmetic, not measurement: an allocator's waste, temporary tensors and the scan's own encoder come on top. Attention
weights are counted as kept; a fused kernel keeps less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.language.adapt import adapt_host
from ctscribe.language.config import LanguageConfig, Precision
from ctscribe.language.fusion import FusedDecoder, Memory

Use = Literal["training", "inference"]
ADAPTS: tuple[Literal["all", "lora"], ...] = ("all", "lora")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Shape:
    """What decides the size of a decoder of the Llama family, and of what is grafted onto it.

    Attributes:
        hidden, layers, heads, kv_heads, intermediate, vocab: as in its published configuration.
        tied: the last layer is the embedding.
        memory_dim, cross_heads: of the grafts, see `LanguageConfig`.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool = False
    memory_dim: int = 256
    cross_heads: int = 8


SHAPES: dict[str, Shape] = {
    "tiny": Shape(32, 4, 2, 2, 64, 700, True, 32, 2),
    "demo": Shape(256, 8, 8, 8, 704, 2000, True),
    "SmolLM2-135M": Shape(576, 30, 9, 3, 1536, 49152, True),
    "Llama-3-8B": Shape(4096, 32, 32, 8, 14336, 128256, False, 768, 32),
    "Llama-13B": Shape(5120, 40, 40, 40, 13824, 32000, False, 768, 40),
    "Llama-3-70B": Shape(8192, 80, 64, 8, 28672, 128256, False, 768, 64),
}
PRESETS = {"tiny": "tiny", "demo": "demo", "small": "SmolLM2-135M", "large": "Llama-3-8B"}
"""Preset -> the shape of its decoder."""


@dataclass(frozen=True)
class MemoryRow:
    """One line of the memory table; everything but the parameters in bytes.

    Attributes:
        shape: name in `SHAPES`.
        preset: the preset that uses it, empty for none.
        use: ``training`` or ``inference``.
        adapt: ``all`` of the decoder learns, or ``lora`` adapters beside it.
        dtype: precision of the decoder's weights.
        decoder: parameters of the decoder as published.
        adapters: parameters of the adapters.
        grafts: parameters of cross-attention and gates.
        weights, gradients, moments: see the module.
        activations: of one training step with everything kept.
        recomputed: the same with `LanguageConfig.checkpointing`.
        cache: keys and values while a text is written.
    """

    shape: str
    preset: str
    use: Use
    adapt: Literal["all", "lora"]
    dtype: Precision
    decoder: int
    adapters: int
    grafts: int
    weights: int
    gradients: int
    moments: int
    activations: int
    recomputed: int
    cache: int

    def total(self, *, checkpointing: bool = False, gpus: int = 1) -> int:
        """Bytes on each of ``gpus`` devices over which weights, gradients and moments are spread evenly."""
        spread = -(-(self.weights + self.gradients + self.moments) // gpus)
        return spread + (self.recomputed if checkpointing else self.activations) + self.cache


def memory_table(
    shapes: Sequence[str] = tuple(SHAPES),
    *,
    batch: int = 1,
    tokens: int = 300,
    seen: int = 256,
) -> list[MemoryRow]:
    """One row for each shape, precision, way of adapting and use.

    Args:
        shapes: names in `SHAPES`.
        batch: studies at a time.
        tokens: of prompt and report.
        seen: tokens in each of the four visual memories.

    Raises:
        KeyError: an unknown shape.
        DependencyMissing: adapters without ``peft`` (extra ``llm``).
    """
    rows: list[MemoryRow] = []
    for name in shapes:
        for adapt in ADAPTS:
            for dtype in PRECISIONS:
                rows += _rows(name, adapt, dtype, batch, tokens, seen)
    return rows


def build_meta(shape: Shape, dtype: Precision = "float32") -> Any:
    """The decoder of a shape on the meta device: all its names and sizes, none of its numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        host = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=shape.vocab,
                hidden_size=shape.hidden,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                intermediate_size=shape.intermediate,
                tie_word_embeddings=shape.tied,
            )
        )
    return host.to(getattr(torch, dtype))


def kept_bytes(run: Callable[[], Tensor], model: nn.Module, inside: Sequence[nn.Module] = ()) -> tuple[int, int]:
    """Bytes that autograd keeps for the backward pass of ``run()``, and how many of them inside some modules.

    The model's parameters are not counted; each other storage counts once, where it is kept first.
    """
    kept: dict[int, Tensor] = {}
    depth, within = [0], [0]
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in kept and key not in parameters:
            kept[key] = tensor  # held, so that its storage is not given to another
            within[0] += tensor.untyped_storage().nbytes() if depth[0] else 0
        return tensor

    with _counted(inside, depth), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return total, within[0]


@contextmanager
def _counted(modules: Sequence[nn.Module], depth: list[int]) -> Iterator[None]:
    """``depth[0]`` is above zero while one of the modules runs."""

    def enter(*_: Any) -> None:
        depth[0] += 1

    def leave(*_: Any) -> None:
        depth[0] -= 1

    hooks = [h for m in modules for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _rows(
    name: str, adapt: Literal["all", "lora"], dtype: Precision, batch: int, tokens: int, seen: int
) -> Iterator[MemoryRow]:
    shape = SHAPES[name]
    decoder, published = _grafted(shape, adapt, dtype)
    memory = _memory(shape, batch, seen)
    layers = [layer.host for layer in decoder.host.model.layers]
    all_kept, inside = kept_bytes(lambda: _read(decoder, memory, tokens, dtype), decoder, layers)
    width = 2 if dtype == "bfloat16" else 4
    entering = batch * tokens * shape.hidden * width * len(layers)
    new = set(decoder.fusion_params())
    parts = dict(decoder.named_parameters())
    learning = sum(p.numel() * p.element_size() for n, p in parts.items() if adapt == "all" or n in new)
    adapters = sum(p.numel() for n, p in parts.items() if ".lora_" in n)
    with torch.no_grad():
        remembered = sum(t.numel() * t.element_size() for t in decoder.remember(memory).values())
    text = 2 * batch * tokens * shape.layers * shape.kv_heads * (shape.hidden // shape.heads) * width
    shared: dict[str, Any] = {
        "shape": name,
        "preset": next((preset for preset, used in PRESETS.items() if used == name), ""),
        "adapt": adapt,
        "dtype": dtype,
        "decoder": published,
        "adapters": adapters,
        "grafts": sum(parts[n].numel() for n in new) - adapters,
        "weights": sum(p.numel() * p.element_size() for p in parts.values()),
    }
    yield MemoryRow(
        **shared, use="training", gradients=learning, moments=2 * learning, activations=all_kept,
        recomputed=all_kept - inside + entering + inside // len(layers), cache=0,
    )  # fmt: skip
    yield MemoryRow(
        **shared, use="inference", gradients=0, moments=0, activations=0, recomputed=0, cache=text + remembered
    )


def _grafted(shape: Shape, adapt: Literal["all", "lora"], dtype: Precision) -> tuple[FusedDecoder, int]:
    """A decoder with its grafts on the meta device, and how many parameters it had before."""
    host = build_meta(shape, dtype)
    published = sum(p.numel() for p in host.parameters())
    with torch.device("meta"):
        adapt_host(host, LanguageConfig(pretrained="meta", adapt=adapt))
        return FusedDecoder(host, shape.memory_dim, shape.cross_heads).train(), published


def _read(decoder: FusedDecoder, memory: Memory, tokens: int, dtype: Precision) -> Tensor:
    """A training pass over a text; its mask is handed in whole, so that nobody looks at its numbers."""
    batch = len(memory.findings)
    mask = torch.zeros(batch, 1, tokens, tokens, device="meta", dtype=getattr(torch, dtype))
    ids = torch.zeros(batch, tokens, dtype=torch.long, device="meta")
    remembered = decoder.remember(memory)
    return decoder.host(input_ids=ids, attention_mask=mask, position_ids=ids, use_cache=False, **remembered).logits


def _memory(shape: Shape, batch: int, seen: int) -> Memory:
    tokens = torch.zeros(batch, seen, shape.memory_dim, device="meta")
    valid = torch.ones(batch, seen, dtype=torch.bool, device="meta")
    findings = torch.zeros(batch, len(ontology.findings()), shape.memory_dim, device="meta")
    return Memory(tokens, valid, tokens, valid, tokens, valid, tokens, valid, findings)
