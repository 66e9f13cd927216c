"""``report`` and ``segment`` end to end, with a small chest and a fake model."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import people_fakes as fakes
from ctscribe.cli import table
from ctscribe.report import Report

FILES = ["report.html", "report.json", "report.txt"]


@pytest.fixture(autouse=True)
def small_chest(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    monkeypatch.setattr("ctscribe.checkpoint.load", lambda *_, **__: fakes.FakeModel())


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_three_files_and_their_paths(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "folder"
    assert table.run(["report", "scan", "--out", str(out), "--lang", "both"]) == 0
    assert names(out) == FILES
    assert capsys.readouterr().out.splitlines()[-3:] == [str(out / f"report.{e}") for e in ("txt", "json", "html")]
    report = Report.from_json((out / "report.json").read_text(encoding="utf-8"))
    assert report.findings == fakes.FINDINGS
    assert report.provenance.created
    text = (out / "report.txt").read_text(encoding="utf-8")
    assert "FINDINGS" in text
    assert "影像所见" in text


def test_json_is_all_that_stands_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert table.run(["report", "scan", "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert sorted(printed["files"]) == FILES
    assert printed["ingest"]["kind"] == "dicom"


def test_without_out_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert table.run(["report", "scan"]) == 0
    assert "FINDINGS" in capsys.readouterr().out
    assert names(tmp_path) == []


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    for language in ("en", "zh"):
        assert table.run(["report", "scan", "--out", str(tmp_path), "--lang", language]) == 0
    assert names(tmp_path) == FILES
    assert Report.from_json((tmp_path / "report.json").read_text(encoding="utf-8")).languages == ("zh",)


def test_nothing_is_left_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(result: object) -> str:
        raise RuntimeError

    monkeypatch.setattr("ctscribe.explain.render_html", fail)
    assert table.run(["report", "scan", "--out", str(tmp_path / "out")]) == 1
    assert names(tmp_path) == []


def test_a_missing_model_is_1_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    monkeypatch.undo()
    fakes.install(monkeypatch)
    assert table.run(["report", "scan", "--model", str(tmp_path / "nothing")]) == 1
    assert "try:" in capsys.readouterr().err


def test_labels_go_back_to_the_axes_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    _, segmentation = fakes.study()
    volume, _ = fakes.chest()
    ras = nib.Nifti1Image(volume.hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine.matrix)
    turned = ras.as_reoriented(nib.orientations.axcodes2ornt(("S", "L", "A")))
    nib.save(turned, tmp_path / "scan.nii.gz")
    monkeypatch.setattr("ctscribe.data.anatomy.tools.segment", lambda volume: segmentation)
    assert table.run(["segment", str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path / "labels.nii.gz")]) == 0
    scan, labels = nib.load(tmp_path / "scan.nii.gz"), nib.load(tmp_path / "labels.nii.gz")
    assert labels.shape == scan.shape
    assert np.allclose(labels.affine, scan.affine)
    lung = np.isin(np.asarray(labels.dataobj), [2, 3, 4, 5])
    assert np.median(np.asarray(scan.dataobj)[lung]) == -850
    named = json.loads((tmp_path / "labels.json").read_text())
    assert named["labels"]["2"] == "right_upper_lobe"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.json", "labels.nii.gz", "scan.nii.gz"]
