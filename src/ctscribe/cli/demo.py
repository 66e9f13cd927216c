"""``demo``: the whole road on a scan nobody has seen, in one word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctscribe.cli import screen
from ctscribe.cli.report import LANGUAGE, Language, as_plain, make

if TYPE_CHECKING:
    from ctscribe.report import Finding, Report

FIRST_HELD_OUT_SEED = 900_000
"""Seeds from here on are never used in training."""
SEED = 900_001


def demo(
    out: Path = typer.Option(Path("ctscribe-demo"), "--out", metavar="DIR", help="Folder to write."),
    lang: Language = LANGUAGE,
    seed: int = typer.Option(SEED, "--seed", min=FIRST_HELD_OUT_SEED, help="Which phantom; 900000 or more."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Draw a synthetic chest CT, store it as a DICOM series, and report on it.

    The phantom's seed was never used in training. The reference findings are shown beside what the model wrote.
    Nothing here comes from a patient, and the bundled model is not for clinical use.

    Examples:

    * `ctscribe demo`
    * `ctscribe demo --lang both --seed 900123`
    """
    from ctscribe.phantom import DEMO_GRID, generate, write_dicom

    screen.output_folder(out)
    study = generate(seed, DEMO_GRID)
    series = out / f"phantom-{seed}"
    if not series.exists():
        with screen.whole_folder(series) as temporary:
            write_dicom(study, temporary)
    made, contents = make(series, lang.value, None, {})
    written = screen.write_together(out / f"report-{seed}", contents)
    if as_json:
        from ctscribe.report.codec import to_plain

        reference = [to_plain(finding) for finding in study.findings]
        screen.print_json({**as_plain(made, written), "reference": reference, "series": str(series)})
        return
    _show(made.report, study.findings, written["report.html"], series)


def _show(report: Report, reference: tuple[Finding, ...], page: Path, series: Path) -> None:
    from rich.panel import Panel

    console = screen.console()
    for code in report.languages:
        console.print(Panel(report.to_text(code).strip(), title="the report", border_style="cyan"), markup=False)
    console.print(comparison(report.findings, reference))
    console.print(f"Scan:   {series}", markup=False, soft_wrap=True)
    console.print(f"Report: {page}", markup=False, soft_wrap=True)


def comparison(written: tuple[Finding, ...], reference: tuple[Finding, ...]) -> object:
    """A table of finding kinds: what is drawn in the phantom, and what the report states."""
    from rich.table import Table

    from ctscribe import ontology

    table = Table("finding", "drawn in the phantom", "stated in the report", "", title="Reference and report")
    for kind in ontology.findings().values():
        truth = [f for f in reference if f.kind == kind.id and f.status != "absent"]
        said = [f for f in written if f.kind == kind.id and f.status != "absent"]
        if truth or said:
            mark = (
                "[green]found[/green]" if truth and said else "[red]missed[/red]" if truth else "[yellow]extra[/yellow]"
            )
            table.add_row(kind.names["en"][0], _places(truth), _places(said), mark)
    return table


def _places(findings: list[Finding]) -> str:
    from ctscribe import ontology

    lines = []
    for finding in findings:
        where = ", ".join(ontology.regions()[r].names["en"][0] for r in finding.regions)
        size = f" {max(finding.size_mm):g} mm" if finding.size_mm else ""
        doubt = " (uncertain)" if finding.status == "uncertain" else ""
        lines.append(f"{where}{size}{doubt}" or "yes")
    return "\n".join(lines)
