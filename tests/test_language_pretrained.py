"""Pretrained decoders with their own words: read, grafted, kept or adapted, stored beside the base they belong to."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import hosts_kit as hosts
from tests import language_kit as kit
from tests import tiny as small
from torch import Tensor

from ctscribe import checkpoint
from ctscribe.checkpoint import ModelInfo
from ctscribe.errors import CheckpointError, ConfigError, DependencyMissing
from ctscribe.facts import facts_of
from ctscribe.language.adapt import rank_for
from ctscribe.language.hosts import SMOLLM2, host_tokenizer, unpack
from ctscribe.language.station import LanguageConfig, Writer
from ctscribe.model import CTReportModel, Thresholds
from ctscribe.training.stages import Stage, trainable_names
from recipes import tiny

ADAPTED = ["frozen", "lora"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return hosts.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    return hosts.t5(tmp_path_factory.mktemp("t5"))


def config(pretrained: str, **changes: Any) -> LanguageConfig:
    if changes.get("adapt") == "lora":
        pytest.importorskip("peft", reason="peft is not installed (extra llm)")
    return replace(kit.CONFIG, pretrained=pretrained, max_tokens=6, **changes)


def writer(pretrained: str, gate: float = 0.7, **changes: Any) -> Writer:
    torch.manual_seed(0)
    chosen = config(pretrained, **changes)
    return kit.set_gates(Writer(chosen, host_tokenizer(chosen), kit.WIDTHS, kit.SCENE).eval(), gate)


def model(pretrained: str, **changes: Any) -> CTReportModel:
    torch.manual_seed(0)
    whole = replace(tiny.model(), language=config(pretrained, **changes))
    made = CTReportModel(whole, host_tokenizer(whole.language)).eval()
    kit.set_gates(made.language, 0.7)
    return made


def says(of: CTReportModel) -> tuple[list[str], Tensor]:
    """Texts and logits without a scan: the same for two models exactly when their writers are the same."""
    ids, _ = of.language.tokenizer.batch_prompts(["en", "en"])
    with torch.no_grad():
        return of.language.write(small.facts(), ["en", "en"]), of.language(small.facts(), ids, None)


# ------------------------------------------------------------------------------------------------- words
def test_a_decoder_is_asked_in_its_own_words(llama: str) -> None:
    tokens = host_tokenizer(config(llama))
    for text in small.TEXTS:
        assert tokens.decode([*tokens.encode(text), tokens.eos, 5, 6]) == text
    asked = tokens.prompt("en")
    assert tokens._tokenizer.decode(asked, skip_special_tokens=False) == (
        "<role>user\nWrite the findings of this chest CT in English.</s><role>assistant\n"
    )
    assert len(asked) != len(tokens.prompt("zh"))
    assert tokens.pad == tokens.eos  # it has none of its own
    ids, labels = tokens.example("No nodule.", "en", 400)
    assert ids[: len(asked)] == asked
    assert labels[len(asked) :] == [*tokens.encode("No nodule."), tokens.eos]


def test_without_a_template_the_instruction_stands_alone(tmp_path: Path) -> None:
    tokens = host_tokenizer(config(hosts.llama(tmp_path, template="")))
    assert tokens.prompt("zh")[0] == tokens.bos
    assert "CT" in tokens.decode(tokens.prompt("zh"))


def test_the_words_travel_with_the_model(llama: str, tmp_path: Path) -> None:
    from ctscribe.language.prompt import ReportTokenizer

    tokens = host_tokenizer(config(llama))
    tokens.save(tmp_path)
    again = ReportTokenizer.load(tmp_path)
    assert again.batch_prompts(["en", "zh"])[0].equal(tokens.batch_prompts(["en", "zh"])[0])
    assert (again.pad, again.bos, again.eos, len(again)) == (tokens.pad, tokens.bos, tokens.eos, len(tokens))
    (tmp_path / "prompts.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        ReportTokenizer.load(tmp_path)


# ----------------------------------------------------------------------------------------------- grafting
@pytest.mark.parametrize("adapt", ["all", *ADAPTED])
def test_with_closed_gates_it_says_what_it_said(llama: str, adapt: str) -> None:
    from transformers import LlamaForCausalLM

    ids, real = host_tokenizer(config(llama)).batch_prompts(["en", "zh"])
    made, bare = writer(llama, gate=0.0, adapt=adapt), LlamaForCausalLM.from_pretrained(llama).eval()
    with torch.no_grad():
        ours = made(small.facts(), ids, real, *kit.study())
        theirs = bare(ids, attention_mask=real, position_ids=(real.cumsum(-1) - 1).clamp_min(0)).logits
    assert torch.equal(ours[real.bool()], theirs[real.bool()])


def test_a_pretrained_t5_reads_the_scan(t5: str) -> None:
    made = writer(t5, strategy="encoder_decoder")
    assert made.tokenizer.prompt("en")[0] == 0  # its decoder starts with padding
    assert writer(t5, strategy="encoder_decoder").write(small.facts(), ["en", "zh"], *kit.study()) == made.write(
        small.facts(), ["en", "zh"], *kit.study()
    )


@pytest.mark.parametrize("strategy", ["quarters", "parallel", "top_down", "encoder_decoder"])
@pytest.mark.parametrize("beams", [1, 2])
def test_prompts_of_different_lengths_share_a_batch(llama: str, t5: str, strategy: str, beams: int) -> None:
    """What is written for a study does not depend on how long its neighbour's prompt is."""
    made = kit.fill(writer(t5 if strategy == "encoder_decoder" else llama, strategy=strategy))
    made.tokenizer.decode = str  # type: ignore[method-assign]  # ids, so that nothing is lost
    visual, scene = kit.study()
    assert len(made.tokenizer.prompt("en")) != len(made.tokenizer.prompt("zh"))
    facts = facts_of([(small.NODULE,)] * 2)
    twice = kit.twice(*kit.first(visual, scene))
    together = made.write(facts, ["en", "zh"], *twice, beams=beams)
    for code, text in zip(("en", "zh"), together, strict=True):
        alone = made.write(facts_of([(small.NODULE,)]), [code], *kit.first(visual, scene), beams=beams)
        assert alone == [text]


@pytest.mark.parametrize("strategy", ["quarters", "encoder_decoder"])
def test_recomputed_activations_change_no_gradient(llama: str, t5: str, strategy: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        made = writer(t5 if strategy == "encoder_decoder" else llama, strategy=strategy, checkpointing=checkpointing)
        ids, real = made.tokenizer.batch_prompts(["en", "zh"])
        made.train()(small.facts(), ids, real, *kit.study()).float().logsumexp(-1).sum().backward()
        gradients.append({n: p.grad for n, p in made.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, msg=name)


def test_a_decoder_in_half_precision_keeps_its_grafts_whole(llama: str) -> None:
    made = writer(llama, dtype="bfloat16")
    kinds = {n: p.dtype for n, p in made.decoder.named_parameters()}
    new = set(made.decoder.fusion_params())
    assert {kinds[n] for n in new} == {torch.float32}
    assert {kinds[n] for n in kinds.keys() - new} == {torch.bfloat16}
    assert len(made.write(small.facts(), ["en", "zh"], *kit.study())) == 2


# --------------------------------------------------------------------------------------- what learns, what is stored
@pytest.mark.parametrize("adapt", ADAPTED)
def test_only_what_is_new_learns(llama: str, adapt: str) -> None:
    made = model(llama, adapt=adapt).train()
    stage = Stage("text", 1, {"report": 1.0}, ("language.*",))
    chosen = trainable_names(made, stage)
    kept = set(made.fixed_params())
    assert {n for n, _ in made.named_parameters() if n.startswith("language.")} == kept | set(chosen)
    assert any("lora_" in n for n in chosen) == (adapt == "lora")
    before = {n: p.detach().clone() for n, p in made.named_parameters()}
    optimiser = torch.optim.SGD([p for n, p in made.named_parameters() if n in chosen], lr=0.1)
    ids, real = made.language.tokenizer.batch_prompts(["en", "zh"])
    for _ in range(2):  # the second half of an adapter starts at zero: the first hears of it one step later
        optimiser.zero_grad()
        made.language(small.facts(), ids, real).logsumexp(-1).mean().backward()
        optimiser.step()
    now = dict(made.named_parameters())
    assert all(torch.equal(now[n], before[n]) for n in kept)
    assert all(now[n].grad.abs().max() > 0 for n in chosen if "lora_" in n or ".cross.gate" in n)


@pytest.mark.parametrize("adapt", ADAPTED)
def test_a_folder_holds_what_is_new_and_names_its_base(llama: str, adapt: str, tmp_path: Path) -> None:
    base = shutil.copytree(llama, tmp_path / "base")
    made = model(str(base), adapt=adapt)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = checkpoint.save(tmp_path / "model", made, ModelInfo("x"), Thresholds(), dtype=torch.float32)
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    assert not stored.keys() & set(made.fixed_params())
    assert not any("embed_tokens" in n or "lm_head" in n for n in stored)
    assert any("lora_" in n for n in stored) == (adapt == "lora")
    texts, logits = says(made)
    loaded = checkpoint.load(folder).model
    assert says(loaded)[0] == texts
    assert torch.equal(says(loaded)[1], logits)

    moved = shutil.move(base, tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="needs the pretrained decoder") as told:
        checkpoint.load(folder)
    assert "pretrained=" in str(told.value)
    assert torch.equal(says(checkpoint.load(folder, pretrained=moved).model)[1], logits)
    with pytest.raises(CheckpointError, match="not the pretrained decoder") as told:
        checkpoint.load(folder, pretrained=hosts.llama(tmp_path / "other", seed=1))
    assert "fingerprint" in str(told.value)


def test_a_decoder_that_learned_as_a_whole_needs_no_base(llama: str, tmp_path: Path) -> None:
    base = shutil.copytree(llama, tmp_path / "base")
    made = model(str(base))
    folder = checkpoint.save(tmp_path / "model", made, ModelInfo("x"), Thresholds(), dtype=torch.float32)
    shutil.rmtree(base)
    assert torch.equal(says(checkpoint.load(folder).model)[1], says(made)[1])
    with pytest.raises(CheckpointError, match="complete in itself"):
        checkpoint.load(folder, pretrained=llama)


@pytest.mark.parametrize("strategy", ["parallel", "top_down", "encoder_decoder"])
def test_every_strategy_is_saved_and_loaded(strategy: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = CTReportModel(replace(tiny.model(), language=replace(kit.CONFIG, strategy=strategy)), small.tokenizer())
    folder = checkpoint.save(tmp_path / "model", made.eval(), ModelInfo("x"), Thresholds(), dtype=torch.float32)
    assert torch.equal(says(checkpoint.load(folder).model)[1], says(made)[1])


def test_adapters_hold_about_one_percent() -> None:
    from ctscribe.language.sizes import SHAPES, build_meta

    for name in ("SmolLM2-135M", "Llama-3-8B"):
        host = build_meta(SHAPES[name])
        total = sum(p.numel() for p in host.parameters())
        from ctscribe.language.adapt import adapted_layers

        share = rank_for(host) * sum(m.in_features + m.out_features for m in adapted_layers(host).values()) / total
        assert 0.008 < share < 0.012


# --------------------------------------------------------------------------------------------- refusals
def test_what_cannot_be_loaded_is_said_in_words(llama: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded") as told:
        host_tokenizer(config(str(tmp_path / "nowhere")))
    assert "hf download" in str(told.value)
    with pytest.raises(ConfigError, match="does not exist"):
        host_tokenizer(config(str(tmp_path / "no.gguf")))
    with pytest.raises(ConfigError, match="nothing to keep"):
        LanguageConfig(adapt="lora")
    with pytest.raises(ConfigError, match="lora_rank"):
        LanguageConfig(pretrained=llama, lora_rank=4)


def test_a_decoder_of_another_family_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokens = hosts.words()
    tokens.save_pretrained(tmp_path)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokens), n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="GPT2LMHeadModel"):
        writer(str(tmp_path))


def test_a_decoder_for_fewer_words_is_refused(llama: str, tmp_path: Path) -> None:
    hosts.llama(tmp_path, vocab_size=300)
    with pytest.raises(ConfigError, match="vocabulary of its own"):
        writer(str(tmp_path))


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyMissing, match=SMOLLM2):
        host_tokenizer(config(SMOLLM2))


# ------------------------------------------------------------------------------------------------- GGUF
def test_a_gguf_file_is_read_and_unpacked(llama: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed (extra llm)")
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra llm)")
    file = hosts.gguf(llama, tmp_path / "tiny.gguf")
    made, plain = writer(file, adapt="frozen"), writer(llama, adapt="frozen")
    text = "A 12 mm nodule."
    assert made.tokenizer.encode(text) == plain.tokenizer.encode(text)
    ids = torch.tensor([plain.tokenizer.encode(text)])
    with torch.no_grad():
        ours, theirs = (w.decoder.host(input_ids=ids).logits for w in (made, plain))
    torch.testing.assert_close(ours, theirs)
    folder = unpack(file, tmp_path / "unpacked")
    assert unpack(file, folder) == folder
    assert json.loads((folder / "config.json").read_text()).get("quantization_config") is None
    unpacked = writer(str(folder), adapt="frozen")
    assert unpacked.base is not None
    assert unpacked.base.fingerprint == made.base.fingerprint
