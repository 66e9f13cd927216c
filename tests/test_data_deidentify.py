"""De-identification: planted identifiers reach no byte of anything that is written; measurements stay."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from ctscribe.cli.table import run
from ctscribe.data import load_study
from ctscribe.data.deidentify.headers import Options, clean_dicom, rules
from ctscribe.data.deidentify.nifti import clean_nifti
from ctscribe.data.deidentify.text import scrub, without_placeholders
from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.data.sources import open_source
from ctscribe.errors import InputRefused, UsageError
from ctscribe.model import GridContract
from ctscribe.phantom import GridSpec, generate, write_dicom
from ctscribe.training.fill import fill_from_source
from ctscribe.training.prepare import Preparation

NAMES = Pseudonyms(b"a secret of the hospital, long enough")
SMALL = Preparation(GridContract((16, 32, 32), (20.0, 11.0, 11.0)), (8, 4, 4))
PLANTED = {
    "PatientName": "Quillfeather^Zenobia",
    "PatientID": "MRN-77120934",
    "PatientBirthDate": "19330717",
    "AccessionNumber": "ACC5550123",
    "InstitutionName": "Saint Planted Hospital",
    "ReferringPhysicianName": "Wolfsbane^Hector",
    "OperatorsName": "Thornbury^Ulla",
    "StationName": "CTSTATION9",
    "DeviceSerialNumber": "SN-4471-X",
    "StudyDescription": "CT CHEST for Zenobia Quillfeather",
    "SeriesDescription": "Lung 1.0 dr.wolfsbane",
    "ProtocolName": "Planted Protocol",
    "ImageComments": "call Zenobia on 13812345678",
    "StudyDate": "20190203",
    "SeriesDate": "20190203",
}


def planted(folder: Path) -> Path:
    """A phantom series with an identifier in every place where scanners put one."""
    write_dicom(generate(5, GridSpec((32, 48, 48), (8.0, 8.0, 8.0))), folder)
    (folder / "truth.json").unlink()
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for keyword, value in PLANTED.items():
            setattr(dataset, keyword, value)
        dataset.PatientAge, dataset.PatientSex = "093Y", "F"
        dataset.add_new(0x00091010, "LO", "private Quillfeather")
        dataset.add_new(0x00090010, "LO", "SECRET VENDOR")
        dataset.add_new(0x60003000, "OW", b"overlay Zenobia!")
        request = Dataset()
        request.RequestedProcedureDescription = "for MRN-77120934"
        request.RequestingPhysician = "Thornbury^Ulla"
        dataset.RequestAttributesSequence = [request]
        dataset.file_meta.SourceApplicationEntityTitle = "QUILLFEATHER"
        dataset.preamble = b"Zenobia Quillfeather".ljust(128, b"\0")
        dataset.save_as(path, enforce_file_format=False)
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("MRN-77120934") / "Quillfeather Zenobia")


def secrets_of(series: Path) -> list[bytes]:
    words = {part for value in PLANTED.values() for part in re.split(r"[\^ ]", value) if len(part) > 4}
    words -= {"CHEST", "Saint", "Planted", "Hospital", "Protocol"}  # these alone identify nobody
    uids = {str(pydicom.dcmread(path)[k].value) for path in list(series.glob("*.dcm"))[:2]
            for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}  # fmt: skip
    return [word.encode() for word in {*words, *uids, "13812345678"}]


def found_in(folder: Path, secrets: list[bytes]) -> list[str]:
    """Names of identifiers that stand in any file, or in the name of one."""
    hits = []
    for path in folder.rglob("*"):
        content = str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        hits += [f"{path.name}: {s.decode()}" for s in secrets if s.lower() in content.lower()]
    return hits


def test_no_planted_identifier_is_in_any_byte(
    series: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """From the copy through the prepared store: files, file names, logs and what the terminal shows."""
    rows = {
        "study": "ACC5550123",
        "patient": "MRN-77120934",
        "image": str(series),
        "findings": "Patient: Zenobia Quillfeather. Seen on 2019-02-03 by Dr. Hector Wolfsbane. "
        "A nodule of 8 mm in the right upper lobe. Zenobia was informed.",
    }
    (tmp_path / "in").mkdir()
    manifest = tmp_path / "in/manifest.jsonl"
    manifest.write_text(json.dumps(rows) + "\n")
    key = tmp_path / "apart.key"
    assert run(["deidentify", str(manifest), "--out", str(tmp_path / "clean"), "--key", str(key), "--json"]) == 0
    secrets = secrets_of(series)
    assert found_in(series, secrets)  # the search does find what is there
    clean = tmp_path / "clean/manifest.jsonl"
    # Both what was cleaned and what was not: a store must not leak even without de-identification before it.
    for source, store in ((clean, tmp_path / "store"), (manifest, tmp_path / "raw")):
        assert fill_from_source(open_source("folder", source), store, SMALL).written == 1
    for folder in ("clean", "store", "raw"):
        assert found_in(tmp_path / folder, secrets) == []
    shown = "".join(capfd.readouterr()) + caplog.text
    assert [s for s in secrets if s.decode() in shown] == []
    row = json.loads(clean.read_text())
    assert "A nodule of 8 mm in the right upper lobe." in row["findings"]


def test_what_survives_still_reads_as_the_same_scan(series: Path, tmp_path: Path) -> None:
    for path in series.glob("*.dcm"):
        cleaned = clean_dicom(path.read_bytes(), NAMES)
        (tmp_path / path.name).write_bytes(cleaned.content)
    before, after = load_study(series), load_study(tmp_path)
    np.testing.assert_array_equal(before.volume.hu, after.volume.hu)
    np.testing.assert_allclose(before.volume.affine.matrix, after.volume.affine.matrix)
    assert after.ingest.technique.kernel == before.ingest.technique.kernel
    assert (after.ingest.age_years, after.ingest.sex) == (90, "F")


def test_the_file_says_what_was_done(series: Path) -> None:
    content = next(iter(sorted(series.glob("*.dcm")))).read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(clean_dicom(content, NAMES).content))
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108"]
    bare = clean_dicom(content, NAMES, Options(characteristics=False, shift_dates=False))
    dataset = pydicom.dcmread(io.BytesIO(bare.content))
    assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100"]
    assert (dataset.PatientSex, dataset.PatientAge, dataset.StudyDate) == ("", "", "")


def test_only_listed_attributes_survive(series: Path) -> None:
    """The allow-list by construction: a data set with every attribute of the dictionary keeps only what is listed."""
    added = {"PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
             "LongitudinalTemporalInformationModified"}  # fmt: skip
    content = next(series.glob("*.dcm")).read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(clean_dicom(content, NAMES).content))
    assert {element.keyword for element in dataset} <= set(rules()) | added
    assert [keyword for keyword in rules() if tag_for_keyword(keyword) is None] == []


def test_one_key_one_name_and_intervals_stay(series: Path) -> None:
    content = next(series.glob("*.dcm")).read_bytes()

    def read(day: str, patient: str, names: Pseudonyms = NAMES) -> Any:
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.StudyDate, dataset.PatientID = day, patient
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        return pydicom.dcmread(io.BytesIO(clean_dicom(buffer.getvalue(), names).content))

    first, later, other = read("20200110", "A-12345"), read("20200310", "A-12345"), read("20200110", "B-12345")
    assert first.PatientID == later.PatientID != other.PatientID
    assert first.StudyInstanceUID == later.StudyInstanceUID  # the same UID before, the same after
    assert first.StudyInstanceUID.startswith("2.25.")
    days = [pydicom.valuerep.DA(d.StudyDate) for d in (first, later, other)]
    assert (days[1] - days[0]).days == 60
    assert days[0] != days[2]
    assert days[0] < pydicom.valuerep.DA("20200110")
    stranger = read("20200110", "A-12345", Pseudonyms(b"another secret, as long as that"))
    assert stranger.PatientID != first.PatientID
    assert stranger.SOPInstanceUID != first.SOPInstanceUID


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not_ct"),
        ({"ConvolutionKernel": "QUILLFEATHER"}, "identifier_left"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(series: Path, change: dict[str, str], code: str) -> None:
    dataset = pydicom.dcmread(next(series.glob("*.dcm")))
    dataset.PatientName = "QUILLFEATHER^Zenobia"
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(InputRefused) as error:
        clean_dicom(buffer.getvalue(), NAMES)
    assert error.value.code == code
    assert "QUILLFEATHER" not in str(error.value)


def test_a_doubtful_picture_is_reported(series: Path) -> None:
    dataset = pydicom.dcmread(next(series.glob("*.dcm")))
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert clean_dicom(buffer.getvalue(), NAMES).warnings != ()


def test_nifti_keeps_voxels_and_loses_words() -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    image = nib.Nifti1Image(values, np.diag([-0.75, -0.75, 2.0, 1.0]))
    image.header["descrip"] = b"Quillfeather Zenobia"
    image.header["aux_file"] = b"MRN-77120934.txt"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"born 19330717"))
    image.header.set_slope_inter(2.0, -1024.0)
    cleaned = clean_nifti(image.to_bytes())
    read = nib.Nifti1Image.from_bytes(gzip.decompress(cleaned))
    np.testing.assert_array_equal(read.get_fdata(), nib.Nifti1Image.from_bytes(image.to_bytes()).get_fdata())
    np.testing.assert_array_equal(read.affine, image.affine)
    plain = gzip.decompress(cleaned)
    assert [w for w in (b"Quillfeather", b"77120934", b"19330717") if w in plain] == []


# ------------------------------------------------------------------------------------------- texts
IDENTIFYING = {
    "Patient: Jane Doe, MRN: 00123456, DOB 04/05/1961.": ["Jane", "00123456", "1961"],
    "Compared with 12 March 2019 and 2020-11-30 14:05.": ["2019", "2020", "14:05"],
    "Dictated by John Smith at Saint Mary Hospital, tel: +49 30 1234567.": ["Smith", "Mary", "1234567"],
    "Discussed with Dr. A. Miller on 04/11/21.": ["Miller", "04/11"],
    "Accession no. CT-55012, study 1.2.840.113619.2.55.3.60.": ["55012", "113619"],
    "患者姓名：张三丰，住院号：A123456，2021年3月4日于北京协和医院检查。": ["张三丰", "123456", "2021年", "协和"],
    "报告医师：李四 审核医师：王五。电话13812345678。": ["李四", "王五", "13812345678"],
    "身份证号11010519491231002X，张医生已知。": ["110105", "张医生"],
}
HARMLESS = [
    "A 12 x 9 mm nodule (series 3, image 45) in the right upper lobe, -450 HU.",
    "Kerley B lines; Fleischner Society 2017; Lung-RADS 4A; station 4R; Hounsfield units.",
    "Compression of T12 and L1/2, 1234567 mm, volume 123456 ml, 3/4 of the lung, 12/9 mm.",
    "The patient is rotated. Patient motion limits the study. Medical material is seen.",
    "Ghon complex, Swyer-James syndrome, Pancoast tumour, Hampton hump.",
    "右肺上叶见结节，直径约12×9 mm，CT值约-450HU，见序列3图像45。",
    "患者体位不正。建议外院会诊。第10肋骨骨折，T12椎体压缩，较前片相仿。我院2次复查。",
    "主动脉及冠状动脉钙化，双侧胸腔积液，右侧深约23毫米。主任医师会诊。",
]


@pytest.mark.parametrize("text", IDENTIFYING)
def test_identifiers_leave_the_text(text: str) -> None:
    cleaned = scrub(text)
    assert [word for word in IDENTIFYING[text] if word in cleaned.text] == []
    assert cleaned.removed


@pytest.mark.parametrize("text", HARMLESS)
def test_what_identifies_nobody_stays(text: str) -> None:
    assert scrub(text).text == text


def test_known_identifiers_are_found_in_any_form() -> None:
    cleaned = scrub("Zenobia Quillfeather; QUILLFEATHER, zenobia; 病人王小明来诊", ("Quillfeather^Zenobia", "王小明"))
    assert not re.search("quillfeather|zenobia|王小明", cleaned.text, re.IGNORECASE)
    assert scrub("An ovoid nodule.", ("Ov",)).text == "An ovoid nodule."


def test_a_writer_never_sees_a_placeholder() -> None:
    text = scrub("A nodule of 8 mm. Seen by Dr. Smith. No effusion.").text
    assert without_placeholders(text, "en") == "A nodule of 8 mm. No effusion."
    assert without_placeholders("No effusion. [name] was told on [date]. A nodule.", "en") == "No effusion. A nodule."


@pytest.mark.real_data
def test_real_reports_lose_dates_and_names_and_no_measurement(real_data: Path) -> None:
    """In real reports the rules find dates of earlier scans and one doctor; every measurement stays."""
    with (real_data / "reports/ct_rate_reports_800.csv").open(encoding="utf-8") as handle:
        every = [row["report_text"] for row in csv.DictReader(handle)]
    texts = every[:30] + [text for text in every[30:] if "Dr." in text]
    cleaned = [scrub(text) for text in texts]
    measured = re.compile(r"\d+(?:[.,]\d+)?(?:\s*[x×]\s*\d+(?:[.,]\d+)?)*\s*(?:mm|cm|HU)\b")
    for before, after in zip(texts, cleaned, strict=True):
        assert measured.findall(before) == measured.findall(after.text)
    counts = sum((one.found for one in cleaned), Counter[str]())
    assert set(counts) == {"date", "name"}
    assert counts["name"] == 1


def test_the_key_stays_outside_and_is_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="key"):
        Pseudonyms(b"short")
    words = ["deidentify", str(tmp_path), "--out", str(tmp_path / "o"), "--key", str(tmp_path / "o/key")]
    assert run(words) == 2
    assert "outside --out" in capsys.readouterr().err
    first = Pseudonyms.from_file(tmp_path / "key")
    assert Pseudonyms.from_file(tmp_path / "key") == first
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert "secret" not in repr(Pseudonyms(b"secret secret secret"))
