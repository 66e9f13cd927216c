"""Small pictures of a summary, as SVG that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from ctscribe.evaluation.reader_study.questions import SCORES, scales, words
from ctscribe.evaluation.reader_study.summary import Summary

# Distinct in hue and lightness, also for colour-blind eyes (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d6b79")

_SCORE_COLOURS = ("#b2182b", "#ef8a62", "#d9d9d9", "#67a9cf", "#2166ac")

_LEFT, _WIDTH, _ROW = 150, 760, 22


def colour(index: int) -> str:
    """The colour of a system."""
    return COLOURS[index % len(COLOURS)]


def means_plot(summary: Summary) -> Markup:
    """Mean of each scale and system, with its interval, on the scale from 1 to 5."""
    parts: list[Markup] = []
    across = (_LEFT, _WIDTH - 60)
    top = 8
    for scale in scales():
        parts.append(_text(0, top + 15, words()["scales"][scale]["name"]["en"], bold=True))
        for i, system in enumerate(summary.systems):
            y = top + 11 + i * _ROW
            row = summary.mean(scale, system)
            parts.append(_line(across[0], y, across[1], y, "grid"))
            if row["value"] is not None:
                parts += _point(row, across, (1, 5), y, colour(i))
                parts.append(_text(across[1] + 12, y + 4, f"{row['value']:.2f}"))
        top += len(summary.systems) * _ROW + 14
    places = [(score, _at(score, across, (1, 5))) for score in SCORES]
    behind = [_line(x, 0, x, top, "tick") for _, x in places]
    below = [_text(x, top + 14, str(score), anchor="middle") for score, x in places]
    return _svg(_WIDTH, top + 20, [*behind, *parts, *below], "Mean scores with intervals")


def distribution_plot(summary: Summary) -> Markup:
    """How often each score was given: one bar for each scale and system."""
    parts: list[Markup] = []
    across = (_LEFT + 110, _WIDTH - 60)
    top = 4
    for scale in scales():
        parts.append(_text(0, top + 14, words()["scales"][scale]["name"]["en"], bold=True))
        for system in summary.systems:
            row = next(r for r in summary.distributions if r["outcome"] == scale and r["system"] == system)
            parts.append(_text(_LEFT, top + 14, system[:16]))
            parts += _stack([row[f"score_{score}"] for score in SCORES], across, top)
            top += _ROW
        top += 10
    return _svg(_WIDTH, top, parts, "Distribution of scores")


def errors_plot(summary: Summary) -> Markup:
    """Significant errors per 100 reports, by category and system."""
    rows = [row for row in summary.errors if row["weight"] == "significant" and row["error"] in words()["errors"]]
    largest = max([row["high"] or row["value"] or 0.0 for row in rows], default=0.0) or 1.0
    parts: list[Markup] = []
    across = (_LEFT + 30, _WIDTH - 60)
    top = 6
    for kind, facts in words()["errors"].items():
        parts.append(_text(0, top + 13, facts["name"]["en"]))
        for i, system in enumerate(summary.systems):
            row = next(r for r in rows if r["error"] == kind and r["system"] == system)
            y = top + 8 + i * 13
            parts.append(
                _bar(across[0], y - 4, _at(row["value"] or 0.0, across, (0, largest)) - across[0], 8, colour(i))
            )
            if row["low"] is not None:
                ends = [_at(row[end], across, (0, largest)) for end in ("low", "high")]
                parts.append(_line(ends[0], y, ends[1], y, "whisker"))
            parts.append(_text(across[1] + 12, y + 4, f"{row['value'] or 0.0:.0f}", small=True))
        top += max(20, len(summary.systems) * 13 + 8)
    return _svg(_WIDTH, top, parts, "Significant errors per 100 reports")


# ------------------------------------------------------------------------------------------ strokes
def _at(value: float, across: tuple[int, int], limits: tuple[float, float]) -> float:
    share = (value - limits[0]) / (limits[1] - limits[0])
    return across[0] + min(1.0, max(0.0, share)) * (across[1] - across[0])


def _point(row: Any, across: tuple[int, int], limits: tuple[float, float], y: float, fill: str) -> list[Markup]:
    x = _at(row["value"], across, limits)
    found = []
    if row["low"] is not None:
        ends = [_at(row[end], across, limits) for end in ("low", "high")]
        found.append(
            Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="3"/>').format(
                ends[0], y, ends[1], y, fill
            )
        )
    found.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5.5" fill="{}"/>').format(x, y, fill))
    return found


def _stack(counts: Sequence[int], across: tuple[int, int], top: float) -> list[Markup]:
    total, x = sum(counts) or 1, float(across[0])
    found = []
    for count, fill, score in zip(counts, _SCORE_COLOURS, SCORES, strict=True):
        wide = count / total * (across[1] - across[0])
        title = Markup("<title>{}: {} ({:.0%})</title>").format(score, count, count / total)
        found.append(
            Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="17" fill="{}">{}</rect>').format(
                x, top + 2, max(0.0, wide - 1), fill, title
            )
        )
        if wide > 24:
            light = ' fill="#fff"' if score in (1, 5) else ""
            found.append(
                Markup('<text x="{:.1f}" y="{:.1f}" class="inside"{}>{}</text>').format(
                    x + wide / 2, top + 14.5, Markup(light), count
                )
            )
        x += wide
    return found


def _bar(x: float, y: float, width: float, height: float, fill: str) -> Markup:
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"/>').format(
        x, y, max(0.0, width), height, fill
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False, small: bool = False) -> Markup:
    kind = "bold" if bold else "small" if small else "plain"
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, escape(text)
    )


def _svg(width: int, height: float, parts: Sequence[Markup], label: str) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(width, height, label)
    return head + Markup("").join(parts) + Markup("</svg>")
