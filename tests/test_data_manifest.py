"""The manifest: what is wrong is found before training, and named by line."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.data.manifest import (
    COLUMNS,
    Manifest,
    ManifestRow,
    assign_splits,
    check_leakage,
    image_digest,
    read_manifest,
)
from ctscribe.errors import UsageError
from ctscribe.report import Finding

NODULE = '[{"kind": "lung_nodule", "regions": ["right_upper_lobe"], "size_mm": [8.0]}]'


def write_csv(folder: Path, rows: list[dict[str, str]], name: str = "m.csv", columns: list[str] | None = None) -> Path:
    path = folder / name
    columns = columns or [c for c in COLUMNS if any(c in r for r in rows)]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def study(folder: Path, number: int, **values: str) -> dict[str, str]:
    image = folder / f"s{number}.nii"
    if not image.exists():
        image.write_bytes(f"scan {number}".encode())
    return {"study": f"S{number}", "patient": f"P{number}", "image": image.name, **values}


def test_csv_and_jsonl_say_the_same(tmp_path: Path) -> None:
    text = 'A nodule, 8 mm.\nNo "effusion".'
    rows = [
        study(tmp_path, 1, findings=text, structured=NODULE, language="en"),
        study(tmp_path, 2, findings="右肺上叶结节。", language="zh", patient="P1", prior="S1"),
    ]
    from_csv = read_manifest(write_csv(tmp_path, rows))
    lines = [{**r, **({"structured": json.loads(r["structured"])} if "structured" in r else {})} for r in rows]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    from_jsonl = read_manifest(path)
    assert from_csv.rows[0].findings == text
    assert from_csv.rows[0].structured == (Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(8.0,)),)
    assert from_csv.rows[1].structured is None
    assert from_csv.rows[1].prior == "S1"
    # A text of two lines moves the next row down in the CSV.
    assert [r.line for r in from_csv] == [2, 4]
    assert [replace(r, line=0) for r in from_csv] == [replace(r, line=0) for r in from_jsonl]


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [study(tmp_path, 1)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_manifest(path)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "nowhere.nii"}, "column 'image' names a path that does not exist"),
        ({"regions": "nowhere.nii"}, "column 'regions' names a path that does not exist"),
        ({"patient": " "}, "column 'patient' is empty"),
        ({"language": "fr"}, "column 'language', expected en or zh, got fr"),
        ({"split": "training"}, "column 'split', expected train or validation or test, got training"),
        ({"structured": "{nodule"}, "column 'structured', expected JSON"),
        ({"structured": '[{"kind": "no_such_kind"}]'}, "no_such_kind"),
        ({"structured": '[{"kind": "emphysema", "shape": 1}]'}, "shape"),
        ({"prior": "S9"}, "column 'prior' names no other study"),
        ({"prior": "S2"}, "column 'prior' names no other study"),
        ({"prior": "S1"}, "the prior study is of another patient"),
        ({"study": "S1"}, "the same study name"),
    ],
)
def test_a_wrong_cell_is_named_by_line(changes: dict[str, str], words: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path, [study(tmp_path, 1), {**study(tmp_path, 2), **changes}])
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert words in message
    assert "3" in message.split("problem(s)")[1].split(":")[1]
    assert "P1" not in message
    assert "P2" not in message


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    rows = [study(tmp_path, n, language="xx") for n in range(12)]
    with pytest.raises(UsageError, match=r"12 problem\(s\)") as caught:
        read_manifest(write_csv(tmp_path, rows))
    assert "line 2:" in str(caught.value)
    assert "and 4 more" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "study,patient\nS,P\n", "no column 'image'"),
        ("m.csv", "study,patient,image,finding\n", "unknown column 'finding'"),
        ("m.csv", "study,patient,image\nS,P\n", "fewer"),
        ("m.csv", "study,patient,image\nS,P,a,b\n", "more"),
        ("m.csv", 'study,patient,image\nS,P,"a\n', "expected: CSV"),
        ("m.csv", "", "no column 'study'"),
        ("m.csv", "study,patient,image\n", "at least one study"),
        ("m.jsonl", '{"study": "S"', "line 1"),
        ("m.jsonl", "[1]", "a JSON object"),
        ("m.jsonl", '{"study": "S", "patient": "P", "image": "i", "label": 1}', "unknown column 'label'"),
        ("m.txt", "", "a .csv or .jsonl file"),
    ],
)
def test_a_broken_file_is_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_manifest(path, check_files=False)
    assert words in str(caught.value)
    assert name in str(caught.value)


def test_a_latin_1_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("study,patient,image,findings\nS,P,i,Emphysème\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"m.csv, line 2\n.*UTF-8"):
        read_manifest(path, check_files=False)


def rows_of(patients: list[str]) -> Manifest:
    rows = [ManifestRow(n + 2, f"S{n}", p, Path(f"/{n}")) for n, p in enumerate(patients)]
    return Manifest(Path("m.csv"), tuple(rows))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_a_split_is_by_patient_and_stays(patients: list[str], random: object) -> None:
    first = {row.patient: row.split for row in assign_splits(rows_of(patients))}
    shuffled = [*patients, "a new patient"]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = assign_splits(rows_of(shuffled))
    assert all(first[row.patient] == row.split for row in again if row.patient in first)
    assert check_leakage(again, hash_images=False) == ()


def test_splits_have_their_sizes() -> None:
    manifest = assign_splits(rows_of([f"patient {n}" for n in range(4000)]))
    shares = [len(manifest.only(name)) / 4000 for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    other = assign_splits(rows_of([f"patient {n}" for n in range(4000)]), salt="other")
    assert sum(a.split != b.split for a, b in zip(manifest, other, strict=True)) > 500


def test_a_written_split_holds_for_the_whole_patient() -> None:
    manifest = rows_of(["P"] * 3)
    written = replace(manifest, rows=(manifest.rows[0], replace(manifest.rows[1], split="test"), manifest.rows[2]))
    assert [row.split for row in assign_splits(written)] == ["test"] * 3


def test_shares_that_do_not_add_up_are_refused() -> None:
    for shares in ({"train": 0.5}, {"train": 0.5, "dev": 0.5}, {"train": 1.5, "test": -0.5}):
        with pytest.raises(UsageError, match="fractions"):
            assign_splits(rows_of(["P"]), shares)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [study(tmp_path, 1, split="train"), study(tmp_path, 2, split="test", patient="P1")]
    manifest = read_manifest(write_csv(tmp_path, rows))
    with pytest.raises(UsageError, match="line 2 and 3: the same patient in train and in test") as caught:
        check_leakage(manifest)
    assert "P1" not in str(caught.value)
    assert "S1" not in str(caught.value)
    with pytest.raises(UsageError, match="S1, S2"):
        check_leakage(manifest, name_studies=True)


def test_the_same_scan_in_two_splits_is_refused_in_any_wrapping(tmp_path: Path) -> None:
    rows = [study(tmp_path, 1, split="train"), study(tmp_path, 2, split="test")]
    (tmp_path / "copy.nii.gz").write_bytes(gzip.compress((tmp_path / "s1.nii").read_bytes()))
    rows[1]["image"] = "copy.nii.gz"
    manifest = read_manifest(write_csv(tmp_path, rows))
    assert check_leakage(manifest, hash_images=False) == ()
    with pytest.raises(UsageError, match="line 2 and 3: the same image in train and in test"):
        check_leakage(manifest)


def test_the_same_scan_twice_in_one_split_is_told(tmp_path: Path) -> None:
    rows = [study(tmp_path, 1, split="train"), study(tmp_path, 2, split="train", image="s1.nii")]
    (repeat,) = check_leakage(read_manifest(write_csv(tmp_path, rows)))
    assert repeat.lines == (2, 3)


def test_a_folder_is_recognised_under_other_names(tmp_path: Path) -> None:
    for folder, names in (("a", ("1.dcm", "2.dcm")), ("b", ("IM2", "IM1"))):
        (tmp_path / folder).mkdir()
        for content, name in zip((b"one", b"two"), names, strict=True):
            (tmp_path / folder / name).write_bytes(content)
    assert image_digest(tmp_path / "a") == image_digest(tmp_path / "b")
    (tmp_path / "b" / "IM3").write_bytes(b"three")
    assert image_digest(tmp_path / "a") != image_digest(tmp_path / "b")


def test_rows_without_a_split_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 rows have no split, the first on line 2"):
        check_leakage(rows_of(["P"]))
