"""An earlier scan, a history and laboratory values on their way from the command line to the comparison section."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctscribe.cli.report import _labs
from ctscribe.errors import UsageError
from ctscribe.pipeline import framing
from ctscribe.pipeline.reporter import Reporter

CHANGES = {"lung_nodule": ("larger", 0.9), "mass": ("larger", 0.6), "pleural_effusion": ("resolved", 0.8)}


def test_the_comparison_says_what_became_of_the_findings_in_both_languages() -> None:
    english = [s.text for s in framing.comparison("en", CHANGES, 90)]
    assert english == [
        "Earlier scan, 90 days before.",
        "Larger than before: lung nodule, lung mass.",
        "No longer seen: pleural effusion.",
    ]
    chinese = "".join(s.text for s in framing.comparison("zh", CHANGES))
    assert "较前增大" in chinese
    assert "较前消失" in chinese
    assert [s.text for s in framing.comparison("en")] == ["None available."]
    assert len(framing.comparison("en", {}, None)) == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"history": "Fever."}, "history"),
        ({"labs": {"crp": 80}}, "labs"),
        ({"prior": "earlier"}, "prior"),
        ({"prior_days": 3.0}, "days between"),
        ({"labs": {"ferritin": 80}}, "ferritin"),
    ],
)
def test_the_bundled_model_refuses_what_it_does_not_read(given: dict[str, object], named: str) -> None:
    reporter = Reporter()
    arguments = {"prior": None, "history": "", "labs": None, "prior_days": None} | given
    with pytest.raises(UsageError, match=named):
        reporter._beside(
            reporter.model, arguments["prior"], arguments["prior_days"], arguments["history"], arguments["labs"]
        )


def test_a_file_of_labs_is_a_table(tmp_path: Path) -> None:
    good, bad = tmp_path / "labs.json", tmp_path / "bad.yaml"
    good.write_text('{"crp": 80}', encoding="utf-8")
    bad.write_text("- crp", encoding="utf-8")
    assert _labs(None) is None
    assert _labs(good) == {"crp": 80}
    for path in (bad, tmp_path / "nowhere.json"):
        with pytest.raises(UsageError, match="--labs"):
            _labs(path)
