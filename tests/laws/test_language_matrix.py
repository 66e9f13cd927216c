"""Every strategy with every bridge trains two steps and writes; every field of the configuration changes something."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import hosts_kit as hosts
from tests import language_kit as kit
from tests import tiny as small

from ctscribe.language.config import Compress, LanguageConfig, Strategy
from ctscribe.language.hosts import host_tokenizer
from ctscribe.language.station import Writer

STRATEGIES, BRIDGES = Strategy.__args__, Compress.__args__  # type: ignore[attr-defined]
MATRIX = [pair for pair in product(STRATEGIES, BRIDGES) if pair != ("top_down", "qformer")]


@pytest.mark.parametrize(("strategy", "compress"), MATRIX)
def test_it_trains_two_steps_and_writes(strategy: str, compress: str) -> None:
    model = kit.writer(strategy=strategy, compress=compress, queries=3, max_tokens=3, layers=2).train()
    optimiser, losses = torch.optim.SGD(model.parameters(), lr=1e-2), []
    for _ in range(3):
        out = model(small.facts(), kit.tokens(), None, *kit.study())
        loss = torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), kit.tokens()[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert len(model.eval().write(small.facts(), ["en", "zh"], *kit.study())) == 2


OTHER: dict[str, Any] = {
    "hidden": 48,
    "layers": 3,
    "heads": 4,
    "intermediate": 96,
    "memory_dim": 16,
    "cross_heads": 4,
    "gate": 0.3,
    "fine_pool": (1, 1, 1),
    "max_tokens": 2,
    "strategy": "parallel",
    "compress": "resampler",
    "dtype": "bfloat16",
    "checkpointing": True,
}
WITH: dict[str, dict[str, Any]] = {
    "queries": {"compress": "qformer", "queries": 3},
    "compress_layers": {"compress": "qformer", "compress_layers": 1},
}
PATHS = {"pretrained", "adapt", "lora_rank", "vocab", "wording"}
"""Fields that need a decoder on disk (tested below), act on the tokenizer (in the course), or have a file of tests."""


def seen(model: Writer) -> tuple[Any, ...]:
    """Everything that a field may change: names, shapes and kinds of the weights, texts, logits, what is recomputed."""
    with torch.no_grad():
        logits = model(small.facts(), kit.tokens(), None, *kit.study()).float()
    recomputed = [getattr(m, "gradient_checkpointing", False) for m in model.modules()]
    shapes = [(n, tuple(p.shape), p.dtype) for n, p in model.named_parameters()]
    return shapes, model.write(small.facts(), ["en", "zh"], *kit.study()), logits.tolist(), recomputed


def test_every_field_changes_the_writer() -> None:
    fields = {f.name for f in dataclasses.fields(LanguageConfig)}
    assert OTHER.keys() | WITH.keys() | PATHS == fields
    plain = {"gate": None, "max_tokens": 4}
    for name, value in OTHER.items():
        before = seen(kit.fill(kit.writer(**plain)) if name != "gate" else kit.writer(**plain))
        changed = kit.writer(**{**plain, name: value}) if name != "gate" else writer_with_gate(value)
        after = seen(changed if name == "gate" else kit.fill(changed))
        assert before != after, name
    for name, changes in WITH.items():
        before = seen(kit.fill(kit.writer(**plain, compress="qformer")))
        assert before != seen(kit.fill(kit.writer(**plain, **changes))), name


def writer_with_gate(value: float) -> Writer:
    torch.manual_seed(0)
    config = dataclasses.replace(kit.CONFIG, gate=value, max_tokens=4)
    return Writer(config, small.tokenizer(), kit.WIDTHS, kit.SCENE).eval()


def test_fields_of_a_pretrained_decoder_change_the_writer(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (extra llm)")

    def parts(**changes: Any) -> tuple[list[str], list[str]]:
        config = dataclasses.replace(kit.CONFIG, **changes)
        tokens = host_tokenizer(config) if config.pretrained else small.tokenizer()
        model = Writer(config, tokens, kit.WIDTHS, kit.SCENE)
        return [f"{n} {tuple(p.shape)}" for n, p in model.named_parameters()], model.fixed_params()

    scratch, whole = parts(), parts(pretrained=hosts.llama(tmp_path / "a"))
    frozen, lora = (parts(pretrained=str(tmp_path / "a"), adapt=adapt) for adapt in ("frozen", "lora"))
    ranked = parts(pretrained=str(tmp_path / "a"), adapt="lora", lora_rank=3)
    found = [scratch, whole, frozen, lora, ranked]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
