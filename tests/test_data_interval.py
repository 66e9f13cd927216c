"""Days between a scan and an earlier one: by the dates in both headers, and what becomes of the dates themselves."""

from __future__ import annotations

import csv
import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import badinput as bad
from ctscribe.data import load_study
from ctscribe.data.interval import Interval, interval, scan_dates, with_days
from ctscribe.data.manifest import read_manifest
from ctscribe.data.sources import open_source
from ctscribe.data.sources.study import SourceStudy
from ctscribe.data.store import StudyStore
from ctscribe.data.study import ScanDates
from ctscribe.errors import UsageError
from ctscribe.model import GridContract
from ctscribe.phantom import GridSpec, write_dicom
from ctscribe.phantom.patients import manifest_rows, visits, write_manifest
from ctscribe.pipeline.earlier import days_since, notes
from ctscribe.training.fill import fill_from_source
from ctscribe.training.prepare import Preparation
from ingest_kit import tags

NEVER = {"StudyDate": None, "SeriesDate": None, "AcquisitionDate": None}
FIRST, LATER = datetime.date(2020, 1, 2), datetime.date(2020, 4, 1)


def series(folder: Path, **dates: str | None) -> Path:
    """A small series; its study date alone is set unless others are given."""
    return bad.write_series(folder, bad.truth(), tags(**NEVER | dates))


@pytest.mark.parametrize(
    ("scan", "prior", "days", "origin", "why"),
    [
        ({"study": LATER}, {"study": FIRST}, 90, "study", ""),
        ({"study": LATER, "acquisition": LATER}, {"study": LATER, "acquisition": FIRST}, 90, "acquisition", ""),
        ({"study": LATER, "series": FIRST}, {"study": FIRST, "series": FIRST}, 90, "study", ""),
        ({"study": LATER}, {"acquisition": FIRST}, None, "unknown", "no_dates"),
        ({}, {}, None, "unknown", "no_dates"),
        ({"study": FIRST}, {"study": FIRST}, None, "unknown", "same_day"),
        ({"study": LATER, "patient": "a"}, {"study": FIRST, "patient": "b"}, None, "unknown", "other_patient"),
        ({"study": LATER, "patient": "a"}, {"study": FIRST}, 90, "study", ""),
        ({"study": FIRST}, {"study": LATER}, -90, "study", ""),
    ],
)
def test_the_first_date_that_both_have_and_that_differs_counts(
    scan: dict[str, Any], prior: dict[str, Any], days: float | None, origin: Any, why: Any
) -> None:
    found = interval(ScanDates(**scan), ScanDates(**prior))
    assert found == Interval(days, origin, why, days)
    told = interval(ScanDates(**scan), ScanDates(**prior), 30.0)
    assert (told.days, told.origin, told.by_headers) == (30.0, "given", days)


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"StudyDate": "20200401"}, {"study": LATER}),
        ({"StudyDate": "2020.04.01"}, {"study": LATER}),
        ({"AcquisitionDateTime": "20200401093000.5", "StudyDate": "20200102"}, {"acquisition": LATER, "study": FIRST}),
        ({"SeriesDate": "20200401", "StudyDate": ""}, {"series": LATER}),
        ({"StudyDate": "20200231"}, {}),
        ({"StudyDate": "00000000"}, {}),
    ],
)
def test_dates_are_read_where_they_are_days(
    written: dict[str, str], read: dict[str, datetime.date], tmp_path: Path
) -> None:
    path = series(tmp_path, **written)
    dates = load_study(path).dates
    assert replace(dates, patient=None) == ScanDates(**read)
    assert scan_dates(path) == dates


def test_the_dates_of_a_scan_stand_in_no_account_and_no_representation(tmp_path: Path) -> None:
    study = load_study(series(tmp_path, StudyDate="20200401", AcquisitionDate="20200401"))
    told = json.dumps(study.ingest.to_json()) + repr(study.dates) + repr(study.ingest)
    assert not any(form in told for form in ("2020", "20200401", "SECRET"))


def test_a_scan_that_is_no_dicom_has_no_dates(tmp_path: Path) -> None:
    path = bad.write_nifti(tmp_path / "a.nii", bad.truth())
    assert load_study(path).dates == scan_dates(path) == ScanDates()
    (tmp_path / "empty").mkdir()
    assert scan_dates(tmp_path / "empty") == ScanDates()


def test_shifted_dates_keep_the_interval_and_removed_ones_lose_it(tmp_path: Path) -> None:
    from ctscribe.cli import table

    for name, day in (("now", "20200401"), ("before", "20200102")):
        series(tmp_path / "in" / name, StudyDate=day)

    def copied(name: str, key: str, *options: str) -> ScanDates:
        out = tmp_path / f"{name}-{key}{len(options)}"
        words = ["deidentify", str(tmp_path / "in" / name), "--out", str(out), "--key", str(tmp_path / key), *options]
        assert table.run([*words, "--json"]) == 0
        return scan_dates(out)

    now, before = copied("now", "one"), copied("before", "one")
    assert interval(now, before) == Interval(90, "study", "", 90)
    assert now.study != LATER
    assert interval(now, copied("before", "two")).why == "other_patient"
    assert interval(now, copied("before", "one", "--drop-dates")).why == "no_dates"


# ---------------------------------------------------------------------------------------- manifests
def manifest(
    folder: Path, prior_days: str = "", days: tuple[str | None, str | None] = ("20200102", "20200401")
) -> Path:
    for name, day in zip(("before", "now"), days, strict=True):
        series(folder / name, StudyDate=day)
    rows = [["before", "P", "before", "", ""], ["now", "P", "now", "before", prior_days]]
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["study", "patient", "image", "prior", "prior_days"], *rows])
    return path


@pytest.mark.parametrize(("given", "days"), [("", 90.0), ("30", 30.0)])
def test_rows_get_the_days_that_the_manifest_does_not_say(given: str, days: float, tmp_path: Path) -> None:
    rows = with_days(read_manifest(manifest(tmp_path, given)).rows)
    assert [row.prior_days for row in rows] == [None, days]


def test_a_prior_that_was_made_later_is_named_by_line(tmp_path: Path) -> None:
    rows = read_manifest(manifest(tmp_path, days=("20200401", "20200102"))).rows
    with pytest.raises(UsageError, match=r"line 3: its prior \(line 2\) was made later") as caught:
        with_days(rows)
    assert "90 days later" in str(caught.value)
    assert "2020" not in str(caught.value)
    (tmp_path / "other").mkdir()
    rows = read_manifest(manifest(tmp_path / "other", days=(None, "20200102"))).rows
    assert [row.prior_days for row in with_days(rows)] == [None, None]


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two visits of a synthetic patient as DICOM, listed without the days between them, once the wrong way round."""
    folder, grid = tmp_path_factory.mktemp("patients"), GridSpec((32, 48, 48), (8.0, 8.0, 8.0))
    known = visits(0, grid)
    for visit in known:
        write_dicom(visit.scan, folder / visit.name)
    rows = manifest_rows("P", "train", [visit.name for visit in known], known)
    before, now = ({**row, "prior_days": ""} for row in rows)
    wrong = {**before, "study": "wrong", "prior": now["study"]}
    write_manifest(folder, [before, now, wrong])
    return folder


def test_a_store_is_told_the_days_by_the_headers_and_who_says_so(patients: Path, tmp_path: Path) -> None:
    how = Preparation(GridContract((16, 32, 32), (20.0, 11.0, 11.0)), (8, 4, 4))
    filled = fill_from_source(open_source("folder", patients), tmp_path, how)
    days = visits(0, GridSpec((32, 48, 48), (8.0, 8.0, 8.0)))[1].days
    assert (filled.written, filled.since, filled.refused) == (2, {"acquisition": 1}, {"prior_later": 1})
    assert [s.prior_days for s in StudyStore(tmp_path) if s.prior is not None] == [days]
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.jsonl"))
    assert "made later" in kept
    day = scan_dates(patients / "000000").acquisition
    assert day is not None
    assert not any(day.strftime(form) in kept for form in ("%Y%m%d", "%Y-%m-%d"))


def test_a_source_that_has_set_its_dates_tells_no_days(patients: Path, tmp_path: Path) -> None:
    class Reset:
        name, licence = "reset", ""

        def studies(self) -> Any:
            return (replace(study, dated=False) for study in open_source("folder", patients).studies())

    assert SourceStudy("s", "p", "w").dated
    how = Preparation(GridContract((16, 32, 32), (20.0, 11.0, 11.0)), (8, 4, 4))
    assert fill_from_source(Reset(), tmp_path, how, limit=2).since == {"unknown": 1}


# ------------------------------------------------------------------------------------------- reports
def test_an_earlier_scan_that_is_the_later_one_is_refused_with_both_names(tmp_path: Path) -> None:
    now, before = (load_study(series(tmp_path / name, StudyDate=day)) for name, day in
                   (("now", "20200401"), ("before", "20200102")))  # fmt: skip
    paths = Path("scans/now"), Path("scans/before")
    assert days_since(now, before, None, *paths).days == 90
    with pytest.raises(UsageError) as caught:
        days_since(before, now, None, *paths)
    told = str(caught.value)
    assert all(word in told for word in ("scans/now", "scans/before", "90 days later", "--prior-days", "exchange"))
    assert "2020" not in told
    assert days_since(before, now, 12.0, *paths).days == 12.0


@pytest.mark.parametrize(
    ("found", "codes"),
    [
        (Interval(90, "acquisition", "", 90), {"interval_by_headers": "90 days"}),
        (Interval(90, "given"), {"interval_given": "90 days"}),
        (Interval(90, "given", "", 91), {"interval_given": "90 days"}),
        (Interval(90, "given", "", 30), {"interval_given": "90 days", "interval_contradicts": "30 days"}),
        (Interval(90, "given", "other_patient"), {"interval_given": "90", "prior_other_patient": "Patient IDs"}),
        (Interval(None, "unknown", "no_dates"), {"interval_no_dates": "not known"}),
        (Interval(None, "unknown", "same_day"), {"interval_same_day": "same date"}),
        (
            Interval(None, "unknown", "other_patient"),
            {"interval_other_patient": "not known", "prior_other_patient": "may not be of one patient"},
        ),
    ],
)
def test_a_report_says_where_the_interval_comes_from(found: Interval, codes: dict[str, str]) -> None:
    told = {note.code: note.message for note in notes(found)}
    assert set(told) == set(codes)
    assert all(words in told[code]["en"] for code, words in codes.items())
    assert all(message["zh"] for message in told.values())
