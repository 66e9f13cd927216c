"""What of a pretrained decoder learns: everything, nothing, or low-rank adapters beside its frozen weights.

```
 all      W learns                                      stored: W and the grafts
 frozen   W stays                                       stored: the grafts
 lora     W stays,  W x + (2 B) A x  with A, B small    stored: A, B and the grafts        (Hu et al., ICLR 2022)
```
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ctscribe.errors import DependencyMissing
from ctscribe.language.config import LanguageConfig

SHARE = 0.01
"""Share of the decoder's parameters that adapters of an unnamed rank hold, about."""
HEAD = "lm_head"
ADAPTER = ".lora_"
"""Part of every adapter parameter's name."""


def adapt_host(host: nn.Module, config: LanguageConfig) -> None:
    """Freeze what stays and put the adapters in, in place; ``B`` starts at zero, so the decoder says what it said.

    Raises:
        DependencyMissing: adapters without ``peft``.
    """
    if config.adapt == "all":
        return
    host.requires_grad_(False)
    if config.adapt == "lora":
        _add_adapters(host, config.lora_rank or rank_for(host))


def adapted_layers(host: nn.Module) -> dict[str, nn.Linear]:
    """The matrices that adapters stand beside: all of the decoder's but the last, which is often its embedding too."""
    return {
        name: module
        for name, module in host.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] != HEAD
    }


def rank_for(host: nn.Module) -> int:
    """The rank at which adapters hold about `SHARE` of the decoder's parameters, at least 1."""
    for_each_rank = sum(layer.in_features + layer.out_features for layer in adapted_layers(host).values())
    return max(1, round(SHARE * sum(p.numel() for p in host.parameters()) / for_each_rank))


def _add_adapters(host: Any, rank: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise DependencyMissing(
            "language: low-rank adapters need the package peft", hint="pip install 'ctscribe[llm]'"
        ) from error
    names = sorted({name.rpartition(".")[2] for name in adapted_layers(host)})
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), host)
    for name, parameter in host.named_parameters():
        if ADAPTER in name:
            parameter.data = parameter.data.float()
