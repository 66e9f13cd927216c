"""``phantom``: synthetic studies whose truth is known."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from ctscribe.cli import screen


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
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Draw synthetic chest CTs with known findings, as NIfTI or DICOM, with masks, boxes and reference reports.

    Every file is a function of its seed. Nothing in it comes from a patient.

    Examples:

    * `ctscribe phantom --n 3 --seed 42 --out phantoms`
    * `ctscribe phantom --n 1 --seed 7 --out phantoms --dicom && ctscribe report phantoms/000007 --out report`
    """
    from ctscribe.phantom import DEMO_GRID, NATIVE_GRID, generate, write_dicom, write_nifti

    screen.output_folder(out)
    voxels = NATIVE_GRID if grid is Grid.native else DEMO_GRID
    write = write_dicom if dicom else write_nifti
    made = []
    with screen.steps(n, quiet=as_json) as step:
        for one in range(seed, seed + n):
            step(f"study {one - seed + 1} of {n}")
            folder = out / f"{one:06d}"
            with screen.whole_folder(folder) as temporary:
                write(generate(one, voxels), temporary)
            made.append(folder)
    if as_json:
        screen.print_json({"studies": [{"seed": seed + i, "folder": str(f)} for i, f in enumerate(made)]})
    else:
        for folder in made:
            print(folder)
