"""Synthetic patients with two studies each, and the manifest that lists what is known of them beside the scans.

```
even seeds   the same chest twice, 30 to 720 days apart, with a nodule that has come, gone, grown, shrunk or stayed
odd seeds    one scan with two stories: history and laboratory values say which of two findings it shows
```

What only the earlier scan, the history or the laboratory values can tell is told by nothing else (`phantom.follow_up`).
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ctscribe.beside import CHANGES
from ctscribe.phantom.canvas import DEMO_GRID, GridSpec
from ctscribe.phantom.follow_up import LABS, ambiguous, follow_up
from ctscribe.phantom.study import PhantomStudy
from ctscribe.report import render_text
from ctscribe.report.codec import to_plain

FEWEST = 4
"""With fewer patients all are for training; else a fifth, two at least, are for validation."""
_LABS = sorted({name for values in LABS.values() for name, _ in values})
_COLUMNS = ("study", "patient", "image", "findings", "structured", "split", "prior", "prior_days", "history")


@dataclass(frozen=True)
class Visit:
    """One study of a synthetic patient, and what is known beside it.

    Attributes:
        name: of the study, and of its folder.
        prior: name of the earlier visit; `days` lie between them.
    """

    name: str
    scan: PhantomStudy
    prior: str | None = None
    days: int | None = None
    history: str = ""
    labs: tuple[tuple[str, float], ...] = ()


def visits(seed: int, grid: GridSpec = DEMO_GRID) -> tuple[Visit, Visit]:
    """Both studies of a patient; equal arguments give equal bits."""
    name = f"{seed:06d}"
    if seed % 2 == 0:
        pair = follow_up(seed, CHANGES[seed // 2 % len(CHANGES)], grid)
        before, now = (_visit(seed, scan, day) for scan, day in ((pair.before, 0), (pair.now, pair.days)))
        return Visit(f"{name}-before", before), Visit(name, now, f"{name}-before", pair.days)
    first = seed - 1  # even: `ambiguous` draws the same voxels for it and its successor
    stories = [ambiguous(first + n, grid) for n in range(2)]
    one, other = (
        Visit(f"{name}-{story.kind}", _visit(seed, story.study, day), history=story.history, labs=story.labs)
        for day, story in enumerate(stories)
    )
    return one, other


def manifest_rows(patient: str, split: str, images: Sequence[str], known: Sequence[Visit]) -> list[dict[str, str]]:
    """Rows of the manifest of one patient, with the truth as findings and as text."""
    return [
        {
            "study": visit.name,
            "patient": patient,
            "image": image,
            "findings": render_text(visit.scan.findings, "en"),
            "structured": json.dumps([to_plain(finding) for finding in visit.scan.findings]),
            "split": split,
            "prior": visit.prior or "",
            "prior_days": "" if visit.days is None else str(visit.days),
            "history": visit.history,
            **{f"lab:{name}": f"{value:g}" for name, value in visit.labs},
        }
        for visit, image in zip(known, images, strict=True)
    ]


def split_of(index: int, count: int) -> str:
    """Split of the patient with this number among `count`: the last ones validate."""
    held = max(2, count // 5) if count >= FEWEST else 0
    return "train" if index < count - held else "validation"


def write_manifest(folder: Path, rows: Sequence[dict[str, str]]) -> Path:
    """``manifest.csv``, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, (*_COLUMNS, *(f"lab:{name}" for name in _LABS)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    temporary = folder / f".manifest.csv.{os.getpid()}.partial"
    temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
    os.replace(temporary, folder / "manifest.csv")
    return folder / "manifest.csv"


def _visit(seed: int, scan: PhantomStudy, day: int) -> PhantomStudy:
    """The scan as made on a day of its own."""
    return replace(scan, meta={**scan.meta, "seed": seed, "day": day})
