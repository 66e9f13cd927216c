"""Answers that came back: what is read, and one clear refusal for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctscribe.errors import CTScribeError, InputRefused, UnreadableInput, UsageError
from ctscribe.evaluation.reader_study import read_answers
from ctscribe.evaluation.reader_study.questions import MOST_ERRORS
from readers import reading_set, rows, save, scan_rows

MADE = reading_set(count=4, repeats=1)
KEY = MADE.key


def refused(paths, key=KEY, **options) -> CTScribeError:
    with pytest.raises((InputRefused, UnreadableInput)) as caught:
        read_answers([paths] if isinstance(paths, Path) else paths, key, **options)
    return caught.value


def changed(tmp_path: Path, **cells: object) -> Path:
    """All answers, with the cells of the third row changed."""
    table = rows(MADE)
    table[2].update(cells)
    return save(tmp_path / "answers.csv", table)


def test_answers_come_back_as_they_were_given(tmp_path: Path):
    def judge(item):
        return {"clinical_accuracy": 4, "completeness": "na", "relevance": 1, "actionability": 5,
                "missed_finding_significant": 2, "comment": f"右肺 {item.code}, \"so\""}  # fmt: skip

    save(tmp_path / "answers.csv", rows(MADE, judge))
    found = read_answers([tmp_path], KEY)
    assert [reading.item for reading in found.readings] == list(KEY.items)
    assert found.notes == ()
    for reading in found.readings:
        assert reading.scores == {"clinical_accuracy": 4, "relevance": 1, "actionability": 5}
        assert sum(reading.errors.values()) == reading.errors["missed_finding_significant"] == 2
        assert reading.comment == f'右肺 {reading.item.code}, "so"'
        assert reading.seconds == 30


def test_one_file_of_each_reader_in_any_form(tmp_path: Path):
    first, second, third = (rows(MADE, reader=reader) for reader in KEY.readers)
    save(tmp_path / "a.csv", first, delimiter=";")
    save(tmp_path / "b.csv", second, delimiter="\t", encoding="utf-8")
    body = {"format": "ctscribe-reader-study-answers", "version": 1, "study": KEY.study, "instrument": "1"}
    (tmp_path / "c.json").write_text(json.dumps({**body, "items": third}))
    by_folder = read_answers([tmp_path], KEY)
    assert len(by_folder.readings) == len(KEY.items)
    assert read_answers([tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.json"], KEY) == by_folder


def test_a_spreadsheet_may_write_four_as_4_0(tmp_path: Path):
    found = read_answers([changed(tmp_path, clinical_accuracy="4.0", relevance=" 5 ", completeness="3,0")], KEY)
    assert (found.readings[2].scores["clinical_accuracy"], found.readings[2].scores["relevance"]) == (4, 5)
    assert found.readings[2].scores["completeness"] == 3


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ({"item": "BCDFGH"}, "unknown_items"),
        ({"item": ""}, "unknown_items"),
        ({"study": "OTHERS"}, "wrong_study"),
        ({"reader": "reader-3"}, "wrong_reader"),
        ({"clinical_accuracy": 6}, "out_of_range"),
        ({"clinical_accuracy": 0}, "out_of_range"),
        ({"clinical_accuracy": "4.5"}, "out_of_range"),
        ({"clinical_accuracy": "good"}, "out_of_range"),
        ({"relevance": "2026-05-04"}, "out_of_range"),
        ({"false_finding_minor": -1}, "out_of_range"),
        ({"false_finding_minor": MOST_ERRORS + 1}, "out_of_range"),
        ({"actionability": ""}, "missing_answers"),
    ],
)
def test_one_wrong_cell_is_one_clear_error(tmp_path: Path, cells: dict, code: str):
    error = refused(changed(tmp_path, **cells))
    assert error.code == code
    assert "answers.csv line 4" in error.got or MADE.key.items[2].code in error.got
    assert error.expected


def test_the_same_item_twice_is_refused_within_and_between_files(tmp_path: Path):
    table = rows(MADE)
    save(tmp_path / "answers.csv", [*table, table[0]])
    assert refused(tmp_path).code == "duplicate_items"
    save(tmp_path / "answers.csv", table)
    save(tmp_path / "copy.csv", rows(MADE, reader="reader-2"))
    error = refused(tmp_path)
    assert error.code == "duplicate_items"
    assert "copy.csv line 2" in error.got
    assert "more" in error.got


def test_what_is_missing_is_refused_or_noted(tmp_path: Path):
    table = [row for row in rows(MADE) if row["reader"] != "reader-2"]
    table[0]["relevance"] = ""
    save(tmp_path / "answers.csv", table)
    error = refused(tmp_path)
    assert error.code == "missing_answers"
    assert "9 items of reader-2" in error.got
    assert f"{table[0]['item']} (relevance)" in error.got
    found = read_answers([tmp_path], KEY, partial=True)
    assert len(found.readings) == len(table)
    assert "relevance" not in found.readings[0].scores
    assert "9 items of reader-2" in found.notes[0]


def test_blank_forms_and_the_key_among_the_answers_are_passed_over(tmp_path: Path):
    for name, content in MADE.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert refused(tmp_path).code == "no_answers"
    save(tmp_path / "answers.csv", rows(MADE))
    found = read_answers([tmp_path], KEY)
    assert len(found.readings) == len(KEY.items)
    assert sum("blank form" in note for note in found.notes) == 3
    assert sum("the key lies among the answers" in note for note in found.notes) == 1


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.csv", "reader,item\nreader-1,XX\n".encode("utf-16"), "wrong_encoding"),
        ("a.csv", "item;comment\nXX;Größe\n".encode("cp1252"), "wrong_encoding"),
        ("a.csv", "item,comment\nXX,右肺\n".encode("gb18030"), "wrong_encoding"),
        ("a.csv", "item,comment\nXX,右肺\n".encode().decode("cp1252", "replace").encode(), "wrong_encoding"),
        ("a.csv", b"PK\x03\x04 a workbook", "wrong_encoding"),
        ("a.csv", b"reader,name\n1,2\n", "not_answers"),
        ("a.csv", b"", "not_answers"),
        ("a.csv", b"item,clinical_accuracy,completeness,relevance\nX,1,2,3\n", "not_answers"),
        ("a.json", b"{", "not_answers"),
        ("a.json", b"[]", "not_answers"),
        ("a.json", b'{"format": "ctscribe-reader-study-answers", "items": [3]}', "not_answers"),
        (
            "a.json",
            b'{"format": "ctscribe-reader-study-answers", "instrument": "0", "items": []}',
            "wrong_instrument",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes, code: str):
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path)
    assert error.code == code
    assert name in error.what


def test_no_file_at_all(tmp_path: Path):
    assert refused(tmp_path).code == "no_answers"
    assert refused(tmp_path / "nothing.csv").code == "not_found"
    with pytest.raises(UsageError):
        read_answers([], KEY)


def test_checklists_come_back_and_are_checked(tmp_path: Path):
    made = reading_set(count=4, repeats=0, findings=True)
    table = scan_rows(made, lambda reader, case: {"lung_nodule"} if case == "c1" else set())
    save(tmp_path / "answers.csv", rows(made))
    save(tmp_path / "findings.csv", table)
    found = read_answers([tmp_path], made.key)
    assert [s.scan for s in found.scans] == list(made.key.scans)
    assert all((s.marks["lung_nodule"] == "present") == (s.scan.case == "c1") for s in found.scans)
    table[0]["lung_nodule"] = "perhaps"
    save(tmp_path / "findings.csv", table)
    assert refused(tmp_path, made.key).code == "out_of_range"
    table[0]["lung_nodule"] = ""
    save(tmp_path / "findings.csv", table)
    assert refused(tmp_path, made.key).code == "missing_answers"
