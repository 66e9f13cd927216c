"""Real scans: each loads in Hounsfield units, is outlined, and is taken for a chest if it is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctscribe.data import check_hounsfield, inspect, load_study, resample, to_grid
from ctscribe.data.anatomy import from_label_map, segment
from ctscribe.errors import WrongBodyPart

pytestmark = pytest.mark.real_data

CTS = (
    "cip_ct-64_ct",
    "elastix_3DCT_lung_baseline_small_ct",
    "lambin-phantom_pat1_ct",
    "lambin-phantom_pat2_ct",
    "lidc-idri-0314_ct",
    "lung-pet-ct-dx_A0001_ct",
    "nsclc-lung1-001_ct",
    "pyradiomics-lung1_ct",
    "totalsegmentator_example_ct_sm",
    "totalsegmentator_pulmonary_ct",
)


@pytest.mark.parametrize("name", CTS)
def test_every_volume_loads(name: str, real_data: Path) -> None:
    study = load_study(real_data / "volumes" / f"{name}.nii.gz")
    assert study.volume.affine.is_canonical
    assert study.volume.hu.dtype == np.int16
    assert -1024 <= study.volume.hu.min() < -900
    assert check_hounsfield(study.volume).verdict == "hounsfield"
    assert study.ingest.rescale == "none"


@pytest.mark.parametrize("name", CTS)
def test_chests_are_accepted_whole_or_in_part_and_the_abdomen_is_not(name: str, real_data: Path) -> None:
    found = inspect(real_data / "volumes" / f"{name}.nii.gz")
    if name == "totalsegmentator_example_ct_sm":
        assert isinstance(found.refusal, WrongBodyPart)
        assert found.refusal.code == "abdomen"
    else:
        assert found.accepted


def test_masks_are_refused(real_data: Path) -> None:
    for name in ("nsclc-lung1-001_labels", "totalsegmentator_pulmonary_heart"):
        found = inspect(real_data / "volumes" / f"{name}.nii.gz")
        assert found.refusal is not None
        assert found.refusal.code == "not_hounsfield"


def test_lungs_are_outlined_as_experts_do(real_data: Path) -> None:
    """The left lung holds a mass at its hilum, which counts for neither side."""
    volume = load_study(real_data / "volumes" / "nsclc-lung1-001_ct.nii.gz").volume
    names = {1: "mediastinum", 2: "left_lung", 3: "right_lung", 4: "spine"}
    expert = from_label_map(real_data / "volumes" / "nsclc-lung1-001_labels.nii.gz", volume, names)
    found, outside = segment(volume), ~expert.mask("mediastinum")
    for lung in ("right_lung", "left_lung"):
        a, b = found.mask(lung) & outside, expert.mask(lung) & outside
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.95


def test_two_reconstructions_and_the_converted_file_agree(real_data: Path) -> None:
    """The study holds a lung (L) and a standard (B) kernel; a NIfTI made from it lies beside."""
    path = next((real_data / "dicom").glob("*A0001*.zip"))
    study = load_study(path)
    assert study.ingest.technique.kernel == "B"
    assert study.ingest.why == "best of 2 stacks: kernel (B: standard, not L: lung)"
    assert [(c.kernel, c.n_slices, c.refusal) for c in study.ingest.candidates] == [("B", 64, None), ("L", 64, None)]
    other = load_study(real_data / "volumes" / "lung-pet-ct-dx_A0001_ct.nii.gz").volume
    same_grid = to_grid(study.volume, other.shape, other.spacing, tuple(_centre(other)))
    core = (slice(2, -2), slice(40, -40), slice(40, -40))
    assert np.corrcoef(same_grid.hu[core].ravel(), other.hu[core].ravel())[0, 1] > 0.99
    top = study.volume.affine.to_world(np.array([study.volume.shape[0] - 1, 0, 0]))
    assert study.source.locate(tuple(top)).inside


def _centre(volume: object) -> np.ndarray:
    from ctscribe.data.geometry import centre_of

    return centre_of(volume)  # type: ignore[arg-type]


def test_resampling_keeps_the_mean(real_data: Path) -> None:
    volume = load_study(real_data / "volumes" / "pyradiomics-lung1_ct.nii.gz").volume
    coarse = resample(volume, (10.0, 6.0, 6.0))
    inside = coarse.hu[1:-1, 1:-1, 1:-1]
    assert abs(inside.mean() - volume.hu[2:-2, 3:-3, 3:-3].mean()) < 15
