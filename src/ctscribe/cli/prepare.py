"""``prepare`` and ``deidentify``: what is done to a data set before a model sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctscribe.cli.segmenting import LESIONS_SCHEME, OWN_MODEL, SCHEME, SEGMENTER, check_own_model, tell_licence

if TYPE_CHECKING:
    from ctscribe.training.prepare import Preparation


SINCE = {
    "given": "as the data set says",
    "acquisition": "by the acquisition dates in both headers",
    "series": "by the series dates in both headers",
    "study": "by the study dates in both headers",
    "unknown": "not known",
}


def prepare(
    root: Path = typer.Argument(..., metavar="ROOT", help="Where the data set lies: a folder, or a manifest."),
    source: str = typer.Option(
        "folder", "--source", metavar="NAME", help="folder, ct-rate, lidc-idri, nlst, mimic-cxr or openi."
    ),
    out: Path = typer.Option(..., "--out", metavar="STORE", help="Folder of the prepared studies."),
    processes: int = typer.Option(max(1, (os.cpu_count() or 2) - 1), "--processes", min=1, help="Scans at a time."),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Only the first so many studies."),
    keep_text: bool = typer.Option(False, "--keep-text", help="Do not look for identifiers in the texts."),
    segmenter: str = SEGMENTER,
    scheme: str = SCHEME,
    lesions_scheme: str = LESIONS_SCHEME,
    model: Path | None = OWN_MODEL,
    volumes: Path | None = typer.Option(None, "--volumes", metavar="DIR", help="Also keep scans at full resolution."),
    recipe: str | None = typer.Option(None, "--recipe", metavar="NAME", help="Prepare for the grid of its model."),
    shards: Path | None = typer.Option(None, "--shards", metavar="DIR", help="Also write tar shards for streaming."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Read, check and place every scan of a data set once, so that training only has to load it.

    May be stopped and started again: it continues. Scans that cannot be used are listed with the reason in
    refused.jsonl; report.html shows what the store holds. A label map that a scan brings (column `regions`) names its
    regions; `--segmenter` says who outlines those of the others, `labelmap:PATTERN` where their maps lie.

    Examples:

    * `ctscribe prepare manifest.csv --out store`
    * `ctscribe prepare manifest.csv --out store --segmenter labelmap:m/{name}.nii.gz --regions-scheme lungmask_r231`
    * `ctscribe prepare CT-RATE --source ct-rate --out store --processes 16`
    * `ctscribe prepare phantoms --recipe beside --out store && ctscribe train beside data.prepared=store`
    """
    from ctscribe.cli import screen
    from ctscribe.data.shards import write_shards
    from ctscribe.data.sources import open_source
    from ctscribe.data.store import StudyStore
    from ctscribe.data.summary import write_data_report
    from ctscribe.training.fill import fill_from_source
    from ctscribe.training.prepare import preparation

    screen.output_folder(out)
    check_own_model(segmenter, model)
    how = preparation(segmenter, scheme, lesions_scheme, model)
    if recipe is not None:
        how = for_recipe(recipe, how)
    tell_licence(segmenter)
    found = open_source(source, root)
    note = screen.console(stderr=True)
    note.print(f"{found.name}: {found.licence}", markup=False)
    with screen.counting("preparing", quiet=as_json) as show:
        filled = fill_from_source(
            found,
            out,
            how,
            processes=processes,
            limit=limit,
            scrub_texts=not keep_text,
            volumes=volumes,
            show=show,
        )
    summary = write_data_report(out, f"{found.name} ({found.licence})")
    for twins in summary.twins[:5]:
        note.print(f"near-duplicates in different splits: {twins.a} and {twins.b}", markup=False)
    if shards is not None:
        write_shards(StudyStore(out), shards)
    result = {
        "source": found.name,
        "licence": found.licence,
        "written": filled.written,
        "there_before": filled.there,
        "refused": dict(filled.refused),
        "passages_removed": filled.scrubbed,
        "prior_days_by": dict(filled.since),
        "near_duplicates": len(summary.twins),
        "out": str(out),
    }
    if as_json:
        screen.print_json(result)
    else:
        print(f"{filled.written} written, {filled.there} there before, {filled.refused.total()} refused: {out}")
        for origin, count in filled.since.most_common():
            note.print(f"  days since the earlier scan: {count} x {SINCE[origin]}", markup=False)
        for code, count in filled.refused.most_common():
            note.print(f"  refused {count} x {code}", markup=False)


def for_recipe(word: str, how: Preparation) -> Preparation:
    """Prepares scans on the grid that the model of a recipe reads."""
    from dataclasses import replace

    from ctscribe.cli.train import resolve
    from ctscribe.errors import UsageError
    from ctscribe.training.course import CourseConfig

    if how.segmenter == "own":
        raise UsageError("--recipe and --segmenter own", expected="one of them", hint="the model has its own grid")
    _, config, _ = resolve(word)
    if not isinstance(config, CourseConfig):
        raise UsageError(f"recipe {word}", expected="one whose config() is a CourseConfig", got=type(config).__name__)
    grid = config.model.grid
    cells = config.model.encoder.tubelets.cells(grid.shape, grid.spacing)
    return replace(how, grid=grid, region_grid=cells)


def deidentify(
    root: Path = typer.Argument(..., metavar="PATH", help="DICOM folder or zip, NIfTI file, or a manifest."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder of the copy; the input is not changed."),
    key: Path = typer.Option(..., "--key", metavar="FILE", help="The secret; made if it is not there. Keep it apart."),
    drop_dates: bool = typer.Option(False, "--drop-dates", help="Empty dates instead of shifting them."),
    drop_characteristics: bool = typer.Option(False, "--drop-characteristics", help="Remove sex and age too."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Copy scans and reports without what identifies the patient.

    DICOM attributes survive by allow-list, UIDs are keyed, dates move by a shift of each patient's own. Pictures with
    text burned in are left out. Reports of a manifest are scrubbed in English and Chinese; measurements stay.

    Examples:

    * `ctscribe deidentify study/ --out clean --key ../secret.key`
    * `ctscribe deidentify manifest.csv --out clean --key ../secret.key`
    """
    from ctscribe.cli import screen
    from ctscribe.data.deidentify.copy import deidentify as copy
    from ctscribe.data.deidentify.headers import Options
    from ctscribe.data.pseudonym import Pseudonyms
    from ctscribe.errors import UsageError

    screen.output_folder(out)
    if out.resolve() in (key.resolve(), *key.resolve().parents):
        raise UsageError(
            f"--key {key}", expected="a place outside --out", got="inside it", hint="the key undoes the pseudonyms"
        )
    options = Options(characteristics=not drop_characteristics, shift_dates=not drop_dates)
    with screen.counting("de-identifying", quiet=as_json) as show:
        account = copy(root, out, Pseudonyms.from_file(key), options, show)
    if as_json:
        screen.print_json({**account.to_json(), "out": str(out)})
        return
    print(f"{account.files} files, {account.refused.total()} left out, {account.removed.total()} passages: {out}")
    note = screen.console(stderr=True)
    for what, count in [*account.refused.most_common(), *account.warnings.most_common()]:
        note.print(f"  {count} x {what}", markup=False)
