"""Every strategy of the language station: it learns, it changes what is written, and the laws hold for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests import language_kit as kit
from tests import tiny as small
from torch import Tensor

from ctscribe.errors import ConfigError
from ctscribe.facts import facts_of
from ctscribe.language.station import Writer

OPTIONS: dict[str, dict[str, Any]] = {
    "quarters": {},
    "parallel": {"strategy": "parallel"},
    "top_down": {"strategy": "top_down"},
    "encoder_decoder": {"strategy": "encoder_decoder"},
    "qformer": {"compress": "qformer", "queries": 4},
    "resampler": {"compress": "resampler", "queries": 4},
    "parallel qformer": {"strategy": "parallel", "compress": "qformer", "queries": 4},
    "top_down resampler": {"strategy": "top_down", "compress": "resampler", "queries": 4},
}
GRAFTED = [name for name in OPTIONS if name != "encoder_decoder"]


def logits(model: Writer, ids: Tensor | None = None, attention: Tensor | None = None, seed: int = 0) -> Tensor:
    with torch.no_grad():
        return model(small.facts(), kit.tokens() if ids is None else ids, attention, *kit.study(seed=seed))


@pytest.mark.parametrize("option", OPTIONS)
def test_it_learns_two_steps_and_every_part_hears_of_it(option: str) -> None:
    model = kit.writer(**OPTIONS[option]).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        out = model(small.facts(), kit.tokens(), None, *kit.study())
        loss = torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), kit.tokens()[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert silent == []


@pytest.mark.parametrize("option", OPTIONS)
def test_it_hears_the_scan_and_the_facts(option: str) -> None:
    model = kit.writer(**OPTIONS[option])
    here = logits(model)
    assert (here - logits(model, seed=9)).abs().max() > 1e-6
    with torch.no_grad():
        others = model(facts_of([(), ()]), kit.tokens(), None, *kit.study())
    assert (here - others).abs().max() > 1e-4


@pytest.mark.parametrize("option", GRAFTED)
def test_zero_gates_equal_the_bare_language_model(option: str) -> None:
    model = kit.writer(gate=0.0, **OPTIONS[option])
    fused = logits(model)
    model.decoder.host.model._forward_pre_hooks.clear()  # the first pass of top_down
    with torch.no_grad():
        bare = model.decoder.host(input_ids=kit.tokens(), use_cache=False).logits
    assert torch.equal(fused, bare)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("beams", [1, 3])
def test_cached_decoding_equals_uncached(option: str, beams: int) -> None:
    cached, plain = kit.cached_and_plain(kit.writer(**OPTIONS[option]), kit.tokens(2, 3), beams)
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("option", OPTIONS)
def test_sampling_works_and_follows_its_seed(option: str) -> None:
    model = kit.writer(**OPTIONS[option])
    prompt = kit.tokens(2, 3)
    memory = model.recall(small.facts(), *kit.study())
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(
            model.decoder.generate(
                prompt, torch.ones_like(prompt), memory, max_new_tokens=5, do_sample=True, pad_token_id=0
            )
        )
    assert torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("option", OPTIONS)
def test_padding_on_the_left_shifts_nothing(option: str) -> None:
    model = kit.writer(**OPTIONS[option])
    ids = kit.tokens()
    wide = torch.cat((torch.zeros(2, 4, dtype=ids.dtype), ids), dim=1)
    attention = torch.cat((torch.zeros(2, 4, dtype=ids.dtype), torch.ones_like(ids)), dim=1)
    torch.testing.assert_close(logits(model, wide, attention)[:, 4:], logits(model), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("option", OPTIONS)
def test_studies_of_different_sizes_share_a_batch(option: str) -> None:
    """A study filled up to a larger grid is described as it is alone."""
    model = kit.writer(**OPTIONS[option])
    visual, scene = kit.study()
    with torch.no_grad():
        alone = model(small.facts(), kit.tokens(), None, visual, scene)
        wide = model(small.facts(), kit.tokens(), None, kit.padded(visual, (8, 8, 8)), scene)
    torch.testing.assert_close(alone, wide, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("option", GRAFTED)
def test_keys_and_values_of_the_scan_are_computed_once(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctscribe.language.gated import GatedCrossAttention

    calls, plain = [], GatedCrossAttention.remember
    monkeypatch.setattr(GatedCrossAttention, "remember", lambda self, *m: calls.append(1) or plain(self, *m))
    model = kit.writer(**OPTIONS[option])
    prompt = kit.tokens(2, 3)
    memory = model.recall(small.facts(), *kit.study())
    model.decoder.generate(prompt, torch.ones_like(prompt), memory, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert len(calls) == sum(len(layer.reads) for layer in model.decoder.host.model.layers)


def test_gates_can_be_read() -> None:
    rows = kit.writer(gate=0.5, strategy="parallel").decoder.gates()
    assert [set(row) for row in rows] == [{"layer", "findings", "fine", "mid", "coarse", "structure"}] * len(rows)
    assert kit.writer(gate=0.0).decoder.gates()[0]["fine"] == 0.0


def test_a_memory_does_not_grow_with_the_scan() -> None:
    model = kit.writer(compress="resampler", queries=4)
    small_one, scene = kit.study()
    for visual in (small_one, kit.padded(small_one, (8, 8, 8))):
        memory = model.recall(small.facts(), visual, scene)
        assert memory.fine.shape[1] == memory.mid.shape[1] == memory.coarse.shape[1] == 4


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="top_down"):
        kit.writer(strategy="top_down", compress="qformer")
    with pytest.raises(ConfigError, match="queries"):
        kit.writer(queries=0)


def test_a_host_with_another_vocabulary_is_refused(tmp_path) -> None:
    host = kit.writer().decoder.host
    from transformers import LlamaConfig, LlamaForCausalLM

    foreign = LlamaConfig(**{**host.config.to_dict(), "vocab_size": host.config.vocab_size + 7, "num_hidden_layers": 1})
    LlamaForCausalLM(foreign).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="vocabulary of its own"):
        kit.writer(pretrained=str(tmp_path))
