"""``prepare`` and ``deidentify``: what is done to a data set before a model sees it."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def prepare(
    root: Path = typer.Argument(..., metavar="ROOT", help="Where the data set lies: a folder, or a manifest."),
    source: str = typer.Option(
        "folder", "--source", metavar="NAME", help="folder, ct-rate, lidc-idri, nlst, mimic-cxr or openi."
    ),
    out: Path = typer.Option(..., "--out", metavar="STORE", help="Folder of the prepared studies."),
    processes: int = typer.Option(max(1, (os.cpu_count() or 2) - 1), "--processes", min=1, help="Scans at a time."),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Only the first so many studies."),
    keep_text: bool = typer.Option(False, "--keep-text", help="Do not look for identifiers in the texts."),
    scheme: str | None = typer.Option(None, "--regions-scheme", metavar="NAME", help="Of the manifest's label maps."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Read, check and place every scan of a data set once, so that training only has to load it.

    May be stopped and started again: it continues. Scans that cannot be used are listed with the reason in
    refused.jsonl; report.html shows what the store holds.

    Examples:

    * `ctscribe prepare manifest.csv --out store`
    * `ctscribe prepare CT-RATE --source ct-rate --out store --processes 16`
    """
    from ctscribe.cli import screen
    from ctscribe.data.sources import open_source
    from ctscribe.training.fill import fill_from_source
    from ctscribe.training.prepare import Preparation

    screen.output_folder(out)
    found = open_source(source, root)
    note = screen.console(stderr=True)
    note.print(f"{found.name}: {found.licence}", markup=False)
    with screen.counting("preparing", quiet=as_json) as show:
        filled = fill_from_source(
            found,
            out,
            Preparation(),
            processes=processes,
            limit=limit,
            scrub_texts=not keep_text,
            regions_scheme=scheme,
            show=show,
        )
    result = {
        "source": found.name,
        "licence": found.licence,
        "written": filled.written,
        "there_before": filled.there,
        "refused": dict(filled.refused),
        "passages_removed": filled.scrubbed,
        "out": str(out),
    }
    if as_json:
        screen.print_json(result)
    else:
        print(f"{filled.written} written, {filled.there} there before, {filled.refused.total()} refused: {out}")
        for code, count in filled.refused.most_common():
            note.print(f"  refused {count} x {code}", markup=False)
