"""What other systems write is read, told apart, and refused with a reason when it is broken."""

from __future__ import annotations

import json

import pytest

from ctscribe.errors import InputRefused, UnreadableInput
from ctscribe.evaluation.importers import FORMS, detected, imported
from ctscribe.evaluation.reading import read_reports

REPORTS = ["The heart is enlarged.", 'A nodule, "solid", of 8 mm.', "No effusion.\nLungs are clear."]

CT2REP = 'The heart is enlarged.\n"A nodule, ""solid"", of 8 mm."\n"No effusion.\nLungs are clear."\n'
M3D = (
    "Question,Ground Truth,pred,bleu,rouge1,meteor,bert_f1\n"
    'What is found?,The heart is enlarged.,The heart is normal.,0.1,0.2,0.3,0.4\n'
    'What is found?,"No effusion, clear lungs.",An effusion.,0.1,0.2,0.3,0.4\n'
)  # fmt: skip


def saved(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_ct2rep_rows_are_reports_in_order(tmp_path):
    found = imported(saved(tmp_path / "7res.csv", CT2REP), "predictions")
    assert [row["text"] for _, row in found.rows] == REPORTS
    assert [row["id"] for _, row in found.rows] == ["row-1", "row-2", "row-3"]
    assert any("ct2rep" in note for note in found.notes)
    assert any("order" in note for note in found.notes)


def test_a_single_column_with_a_name_loses_the_name(tmp_path):
    found = imported(saved(tmp_path / "res.csv", "report\n" + CT2REP), "predictions", "ct2rep")
    assert len(found.rows) == 3


def test_m3d_holds_both_sides_in_one_file(tmp_path):
    path = saved(tmp_path / "eval_caption.csv", M3D)
    ours, theirs = (imported(path, role).rows for role in ("predictions", "references"))
    assert [row["text"] for _, row in ours] == ["The heart is normal.", "An effusion."]
    assert theirs[1][1] == {"id": "row-2", "text": "No effusion, clear lungs."}


@pytest.mark.parametrize("content", [{"a": ["One."], "b": ["Two."]}, {"a": "One.", "b": "Two."}])
def test_r2gen_results_are_reports_by_id(tmp_path, content):
    found = imported(saved(tmp_path / "test_result.json", content), "predictions")
    assert [(row["id"], row["text"]) for _, row in found.rows] == [("a", "One."), ("b", "Two.")]


def test_r2gen_annotations_are_references_of_the_test_split(tmp_path):
    lists = {"train": [{"id": "t", "report": "Train."}], "test": [{"id": "a", "subject_id": 7, "report": "One."}]}
    (record,) = read_reports(saved(tmp_path / "annotation.json", lists)).records
    assert (record.id, record.text, record.patient) == ("a", "One.", "7")


def test_csv_columns_are_found_by_their_usual_names(tmp_path):
    content = (
        "VolumeName,Findings_EN,Impressions_EN,PatientSex,PatientAge,SliceThickness,Manufacturer\n"
        "v1,The heart is enlarged.,Cardiomegaly.,F,045Y,1.5,Maker\n"
    )
    (record,) = read_reports(saved(tmp_path / "reports.csv", content)).records
    assert (record.id, record.text) == ("v1", "The heart is enlarged.\nCardiomegaly.")
    assert dict(record.metadata) == {"sex": "F", "age": "045Y", "thickness_mm": "1.5", "scanner": "Maker"}


def test_a_csv_with_both_sides_gives_the_one_that_is_wanted(tmp_path):
    path = saved(tmp_path / "both.csv", "id,reference,prediction\ns1,True text.,Said text.\n")
    assert imported(path, "predictions").rows[0][1]["text"] == "Said text."
    assert imported(path, "references").rows[0][1]["text"] == "True text."


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.jsonl", '{"id": "s1", "text": "One."}\n', "jsonl"),
        ("a.json", '{"id": "s1", "text": "One."}\n', "jsonl"),
        ("a.json", '[{"id": "s1", "text": "One."}]', "jsonl"),
        ("a.json", '{"s1": ["One."], "s2": ["Two."]}', "r2gen"),
        ("a.json", '{\n "s1": ["One."],\n "s2": ["Two."]\n}', "r2gen"),
        ("a.csv", CT2REP, "ct2rep"),
        ("a.csv", M3D, "m3d"),
        ("a.csv", "study,report\ns1,One.\n", "csv"),
        ("a.jsonl", "{'id': 1}", "jsonl"),
        ("a.jsonl", "", "jsonl"),
        ("a.txt", "One report.\nAnother report.\n", "ct2rep"),
    ],
)
def test_the_form_is_told_from_the_content(tmp_path, name, content, form):
    assert detected(tmp_path / name, content) == form
    assert form in FORMS


@pytest.mark.parametrize(
    ("name", "content", "form", "says"),
    [
        ("a.csv", "who,what\n1,2\n", "auto", "an id column"),
        ("a.csv", "id,text\ns1,One.,more\n", "auto", "line 2"),
        ("a.csv", 'id,text\ns1,"One\n', "auto", "CSV"),
        ("a.csv", "text\nOne.\n", "csv", "an id column"),
        ("a.csv", "id,score\ns1,3\n", "csv", "a text column"),
        ("a.csv", "One.,two\n", "ct2rep", "2 cells"),
        ("a.csv", "id,text\ns1,One.\n", "m3d", "'pred'"),
        ("a.csv", "Ground Truth,pred\nOne.\n", "auto", "line 2"),
        ("a.json", '{"s1": ["One.", "Two."]}', "auto", "a list of 2"),
        ("a.json", '{"s1": ["One."], "s2"', "auto", "line 1"),
        ("a.json", '{"test": [{"id": 1}]}', "auto", "report"),
        ("a.json", "[]", "r2gen", "reports by id"),
    ],
)
def test_broken_files_are_refused_with_the_place(tmp_path, name, content, form, says):
    with pytest.raises(UnreadableInput) as caught:
        imported(saved(tmp_path / name, content), "predictions", form)
    assert says in str(caught.value)
    assert name in str(caught.value)


def test_a_report_given_twice_in_one_json_object_is_refused_not_dropped(tmp_path):
    with pytest.raises(InputRefused, match=r"a\.json: duplicate ids[\s\S]*'s1'"):
        imported(saved(tmp_path / "a.json", '{"s1": ["One."], "s2": ["Two."], "s1": ["Three."]}'), "predictions")
