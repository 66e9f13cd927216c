"""``ctscribe impression``: from a file of findings to an impression, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctscribe.cli import table
from ctscribe.report import Finding, Report, ReportText, Sentence

NODULE = {"kind": "lung_nodule", "regions": ["right_upper_lobe"], "size_mm": [7.0], "attributes": {"density": "solid"}}
KNOWN = "age=61,smoker=true,screening=false,cancer=false,immunosuppressed=false"


def written(tmp_path: Path, name: str, content: object) -> str:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_a_text_becomes_numbered_lines_with_references(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(tmp_path, "findings.txt", "A 7 mm solid nodule in the right upper lobe. No pleural effusion.")
    assert table.run(["impression", path, "--context", KNOWN]) == 0
    out = capsys.readouterr().out
    assert "Fleischner Society 2017: CT at 6 to 12 months, then CT at 18 to 24 months." in out
    assert "doi:10.1148/radiol.2017161659" in out
    assert "Needed to settle" not in out


def test_missing_facts_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert table.run(["impression", written(tmp_path, "f.json", [NODULE])]) == 0
    out = capsys.readouterr().out
    assert "if at low risk" in out
    assert "if at high risk" in out
    assert (
        "Needed to settle the follow-up: whether this is a lung-cancer screening examination, the patient's age" in out
    )


def test_json_says_which_finding_and_which_reference_each_statement_rests_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = written(tmp_path, "f.json", {"findings": [NODULE], "context": {"age": 61, "smoker": True}})
    assert table.run(["impression", path, "--lang", "both", "--json", "--out", str(tmp_path / "out.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    for language in ("en", "zh"):
        told = {s["role"]: s for s in printed["impression"][language]["statements"]}
        assert told["follow_up"]["findings"] == [0]
        assert told["follow_up"]["citations"] == ["fleischner_2017"]


def test_a_report_json_is_read_in_its_language_and_its_words_are_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    finding = Finding("pneumothorax", regions=("left_pleura",))
    text = ReportText(findings=(Sentence("左侧气胸。", (0,)), Sentence("纵隔向右移位。")))
    path = written(tmp_path, "report.json", Report((finding,), {"zh": text}).to_json())
    assert table.run(["impression", path]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "1. 危急结果，须在数分钟内通知：张力性征象。"


def test_a_context_file_and_own_guidelines_are_used(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    context = written(tmp_path, "context.yaml", "screening: true\ndetails:\n- {finding: 0, solid_part_mm: 7}\n")
    findings = written(tmp_path, "f.json", [NODULE | {"attributes": {"density": "part_solid"}, "size_mm": [9]}])
    assert table.run(["impression", findings, "--context", context, "--use", "lung_rads_2022"]) == 0
    assert "ACR Lung-RADS v2022 category 4A: low-dose CT at 3 months" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "options", "code"),
    [
        ("missing.json", None, [], 3),
        ("empty.txt", " ", [], 3),
        ("broken.json", "{", [], 3),
        ("other.json", {"studies": []}, [], 3),
        ("f.json", [{"kind": "unicorn"}], [], 2),
        ("f.json", [NODULE], ["--context", "aeg=61"], 2),
        ("f.json", [NODULE], ["--context", "age=old"], 2),
        ("f.json", [NODULE], ["--use", "no_such_guideline"], 2),
        ("f.json", [NODULE], ["--guidelines", "no-such-folder"], 2),
        ("f.json", [NODULE], ["--out", "out.txt"], 2),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_exit_code(
    name: str, content: object, options: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = str(tmp_path / name) if content is None else written(tmp_path, name, content)
    assert table.run(["impression", path, *options]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "expected:" in err
    assert "Traceback" not in err
