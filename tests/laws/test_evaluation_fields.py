"""No setting of an evaluation or of a reader study is read and then ignored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctscribe.errors import CTScribeError
from ctscribe.evaluation import Measure, Scorer, evaluate
from ctscribe.evaluation import run as running
from ctscribe.evaluation.reader_study.power import Plan
from ctscribe.evaluation.run import Settings

TEXTS = (
    "A 12 mm nodule in the right upper lobe.",
    "The heart is enlarged.",
    "No pleural effusion.",
    "右肺上叶见结节。",
)


class Words(Scorer):
    """How long the reports are, and how much they state."""

    name = "length"
    measures = (Measure("words", "Words.", 0.0, None), Measure("findings", "Findings.", 0.0, None))

    def tally(self, pairs: Sequence[Any]) -> np.ndarray:
        found = [(len(p.candidate.tokens), len(p.candidate.findings), len(p.reference.tokens)) for p in pairs]
        return np.array(found, dtype=float)

    def values(self, totals: np.ndarray) -> dict[str, Any]:
        return {"words": totals[..., 0] / totals[..., 2], "findings": totals[..., 1] / totals[..., 2]}


class Other(Words):
    """The same under another name."""

    name = "other"


SETTINGS: dict[str, Any] = {
    "scorers": (Other(),),
    "extra": (Other(),),
    "pool": "pool.jsonl",
    "language": "zh",
    "findings_from": "text",
    "partial": True,
    "baselines": False,
    "resamples": 20,
    "permutations": 3,
    "seed": 1,
    "by": ("site",),
    "form": "csv",
    "ref_form": "csv",
    "processes": 2,
}
PLAN: dict[str, Any] = {
    "difference": 0.3,
    "sd": 1.5,
    "readers": 4,
    "reader_share": 0.2,
    "case_share": 0.2,
    "alpha": 0.01,
}


def test_there_is_a_case_for_every_field() -> None:
    assert {f.name for f in fields(Settings)} == set(SETTINGS)
    assert {f.name for f in fields(Plan)} == set(PLAN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight references; predictions of all or of six, shorter, one of which states more findings than its text."""
    made = tmp_path_factory.mktemp("reports")
    said = [TEXTS[n % 4] for n in range(8)]
    extra = {"findings": [{"kind": "emphysema"}, {"kind": "mass"}, {"kind": "lung_nodule"}]}
    rows = {
        "ref.jsonl": [{"id": f"s{n}", "text": f"{text} {text}", "site": "AB"[n % 2]} for n, text in enumerate(said)],
        "pred.jsonl": [{"id": f"s{n}", "text": t} | (extra if n == 0 else {}) for n, t in enumerate(said)],
        "few.jsonl": [{"id": f"s{n}", "text": text} for n, text in enumerate(said[:6])],
        "pool.jsonl": [{"id": f"p{n}", "text": f"{TEXTS[1]} {TEXTS[0]}"} for n in range(3)],
    }
    for name, lines in rows.items():
        (made / name).write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return made


def scored(folder: Path, predictions: str = "pred.jsonl", **changes: Any) -> str:
    """The scorecard, or why there is none."""
    plain: dict[str, Any] = {"scorers": (Words(),), "resamples": 5, "permutations": 2, "language": "en"}
    try:
        return evaluate(folder / predictions, folder / "ref.jsonl", **{**plain, **changes}).to_json()
    except CTScribeError as error:
        return error.what


@cache
def plainly(folder: Path, predictions: str) -> str:
    return scored(folder, predictions)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_an_evaluation_matters(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = folder / SETTINGS[name] if name == "pool" else SETTINGS[name]
    if name == "processes":
        asked: list[int] = []
        crew = running.Crew
        monkeypatch.setattr(running, "Crew", lambda count: asked.append(count) or crew(1))
        scored(folder, processes=value)
        assert asked == [2]
        return
    predictions = "few.jsonl" if name == "partial" else "pred.jsonl"
    assert plainly(folder, predictions) != scored(folder, predictions, **{name: value})


@pytest.mark.parametrize("name", PLAN)
def test_a_number_of_a_planned_study_matters(name: str) -> None:
    plan = Plan(0.5, 1.0, 3)
    assert plan.power(20, other_readers=True) != replace(plan, **{name: PLAN[name]}).power(20, other_readers=True)
