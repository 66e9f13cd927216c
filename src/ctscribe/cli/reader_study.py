"""``reader-study``: radiologists judge reports blinded; build the set, score the answers, plan the size."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctscribe.cli import screen
from ctscribe.cli.report import Spoken
from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from ctscribe.evaluation.reader_study import Plan, Summary

app = typer.Typer(
    help="Radiologists judge reports, blinded: build a reading set, score the answers, plan its size.\n\n"
    "Example: `ctscribe reader-study build mine.jsonl --ref truth.jsonl --readers 3 --out study`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Layout(enum.Enum):
    """Who reads what."""

    crossed = "crossed"
    split = "split"
    once = "once"


@app.command("build")
def build(
    predictions: list[str] = typer.Argument(
        ..., metavar="PRED.jsonl...", help="Predicted reports of each system; NAME=FILE gives a name."
    ),
    ref: Path = typer.Option(..., "--ref", metavar="REF.jsonl", help="Reference reports, matched by id."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="New folder for pages, forms and key."),
    readers: int = typer.Option(..., "--readers", min=1, help="Number of readers."),
    cases: int | None = typer.Option(None, "--cases", min=1, help="Cases to draw; default: all."),
    design: Layout | None = typer.Option(
        None,
        "--design",
        help="crossed: everybody reads everything (default); split: cases are dealt out (default with --overlap); "
        "once: everybody reads each case once.",
    ),
    overlap: int | None = typer.Option(
        None, "--overlap", min=0, help="Cases that everybody reads, for agreement (designs split and once)."
    ),
    repeats: int | None = typer.Option(
        None, "--repeats", min=0, help="Texts that each reader reads twice; default: a tenth."
    ),
    include_reference: bool = typer.Option(
        False, "--include-reference", help="The references are read too, masked like a system."
    ),
    show_reference: bool = typer.Option(
        False, "--show-reference", help="Readers see the reference beside each report."
    ),
    findings: bool = typer.Option(
        False, "--findings", help="Readers first tick CT-RATE's 18 findings on each scan, for kappa with the systems."
    ),
    images: Path | None = typer.Option(
        None, "--images", metavar="DIR", help="Key images: DIR/CASE/*.png, or DIR/CASE.png and DIR/CASE_*.png."
    ),
    lang: Spoken | None = typer.Option(None, "--lang", help="Use only reports in this language."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of every draw; keep it from the readers."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Build a blinded, randomised reading set: a page and a form for each reader, and a key that stays behind.

    Examples:

    * `ctscribe reader-study build mine.jsonl theirs.jsonl --ref truth.jsonl --readers 3 --cases 40 --out study`
    * `ctscribe reader-study build mine.jsonl --ref truth.jsonl --readers 4 --overlap 10 --out study`
    """
    from ctscribe.evaluation.reader_study.build import build as make

    screen.output_folder(out)
    sources = _named(predictions)
    with screen.steps(2, quiet=as_json) as step, screen.whole_folder(out) as folder:
        step("reading the reports")
        made = make(
            sources,
            ref,
            readers=readers,
            cases=cases,
            design=None if design is None else design.value,
            overlap=overlap,
            repeats=repeats,
            include_reference=include_reference,
            show_reference=show_reference,
            findings=findings,
            images=images,
            language=None if lang is None else lang.value,
            seed=seed,
        )
        step("writing pages and forms")
        for name, content in made.files().items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    key = made.key
    counts = {reader: key.count(reader) for reader in key.readers}
    if as_json:
        screen.print_json(
            {
                "study": key.study,
                "design": key.design,
                "cases": len(key.clusters),
                "systems": list(key.systems.values()),
                "readings": counts,
                "folder": str(out),
                "key": str(out / "key" / "key.json"),
                "notes": list(made.notes),
            }
        )
        return
    print(f"study {key.study}: {len(key.clusters)} cases, {len(key.systems)} systems, design {key.design}")
    for reader, count in counts.items():
        print(f"{out / 'readers' / reader}: {count} readings")
    print(f"{out / 'key' / 'key.json'}: keep this from the readers")
    for note in made.notes:
        print(f"note: {note}")


@app.command("score")
def score(
    answers: list[Path] = typer.Argument(
        ..., metavar="ANSWERS...", help="Folder with the files that came back, or the files."
    ),
    key: Path = typer.Option(..., "--key", metavar="key.json", help="The key that `build` wrote."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Write the summary here (JSON, HTML, CSV)."),
    partial: bool = typer.Option(False, "--partial", help="Allow items without an answer."),
    masked: bool = typer.Option(False, "--masked", help="Show systems by code, so that the analysis is blinded too."),
    resamples: int = typer.Option(1000, "--resamples", min=0, help="Bootstrap samples; 0 leaves intervals out."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the bootstrap and the permutation test."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Check the answers and report scores, differences between systems, errors and agreement.

    Examples:

    * `ctscribe reader-study score returned --key study/key/key.json --out results`
    * `ctscribe reader-study score returned --key study/key/key.json --partial --json`
    """
    from ctscribe.evaluation.reader_study import Settings, read_answers, read_key
    from ctscribe.evaluation.reader_study.results import score as evaluate
    from ctscribe.evaluation.reader_study.writer import summary_files

    if out is not None:
        screen.output_folder(out)
    with screen.steps(2, quiet=as_json) as step:
        step("checking the answers")
        secret = read_key(key)
        given = read_answers(answers, secret, partial=partial)
        step("computing")
        summary = evaluate(given, secret, Settings(resamples=resamples, seed=seed, masked=masked))
        if out is not None:
            screen.write_together(out, summary_files(summary, given, secret))
    if as_json:
        screen.print_json(summary.to_dict())
        return
    _print_summary(summary)
    if out is not None:
        print(out)


@app.command("power")
def power(
    difference: float = typer.Option(..., "--difference", help="Difference of mean scores that should be found."),
    sd: float = typer.Option(
        ..., "--sd", help="Standard deviation of the difference that one reader gives to one case."
    ),
    readers: int = typer.Option(..., "--readers", min=1, help="Readers, who all read all cases."),
    cases: list[int] = typer.Option([], "--cases", min=2, help="Cases; may be given several times. Default: a range."),
    reader_share: float = typer.Option(0.05, "--reader-share", help="Share of that variance between readers."),
    case_share: float = typer.Option(0.5, "--case-share", help="Share of that variance between cases."),
    wanted: float = typer.Option(0.8, "--power", help="Power for which the cases needed are given."),
    alpha: float = typer.Option(0.05, "--alpha", help="Two-sided; divide it by the number of comparisons."),
    kappa: float = typer.Option(0.6, "--kappa", help="Agreement of two readers that is expected."),
    marginals: str | None = typer.Option(
        None, "--marginals", help="Shares of the scores 1 to 5, such as 0.1,0.2,0.3,0.3,0.1."
    ),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Power, or cases needed, for a paired difference of mean scores; and how wide a kappa's interval will be.

    Examples:

    * `ctscribe reader-study power --difference 0.5 --sd 1 --readers 3`
    * `ctscribe reader-study power --difference 0.3 --sd 1.1 --readers 4 --cases 40 --cases 80 --json`
    """
    from ctscribe.evaluation.reader_study.power import TYPICAL_SCORES, Plan

    plan = Plan(difference, sd, readers, reader_share, case_share, alpha)
    shares = TYPICAL_SCORES if marginals is None else _shares(marginals)
    found = {
        "plan": vars(plan),
        "wanted_power": wanted,
        "cases_needed": {
            "these_readers": plan.cases_needed(wanted),
            "other_readers": plan.cases_needed(wanted, other_readers=True),
        },
        "kappa": kappa,
        "marginals": list(shares),
        "rows": _power_rows(plan, sorted(set(cases)) or [10, 20, 30, 50, 75, 100, 150, 200], kappa, shares),
    }
    if as_json:
        screen.print_json(found)
        return
    _print_power(found, wanted)


# ------------------------------------------------------------------------------------------ details
def _named(predictions: list[str]) -> dict[str, Any]:
    """NAME=FILE or FILE -> name and path; the name of a bare file is its own."""
    found: dict[str, Any] = {}
    for word in predictions:
        name, mark, path = word.partition("=")
        if not mark or Path(word).exists():
            name, path = Path(word).stem, word
        if name in found:
            raise UsageError(
                f"two systems are called {name!r}", expected="different names", hint=f"{name}2={path}, for example"
            )
        found[name] = Path(path)
    return found


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError("--marginals", expected="numbers such as 0.1,0.2,0.3,0.3,0.1", got=text) from error


def _power_rows(plan: Plan, cases: list[int], kappa: float, shares: tuple[float, ...]) -> list[dict[str, Any]]:
    from ctscribe.evaluation.reader_study.power import half_width, kappa_error

    return [
        {
            "cases": count,
            "power_these_readers": plan.power(count),
            "power_other_readers": plan.power(count, other_readers=True),
            "kappa_half_width": half_width(kappa_error(kappa, count, marginals=shares, weights="none")),
            "quadratic_kappa_half_width": half_width(kappa_error(kappa, count, marginals=shares)),
        }
        for count in cases
    ]


def _print_power(found: dict[str, Any], wanted: float) -> None:
    from rich.table import Table

    table = Table("cases", "power, these readers", "power, other readers", "kappa ±", "quadratic kappa ±")
    for column in table.columns:
        column.justify = "right"
    for row in found["rows"]:
        other = row["power_other_readers"]
        table.add_row(
            str(row["cases"]),
            f"{row['power_these_readers']:.3f}",
            "-" if other is None else f"{other:.3f}",
            f"{row['kappa_half_width']:.3f}",
            f"{row['quadratic_kappa_half_width']:.3f}",
        )
    screen.console().print(table)
    for who, count in found["cases_needed"].items():
        needed = "no number of cases reaches it; take more readers" if count is None else f"{count} cases"
        print(f"power {wanted:g}, {who.replace('_', ' ')}: {needed}")


def _print_summary(summary: Summary) -> None:
    from rich.markup import escape
    from rich.table import Table

    from ctscribe.evaluation.reader_study.writer import named, number, p_value, whole

    console = screen.console()
    table = Table(
        "outcome", *map(escape, summary.systems), title=f"Reader study {summary.study}: means", title_justify="left"
    )
    for outcome in dict.fromkeys(row["outcome"] for row in summary.means):
        rows = [summary.mean(outcome, system) for system in summary.systems]
        table.add_row(named(outcome), *(f"{number(row['value'])} ({whole(row)})" for row in rows))
    console.print(table)
    if summary.differences:
        table = Table(
            "outcome", "systems", "difference", "interval", "p, Holm", title="Differences", title_justify="left"
        )
        for row in summary.differences:
            pair = escape(f"{row['first']} - {row['second']}")
            table.add_row(named(row["outcome"]), pair, number(row["value"]), whole(row), p_value(row["p_holm"]))
        console.print(table)
    chosen = ("Cohen kappa, quadratic, mean of pairs", "Krippendorff alpha, ordinal", "ICC(2,1)", "Gwet AC1")
    rows = [row for row in summary.agreement if row["coefficient"] in chosen]
    if rows:
        table = Table("outcome", "coefficient", "value", "interval", title="Agreement of readers", title_justify="left")
        for row in rows:
            table.add_row(named(row["outcome"]), row["coefficient"], number(row["value"]), whole(row))
        console.print(table)
    kappas = [row for row in summary.findings if row["finding"] == "all"]
    if kappas:
        table = Table(
            "first", "second", "kappa", "interval", title="Findings: model against radiologists", title_justify="left"
        )
        for row in kappas:
            table.add_row(escape(row["first"]), escape(row["second"]), number(row["value"]), whole(row))
        console.print(table)
    for note in summary.notes:
        print(f"note: {note}")
