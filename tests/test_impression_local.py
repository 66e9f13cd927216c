"""Writers in this process: what they are asked, what they may say, what becomes of it. Random weights throughout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hosts_kit
from ctscribe import ontology
from ctscribe.cli import table
from ctscribe.errors import CheckpointError, DependencyMissing, UsageError
from ctscribe.impression import Context, Statement, lines, write
from ctscribe.impression.grammar import Masks, grammar
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.local import LocalWriter, TunedWriter, constrained, load_causal
from ctscribe.impression.writers import Choice, make
from ctscribe.impression.writing import write_with
from ctscribe.report import Finding, sample_findings
from ctscribe.report.parse import parse
from ctscribe.training import impression_lora
from ctscribe.training.impression_pairs import Pairs, tuned_target
from recipes import impression_lora as recipe

NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (7,), (("density", "solid"), ("number", "single")))
EFFUSION = Finding("pleural_effusion", "uncertain", ("left_pleura",))
KNOWN = Context(age=61, smoker=True, cancer=False, immunosuppressed=False, screening=False)
LONG = {"max_position_embeddings": 4096}


def known_of(findings: tuple[Finding, ...], language: ontology.Language = "en") -> Known:
    ruled = write(findings, language, context=KNOWN)
    return Known(findings, ruled.recommendations, ruled.statements)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(hosts_kit.llama(tmp_path_factory.mktemp("base") / "tiny-chat", **LONG))


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of the recipe on the tiny model."""
    config = recipe.config()
    stage = replace(config.train.stages[0], steps=3, warmup=1, batch_size=2)
    train = replace(config.train, stages=(stage,), checkpoint_every=0, log_every=1)
    config = replace(config, base=str(base), train=train, longest=900, rank=2)
    return impression_lora.run(config, tmp_path_factory.mktemp("lora"))


# -------------------------------------------------------------------------------------------- plain lines
def test_a_number_stands_for_a_given_sentence_and_keeps_its_sources() -> None:
    known = known_of((NODULE, EFFUSION))
    numbers = {s.role: f"[{i}]" for i, s in enumerate(lines.given(known), start=1)}
    said = lines.read(f"Solid right upper lobe nodule, 7 mm.\n\n{numbers['follow_up']}\n", known, "en")
    assert said[0] == Statement("Solid right upper lobe nodule, 7 mm.", "finding", (0,))
    assert said[1].citations == ("fleischner_2017",)
    assert "CT at 6 to 12 months" in said[1].text


@pytest.mark.parametrize("text", ["", "\n \n", "[99]", "A nodule.\n[0]"])
def test_lines_that_mean_nothing_are_no_draft(text: str) -> None:
    with pytest.raises(ValueError, match="sentence"):
        lines.read(text, known_of((NODULE,)), "en")


def test_a_prompt_holds_findings_and_sentences_and_the_errors_of_the_last_answer() -> None:
    known = known_of((NODULE, EFFUSION, Finding("pneumothorax", "absent")))
    found = problems([Statement("Left lung nodule.", "finding")], known, "en")
    asked = lines.question(known, "en", found).user
    assert "possible: Possible left pleural effusion" in asked
    assert "[1] Fleischner" in asked.replace("[2] Fleischner", "[1] Fleischner")
    assert "CORRECT THESE ERRORS" in asked
    assert "pneumothorax" not in asked.lower()


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_what_writers_are_taught_passes_the_guard(language: ontology.Language) -> None:
    pairs = Pairs(3, (language,))
    for index in range(12):
        pair = pairs[index]
        said = lines.read(tuned_target(pair), pair.known, language)
        assert problems(said, pair.known, language) == ()


# ------------------------------------------------------------------------------------------------ grammar
def spoken(text: str, language: ontology.Language) -> set[Finding]:
    return {replace(f, attributes=tuple(sorted(f.attributes))) for f in parse(text, language)}


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_whatever_a_grammar_lets_through_names_only_what_is_there(base: Path, language: ontology.Language) -> None:
    pytest.importorskip("llguidance")
    model, tokenizer = load_causal(base, "cpu")
    masks = Masks(tokenizer, model.config.vocab_size)
    rng = np.random.default_rng(0)
    for _ in range(4):
        findings = sample_findings(rng, mean_present=3.0)
        known = known_of(findings, language)
        torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
        written = constrained(model, torch.tensor([[5, 6, 7]]), masks.start(grammar(known, language)))
        text = tokenizer.decode(written, skip_special_tokens=True)
        made = lines.read(text, known, language)
        truth = {replace(f, attributes=tuple(sorted(f.attributes))) for f in findings if f.status != "absent"}
        said = set().union(*(spoken(s.text, language) for s in made if s.role == "finding"))
        assert said <= truth
        assert problems(made, known, language) == ()


def test_what_is_urgent_or_asked_for_cannot_be_left_out() -> None:
    pneumothorax = Finding("pneumothorax", "present", ("right_pleura",))
    rules = dict(row.split(": ", 1) for row in grammar(known_of((pneumothorax, NODULE, EFFUSION)), "en").splitlines())
    assert "from_1" not in rules["from_0"]  # the pneumothorax
    assert rules["then_1"].startswith("NL said_1")  # the nodule, for which a guideline asks something
    assert rules["then_2"].startswith("(NL said_2)?")  # the possible effusion
    assert '"[' in rules["said_1"]


def test_without_findings_the_grammar_says_so() -> None:
    pytest.importorskip("llguidance")
    made = grammar(known_of(()), "en")
    assert '"No abnormality is described in the findings."' in made


def test_a_missing_grammar_package_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance.hf", None)
    with pytest.raises(DependencyMissing, match="llguidance") as raised:
        write_with(LocalWriter(base, constrained=True), [NODULE], "en", context=KNOWN)
    assert "ctscribe[grammar]" in str(raised.value)


def test_only_models_in_this_process_are_held_to_a_grammar(base: Path) -> None:
    with pytest.raises(UsageError, match="--grammar"):
        make("rules", Choice(constrained=True))
    with pytest.raises(UsageError, match="--llm-base"):
        make("local", Choice(folder=base, base=base))


# ------------------------------------------------------------------------------------------------ writers
def test_a_local_model_that_writes_nonsense_leaves_the_impression_to_the_rules(base: Path) -> None:
    writer = LocalWriter(base, max_tokens=8)
    made = write_with(writer, [NODULE], "en", context=KNOWN)
    assert (made.method, made.check.verdict) == ("rules", "replaced")
    assert made.check.writer == "tiny-chat"


def test_a_model_that_cannot_write_json_is_asked_for_lines_from_then_on(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(self: LocalWriter, ids: torch.Tensor, allowed: str | None) -> str:
        asked.append(self._model()[1].decode(ids[0]))
        return "A 7 mm solid nodule lies in the right upper lobe.\n[2]"

    monkeypatch.setattr(LocalWriter, "_answer", answer)
    writer = LocalWriter(base)
    for _ in range(2):
        made = writer.draft(known_of((NODULE,)), "en", KNOWN)
        assert made[0].findings == (0,)
    assert ["JSON" in prompt for prompt in asked] == [True, False, False]


def test_a_local_model_with_a_grammar_writes_what_stands(base: Path) -> None:
    pytest.importorskip("llguidance")
    made = write_with(LocalWriter(base, constrained=True), [NODULE, EFFUSION], "en", context=KNOWN)
    assert (made.method, made.check.verdict) == ("tiny-chat", "passed")
    assert "7 mm" in made.text
    assert "CT at 6 to 12 months" in made.text


def test_the_command_line_takes_a_grammar_and_names_the_writer(base: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("llguidance")
    findings = tmp_path / "findings.txt"
    findings.write_text("右肺上叶实性结节，大小约7 mm。", encoding="utf-8")
    command = ["impression", str(findings), "--writer", "local", "--llm-folder", str(base), "--grammar", "--json"]
    assert table.run(command) == 0
    made = json.loads(capsys.readouterr().out)["impression"]["zh"]
    assert made["check"]["written_by"] == "tiny-chat"
    assert made["check"]["verdict"] == "passed"


def test_an_answer_ends_where_the_tokenizer_says(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LocalWriter(base, max_tokens=5)
    model, tokenizer = writer._model()
    ended: list[list[int]] = []
    monkeypatch.setattr(type(model), "generate", lambda self, **o: ended.append(o["eos_token_id"]) or o["input_ids"])
    writer._answer(torch.tensor([[5]]), None)
    assert tokenizer.eos_token_id in ended[0]


def test_list_marks_before_a_line_are_no_part_of_it() -> None:
    known = known_of((NODULE,))
    said = lines.read("FINDINGS\n1. Solid nodule.\n- present: 7 mm nodule.", known, "en")
    assert [s.text for s in said] == ["Solid nodule.", "7 mm nodule."]


# ------------------------------------------------------------------------------------------------ adapters
def test_adapters_learn_beside_weights_that_stay(adapters: Path, base: Path) -> None:
    logged = (adapters.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    norms = [row["grad_norm"] for row in map(json.loads, logged)]
    assert len(norms) == 3
    assert min(norms) > 0
    assert sorted(path.name for path in adapters.iterdir() if path.suffix in (".safetensors", ".bin", ".pt")) == [
        "adapter_model.safetensors"
    ]
    about = json.loads((adapters / "tuning.json").read_text(encoding="utf-8"))
    assert about["base"] == str(base.resolve())


def test_adapters_write_under_guard_and_with_a_grammar(adapters: Path) -> None:
    free = make("tuned", Choice(folder=adapters))
    free.max_tokens = 8
    assert write_with(free, [NODULE], "en", context=KNOWN).check.verdict == "replaced"
    pytest.importorskip("llguidance")
    made = write_with(make("tuned", Choice(folder=adapters, constrained=True)), [NODULE], "en", context=KNOWN)
    assert (made.method, made.check.verdict) == ("impression-lora (tiny-chat)", "passed")


def test_adapters_refuse_another_model(adapters: Path, tmp_path: Path) -> None:
    other = Path(hosts_kit.llama(tmp_path / "other", seed=1, **LONG))
    with pytest.raises(CheckpointError, match="not the language model"):
        TunedWriter(adapters, base=other).draft(known_of((NODULE,)), "en", KNOWN)
    with pytest.raises(UsageError, match="no adapters"):
        TunedWriter(other)


def test_options_name_what_they_need() -> None:
    for name in ("local", "tuned"):
        with pytest.raises(UsageError) as raised:
            make(name)
        assert "--llm-folder" in str(raised.value)


def test_a_constraint_costs_no_step_where_nothing_is_to_be_chosen(base: Path) -> None:
    pytest.importorskip("llguidance")
    model, tokenizer = load_causal(base, "cpu")
    steps: list[Any] = []
    model.register_forward_pre_hook(lambda *_: steps.append(1))
    start = Masks(tokenizer, model.config.vocab_size).start('start: "one way only"')
    written = constrained(model, torch.tensor([[5]]), start)
    assert tokenizer.decode(written, skip_special_tokens=True) == "one way only"
    assert len(steps) < len(written)
