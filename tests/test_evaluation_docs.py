"""The metric pages say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ctscribe.evaluation import Pair, Record, adapters, score_pair
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.downstream import measure_names
from ctscribe.evaluation.faithfulness import Faithfulness
from ctscribe.evaluation.reading import findings_of
from ctscribe.evaluation.registry import default_scorers
from ctscribe.evaluation.rouge import RougeL

DOCS = Path(__file__).parents[1] / "docs"


def test_every_measure_is_explained_and_no_other():
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    headed = {name for line in page.splitlines() if line.startswith("### ") for name in re.findall(r"`([^`]+)`", line)}
    always = {f"{scorer.name}.{m.name}" for scorer in default_scorers() for m in scorer.measures}
    assert headed == always | set(measure_names())


def test_every_number_of_a_scorecard_says_when_it_lies():
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    sections = re.split(r"^(?=##)", page, flags=re.MULTILINE)
    silent = [
        part.split("\n")[0] for part in sections if part.startswith("### `") and not re.search(r"\blies?\b", part)
    ]
    assert silent == []


def test_the_table_of_x_ray_bias_names_every_adapter_and_agrees_with_it():
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    table = page.split("### X-ray bias")[1].split("\n\n")[2]
    learned = {
        name: cells[2].strip()
        for cells in (line.split("|") for line in table.splitlines()[2:])
        for name in re.findall(r"`(\w+)`", cells[1])
    }
    assert set(learned) == set(adapters.available())
    assert {name for name, said in learned.items() if said == "only"} == {
        name for name, adapter in adapters.available().items() if adapter.xray_only
    }


def test_the_flipped_negation_is_worth_what_the_page_says():
    def pair(said: str) -> Pair:
        truth = "There is no pleural effusion."
        return Pair(*(Record("s", text, findings=findings_of(text, "en")) for text in (said, truth)))

    flipped, right = pair("There is a pleural effusion."), pair("Both pleural spaces are dry.")
    for scorer, measure in ((Bleu(), "bleu1"), (RougeL(), "rouge_l")):
        assert score_pair(scorer, flipped).values[measure] == pytest.approx(0.8)
        assert score_pair(scorer, right).values[measure] == pytest.approx(0.2)
    told = score_pair(Faithfulness(), flipped).values
    assert (told["hallucination"], told["contradiction"]) == (1.0, 1.0)
    assert score_pair(Faithfulness(), right).explanation["hallucinated"] == []


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
