from __future__ import annotations

import pytest
import torch
from tests import tiny as small

from ctscribe.facts import facts_of
from ctscribe.language.fusion import quarter_of
from ctscribe.language.gated import GatedCrossAttention
from ctscribe.language.memory import pool_tokens
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel
from ctscribe.tensors import ScaleTokens


def open_gates(model: CTReportModel, value: float) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("gate.scale"):
            torch.nn.init.constant_(parameter, value)


def ids(count: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(5, len(small.tokenizer()), (count, length), generator=torch.Generator().manual_seed(3))


def test_zero_gates_equal_the_bare_language_model() -> None:
    model = small.build()
    open_gates(model, 0.0)
    visual, scene = model.see(*small.scans())
    fused = model.language(small.facts(), ids(), None, visual, scene)
    bare = model.language.decoder.host(input_ids=ids(), use_cache=False).logits
    assert torch.equal(fused, bare)


def test_open_gates_hear_the_scan_and_the_facts() -> None:
    model = small.build()
    open_gates(model, 0.7)
    visual, scene = model.see(*small.scans())
    here = model.language(small.facts(), ids(), None, visual, scene)
    other_facts = model.language(facts_of([(), ()]), ids(), None, visual, scene)
    other_scan = model.language(small.facts(), ids(), None, *model.see(*small.scans(seed=9)))
    assert (here - other_facts).abs().max() > 1e-4
    assert (here - other_scan).abs().max() > 1e-6


def test_batched_equals_single() -> None:
    model = small.build()
    open_gates(model, 0.7)
    visual, scene = model.see(*small.scans())
    together = model.language(small.facts(), ids(), None, visual, scene)
    volume, masks = small.scans()
    lone_volume = type(volume)(volume.hu[1:], volume.spacing[1:])
    lone_masks = type(masks)(masks.occupancy[1:], masks.present[1:], masks.names)
    alone = model.language(facts_of([(small.EFFUSION,)]), ids()[1:], None, *model.see(lone_volume, lone_masks))
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("beams", [1, 3])
def test_cached_decoding_equals_uncached(beams: int) -> None:
    model = small.build()
    open_gates(model, 0.7)
    visual, scene = model.see(*small.scans())
    memory = model.language.decoder.remember(model.language.memory(visual, scene, small.facts()))
    prompt = torch.tensor([small.tokenizer().prompt("en"), small.tokenizer().prompt("zh")])
    made = [
        model.language.decoder.host.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=10,
            do_sample=False,
            num_beams=beams,
            use_cache=cache,
            pad_token_id=0,
            eos_token_id=None,
            **memory,
        )
        for cache in (True, False)
    ]
    assert torch.equal(*made)


def test_a_study_written_in_a_batch_reads_as_when_written_alone() -> None:
    model = small.build()
    open_gates(model, 0.7)
    both = model.language.write(small.facts(), ["en", "zh"])
    assert both[0] == model.language.write(facts_of([(small.NODULE,)]), ["en"])[0]


def test_only_fusion_parameters_are_new_to_the_host() -> None:
    decoder = small.build().language.decoder
    new = decoder.fusion_params()
    assert new
    assert all(".cross." in name for name in new)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (4, ["fine", "mid", "coarse", "structure"]),
        (8, ["fine"] * 2 + ["mid"] * 2 + ["coarse"] * 2 + ["structure"] * 2),
        (32, ["fine"] * 8 + ["mid"] * 8 + ["coarse"] * 8 + ["structure"] * 8),
    ],
)
def test_layers_read_their_quarter_at_any_depth(layers: int, expected: list[str]) -> None:
    assert [quarter_of(i, layers) for i in range(layers)] == expected


def test_closed_gate_is_the_identity_and_no_memory_is_silence() -> None:
    torch.manual_seed(0)
    x, memory = torch.randn(2, 4, 16), torch.randn(2, 5, 8)
    valid = torch.ones(2, 5, dtype=torch.bool)
    closed = GatedCrossAttention(16, 8, 2)
    assert torch.equal(x + closed(x, closed.remember(memory, valid))[0], x)
    wide = GatedCrossAttention(16, 8, 2, gate=1.0)
    heard, weights = wide(x, wide.remember(memory, valid), return_weights=True)
    assert heard.abs().max() > 1e-3
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    torch.testing.assert_close(x + wide(x, wide.remember(memory, ~valid))[0], x)


def test_pooling_fine_tokens_keeps_means() -> None:
    volume, _ = small.scans()
    fine = small.build().vision(volume).fine
    pooled = pool_tokens(fine, (2, 2, 2))
    assert pooled.grid == (8, 4, 4)
    torch.testing.assert_close(pooled.tokens.mean(1), fine.tokens.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled.centres.mean(1), fine.centres.mean(1), atol=1e-3, rtol=0)


def test_pooling_leaves_no_token_out_and_lets_no_padding_in() -> None:
    tokens, centres = torch.randn(1, 30, 4), torch.randn(1, 30, 3)
    odd = ScaleTokens(tokens, (3, 5, 2), centres, torch.ones(1, 30, dtype=torch.bool))
    pooled = pool_tokens(odd, (2, 2, 2))
    assert pooled.grid == (2, 3, 1)
    last = tokens.reshape(1, 3, 5, 2, 4)[:, 2, 4].mean(1)
    torch.testing.assert_close(pooled.tokens[:, -1], last)
    flat = ScaleTokens(tokens[:, :8], (1, 4, 2), centres[:, :8], torch.ones(1, 8, dtype=torch.bool))
    assert pool_tokens(flat, (2, 2, 2)).grid == (1, 2, 1)
    half = torch.arange(8)[None] < 4
    noise = torch.where(half.unsqueeze(-1), tokens[:, :8], torch.full_like(tokens[:, :8], 99.0))
    padded = pool_tokens(ScaleTokens(noise, (2, 2, 2), centres[:, :8], half), (2, 2, 2))
    torch.testing.assert_close(padded.tokens[:, 0], tokens[:, :4].mean(1))
    torch.testing.assert_close(padded.centres[:, 0], centres[:, :4].mean(1))
    nothing = pool_tokens(ScaleTokens(noise, (2, 2, 2), centres[:, :8], half & False), (2, 2, 2))
    assert not nothing.valid.any()
    assert torch.isfinite(nothing.tokens).all()


@pytest.mark.parametrize("text", small.TEXTS)
def test_tokenizer_gives_the_text_back(text: str, tmp_path) -> None:
    tokens = small.tokenizer()
    assert tokens.decode(tokens.encode(text)) == text
    tokens.save(tmp_path)
    assert ReportTokenizer.load(tmp_path).encode(text) == tokens.encode(text)


def test_only_the_report_is_to_be_predicted() -> None:
    tokens = small.tokenizer()
    given, labels = tokens.example("No pleural effusion.", "en", 100)
    assert given[:2] == tokens.prompt("en")
    assert labels[:2] == [-100, -100]
    assert given[2:] == labels[2:]
    assert labels[-1] == tokens.eos


def test_what_is_not_said_adds_nothing_and_digits_are_shared() -> None:
    tokens = small.build().language.memory.facts
    mm = torch.tensor([[0, 7, 17, 107]])
    size = tokens._size(mm)
    assert size[0, 0].abs().max() == 0
    tens = tokens.digits[1].weight
    torch.testing.assert_close(size[0, 2] - size[0, 1], tens[1] - tens[0])
    for table in tokens.attributes.values():
        assert table.weight[0].abs().max() == 0


def test_a_reach_of_minus_infinity_closes_the_eyes_but_not_the_facts() -> None:
    model = small.build()
    open_gates(model, 0.7)
    visual, scene = model.see(*small.scans())
    for layer in model.language.decoder.host.model.layers:
        layer.cross.reach.data.fill_(-1e4)
    here = model.language(small.facts(), ids(), None, visual, scene)
    there = model.language(small.facts(), ids(), None, *model.see(*small.scans(seed=9)))
    torch.testing.assert_close(here, there)
    assert (here - model.language(facts_of([(), ()]), ids(), None, visual, scene)).abs().max() > 1e-4
