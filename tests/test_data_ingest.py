"""Every defect of the table is handled or refused as it says; the same scan is the same volume however stored."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import IO

import numpy as np
import pytest

import badinput as bad
from ctscribe.data import IngestPolicy, inspect, load_study
from ctscribe.errors import GeometryRefused, InputRefused, WrongBodyPart
from ingest_cases import CASES, Case, row
from ingest_kit import equals_truth, sheared

TRUTH = bad.truth()
SECRETS = ("Secret", "SECRET", bad.ROOT, "OTHER")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_defect(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = case.build(tmp_path / "scan")
    if case.refused is not None:
        with pytest.raises(InputRefused) as caught:
            load_study(path)
        assert type(caught.value) is case.refused
        assert caught.value.code == case.codes[0]
        said = str(caught.value)
    else:
        study = load_study(path)
        assert case.check is not None
        case.check(study)
        codes = {note.code for note in study.ingest.notes}
        assert set(case.codes) <= codes
        said = json.dumps(study.ingest.to_json())
    assert not any(secret in said for secret in SECRETS)
    assert capfd.readouterr() == ("", "")


def test_table_is_long_enough() -> None:
    assert len(CASES) >= 190
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_case_is_in_the_docs(repository: Path) -> None:
    page = (repository / "docs" / "reference" / "ingest-table.md").read_text()
    for case in CASES:
        assert row(case) in page


ORIENTATIONS = [
    (order, signs) for order in itertools.permutations((0, 1, 2)) for signs in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_nifti_in_any_orientation_is_the_same_volume(
    order: tuple[int, int, int], signs: tuple[int, int, int], tmp_path: Path
) -> None:
    stored = bad.stored_as(TRUTH, order, signs)
    equals_truth(load_study(bad.write_nifti(tmp_path / "a.nii", stored)))


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[1::6])
def test_dicom_in_any_orientation_is_the_same_volume(
    order: tuple[int, int, int], signs: tuple[int, int, int], tmp_path: Path
) -> None:
    """DICOM slices have no handedness of their own: position and orientation tags say it all."""
    stored = bad.stored_as(TRUTH, order, signs)
    equals_truth(load_study(bad.write_series(tmp_path, stored)))


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[5::12])
def test_a_world_point_leads_back_to_its_slice_and_pixel(
    order: tuple[int, int, int], signs: tuple[int, int, int], tmp_path: Path
) -> None:
    stored = bad.stored_as(TRUTH, order, signs)
    study = load_study(bad.write_series(tmp_path, stored))
    rng = np.random.default_rng(0)
    for _ in range(20):
        k, row, column = (int(rng.integers(n)) for n in stored.shape)
        there = study.source.locate(stored.affine.to_world(np.array([k, row, column])))
        assert (there.slice_number, there.instance_number, there.inside) == (k + 1, k + 1, True)
        assert there.sop_instance_uid == bad.uid(1, k + 1)
        assert (round(there.row, 3), round(there.column, 3)) == (row, column)
        voxel = study.volume.affine.to_index(stored.affine.to_world(np.array([k, row, column])))
        assert study.volume.hu[tuple(np.rint(voxel).astype(int))] == stored.hu[k, row, column]


def test_a_tilted_slice_is_found_again(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "gantry_tilt")
    study = load_study(case.build(tmp_path))
    world = sheared(15.0).to_world(np.array([11, 7, 30]))
    there = study.source.locate(world)
    assert (there.slice_number, round(there.row, 2), round(there.column, 2)) == (12, 7.0, 30.0)


def test_a_point_outside_says_so(tmp_path: Path) -> None:
    study = load_study(bad.write_series(tmp_path, TRUTH))
    assert not study.source.locate((0.0, 0.0, 900.0)).inside
    assert not study.source.locate((900.0, 0.0, 0.0)).inside


def test_nifti_locates_along_the_stored_axes(tmp_path: Path) -> None:
    stored = bad.stored_as(TRUTH, (2, 0, 1), (-1, 1, -1))
    source = load_study(bad.write_nifti(tmp_path / "a.nii", stored)).source
    there = source.locate(stored.affine.to_world(np.array([3, 5, 8])))
    assert there.slice_number == 6  # the stored head-foot axis is the middle one here
    assert (round(there.row, 3), round(there.column, 3)) == (8, 3)
    assert there.instance_number is None


def test_inspect_answers_for_every_case(tmp_path: Path) -> None:
    for case in CASES[::9]:
        found = inspect(case.build(tmp_path / case.name), body_part=False)
        assert found.accepted == (case.refused is None)
        said = json.loads(json.dumps(found.to_json()))
        assert said["accepted"] == found.accepted
        assert (said["refusal"] is None) == found.accepted


def test_inspect_asks_whether_it_is_a_chest(tmp_path: Path) -> None:
    """The truth of this table is a block with two holes, which no report may be written from."""
    found = inspect(bad.write_series(tmp_path, TRUTH))
    assert isinstance(found.refusal, WrongBodyPart)
    assert (found.accepted, found.ingest) == (False, None)
    assert len(found.candidates) == 1


def test_a_file_without_rights_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad.write_series(tmp_path, TRUTH)
    whole = Path.open

    def guarded(path: Path, *arguments: str) -> IO[bytes]:
        if path.name == "020.dcm":
            raise PermissionError(13, "Permission denied")
        return whole(path, *arguments)

    monkeypatch.setattr(Path, "open", guarded)
    with pytest.raises(InputRefused) as caught:
        load_study(tmp_path)
    assert (caught.value.code, caught.value.got) == ("not_readable", "permission denied")


def test_the_choice_can_be_overruled_and_is_explained(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "two_series")
    path = case.build(tmp_path)
    first = load_study(path)
    assert "kernel (B30f: standard, not LUNG: lung)" in first.ingest.why
    assert [c.kernel for c in first.ingest.candidates] == ["B30f", "LUNG"]
    for name in (bad.uid(2), first.ingest.candidates[1].series_id):
        other = load_study(path, series=name)
        assert other.ingest.technique.kernel == "LUNG"
    with pytest.raises(InputRefused) as caught:
        load_study(path, series="1.2.3")
    assert caught.value.code == "series_not_found"


def test_a_nifti_has_no_series_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(InputRefused) as caught:
        load_study(bad.write_nifti(tmp_path / "a.nii", TRUTH), series="1.2.3")
    assert caught.value.code == "series_not_found"


def test_the_policy_decides_what_is_repaired(tmp_path: Path) -> None:
    path = bad.write_series(tmp_path, TRUTH, lambda k, ds: None if k == 10 else ds)
    with pytest.raises(GeometryRefused) as caught:
        load_study(path, policy=IngestPolicy(max_filled_slices=0))
    assert caught.value.code == "missing_slices"
    with pytest.raises(InputRefused) as caught_memory:
        load_study(path, policy=IngestPolicy(max_memory_gb=1e-6))
    assert caught_memory.value.code == "too_large"


def test_technique_and_coarse_patient_facts_are_reported(tmp_path: Path) -> None:
    ingest = load_study(bad.write_series(tmp_path, TRUTH)).ingest
    assert (ingest.technique.slice_thickness_mm, ingest.technique.kvp) == (2.5, 120.0)
    assert (ingest.age_years, ingest.sex) == (61, "F")
    assert ingest.stored_spacing == (2.5, 5.0, 4.0)
    assert ingest.notes == ()


def test_ages_above_89_are_not_told(tmp_path: Path) -> None:
    def old(_: int, ds: bad.Dataset) -> bad.Dataset:
        ds.PatientAge = "097Y"
        return ds

    assert load_study(bad.write_series(tmp_path, TRUTH, old)).ingest.age_years == 90
