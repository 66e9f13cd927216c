"""Pictures of a scorecard as inline SVG: no script, no font to fetch, colours from the page's style sheet.

Every function takes plain rows and returns markup; every text in it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import log2
from typing import Any

from markupsafe import Markup, escape

Row = Mapping[str, Any]


def _svg(width: float, height: float, title: str, parts: Iterable[str]) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg class="plot" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _text(x: float, y: float, words: object, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str, title: object = "") -> str:
    tip = f"<title>{escape(title)}</title>" if title != "" else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" class="{kind}">{tip}</rect>'
    )


def label_bars(rows: Sequence[Row]) -> Markup:
    """F1 of each label that has support, most common first, with its number of positive references.

    Args:
        rows: ``label``, ``support`` and ``f1`` of each label.
    """
    known = sorted((r for r in rows if r["f1"] is not None), key=lambda r: -r["support"])
    left, width, step = 290.0, 380.0, 20.0
    parts = []
    for i, row in enumerate(known):
        y = 8 + i * step
        parts.append(_text(left - 8, y + 12, f"{row['label']} ({row['support']})", "end"))
        parts.append(_rect(left, y + 2, width, 12, "track"))
        parts.append(_rect(left, y + 2, width * row["f1"], 12, "full", f"{row['label']}: F1 {row['f1']:.3f}"))
        parts.append(_text(left + width + 8, y + 12, f"{row['f1']:.3f}"))
    return _svg(left + width + 60, 16 + step * len(known), "F1 of each label", parts)


def funnel(rows: Sequence[Row]) -> Markup:
    """How many findings each stage of the funnel is asked of, and how many pass it.

    Args:
        rows: ``stage``, ``asked``, ``passed`` and ``rate`` of each stage.
    """
    most = max((row["asked"] for row in rows), default=0) or 1
    centre, half, step = 380.0, 220.0, 44.0
    parts = []
    for i, row in enumerate(rows):
        y = 10 + i * step
        asked, passed = half * row["asked"] / most, half * row["passed"] / most
        said = f"{row['passed']} of {row['asked']}" + ("" if row["rate"] is None else f", {row['rate']:.0%}")
        parts.append(_rect(centre - asked, y, 2 * asked, 30, "track", f"{row['stage']}: asked of {row['asked']}"))
        parts.append(_rect(centre - passed, y, 2 * passed, 30, "full", f"{row['stage']}: {said}"))
        parts.append(_text(centre - half - 12, y + 20, row["stage"], "end"))
        parts.append(_text(centre + half + 12, y + 20, said))
    return _svg(760, 20 + step * len(rows), "Funnel: presence, side, lobe, size", parts)


def reliability(rows: Sequence[Row]) -> Markup:
    """Share of true findings over mean probability; the area of a dot grows with its decisions.

    Args:
        rows: ``mean_probability``, ``share_true`` and ``decisions`` of each bin.
    """
    size, left, top = 300.0, 60.0, 14.0
    parts = [_rect(left, top, size, size, "frame"), _line(left, top + size, left + size, top, "guide")]
    parts += _axis(left, top, size, "mean probability", "share that is true", [0, 0.25, 0.5, 0.75, 1])
    known = [row for row in rows if row["decisions"]]
    total = sum(row["decisions"] for row in known) or 1
    places = [(left + size * r["mean_probability"], top + size * (1 - r["share_true"])) for r in known]
    parts += [_line(*a, *b, "curve") for a, b in pairwise(places)]
    for (x, y), row in zip(places, known, strict=True):
        radius = 2.5 + 14 * (row["decisions"] / total) ** 0.5
        tip = f"{row['decisions']} decisions, probability {row['mean_probability']:.2f}, true {row['share_true']:.2f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot"><title>{escape(tip)}</title></circle>'
        )
    return _svg(left + size + 20, top + size + 46, "Reliability of the probabilities", parts)


def froc_curve(points: Sequence[tuple[float, float]]) -> Markup:
    """Sensitivity over false positives per scan (1/8 to 8, logarithmic).

    Args:
        points: (false positives per scan, sensitivity) along the curve.
    """
    size, left, top = 300.0, 60.0, 14.0

    def x_of(rate: float) -> float:
        return left + size * (log2(min(max(rate, 0.125), 8.0)) + 3) / 6

    parts = [_rect(left, top, size, size, "frame")]
    for rate, name in zip((0.125, 0.25, 0.5, 1, 2, 4, 8), ("1/8", "1/4", "1/2", "1", "2", "4", "8"), strict=True):
        parts += [
            _line(x_of(rate), top, x_of(rate), top + size, "grid"),
            _text(x_of(rate), top + size + 16, name, "middle"),
        ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_text(left - 6, top + size * (1 - share) + 4, f"{share:g}", "end"))
    parts.append(_text(left + size / 2, top + size + 36, "false positives per scan", "middle", "soft"))
    way = " ".join(f"{x_of(rate):.1f},{top + size * (1 - share):.1f}" for rate, share in points if rate <= 8)
    parts.append(f'<polyline points="{way}" class="curve"/>')
    return _svg(left + size + 20, top + size + 46, "FROC curve: sensitivity over false positives per scan", parts)


def forest(rows: Sequence[Row], first: str, second: str) -> Markup:
    """Differences with their intervals, as shares of each measure's range; to the right means the first is better.

    Args:
        rows: ``measure``, ``gain``, ``gain_low``, ``gain_high`` (signed so that larger is better), ``span`` (length of
            the measure's range) and ``p_holm``.
        first: name of the first system.
        second: name of the second.
    """
    known = [row for row in rows if row["gain"] is not None]
    ends = [(row["gain"], row["gain_low"], row["gain_high"]) for row in known]
    shares = [[None if v is None else v / row["span"] for v in own] for own, row in zip(ends, known, strict=True)]
    reach = max((abs(v) for own in shares for v in own if v is not None), default=0.0)
    centre, half, step = 450.0, 180.0, 20.0
    scale = half / (reach or 1.0)
    bottom = 30 + step * len(known)
    parts = [
        _text(centre - half, 14, f"{second} better", "start", "soft"),
        _text(centre + half, 14, f"{first} better", "end", "soft"),
        _line(centre, 20, centre, bottom),
    ]
    for i, (row, (gain, low, high)) in enumerate(zip(known, shares, strict=True)):
        y = 32 + i * step
        sure = "sure" if row["p_holm"] is not None and row["p_holm"] < 0.05 else "unsure"
        parts.append(_text(centre - half - 14, y + 4, row["measure"], "end"))
        if low is not None and high is not None:
            parts.append(_line(centre + scale * low, y, centre + scale * high, y, sure))
        parts.append(f'<circle cx="{centre + scale * (gain or 0.0):.1f}" cy="{y:.1f}" r="4" class="{sure}"/>')
        parts.append(_text(centre + half + 14, y + 4, f"{row['gain']:+.3f}".replace("-0.000", "+0.000")))
    return _svg(centre + half + 80, bottom + 8, f"{first} against {second}", parts)


def _axis(left: float, top: float, size: float, below: str, beside: str, ticks: Sequence[float]) -> list[str]:
    parts = []
    for tick in ticks:
        parts.append(_text(left + size * tick, top + size + 16, f"{tick:g}", "middle"))
        parts.append(_text(left - 6, top + size * (1 - tick) + 4, f"{tick:g}", "end"))
    middle = top + size / 2
    parts.append(_text(left + size / 2, top + size + 36, below, "middle", "soft"))
    parts.append(
        f'<text x="16" y="{middle:.1f}" text-anchor="middle" class="soft" transform="rotate(-90 16 {middle:.1f})">'
        f"{escape(beside)}</text>"
    )
    return parts
