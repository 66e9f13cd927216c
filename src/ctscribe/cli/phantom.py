"""``phantom``: synthetic studies whose truth is known."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctscribe.cli import screen

if TYPE_CHECKING:
    from ctscribe.phantom import GridSpec, PhantomStudy


class Grid(StrEnum):
    """Voxel grids a phantom can be drawn on."""

    demo = "demo"
    native = "native"


def phantom(
    n: int = typer.Option(1, "--n", min=1, metavar="N", help="How many studies."),
    seed: int = typer.Option(0, "--seed", min=0, metavar="S", help="Seed of the first; study i has seed S + i."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder to write, one subfolder for each study."),
    dicom: bool = typer.Option(False, "--dicom", help="A DICOM series instead of NIfTI."),
    grid: Grid = typer.Option(Grid.demo, "--grid", help="demo: 5 x 2.75 mm, seconds; native: 2 x 1.4 mm, slower."),
    beside: bool = typer.Option(
        False, "--beside", help="N patients of two studies, and manifest.csv with earlier scans, histories and labs."
    ),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Draw synthetic chest CTs with known findings, as NIfTI or DICOM, with masks, boxes and reference reports.

    Every file is a function of its seed. Nothing in it comes from a patient.

    Examples:

    * `ctscribe phantom --n 3 --seed 42 --out phantoms`
    * `ctscribe phantom --n 1 --seed 7 --out phantoms --dicom && ctscribe report phantoms/000007 --out report`
    * `ctscribe phantom --n 40 --beside --out phantoms && ctscribe prepare phantoms --recipe beside --out store`
    """
    from ctscribe.phantom import DEMO_GRID, NATIVE_GRID, write_dicom, write_nifti
    from ctscribe.phantom.patients import write_manifest

    screen.output_folder(out)
    voxels = NATIVE_GRID if grid is Grid.native else DEMO_GRID
    write = write_dicom if dicom else write_nifti
    made: list[tuple[int, Path]] = []
    rows: list[dict[str, str]] = []
    with screen.steps(n, quiet=as_json) as step:
        for number in range(n):
            step(f"{'patient' if beside else 'study'} {number + 1} of {n}")
            drawn, listed = _drawn(seed + number, number, n, voxels, beside, "" if dicom else "/ct.nii.gz")
            for name, study in drawn.items():
                with screen.whole_folder(out / name) as temporary:
                    write(study, temporary)
                made.append((seed + number, out / name))
            rows += listed
    manifest = write_manifest(out, rows) if beside else None
    if as_json:
        listing = {"studies": [{"seed": one, "folder": str(folder)} for one, folder in made]}
        screen.print_json(listing if manifest is None else {**listing, "manifest": str(manifest)})
        return
    for _, folder in made:
        print(folder)
    if manifest is not None:
        print(manifest)


def _drawn(
    seed: int, number: int, count: int, voxels: GridSpec, beside: bool, image: str
) -> tuple[dict[str, PhantomStudy], list[dict[str, str]]]:
    """Folder -> study of one seed, and its rows of the manifest; a study alone has none."""
    from ctscribe.phantom import generate
    from ctscribe.phantom.patients import manifest_rows, split_of, visits

    if not beside:
        return {f"{seed:06d}": generate(seed, voxels)}, []
    known = visits(seed, voxels)
    images = [f"{visit.name}{image}" for visit in known]
    rows = manifest_rows(f"PHANTOM-{seed:06d}", split_of(number, count), images, known)
    return {visit.name: visit.scan for visit in known}, rows
