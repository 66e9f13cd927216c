"""Phantoms on disk, and lesions put into other volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from ctscribe.errors import UsageError
from ctscribe.phantom import INSERTABLE, GridSpec, LesionPrior, PhantomStudy, generate, insert, write_dicom, write_nifti
from ctscribe.phantom.anatomy import LOBES
from ctscribe.tensors import Affine, Volume

SMALL = GridSpec(shape=(42, 80, 80), spacing=(7.5, 4.4, 4.4))


@pytest.fixture(scope="module")
def study() -> PhantomStudy:
    return generate(8, SMALL)


def test_dicom_series_reads_back_bit_for_bit(study: PhantomStudy, tmp_path: Path) -> None:
    write_dicom(study, tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), study.volume.hu)
    assert image.GetOrigin() == pytest.approx(study.volume.affine.origin)
    assert image.GetSpacing()[::-1] == pytest.approx(study.volume.spacing)


def test_dicom_headers_say_synthetic_and_fit_together(study: PhantomStudy, tmp_path: Path) -> None:
    write_dicom(study, tmp_path)
    slices = [pydicom.dcmread(p) for p in sorted(tmp_path.glob("*.dcm"))]
    assert len(slices) == SMALL.shape[0]
    assert len({s.SOPInstanceUID for s in slices}) == len(slices)
    assert len({s.SeriesInstanceUID for s in slices}) == 1
    assert all("SYNTHETIC" in s.SeriesDescription and s.PatientName.family_name == "PHANTOM" for s in slices)
    heights = [float(s.ImagePositionPatient[2]) for s in slices]
    assert np.allclose(np.diff(heights), -SMALL.spacing[0])
    assert slices[0].Modality == "CT"
    assert slices[0].pixel_array.min() >= 0
    assert not list(tmp_path.glob(".*tmp"))


def test_dicom_is_the_same_for_the_same_seed(study: PhantomStudy, tmp_path: Path) -> None:
    one, two = write_dicom(study, tmp_path / "a"), write_dicom(study, tmp_path / "b")
    assert (one / "IM0007.dcm").read_bytes() == (two / "IM0007.dcm").read_bytes()


def test_nifti_keeps_places_and_truth(study: PhantomStudy, tmp_path: Path) -> None:
    write_nifti(study, tmp_path)
    image = nib.load(tmp_path / "ct.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj).transpose(2, 1, 0), study.volume.hu)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    world = study.volume.affine.to_world(np.array([3.0, 5.0, 7.0]))
    ras = image.affine @ [7, 5, 3, 1]
    assert np.allclose(ras[:3] * [-1, -1, 1], world)
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert truth["synthetic"] is True
    assert len(truth["lesions"]) == len(study.lesions)
    assert {f["kind"] for f in truth["findings"]} == {f.kind for f in study.findings}
    labels = set(np.unique(np.asanyarray(nib.load(tmp_path / "lesions.nii.gz").dataobj))) - {0}
    assert labels <= {x.label for x in study.lesions}


def crude(volume: Volume) -> tuple[np.ndarray, dict[int, str]]:
    """Two boxes of air inside the body as lungs: what a poor segmentation might give."""
    air = (volume.hu < -600) & (volume.hu > -990)
    z, y, x = volume.shape
    inside = np.zeros(volume.shape, bool)
    inside[z // 5 : -z // 5, y // 4 : -y // 4, x // 6 : -x // 6] = True
    labels = np.zeros(volume.shape, np.uint8)
    half = np.arange(x)[None, None, :] < x // 2
    labels[air & inside & half] = 1
    labels[air & inside & ~half] = 2
    return labels, {1: "right_lung", 2: "left_lung"}


@pytest.mark.parametrize(
    "kind", ["lung_nodule", "pleural_effusion", "ground_glass_opacity", "bronchiectasis", "cavity"]
)
def test_inserting_changes_only_what_it_says(kind: str) -> None:
    host = generate(9, SMALL, lesions=LesionPrior(force=()))
    study = insert(host.volume, host.regions, host.region_names, 3, lesions=LesionPrior(force=(kind,)))
    assert {x.kind for x in study.lesions} == {kind}
    assert all(f.status == "present" for f in study.findings)
    lungs = [k for k, v in host.region_names.items() if v in LOBES]
    grown = np.isin(host.regions, lungs)
    for axis in range(3):
        grown |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
    differs = study.volume.hu != host.volume.hu
    assert differs.any()
    # strands of a lesion may reach a little further than the lung
    assert (differs & ~grown).sum() < 0.05 * differs.sum() + 8
    assert study.volume.affine == host.volume.affine


def test_whole_lungs_are_enough_to_insert_into() -> None:
    host = generate(9, SMALL, lesions=LesionPrior(force=()))
    labels, names = crude(host.volume)
    study = insert(host.volume, labels, names, 1, lesions=LesionPrior(force=INSERTABLE, max_kinds=99))
    kinds = {x.kind for x in study.lesions}
    assert {"emphysema", "consolidation", "pleural_effusion"} <= kinds
    assert "lung_nodule" not in kinds  # a nodule must lie in a lobe, and no lobe is known


@pytest.mark.parametrize(
    ("change", "words"),
    [("shape", "differ in shape"), ("names", "unknown region"), ("lungs", "no lung"), ("axes", "canonical")],
)
def test_insert_refuses_what_it_cannot_use(change: str, words: str) -> None:
    volume = Volume(np.zeros((20, 30, 30), np.int16), Affine.from_spacing((8.0, 8.0, 8.0)))
    labels, names = np.ones((20, 30, 30), np.uint8), {1: "right_lung"}
    if change == "shape":
        labels = labels[1:]
    elif change == "names":
        names = {1: "gizzard"}
    elif change == "lungs":
        names = {1: "heart"}
    else:
        turned = Affine.from_spacing((8.0, 8.0, 8.0), direction=np.diag([-1.0, -1.0, 1.0]))
        volume = Volume(volume.hu, turned)
    with pytest.raises(UsageError, match=words):
        insert(volume, labels, names, 1)


@pytest.mark.real_data
def test_lesions_go_into_a_real_scan() -> None:
    path = Path(__file__).parents[2] / "shared/data/volumes/cip_ct-64_ct.nii.gz"
    if not path.exists():
        pytest.skip("the real scans do not lie beside this checkout")
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    affine = Affine.from_spacing(image.GetSpacing()[::-1], image.GetOrigin())
    volume = Volume(sitk.GetArrayFromImage(image).astype(np.int16), affine)
    labels, names = crude(volume)
    prior = LesionPrior(force=("consolidation", "pleural_effusion"))
    study = insert(volume, labels, names, 4, lesions=prior)
    assert {x.kind for x in study.lesions} == set(prior.force or ())
    for lesion in study.lesions:
        piece = study.lesion_masks[lesion.label]
        assert np.median(study.volume.hu[piece.slices][piece.mask]) > -150
