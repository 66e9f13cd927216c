"""Scorecards and comparisons as tables on a terminal; plain aligned text where the output goes to a file or a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ctscribe.cli import screen

if TYPE_CHECKING:
    from rich.table import Table

    from ctscribe.evaluation import Scorecard
    from ctscribe.evaluation.compare import Comparison


def show_scorecard(card: Scorecard) -> None:
    """Print the measures beside their baselines, diversity and notes."""
    if not sys.stdout.isatty():
        print(card.to_text())
        return
    console = screen.console()
    console.print(scorecard_table(card))
    if card.strata:
        console.print(strata_table(card))
    for note in card.notes:
        console.print(f"note: {note}", style="dim", markup=False)


def show_comparison(found: Comparison) -> None:
    """Print the differences and notes."""
    if not sys.stdout.isatty():
        print(found.to_text())
        return
    console = screen.console()
    console.print(comparison_table(found))
    for note in found.notes:
        console.print(f"note: {note}", style="dim", markup=False)


def scorecard_table(card: Scorecard) -> Table:
    """One row per measure; the value is green where its interval is better than every baseline."""
    from rich.markup import escape

    from ctscribe.evaluation.scorecard import interval, shown

    table = _table(f"{card.system}: {card.reports} reports", "measure")
    for name in (card.system, "interval", *card.baseline_names, "shuffled"):
        table.add_column(escape(name), justify="right")
    scorer = ""
    for r in card.results:
        if r.scorer != scorer and scorer:
            table.add_section()
        scorer = r.scorer
        arrow = " [dim](smaller is better)[/]" if r.smaller_is_better else ""
        value = shown(r.estimate.value)
        rivals = [v for v in r.baselines.values() if v is not None]
        near = r.estimate.high if r.smaller_is_better else r.estimate.low
        if near is not None and rivals:
            better = near < min(rivals) if r.smaller_is_better else near > max(rivals)
            value = f"[bold green]{value}[/]" if better else f"[bold]{value}[/]"
        others = [shown(r.baselines.get(name)) for name in card.baseline_names]
        control = shown(r.control.shuffled) if r.control else ""
        table.add_row(escape(r.name) + arrow, value, interval(r.estimate), *others, control)
    ours = card.diversity["system"]
    table.caption = f"distinct reports {ours.distinct:.0%}, template-collapse index {shown(ours.collapse)}"
    return table


def strata_table(card: Scorecard) -> Table:
    """One row per stratum, values without intervals."""
    from ctscribe.evaluation.scorecard import shown

    measures = [key for key in card.strata[0] if "." in key and not key.endswith((" low", " high"))]
    table = _table("Strata", "stratum")
    for name in ("reports", *measures):
        table.add_column(name, justify="right")
    for row in card.strata:
        values = [shown(row[name]) for name in measures]
        table.add_row(f"{row['field']}: {row['stratum']}", str(row["reports"]), *values)
    return table


def comparison_table(found: Comparison) -> Table:
    """One row per measure; the better system is named where Holm's p is below 0.05."""
    from rich.markup import escape

    from ctscribe.evaluation.compare import between, shown_p, signed
    from ctscribe.evaluation.scorecard import shown

    table = _table(f"{found.first} against {found.second}: {found.reports} reports each", "measure")
    for name in (found.first, found.second, "difference", "interval", "p", "p (Holm)", "p (BH)", "better"):
        table.add_column(escape(name), justify="right")
    for row in found.rows:
        tests = [shown_p(row[key]) for key in ("p", "p_holm", "p_bh")]
        better = f"[bold green]{escape(row['better'])}[/]" if row["better"] else ""
        values = [shown(row["first"]), shown(row["second"]), signed(row["difference"]), between(row)]
        table.add_row(escape(row["measure"]), *values, *tests, better)
    return table


def _table(title: str, first: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", header_style="bold")
    table.add_column(first)
    return table
