"""An impression head: layers on a report writer that learn alone, write impressions, and are kept beside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests import language_kit as kit
from tests import tiny as small

from ctscribe import checkpoint, ontology
from ctscribe.checkpoint import ModelInfo
from ctscribe.errors import CheckpointError, ConfigError, EndpointError, UsageError
from ctscribe.facts import facts_of
from ctscribe.impression import Context, Statement, lines, write
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.writing import write_with
from ctscribe.language.head import HeadConfig, head_params, with_head
from ctscribe.language.station import Writer
from ctscribe.model import Thresholds
from ctscribe.pipeline.writers import Choice, HeadWriter, make
from ctscribe.report import Finding
from ctscribe.training import impression_head
from ctscribe.training.impression_pairs import Pairs, head_target
from recipes import impression_head as recipe

NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (7,), (("density", "solid"), ("number", "single")))
EFFUSION = Finding("pleural_effusion", "uncertain", ("left_pleura",))
KNOWN = Context(age=61, smoker=True, cancer=False, immunosuppressed=False, screening=False)
THRESHOLDS = Thresholds({}, {})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose report writer may write an impression's length."""
    folder = tmp_path_factory.mktemp("base") / "model"
    return checkpoint.save(folder, small.build(), ModelInfo("tiny"), THRESHOLDS, dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of the recipe."""
    config = recipe.config()
    stage = replace(config.train.stages[0], steps=3, warmup=1, batch_size=2, bucket=2)
    train = replace(config.train, stages=(stage,), precision="float32", checkpoint_every=0, log_every=1, ema=0.5)
    head = HeadConfig(layers=2, max_tokens=24)
    config = replace(config, base=str(base), train=train, head=head)
    return impression_head.run(config, tmp_path_factory.mktemp("run"))


def known_of(findings: tuple[Finding, ...], language: ontology.Language = "en") -> Known:
    ruled = write(findings, language, context=KNOWN)
    return Known(findings, ruled.recommendations, ruled.statements)


# ------------------------------------------------------------------------------------------------- layers
def test_an_untaught_head_writes_what_the_report_writer_writes() -> None:
    writer = kit.writer()
    grown = with_head(writer, HeadConfig(layers=2, max_tokens=writer.config.max_tokens))
    facts, ids = small.facts(), kit.tokens()
    assert torch.equal(grown(facts, ids, None), writer(facts, ids, None))
    assert grown.write(facts, ["en"] * 2) == writer.write(facts, ["en"] * 2)


def test_a_taught_head_decodes_with_a_cache_as_without() -> None:
    grown = kit.fill(with_head(kit.writer(), HeadConfig(layers=2))).eval()
    cached, plain = kit.cached_and_plain(grown, torch.tensor([[1, 3], [1, 4]]))
    assert torch.equal(cached, plain)


def test_the_report_writer_is_left_as_it_was() -> None:
    writer = kit.writer()
    before = {name: value.clone() for name, value in writer.state_dict().items()}
    grown = with_head(writer, HeadConfig(layers=1))
    for name in head_params(grown, 1):
        torch.nn.init.ones_(grown.get_parameter(name))
    after = writer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("changes", [{"strategy": "encoder_decoder"}, {"strategy": "top_down"}])
def test_writers_without_layers_to_grow_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="further layers"):
        with_head(kit.writer(gate=None, **changes), HeadConfig(layers=1))
    with pytest.raises(ConfigError, match="more new layers"):
        with_head(kit.writer(), HeadConfig(layers=9))
    with pytest.raises(ConfigError, match="at least 1"):
        HeadConfig(layers=0)


# ----------------------------------------------------------------------------------------------- learning
@pytest.mark.parametrize("comments", [False, True])
@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_what_it_is_taught_passes_the_guard_once_the_rules_have_added_their_part(
    language: ontology.Language, comments: bool
) -> None:
    pairs = Pairs(4, (language,))
    for index in range(6):
        pair = pairs[index]
        made = lines.with_given(lines.read(head_target(pair, comments), pair.known, language), pair.known)
        assert problems(made, pair.known, language) == ()


def test_only_the_new_layers_learn_and_only_they_are_kept(trained: Path, base: Path) -> None:
    kept = load_file(trained / "model.safetensors")
    assert {name.split(".")[4] for name in kept} == {"4", "5"}
    rows = (trained.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert min(json.loads(row)["grad_norm"] for row in rows) > 0
    assert any(value.abs().max() > 0 for name, value in kept.items() if "down_proj" in name)
    assert json.loads((trained / "config.json").read_text(encoding="utf-8"))["folder"] == str(base)


def test_a_head_comes_back_as_it_was_saved(trained: Path) -> None:
    writer, card = checkpoint.load_head(trained)
    facts = facts_of([(NODULE,), (EFFUSION,)])
    again, _ = checkpoint.load_head(trained)
    ids = kit.tokens()
    assert torch.equal(writer(facts, ids, None), again(facts, ids, None))
    assert (card.name, card.base, card.languages, card.head.layers) == ("impression-head", "tiny", ("en", "zh"), 2)
    assert isinstance(writer, Writer)


def test_a_head_belongs_to_one_model_folder(trained: Path, tmp_path: Path) -> None:
    other = checkpoint.save(tmp_path / "other", small.build(1), ModelInfo("other"), THRESHOLDS)
    with pytest.raises(CheckpointError, match="another model folder"):
        checkpoint.load_head(trained, base=other)
    broken = Path(shutil.copytree(trained, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load_head(broken)
    with pytest.raises(CheckpointError, match="no impression head"):
        checkpoint.load_head(other)


# ------------------------------------------------------------------------------------------------ writing
def test_a_head_writes_under_guard(trained: Path, base: Path) -> None:
    made = write_with(make("head", Choice(folder=trained, base=base)), [NODULE, EFFUSION], "en", context=KNOWN)
    assert made.check is not None
    assert (made.check.writer, made.method, made.check.verdict) == ("impression-head", "rules", "replaced")
    assert "CT at 6 to 12 months" in made.text


def test_a_faithful_head_stands_with_the_follow_up_of_the_rules(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def says(self: Writer, facts: object, languages: list[str], **options: int) -> list[str]:
        asked.append(options["beams"])
        lies = "A 9 mm nodule is seen in the left upper lobe."
        return [
            lies if len(asked) == 1 else "A solid nodule of 7 mm is seen in the right upper lobe.\nConsider metastasis."
        ]

    monkeypatch.setattr(Writer, "write", says)
    made = write_with(HeadWriter(trained), [NODULE], "en", context=KNOWN)
    assert asked == [1, 4]
    assert (made.method, made.check.verdict) == ("impression-head", "corrected")
    roles = [s.role for s in made.statements]
    assert roles.index("follow_up") > roles.index("finding")
    assert made.statements[0].text == "A solid nodule of 7 mm is seen in the right upper lobe."


def test_given_sentences_follow_the_last_line_about_their_finding() -> None:
    known = known_of((NODULE, EFFUSION))
    own = [
        Statement("Nodule.", "finding", (0,)),
        Statement("Consider x.", "differential", (0,)),
        Statement("Y.", "finding", (1,)),
    ]
    made = lines.with_given(own, known)
    assert [s.role for s in made] == ["finding", "differential", "follow_up", "finding"]


def test_a_language_that_was_not_taught_and_a_folder_that_is_none_are_named(trained: Path, tmp_path: Path) -> None:
    one = Path(shutil.copytree(trained, tmp_path / "one"))
    card = json.loads((one / "card.json").read_text(encoding="utf-8"))
    (one / "card.json").write_text(json.dumps(card | {"languages": ["en"]}), encoding="utf-8")
    with pytest.raises(EndpointError, match="language"):
        HeadWriter(one).draft(known_of((NODULE,), "zh"), "zh", KNOWN)
    for folder in (tmp_path, None):
        with pytest.raises(UsageError) as raised:
            make("head", Choice(folder=folder))
        assert "impression_head" in str(raised.value)
