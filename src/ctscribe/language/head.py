"""The report writer with an impression head: further layers on top of it, which alone learn.

```
 facts ──► memory ──┬──────────────┬─────────────┐
 words ──► layers of the report writer ──► new layers ──► its own last norm and vocabulary ──► impression
           └────────── stay ──────────┘    └─ learn ┘
```

A new layer begins as a copy of one of the writer's last, with whatever it adds set to zero: before the first step the
head writes what the report writer writes. The report writer itself is copied, so it goes on writing findings.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from torch import nn

from ctscribe.errors import ConfigError
from ctscribe.language.fusion import FusedDecoder, FusedLayer, declare_memory
from ctscribe.language.station import Writer


@dataclass(frozen=True)
class HeadConfig:
    """The new layers.

    Attributes:
        layers: how many.
        max_tokens: longest impression that is written, in tokens.
    """

    layers: int = 3
    max_tokens: int = 400

    def __post_init__(self) -> None:
        if self.layers < 1 or self.max_tokens < 1:
            raise ConfigError("head: layers and max_tokens must be at least 1", got=f"{self.layers}, {self.max_tokens}")


def with_head(writer: Writer, config: HeadConfig) -> Writer:
    """A copy of a report writer with new layers on top; nothing but these learns.

    Raises:
        ConfigError: the writer is of a kind that cannot be extended, or has fewer layers than are asked for.
    """
    if not isinstance(writer.decoder, FusedDecoder) or writer.decoder.strategy == "top_down":
        raise ConfigError(
            "head: this report writer cannot be given further layers",
            expected="strategy: quarters or parallel",
            got=f"strategy: {writer.config.strategy}",
        )
    old = len(writer.decoder.host.model.layers)
    if config.layers > old:
        raise ConfigError("head: more new layers than the report writer has", expected=f"at most {old}")
    made = copy.deepcopy(writer)
    made.requires_grad_(False)
    host = made.decoder.host
    for number in range(config.layers):
        layer = copy.deepcopy(host.model.layers[old - config.layers + number])
        _renumber(layer, old + number)
        _silence(layer)
        host.model.layers.append(layer.requires_grad_(True))
    host.config.num_hidden_layers = old + config.layers
    if getattr(host.config, "layer_types", None):
        host.config.layer_types = [*host.config.layer_types, *host.config.layer_types[-config.layers :]]
    host.__dict__.pop("prepare_inputs_for_generation")  # still that of the report writer
    declare_memory(host)
    made.config = replace(writer.config, max_tokens=config.max_tokens, wording="free")
    return made


def head_params(writer: Writer, layers: int) -> list[str]:
    """Names of the parameters of the new layers."""
    count = len(writer.decoder.host.model.layers)
    prefixes = tuple(f"decoder.host.model.layers.{i}." for i in range(count - layers, count))
    return [name for name, _ in writer.named_parameters() if name.startswith(prefixes)]


def _renumber(layer: FusedLayer, index: int) -> None:
    """Its place in the cache, and the names under which its memory travels."""
    layer.number(index)
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            setattr(module, "layer_idx", index)  # noqa: B010


def _silence(layer: FusedLayer) -> None:
    """What the layer adds to its input becomes zero; how it reads stays."""
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in ("o_proj", "down_proj"):
            nn.init.zeros_(module.weight)
    for reader in layer.reads:
        nn.init.zeros_(layer.reader(reader).attention.out.weight)
        if layer.reader(reader).attention.out.bias is not None:
            nn.init.zeros_(layer.reader(reader).attention.out.bias)
