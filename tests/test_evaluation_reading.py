"""JSONL in: what is read, and one clear error for everything that is wrong."""

from __future__ import annotations

import json

import pytest

from ctscribe.errors import CTScribeError, InputRefused, UnreadableInput
from ctscribe.evaluation.reading import read_reports
from ctscribe.evaluation.record import Record
from ctscribe.evaluation.run import pair_up
from ctscribe.report import Finding

GOOD = {"id": "s1", "text": "The heart is enlarged.", "language": "en", "findings": [{"kind": "cardiomegaly"}]}


def write(path, *rows, encoding="utf-8"):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def test_a_row_is_read_whole(tmp_path):
    nodule = {
        "kind": "lung_nodule",
        "regions": ["left_upper_lobe"],
        "size_mm": [8.0, 6],
        "attributes": {"density": "solid"},
    }
    row = {"id": 7, "findings_text": "A nodule.", "impression": "Nodule.", "patient": "p", "findings": [nodule]}
    (record,) = read_reports(write(tmp_path / "a.jsonl", row, "")).records
    assert (record.id, record.text, record.language, record.patient) == ("7", "A nodule.\nNodule.", "en", "p")
    expected = Finding(
        "lung_nodule", regions=("left_upper_lobe",), size_mm=(8.0, 6), attributes=(("density", "solid"),)
    )
    assert (record.findings, record.parsed) == ((expected,), False)


@pytest.mark.parametrize("patient", ["", "  ", None, float("nan")])
def test_an_empty_patient_is_no_patient(tmp_path, patient):
    rows = [{**GOOD, "id": name, "patient": patient} for name in "ab"]
    assert len({record.cluster for record in read_reports(write(tmp_path / "a.jsonl", *rows)).records}) == 2


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n" + json.dumps({**GOOD, "id": "s2"}).encode())
    assert [r.id for r in read_reports(path).records] == ["s1", "s2"]


def test_language_is_told_from_the_script_when_not_stated_and_the_notes_say_so(tmp_path):
    rows = [{"id": "a", "text": "心脏增大。", "findings": []}, {"id": "b", "text": "Clear lungs.", "findings": []}]
    found = read_reports(write(tmp_path / "a.jsonl", *rows))
    assert [r.language for r in found.records] == ["zh", "en"]
    assert any("2 reports do not state a language" in note for note in found.notes)


def test_one_language_can_be_chosen_from_a_bilingual_file(tmp_path):
    rows = [{"id": "a", "text": "心脏增大。", "findings": []}, {"id": "a", "text": "Big heart.", "findings": []}]
    found = read_reports(write(tmp_path / "a.jsonl", *rows), language="zh")
    assert [(r.id, r.language) for r in found.records] == [("a", "zh")]
    assert any("1 reports in another language" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "code", "says"),
    [
        ([GOOD, {"text": "No id."}], "missing_ids", "line 2"),
        ([{**GOOD, "id": ""}], "missing_ids", "line 1"),
        ([{**GOOD, "id": None}], "missing_ids", "line 1"),
        ([{**GOOD, "id": float("nan")}], "missing_ids", "line 1"),
        ([GOOD, {**GOOD, "id": "s2"}, GOOD], "duplicate_ids", "'s1' in lines 1 and 3"),
        ([{**GOOD, "text": "  "}], "empty_texts", "line 1"),
        ([{"id": "s1", "language": "en"}], "empty_texts", "line 1"),
        ([{**GOOD, "text": 5}], "not_jsonl", "a string"),
        ([{**GOOD, "text": "cafÃ© sign"}], "wrong_encoding", "line 1"),
        ([{**GOOD, "text": "caf\ufffd sign"}], "wrong_encoding", "UTF-8"),
        (["{'id': 1}"], "not_jsonl", "line 1"),
        (["[1, 2]"], "not_jsonl", "a JSON object"),
        ([], "no_reports", "at least one"),
        ([{**GOOD, "language": "de"}], "unknown_language", "en | zh"),
        ([{**GOOD, "language": "zh"}], "mixed_languages", "'zh'"),
        ([{**GOOD, "text": "The heart is enlarged. 心脏增大,双肺清晰。"}], "mixed_languages", "Chinese characters"),
        ([{**GOOD, "findings": {}}], "bad_findings", "a list"),
        ([{**GOOD, "findings": [{"kind": "cardiomegaly", "colour": "red"}]}], "bad_report", "colour"),
    ],
)
def test_bad_rows_get_one_clear_error(tmp_path, rows, code, says):
    path = write(tmp_path / "bad.jsonl", *rows)
    with pytest.raises(InputRefused) as caught:
        read_reports(path)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert "bad.jsonl" in str(caught.value)


def test_an_unknown_finding_kind_is_refused(tmp_path):
    with pytest.raises(CTScribeError, match="leprechaun"):
        read_reports(write(tmp_path / "a.jsonl", {**GOOD, "findings": [{"kind": "leprechaun"}]}))


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_other_encodings_are_refused_by_name_and_line(tmp_path, encoding):
    path = write(tmp_path / "a.jsonl", {"id": "a", "text": "心脏增大。", "findings": []}, encoding=encoding)
    with pytest.raises(UnreadableInput, match=r"a\.jsonl.*encoding"):
        read_reports(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="cannot be read"):
        read_reports(tmp_path / "nowhere.jsonl")


# ------------------------------------------------------------------------------------------ pairing


def records(*names: str, language: str = "en") -> list[Record]:
    return [Record(name, "words", language) for name in names]  # type: ignore[arg-type]


def test_pairs_follow_the_references_whatever_the_order_of_the_predictions():
    pairs, notes = pair_up(records("b", "a"), records("a", "b"))
    assert [(p.candidate.id, p.reference.id) for p in pairs] == [("a", "a"), ("b", "b")]
    assert notes == []


def test_ids_without_a_partner_are_refused_or_said():
    with pytest.raises(InputRefused, match=r"without a reference[\s\S]*zz"):
        pair_up(records("a", "zz"), records("a"))
    with pytest.raises(InputRefused, match=r"without a prediction[\s\S]*b"):
        pair_up(records("a"), records("a", "b"))
    pairs, notes = pair_up(records("a"), records("a", "b"), partial=True)
    assert len(pairs) == 1
    assert notes == ["1 of 2 references have no prediction and were left out."]
    with pytest.raises(InputRefused, match="nothing to score"):
        pair_up([], records("a"), partial=True)


def test_languages_may_not_differ_within_or_between_pairs():
    with pytest.raises(InputRefused, match="mixed languages"):
        pair_up(records("a", language="zh"), records("a"))
    both = [*records("a"), *records("b", language="zh")]
    with pytest.raises(InputRefused, match="en and zh"):
        pair_up(both, both)
