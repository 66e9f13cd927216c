"""Tables for a paper: LaTeX with booktabs rules, numbers to three decimals, every special character escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctscribe.evaluation.scorecard import Scorecard, interval, shown

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def escaped(words: object) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_SPECIAL.get(letter, letter) for letter in str(words))


def table(head: Sequence[object], rows: Sequence[Sequence[object]], comment: str) -> str:
    """A tabular of which the first column is text and the others are numbers; needs the package booktabs."""
    lines = [f"% {line}" for line in comment.splitlines()]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines.append(" & ".join(map(escaped, head)) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(map(escaped, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def scorecard_latex(card: Scorecard) -> str:
    """One row per measure: value, interval, baselines, shuffled control."""
    names = card.baseline_names
    head = ["Measure", card.system, f"{100 * card.settings.get('level', 0.95):g} % interval", *names, "shuffled"]
    rows: list[list[Any]] = []
    for r in card.results:
        control = shown(r.control.shuffled if r.control else None)
        others = [shown(r.baselines.get(name)) for name in names]
        rows.append([r.name, shown(r.estimate.value), interval(r.estimate), *others, control])
    patients = "" if card.patients is None else f" of {card.patients} patients"
    return table(head, rows, f"{card.reports} reports{patients}, tokens {card.tokens}, ctscribe {card.software}")
