"""Sizes of decoders: published counts, and arithmetic that agrees with what autograd keeps in a real run."""

from __future__ import annotations

import pytest
import torch
from tests import language_kit as kit
from tests import tiny as small

from ctscribe.language.sizes import PRESETS, SHAPES, build_meta, kept_bytes, memory_table


@pytest.mark.parametrize(
    ("name", "published"),
    [("SmolLM2-135M", 134_515_008), ("Llama-3-8B", 8_030_261_248), ("Llama-13B", 13_015_864_320),
     ("Llama-3-70B", 70_553_706_496)],
)  # fmt: skip
def test_shapes_have_the_published_number_of_parameters(name: str, published: int) -> None:
    assert sum(p.numel() for p in build_meta(SHAPES[name]).parameters()) == published


def test_every_preset_has_a_shape() -> None:
    assert set(PRESETS.values()) <= set(SHAPES)


def test_the_table_adds_up() -> None:
    pytest.importorskip("peft", reason="peft is not installed (extra llm)")
    rows = {(r.use, r.adapt, r.dtype): r for r in memory_table(["demo"])}
    assert len(rows) == 8
    whole, lora = rows["training", "all", "float32"], rows["training", "lora", "float32"]
    assert whole.weights == 4 * (whole.decoder + whole.grafts)
    assert whole.gradients == whole.weights
    assert whole.moments == 2 * whole.gradients
    assert lora.gradients == 4 * (lora.adapters + lora.grafts)
    assert 0.005 < lora.adapters / lora.decoder < 0.015
    half = rows["training", "all", "bfloat16"]
    assert half.weights == 2 * half.decoder + 4 * half.grafts
    assert half.activations < whole.activations
    assert whole.recomputed < whole.activations
    assert whole.total(checkpointing=True) < whole.total()
    assert whole.total(gpus=8) < whole.total()
    written = rows["inference", "all", "float32"]
    assert (written.gradients, written.moments, written.activations) == (0, 0, 0)
    assert written.cache > 0


def test_activations_are_those_a_real_run_keeps() -> None:
    """Twice the batch keeps twice as much, parameters are not counted, and the layers hold their share."""
    model = kit.writer().train()
    visual, scene = kit.study()
    memory = model.recall(small.facts(), visual, scene)
    layers = [layer.host for layer in model.decoder.host.model.layers]

    def run(rows: int) -> tuple[int, int]:
        ids = kit.tokens()[:1].repeat(rows, 1)
        part = type(memory)(**{n: None if t is None else t[:rows].detach() for n, t in vars(memory).items()})
        return kept_bytes(lambda: model.decoder(ids, None, part), model, layers)

    one, two = run(1), run(2)
    assert two[0] == pytest.approx(2 * one[0], rel=0.1)
    assert 0 < one[1] < one[0]
    with torch.no_grad():
        assert run(1) == (0, 0)
