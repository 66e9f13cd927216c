"""Decoders of the Llama family from a local folder: grafted at any depth, unchanged while the gates are closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests import language_kit as kit
from tests import tiny as small

FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Mistral": {"sliding_window": 8},
}
DEPTH = 5


def saved(family: str, folder: Path) -> str:
    """A tiny model of a family with random weights, in a folder as `from_pretrained` wants it."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(small.tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        **FAMILIES[family],
    )
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("strategy", ["quarters", "parallel", "top_down"])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_can_be_grafted(family: str, strategy: str, tmp_path: Path) -> None:
    model = kit.writer(pretrained=saved(family, tmp_path), strategy=strategy)
    host, prompt = model.decoder.host, kit.tokens()  # longer than Mistral's window
    assert type(host).__name__ == f"{family}ForCausalLM"
    assert len(model.decoder.gates()) == DEPTH
    cached, plain = kit.cached_and_plain(model, prompt)
    assert torch.equal(cached, plain)
    with torch.no_grad():
        here, there = (model(small.facts(), prompt, None, *kit.study(seed=seed)) for seed in (0, 9))
        assert (here - there).abs().max() > 1e-6
        fused = kit.set_gates(model, 0.0)(small.facts(), prompt, None, *kit.study())
        bare = getattr(transformers, f"{family}ForCausalLM").from_pretrained(tmp_path).eval()
        assert torch.equal(fused, bare(input_ids=prompt, use_cache=False).logits)
