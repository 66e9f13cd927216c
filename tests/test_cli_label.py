"""``ctscribe label``: a file of reports in, CT-RATE's 18 columns out; bad files are refused with what is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ctscribe import ontology
from ctscribe.cli.table import run
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.evaluation.labelling import label_file

TEXTS = {
    "a": "Ground-glass opacities in both lungs. No pleural effusion.",
    "b": 'The heart is enlarged, "said the report".\nNo nodule.',
    "c": "双侧胸腔积液。",
    "d": "",
}
LABELS = list(ontology.ct_rate_labels())
POSITIVE = {"a": {"Lung opacity"}, "b": {"Cardiomegaly"}, "c": {"Pleural effusion"}, "d": set()}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    path = tmp_path / "reports.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "report_text", "age", "Cardiomegaly"])
        writer.writeheader()
        writer.writerows({"id": i, "report_text": t, "age": 50, "Cardiomegaly": 9} for i, t in TEXTS.items())
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def positive(row: dict[str, str]) -> set[str]:
    assert {row[label] for label in LABELS} <= {"0", "1"}
    return {label for label in LABELS if row[label] == "1"}


def test_the_columns_are_those_of_ct_rate_behind_the_others(reports, tmp_path, capsys):
    assert run(["label", str(reports), "--text-column", "report_text", "--out", str(tmp_path / "out.csv")]) == 0
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["id", "age", *LABELS]
    assert {row["id"]: positive(row) for row in rows} == POSITIVE
    assert "4 reports, 1 of them without text" in capsys.readouterr().out


def test_one_column_is_kept_and_counts_are_told_to_machines(reports, tmp_path, capsys):
    out = tmp_path / "new" / "out.csv"
    assert run(["label", str(reports), "--id-column", "id", "--out", str(out), "--json"]) == 0
    assert list(rows_of(out)[0]) == ["id", *LABELS]
    told = json.loads(capsys.readouterr().out)
    assert (told["reports"], told["empty"], told["positive"]["Lung opacity"]) == (4, 1, 1)


def test_json_lines_give_the_same_labels(reports, tmp_path):
    lines = tmp_path / "reports.jsonl"
    lines.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in TEXTS.items()), encoding="utf-8")
    label_file(lines, tmp_path / "out.jsonl", text_column="text")
    read = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["id"]: {label for label in LABELS if row[label] == 1} for row in read} == POSITIVE


def test_two_processes_give_what_one_gives(tmp_path):
    many = tmp_path / "many.csv"
    many.write_text("n,report_text\n" + "".join(f"{n},Nodule {n} mm. No effusion.\n" for n in range(700)), "utf-8")
    for processes in (1, 2):
        label_file(many, tmp_path / f"{processes}.csv", processes=processes)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert [row["n"] for row in rows_of(tmp_path / "2.csv")] == [str(n) for n in range(700)]


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        (b"id,text\n1,Nodule.\n", "missing_column", "report_text"),
        (b"", "empty_file", "header"),
        (b"id,report_text\n", "empty_file", "at least one row"),
        (b"id,report_text\n1,Nodule\xff.\n", "wrong_encoding", "0xff"),
        ("id,report_text\n1,Nodule.\n".encode("utf-16"), "wrong_encoding", "UTF-16"),
        (b"id,report_text\n1,Nodule, no effusion.\n", "bad_row", "line 2"),
        (b"id,id,report_text\n1,2,Nodule.\n", "bad_header", "id"),
    ],
)
def test_a_bad_file_is_refused_and_leaves_nothing(tmp_path, content, code, named):
    source = tmp_path / "in.csv"
    source.write_bytes(content)
    with pytest.raises(UnreadableInput) as caught:
        label_file(source, tmp_path / "out.csv")
    assert caught.value.code == code
    assert named in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("line", "code"),
    [("{", "not_jsonl"), ("[1]", "not_jsonl"), ('{"report_text": 3}', "bad_row"), ('{"text": ""}', "missing_column")],
)
def test_a_bad_line_is_refused(tmp_path, line, code):
    source = tmp_path / "in.jsonl"
    source.write_text('{"report_text": "Nodule."}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UnreadableInput) as caught:
        label_file(source, tmp_path / "out.csv")
    assert (caught.value.code, "line 2" in str(caught.value)) == (code, True)


def test_other_files_and_no_file_are_refused(reports, tmp_path):
    assert run(["label", str(reports), "--out", str(tmp_path / "out.txt")]) == 2
    assert run(["label", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out.csv")]) == 3
    with pytest.raises(UsageError):
        label_file(tmp_path / "reports.xlsx", tmp_path / "out.csv")
    with pytest.raises(UsageError):
        label_file(reports, tmp_path / "out.csv", processes=0)
