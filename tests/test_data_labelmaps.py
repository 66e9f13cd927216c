"""Masks from other software: names of classes, lesions one by one, and programs that are called when installed."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.data.anatomy import TOOLS, from_label_map, lesions_from_label_map, schemes, segmenter
from ctscribe.data.anatomy.classical import segment
from ctscribe.data.anatomy.labelmaps import lesion_schemes, region_of_class
from ctscribe.errors import DependencyMissing, InputRefused, UsageError
from ctscribe.tensors import Affine, Volume

VOLUME = Volume(np.zeros((6, 8, 10), np.float32), Affine.from_spacing((5.0, 2.0, 2.0), (-10.0, 20.0, 30.0)))


def save(path: Path, labels: np.ndarray) -> Path:
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ VOLUME.affine.matrix
    nib.save(nib.Nifti1Image(labels.astype(np.uint8).transpose(2, 1, 0), matrix), path)
    return path


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("lung_upper_lobe_left", "left_upper_lobe"), ("Right Lung", "right_lung"), ("lung-right", "right_lung"),
        ("vertebrae_T5", "spine"), ("rib_left_3", "ribs"), ("esophagus", "oesophagus"), ("heart_myocardium", "heart"),
        ("aorta", "aorta"), ("right main bronchus", "right_main_bronchus"), ("liver", "upper_abdomen"),
        ("femur_left", None), ("background", None),
    ],
)  # fmt: skip
def test_class_names_of_other_models_are_understood(name: str, region: str | None) -> None:
    assert region_of_class(name) == region


def test_both_numberings_of_totalsegmentator_are_known_apart() -> None:
    old, new = schemes()["totalsegmentator_v1"], schemes()["totalsegmentator_v2"]
    assert (old[7], new[7]) == ("aorta", "upper_abdomen")
    assert (old[13], new[13]) == ("left_upper_lobe", "right_middle_lobe")
    assert old[49] == "pulmonary_artery"
    for table in lesion_schemes().values():
        assert set(table.values()) <= set(ontology.findings())


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "lung_left": 2, "lung_right": 1, "elbow": 3},
        {"0": "background", "1": "right lung", "2": "left lung"},
    ],
)
def test_the_dataset_file_of_an_nnunet_model_names_its_labels(labels: dict, tmp_path: Path) -> None:
    values = np.zeros(VOLUME.shape)
    values[1:4, 2:6, 1:4], values[1:4, 2:6, 6:9] = 1, 2
    path = save(tmp_path / "map.nii.gz", values)
    names = tmp_path / "dataset.json"
    names.write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}))
    found = from_label_map(path, VOLUME, names)
    assert np.array_equal(found.mask("right_lung"), values == 1)
    assert np.array_equal(found.mask("left_lung"), values == 2)
    names.write_text(json.dumps({"labels": {"background": 0, "elbow": 1}}))
    with pytest.raises(UsageError, match="no class that is a region"):
        from_label_map(path, VOLUME, names)


def test_lesions_are_read_one_by_one_largest_first(tmp_path: Path) -> None:
    values = np.zeros(VOLUME.shape)
    values[0, 0, 0:2], values[3:5, 4:8, 5:8], values[5, 0, 9] = 2, 2, 1
    found = lesions_from_label_map(save(tmp_path / "l.nii.gz", values), VOLUME, "totalsegmentator_lung_nodules")
    assert found.kinds == ("lung_nodule", "lung_nodule")
    assert np.array_equal(found.labels == 1, np.where(values == 2, np.arange(6)[:, None, None] > 1, False))
    shares, kinds = found.occupancy((3, 2, 2))
    assert shares.shape == (2, 3, 2, 2)
    assert shares[0, 1, 1, 1] == pytest.approx(1 * 4 * 3 / (2 * 4 * 5))
    assert shares.sum() * 40 == pytest.approx((values == 2).sum())
    assert kinds.tolist() == [list(ontology.findings()).index("lung_nodule")] * 2
    with pytest.raises(UsageError, match="unknown scheme"):
        lesions_from_label_map(tmp_path / "l.nii.gz", VOLUME, "nobody")
    with pytest.raises(UsageError, match="do not exist"):
        lesions_from_label_map(tmp_path / "l.nii.gz", VOLUME, {2: "dragon"})


# -------------------------------------------------------------------------------------------- programs
def test_a_program_that_is_not_installed_is_refused_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for name, tool in TOOLS.items():
        with pytest.raises(DependencyMissing) as refusal:
            segmenter(f"{name}:folder" if not tool.variant else name)
        assert tool.command in str(refusal.value)
        assert "Apache-2.0" in str(refusal.value)
    with pytest.raises(UsageError, match="unknown segmenter"):
        segmenter("crystal_ball")
    with pytest.raises(UsageError, match="model folder"):
        segmenter("nnunet")
    assert segmenter("classical") is segment


PROGRAM = """#!{python}
import os, sys, json
import nibabel as nib, numpy as np
words = sys.argv[1:]
if {lungmask}:
    scan, result = words[0], words[1]
else:
    scan, result = words[words.index("-i") + 1], words[words.index("-o") + 1]
if os.path.isdir(scan):
    scan, result = os.path.join(scan, "scan_0000.nii.gz"), os.path.join(result, "scan.nii.gz")
image = nib.load(scan)
labels = np.zeros(image.shape, np.uint8)
labels[1:4, 2:6, 1:4] = {value}
nib.save(nib.Nifti1Image(labels, image.affine), result)
settings = json.load(open(os.environ["TOTALSEG_HOME_DIR"] + "/config.json"))
json.dump({{"words": words, "usage": settings}}, open({log!r}, "w"))
"""


@pytest.mark.parametrize(
    ("word", "value", "region"),
    [
        ("totalsegmentator", 52, "aorta"),
        ("lungmask", 1, "right_lung"),
        ("lungmask:LTRCLobes", 1, "left_upper_lobe"),
        ("nnunet", 1, "trachea"),
    ],
)
def test_an_installed_program_is_called_and_its_map_read(
    word: str, value: int, region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, log = TOOLS[word.partition(":")[0]], str(tmp_path / "log.json")
    program = tmp_path / tool.command
    text = PROGRAM.format(python=sys.executable, lungmask=word.startswith("lungmask"), value=value, log=log)
    program.write_text(text, encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "airways": 1}}))
    found = segmenter(f"nnunet:{tmp_path}" if word == "nnunet" else word)(VOLUME)
    wanted = np.zeros(VOLUME.shape, bool)
    wanted[1:4, 2:6, 1:4] = True
    assert np.array_equal(found.mask(region), wanted)
    assert found.source.startswith(word.partition(":")[0])
    assert json.loads(Path(log).read_text())["usage"]["send_usage_stats"] is False


def test_a_program_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "lungmask"
    program.write_text("#!/bin/sh\necho 'weights not found' >&2\nexit 3\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputRefused, match="made no label map") as refusal:
        segmenter("lungmask")(VOLUME)
    assert "exit code 3: weights not found" in str(refusal.value)
