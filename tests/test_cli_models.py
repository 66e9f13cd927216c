"""The list of options is read from the code: nothing that the code knows may be missing from it."""

from __future__ import annotations

import json
import typing

import pytest

from ctscribe.cli import table
from ctscribe.cli.models import gather
from ctscribe.language import sizes
from ctscribe.language.config import Strategy
from ctscribe.language.times import operations, seconds_to_train
from ctscribe.scene.graph import EdgeType
from ctscribe.training.losses import standard_losses
from ctscribe.vision.config import Backbone
from ctscribe.vision.positions import PositionKind


def test_every_option_has_its_words_its_default_and_its_meaning() -> None:
    facts = gather()
    rows = {row["option"]: row for row in facts["options"]}
    expected = {
        "encoder.backbone": Backbone,
        "encoder.positions": PositionKind,
        "scene.edges_off": EdgeType,
        "language.strategy": Strategy,
    }
    for name, words in expected.items():
        assert set(rows[name]["words"]) == set(typing.get_args(words))
    assert rows["encoder.backbone"]["words"][0] == rows["encoder.backbone"]["default"] == "pyramid"
    assert rows["inputs.drop"]["default"] == 0.3
    assert [name for name, row in rows.items() if not row["about"]] == []
    assert [loss["loss"] for loss in facts["losses"]] == list(standard_losses())
    assert all(loss["about"] for loss in facts["losses"])
    assert {"classical", "totalsegmentator", "lungmask"} <= set(facts["segmenters"])


def test_the_printed_list_says_the_default_of_every_option(capsys: pytest.CaptureFixture) -> None:
    assert table.run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for start in (
        "encoder.backbone: pyramid | ",
        "encoder.positions: list of rope | learned | none = rope, rope, rope  --",
        "scene.edges_off: list of spatial | anatomical | learned = none  --",
        "encoder.public.weights: str = ''  --",
        "encoder.skip_air: bool = False  --",
    ):
        assert any(line.startswith(start) for line in lines), start


def test_the_memory_table_has_a_line_for_each_way_of_learning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("peft", reason="peft is not installed (extra llm)")
    whole = sizes.memory_table
    monkeypatch.setattr(sizes, "memory_table", lambda: whole(["tiny"]))
    assert table.run(["models", "--memory", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["memory"]
    training = [row for row in rows if row["use"] == "training"]
    assert all(row["eight_gpus"] < row["one_gpu"] for row in training)
    assert all(row["recomputing"] <= row["one_gpu"] for row in training)
    assert all(0 < row["seconds_a_step"] < row["seconds_recomputing"] for row in training)
    assert all(row["eight_gpus_token"] < row["seconds_a_token"] for row in rows if row["use"] == "inference")
    assert table.run(["models", "--memory"]) == 0
    printed = capsys.readouterr().out
    assert "tiny, preset tiny: " in printed
    assert [line.split()[:2] for line in printed.splitlines() if line.startswith(("  all", "  lora"))] == [
        [adapt, dtype] for adapt in ("all", "lora") for dtype in ("float32", "bfloat16")
    ]
    assert "Arithmetic, not measurement" in printed


def test_operations_follow_the_rule_of_thumb() -> None:
    """Training all of a decoder costs six operations a parameter and token; recomputing makes it eight."""
    pytest.importorskip("peft", reason="peft is not installed (extra llm)")
    rows = {(row.adapt, row.dtype): row for row in sizes.memory_table(["tiny"]) if row.use == "training"}
    row = rows["all", "float32"]
    used = row.decoder + row.grafts
    assert operations(row, tokens=10) == 60 * used
    assert operations(row, tokens=10, checkpointing=True) == 80 * used
    assert operations(rows["lora", "float32"], tokens=10) < 60 * used
    assert seconds_to_train(rows["all", "bfloat16"]) == pytest.approx(seconds_to_train(row) / 2)
