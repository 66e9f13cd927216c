"""Rows of the table of defects: several things in one folder, multi-frame files, what the scan shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom.uid as uids
from pydicom.dataset import Dataset

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import GeometryRefused, InputRefused, UnreadableInput, WrongBodyPart, WrongModality
from ctscribe.tensors import Affine, Volume
from ingest_kit import (
    TRUTH,
    Build,
    also,
    equals,
    equals_truth,
    handled,
    louder,
    refused,
    tags,
)

# ------------------------------------------------------------------------------------------- several things


@handled("slices copied twice", "identical copies dropped", "duplicates_dropped", check=lambda s: _copies(s, 36))
def copies(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "again", TRUTH)


def _copies(study: Study, count: int) -> None:
    equals_truth(study)
    assert study.ingest.duplicates == count


@refused("different slices at the same place", GeometryRefused, "conflicting_duplicates")
def conflict(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)

    def other(k: int, ds: Dataset) -> Dataset | None:
        return tags(SOPInstanceUID=bad.uid(77, k))(k, ds) if k in (5, 6, 7) else None

    return also(tmp, "other", louder(), other)


def _second_scan(tmp: Path, **values: object) -> Path:
    """Another scan at the same places under the same series UID, told apart by the tags given."""
    bad.write_series(tmp, TRUTH)

    def later(k: int, ds: Dataset) -> Dataset:
        return tags(InstanceNumber=100 + k, SOPInstanceUID=bad.uid(78, k), **values)(k, ds)

    return also(tmp, "later", louder(), later)


@handled("two kernels under one series UID", "split; the standard kernel is read", "series_split", "series_chosen")
def two_kernels(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "sharp", louder(), tags(ConvolutionKernel="B70f"))


@handled(
    "two phases under one series UID", "told apart by acquisition number, one read, with a warning", "stacks_by_tag"
)
def two_phases(tmp: Path) -> Path:
    return _second_scan(tmp, AcquisitionNumber=2)


@handled("two tube voltages under one series UID", "told apart, one read, with a warning", "stacks_by_tag")
def two_voltages(tmp: Path) -> Path:
    return _second_scan(tmp, KVP=140)


@handled("two temporal positions under one series UID", "told apart, one read, with a warning", "stacks_by_tag")
def two_times(tmp: Path) -> Path:
    return _second_scan(tmp, TemporalPositionIdentifier=2)


@handled(
    "two scans under one series UID, interleaved", "told apart by thickness, one read, with a warning", "stacks_by_tag"
)
def interleaved(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    affine = Affine.from_spacing((5.0, 5.0, 4.0), (*bad.ORIGIN[:2], bad.ORIGIN[2] + 0.7))

    def thick(k: int, ds: Dataset) -> Dataset:
        return tags(InstanceNumber=200 + k, SOPInstanceUID=bad.uid(80, k))(k, ds)

    return also(tmp, "thick", Volume(TRUTH.hu[::2], affine), thick)


@handled(
    "two scans that only instance numbers tell apart", "cut where positions repeat, with a warning", "stacks_by_number"
)
def two_by_number(tmp: Path) -> Path:
    return _second_scan(tmp)


@handled(
    "two series: lung and standard kernel", "the standard kernel is read and the choice explained", "series_chosen"
)
def two_series(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "lung", louder(), tags(ConvolutionKernel="LUNG"), series=2)


@handled("thin and thick series", "the thin one is read", "series_chosen")
def thin_and_thick(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, series=5)
    thick = Volume(TRUTH.hu[::2], Affine.from_spacing((5.0, 5.0, 4.0), bad.ORIGIN))
    return also(tmp, "thick", thick, series=2)


@handled("localizer of another size", "left out")
def localizer_other_size(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    bad.write(tmp / "scout.dcm", bad.localizer(64, 32))
    return tmp


@handled("localizer of the same size", "left out")
def localizer_same_size(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    bad.write(tmp / "scout.dcm", bad.localizer(40, 48))
    return tmp


@handled("localizer of the same size, not marked as one", "split off by its orientation", "series_split")
def localizer_unmarked(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    bad.write(tmp / "scout.dcm", bad.localizer(40, 48, tagged=False))
    return tmp


@refused("localizers only", GeometryRefused, "only_localizers")
def only_localizers(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    bad.write(tmp / "scout.dcm", bad.localizer(64, 64))
    return tmp


def _one_more(**values: object) -> Build:
    def build(tmp: Path) -> Path:
        bad.write_series(tmp, TRUTH)
        ds = tags(SOPInstanceUID=bad.uid(88, 1), InstanceNumber=99, **values)(0, bad.slice_dataset(louder(), 0))
        bad.write(tmp / "more.dcm", ds)
        return tmp

    return build


@handled("secondary capture in the series", "left out")
def secondary_capture(tmp: Path) -> Path:
    return _one_more(SOPClassUID=bad.SECONDARY_CAPTURE, Modality="OT")(tmp)


@handled("dose sheet in the series", "left out")
def dose_sheet(tmp: Path) -> Path:
    return _one_more(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])(tmp)


@handled("structured report beside the images", "left out")
def structured_report(tmp: Path) -> Path:
    return _one_more(Modality="SR", Rows=None, Columns=None, PixelData=None)(tmp)


@handled("maximum intensity projections with the series' own geometry", "left out")
def projections(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "mip", louder(), tags(ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"]))


@handled("coronal reformats beside the axial series", "the axial series is read", "series_chosen")
def reformats(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    coronal_view = bad.stored_as(louder(), (1, 0, 2), (1, -1, 1))
    return also(tmp, "mpr", coronal_view, tags(ImageType=["DERIVED", "SECONDARY", "MPR"]), series=3)


@handled("reformats only", "read, with a warning", "reformatted")
def only_reformats(tmp: Path) -> Path:
    coronal_view = bad.stored_as(TRUTH, (1, 0, 2), (1, -1, 1))
    return bad.write_series(tmp, coronal_view, tags(ImageType=["DERIVED", "SECONDARY", "MPR"]))


@refused("projections only", GeometryRefused, "only_derived")
def only_projections(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImageType=["DERIVED", "SECONDARY", "MIP"]))


@handled(
    "the series goes on with another pixel spacing", "the larger part is read, with a warning",
    "series_split", "part_left_out",
)  # fmt: skip
def spacing_changes(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    top = (*bad.ORIGIN[:2], bad.ORIGIN[2] + bad.SHAPE[0] * bad.SPACING[0])
    wider = Affine.from_spacing((bad.SPACING[0], 5.4, 4.4), top)

    def onward(k: int, ds: Dataset) -> Dataset:
        return tags(InstanceNumber=100 + k, SOPInstanceUID=bad.uid(81, k))(k, ds)

    return also(tmp, "onward", Volume(TRUTH.hu[:10], wider), onward)


@handled("PET of the same study beside the CT", "left out")
def pet_beside(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "pet", louder(), tags(Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128"), series=2)


@handled("segmentation, structure set, key objects and presentation state beside the CT", "left out")
def objects_beside(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    for n, modality in enumerate(("SEG", "RTSTRUCT", "KO", "PR")):
        edit = tags(Modality=modality, SOPInstanceUID=bad.uid(88, n), SeriesInstanceUID=bad.uid(60, n))
        bad.write(tmp / f"{modality}.dcm", edit(0, bad.slice_dataset(TRUTH, 0)))
    return tmp


@handled("head and chest series in one study", "the chest is read", "series_chosen")
def head_and_chest(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    thin = Affine.from_spacing((1.0, *bad.SPACING[1:]), bad.ORIGIN)
    inside = np.repeat(np.where(TRUTH.hu < -500, -1000, TRUTH.hu), 3, axis=0).astype(np.int16)
    return also(tmp, "head", Volume(inside, thin), tags(BodyPartExamined="HEAD"), series=2)


@refused("text burned into the images", InputRefused, "burned_in_text")
def burned_in(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(BurnedInAnnotation="YES"))


@refused("two patients under one series UID", InputRefused, "several_patients")
def two_patients_one_series(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: tags(PatientID="OTHER")(k, ds) if k >= 18 else ds)


@refused("two patients in one folder", InputRefused, "several_patients")
def two_patients(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "b", TRUTH, tags(PatientID="OTHER"), series=2)


@handled("two studies of one patient", "the newest is read, with a warning", "several_studies")
def two_studies(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    old = tags(StudyInstanceUID=bad.uid(950), StudyDate="20150101", SliceThickness=1.0)
    return also(tmp, "old", louder(), old, series=2)


# ------------------------------------------------------------------------------------------- multi-frame

_FLOORED = Volume(np.maximum(TRUTH.hu, -1000), TRUTH.affine)


@handled(
    "Enhanced CT, frames shuffled, rescale per frame",
    "frames sorted by position, each rescaled by its own",
    "rescale_varies",
    check=lambda s: equals(s, _FLOORED),
)
def enhanced(tmp: Path) -> Path:
    order = [int(k) for k in np.random.default_rng(4).permutation(bad.SHAPE[0])]
    tmp.mkdir(parents=True, exist_ok=True)
    bad.write(tmp / "enhanced.dcm", bad.multi_frame(_FLOORED, order))
    return tmp / "enhanced.dcm"


@handled("Enhanced CT with shared functional groups only", "rescale taken from the shared group")
def enhanced_shared(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    bad.write(tmp / "enhanced.dcm", bad.multi_frame(TRUTH, list(range(bad.SHAPE[0])), shared_only=True))
    return tmp


@handled("Legacy Converted Enhanced CT, JPEG-LS, head first to foot", "decoded and sorted")
def legacy_enhanced(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    order = list(range(bad.SHAPE[0]))[::-1]
    ds = bad.multi_frame(TRUTH, order, shared_only=True, sop_class=bad.LEGACY_CT)
    bad.write(tmp / "legacy.dcm", ds, uids.JPEGLSLossless)
    return tmp


@handled("Enhanced CT in two files", "frames of both make one stack")
def enhanced_in_two(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    for n, frames in enumerate((range(18), range(18, bad.SHAPE[0]))):
        edit = tags(SOPInstanceUID=bad.uid(5, n), InstanceNumber=n + 1)
        bad.write(tmp / f"{n}.dcm", edit(n, bad.multi_frame(TRUTH, list(frames), shared_only=True)))
    return tmp


@refused("Enhanced CT cut short", UnreadableInput, "truncated")
def enhanced_cut(tmp: Path) -> Path:
    path = enhanced_shared(tmp) / "enhanced.dcm"
    path.write_bytes(path.read_bytes()[:-5000])
    return path


@refused("multi-frame without a position for each frame", GeometryRefused, "no_position")
def multi_frame_bare(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    ds = bad.multi_frame(TRUTH, list(range(bad.SHAPE[0])), shared_only=True)
    del ds.PerFrameFunctionalGroupsSequence
    bad.write(tmp / "bare.dcm", ds)
    return tmp


# ------------------------------------------------------------------------------------------- what it shows


def _modality(modality: str, sop_class: str) -> None:
    def build(tmp: Path) -> Path:
        return bad.write_series(tmp, TRUTH, tags(Modality=modality, SOPClassUID=sop_class))

    build.__name__ = f"modality_{modality.lower()}"
    refused(f"modality {modality}", WrongModality, "wrong_modality")(build)


_modality("MR", "1.2.840.10008.5.1.4.1.1.4")
_modality("PT", "1.2.840.10008.5.1.4.1.1.128")
_modality("DX", "1.2.840.10008.5.1.4.1.1.1.1")


@refused("head CT by its tags, no lung in the image", WrongBodyPart, "wrong_body_part")
def head(tmp: Path) -> Path:
    hu = np.where(TRUTH.hu < -500, -1000, TRUTH.hu).astype(np.int16)
    return bad.write_series(tmp, Volume(hu, TRUTH.affine), tags(BodyPartExamined="HEAD"))


@handled(
    "tags say ABDOMEN, the image shows lungs", "read, with a warning; the image decides", "body_part_tag_contradicts"
)
def wrong_tag(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(BodyPartExamined="ABDOMEN"))
