"""The metric pages say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ctscribe.evaluation.downstream import measure_names
from ctscribe.evaluation.registry import default_scorers

DOCS = Path(__file__).parents[1] / "docs"


def test_every_measure_is_explained_and_no_other():
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    headed = {name for line in page.splitlines() if line.startswith("### ") for name in re.findall(r"`([^`]+)`", line)}
    always = {f"{scorer.name}.{m.name}" for scorer in default_scorers() for m in scorer.measures}
    assert headed == always | set(measure_names())


def test_the_examples_of_the_guide_run(tmp_path, monkeypatch, capsys):
    page = (DOCS / "how-to" / "evaluate.md").read_text(encoding="utf-8")
    rows = re.search(r"```json\n(.*?)```", page, re.DOTALL)[1]
    assert [json.loads(row)["id"] for row in rows.splitlines()] == ["s1", "s2"]
    for name in ("predictions.jsonl", "references.jsonl"):
        (tmp_path / name).write_text(rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        scope: dict = {}
        exec(compile(block, "evaluate.md", "exec"), scope)
    assert scope["card"].value("length.words") == pytest.approx(1.0)
    assert "labels18.macro_f1" in capsys.readouterr().out
