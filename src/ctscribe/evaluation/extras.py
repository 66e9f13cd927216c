"""What a row may hold beside its text: probabilities, boxes, and what is known of the scan.

"probabilities": {"lung_nodule": 0.83, "pneumonia": 0.2}      finding ids, CT-RATE labels or disease ids
"boxes": [{"centre_mm": [-60, 12, 140], "diameter_mm": 9, "score": 0.9}]     or "box_mm": [[x, y, z], [x, y, z]]
"metadata": {"scanner": "A", "thickness_mm": 1.5, "sex": "F", "age": 63}     also at the top of the row
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from ctscribe import ontology
from ctscribe.errors import InputRefused, UnreadableInput
from ctscribe.evaluation.disease import diseases
from ctscribe.evaluation.record import Box, Point

FIELDS = ("scanner", "thickness_mm", "sex", "age")


@cache
def probability_names() -> Mapping[str, str]:
    """Accepted key in lower case -> finding or disease id."""
    labels = {label.lower(): kind for label, kind in ontology.ct_rate_labels().items()}
    return {**labels, **{kind: kind for kind in ontology.findings()}, **{name: name for name in diseases()}}


def probabilities(row: Mapping[str, Any], where: str) -> tuple[tuple[str, float], ...]:
    """(id, probability) pairs; () when the row gives none.

    Raises:
        UnreadableInput: not an object, or a key that names neither a finding nor a disease.
        InputRefused: a value that is no number of 0..1.
    """
    given = row.get("probabilities")
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise UnreadableInput(
            f"{where}: probabilities", code="bad_probability", expected="an object", got=type(given).__name__
        )
    found: dict[str, float] = {}
    for key, value in given.items():
        name = probability_names().get(str(key).lower())
        if name is None:
            raise UnreadableInput(
                f"{where}: probabilities",
                code="bad_probability",
                expected="finding ids, CT-RATE labels or disease ids",
                got=repr(key)[:60],
                hint="ctscribe.ontology.findings() lists the ids",
            )
        if not _is_number(value) or not 0.0 <= value <= 1.0:
            raise InputRefused(
                f"{where}: probability of {name}",
                code="bad_probability",
                expected="a number of 0..1",
                got=repr(value)[:40],
            )
        found[name] = float(value)
    return tuple(sorted(found.items()))


def boxes(row: Mapping[str, Any], where: str, *, scored: bool) -> tuple[Box, ...] | None:
    """Nodules as boxes; None when the row does not speak of boxes.

    Args:
        scored: refuse a box without a score.

    Raises:
        UnreadableInput: not a list of such objects.
        InputRefused: no size above zero, or a score that is missing or not finite.
    """
    given = row.get("boxes")
    if given is None:
        return None
    if not isinstance(given, list):
        raise UnreadableInput(f"{where}: boxes", code="bad_box", expected="a list", got=type(given).__name__)
    return tuple(_box(item, f"{where}: boxes[{i}]", scored) for i, item in enumerate(given))


def _box(item: Any, where: str, scored: bool) -> Box:
    if not isinstance(item, Mapping):
        raise UnreadableInput(where, code="bad_box", expected="an object", got=type(item).__name__)
    corners = item.get("box_mm")
    if isinstance(corners, list) and len(corners) == 2:
        low, high = (_point(corner, f"{where}.box_mm") for corner in corners)
        centre: Point = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2)
        diameter: Any = sum(abs(a - b) for a, b in zip(low, high, strict=True)) / 3
    else:
        centre = _point(item.get("centre_mm", item.get("center_mm")), f"{where}.centre_mm")
        diameter = item.get("diameter_mm")
    if not _is_number(diameter) or diameter <= 0:
        raise InputRefused(
            where,
            code="bad_box",
            expected="a diameter_mm above zero, or two corners in box_mm",
            got=repr(item.get("diameter_mm"))[:40],
        )
    score = item.get("score")
    if (scored or score is not None) and not _is_number(score):
        raise InputRefused(f"{where}.score", code="bad_box", expected="a finite number", got=repr(score)[:40])
    return Box(centre, float(diameter), None if score is None else float(score))


def _point(value: Any, where: str) -> Point:
    if not (isinstance(value, list) and len(value) == 3 and all(_is_number(v) for v in value)):
        raise UnreadableInput(where, code="bad_box", expected="[x, y, z] in mm", got=repr(value)[:60])
    x, y, z = map(float, value)
    return (x, y, z)


def metadata(row: Mapping[str, Any], where: str) -> tuple[tuple[str, str | float], ...]:
    """(field, value) pairs of the scan and the patient; empty values are left out.

    Raises:
        UnreadableInput: `metadata` is not an object.
    """
    given = row.get("metadata")
    if given is not None and not isinstance(given, Mapping):
        raise UnreadableInput(f"{where}: metadata", code="bad_metadata", expected="an object", got=type(given).__name__)
    values = {**{key: row[key] for key in FIELDS if key in row}, **(given or {})}
    return tuple(
        (str(key), value if _is_number(value) else str(value).strip())
        for key, value in sorted(values.items())
        if value is not None and str(value).strip()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
