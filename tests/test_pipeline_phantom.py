"""A phantom's nodule, stored as DICOM in any order of files, is traced to the slice it was drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

import people_fakes as fakes
from ctscribe.model import GridContract
from ctscribe.phantom import GridSpec, LesionPrior, PhantomStudy, generate, write_dicom
from ctscribe.report import Finding

GRID = GridSpec(shape=(64, 96, 96), spacing=(5.0, 3.7, 3.7))


@pytest.fixture(scope="module")
def phantom() -> PhantomStudy:
    return generate(900_002, GRID, lesions=LesionPrior(force=("lung_nodule",)))


@pytest.fixture(scope="module")
def shuffled(phantom: PhantomStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series under names that say nothing about the order, half of it in a subfolder."""
    folder = write_dicom(phantom, tmp_path_factory.mktemp("series"))
    files = sorted(folder.glob("*.dcm"))
    (folder / "more").mkdir()
    for place, path in zip(np.random.default_rng(5).permutation(len(files)), files, strict=True):
        path.rename(folder / ("more" if place % 2 else ".") / f"{place:05d}")
    return folder


def test_the_nodule_is_traced_to_its_original_slice(phantom: PhantomStudy, shuffled: Path) -> None:
    nodule = next(lesion for lesion in phantom.lesions if lesion.kind == "lung_nodule")
    stated = (Finding("lung_nodule", regions=nodule.regions[:1]),)
    model = fakes.FakeModel(
        world=nodule.centre_world,
        findings=stated,
        probability={"lung_nodule": 0.9},
        grid=GridContract(),
        cells=(32, 16, 16),
    )
    result = fakes.reporter(model, identifiers=True).report(shuffled)
    (finding,) = result.report.findings
    evidence = finding.evidence[0]
    assert evidence.source == "detector"

    by_uid = {}
    for path in shuffled.rglob("[0-9]*"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        by_uid[str(header.SOPInstanceUID)] = header
    holding = [
        header
        for header in by_uid.values()
        if abs(header.ImagePositionPatient[2] - nodule.centre_world[2]) <= GRID.spacing[0] / 2
    ]
    numbers = {int(header.InstanceNumber) for header in holding}
    first, last = evidence.slices
    assert numbers & set(range(first, last + 1))
    assert last - first <= 8
    middle = by_uid[evidence.sop_instance].ImagePositionPatient[2]
    assert abs(middle - nodule.centre_world[2]) <= 20
    assert all(
        low - 0.1 <= c <= high + 0.1
        for low, c, high in zip(*[evidence.box_world[0], nodule.centre_world, evidence.box_world[1]], strict=True)
    )
