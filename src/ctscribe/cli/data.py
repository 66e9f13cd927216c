"""``inspect`` and ``segment``: looking at a scan without writing a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctscribe.cli import screen
from ctscribe.cli.segmenting import OWN_MODEL, SCHEME, SEGMENTER, check_own_model, tell_licence

if TYPE_CHECKING:
    import numpy as np

    from ctscribe.checkpoint import LoadedModel
    from ctscribe.data import Inspection
    from ctscribe.tensors import Volume

PATH = typer.Argument(..., metavar="PATH", help="A DICOM folder (nested or not), a zip of one, or a NIfTI file.")
SERIES = typer.Option(None, "--series", metavar="UID", help="Series Instance UID, or its hash as `inspect` prints it.")


def inspect(
    path: Path = PATH,
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> int:
    """What is at PATH: which series, would a report be written from it, and if not, why not.

    Exit code 0 when the scan would be accepted, 3 when it would be refused.

    Examples:

    * `ctscribe inspect study/`
    * `ctscribe inspect study.zip --json | jq .refusal.code`
    """
    from ctscribe.data import inspect as look

    found = look(path)
    if as_json:
        screen.print_json(found.to_json())
    else:
        _print_inspection(found)
    return 0 if found.accepted else 3


def segment(
    path: Path = PATH,
    out: Path = typer.Option(..., "--out", metavar="FILE", help="Label map to write, .nii.gz or .nii."),
    series: str | None = SERIES,
    segmenter: str = SEGMENTER,
    scheme: str = SCHEME,
    model: Path | None = OWN_MODEL,
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Write the regions that were found as a NIfTI label map in the scan's own orientation.

    The names of the labels are written beside it (labels.nii.gz has labels.json). The segmentation uses classical
    image processing, no network and no weights; lobes and vessels are approximate, and the file says so. With
    `--segmenter` somebody else outlines them: an installed program, a label map in its own numbers, or a model.

    Examples:

    * `ctscribe segment study/ --out labels.nii.gz`
    * `ctscribe segment study/ --out labels.nii.gz --segmenter labelmap:m.nii.gz --regions-scheme totalsegmentator_v2`
    """
    from ctscribe.data import load_study
    from ctscribe.pipeline.masks import Outliner

    screen.output_file(out, (".nii", ".nii.gz"))
    check_own_model(segmenter, model)
    outliner = Outliner(segmenter, scheme, lambda: _load_model(model))
    outliner.check()
    tell_licence(segmenter)
    with screen.steps(3, quiet=as_json) as step:
        step("reading the scan")
        study = load_study(path, series=series)
        step("finding the regions")
        found = outliner(study).segmentation
        step("writing the label map")
        names = {
            "labels": {str(value): region for value, region in sorted(found.names.items())},
            "source": found.source,
            "quality": found.quality,
            "notes": list(found.notes),
        }
        written = screen.write_together(
            out.parent, {out.name: _nifti(found.labels, study.volume, path, out), _names_file(out): _as_json(names)}
        )
    if as_json:
        screen.print_json({**names, "files": {name: str(place) for name, place in written.items()}})
    else:
        for place in written.values():
            print(place)


def _load_model(folder: Path | None) -> LoadedModel:
    from ctscribe import checkpoint

    return checkpoint.load(folder)


def _print_inspection(found: Inspection) -> None:
    from rich import box
    from rich.table import Column, Table

    console = screen.console()
    verdict = "[green]accepted[/green]" if found.accepted else "[red]refused[/red]"
    console.print(f"{verdict}: {found.kind or 'nothing readable'}, {found.n_files} file(s)")
    if found.candidates:
        name = Column("series", no_wrap=True, min_width=16)  # whole at any width: it is what --series takes
        table = Table(name, "slices", "matrix", "mm", "kernel", "plane", "score", "usable", box=box.SIMPLE_HEAD)
        for one in found.candidates:
            table.add_row(
                one.series_id,
                str(one.n_slices),
                f"{one.rows}x{one.columns}",
                "?" if one.step_mm is None else f"{one.step_mm:g}",
                one.kernel or "?",
                one.plane,
                f"{one.score:.1f}",
                one.refusal or "yes",
            )
        console.print(table)
    if found.ingest is not None and found.ingest.why:
        console.print(f"Chosen: {found.ingest.why}", markup=False, soft_wrap=True)
    for count, reason in found.dropped:
        console.print(f"left out: {count} x {reason}", markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"{note.severity}: {note.message} ({note.code})", markup=False, soft_wrap=True)
    if found.refusal is not None:
        console.print(str(found.refusal), markup=False, soft_wrap=True, style="red")


def _names_file(out: Path) -> str:
    return out.name.removesuffix(".gz").removesuffix(".nii") + ".json"


def _as_json(value: Any) -> bytes:
    import json

    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def _nifti(labels: np.ndarray, volume: Volume, path: Path, out: Path) -> bytes:
    """Label map bytes, on the NIfTI input's own axes where the input is a NIfTI of the same grid."""
    import gzip

    import nibabel as nib
    import numpy as np

    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nib.Nifti1Image(labels.transpose(2, 1, 0), to_ras @ volume.affine.matrix)
    image.header.set_xyzt_units("mm")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        image = _own_axes(image, path)
    content = image.to_bytes()
    return gzip.compress(content, mtime=0) if out.name.endswith(".gz") else content


def _own_axes(labels: Any, path: Path) -> Any:
    """Turn a canonical label map to the axis order of the file it was made from (no voxel is interpolated)."""
    import nibabel as nib
    import numpy as np

    from ctscribe.data import IngestPolicy
    from ctscribe.data.files import open_blobs
    from ctscribe.data.nifti import open_image

    with open_blobs(path) as (blob,):
        original = open_image(blob, IngestPolicy())
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(labels.affine), nib.orientations.io_orientation(original.affine)
    )
    turned = labels.as_reoriented(turn)
    same = turned.shape == tuple(original.shape[:3]) and np.allclose(turned.affine, original.affine, atol=1e-2)
    return turned if same else labels
