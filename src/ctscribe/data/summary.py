"""What a prepared store holds, on one page: counts, how common each finding is, voxel sizes, refusals, look-alikes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctscribe import ontology
from ctscribe.data.fingerprint import Twins, near_duplicates
from ctscribe.data.manifest import SPLITS
from ctscribe.data.store import StudyStore, written_ids

STEPS_MM = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)
PLANE_MM = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5)


@dataclass(frozen=True)
class Prevalence:
    """How often one kind is present, of how many studies in which it is known, by split."""

    kind: str
    name: str
    present: Mapping[str, int]
    known: Mapping[str, int]


@dataclass(frozen=True)
class Summary:
    """Everything on the page.

    Attributes:
        studies, patients: by split; texts: reports without scans, by split.
        sources, languages, masks: name -> studies; masks names who outlined the regions.
        outlined: studies whose lesions were outlined; synthetic: studies whose text was made from annotations.
        prevalence: by kind, in the order of the ontology; kinds that no study has come last.
        steps, planes: (label, scans) histograms of stored slice steps and pixel sizes.
        refused: (reason, scans), most common first.
        conflicts: kind -> studies whose text and labels disagree.
        twins: look-alikes in different splits.
        words: words (English) or characters (Chinese) of the shortest, the median and the longest text.
    """

    studies: Mapping[str, int]
    patients: Mapping[str, int]
    texts: Mapping[str, int]
    sources: Mapping[str, int]
    languages: Mapping[str, int]
    synthetic: int
    prevalence: tuple[Prevalence, ...]
    steps: tuple[tuple[str, int], ...]
    planes: tuple[tuple[str, int], ...]
    refused: tuple[tuple[str, int], ...]
    conflicts: Mapping[str, int]
    twins: tuple[Twins, ...] = field(default=())
    words: tuple[int, int, int] | None = None
    scrubbed: int = 0
    masks: Mapping[str, int] = field(default_factory=dict)
    outlined: int = 0


def summarise(root: Path | str) -> Summary:
    """Read what was written beside the arrays; no voxel is touched."""
    root = Path(root)
    rows = list(_rows(root))
    extras = {row["id"]: row.get("extra", {}) for row in rows}
    splits = {name: str(extra.get("split", "train")) for name, extra in extras.items()}
    patients = {name: str(extra.get("patient", name)) for name, extra in extras.items()}
    prints = {name: extra["print"] for name, extra in extras.items() if "print" in extra}
    spacings = [extra["spacing_read"] for extra in extras.values() if len(extra.get("spacing_read", ())) == 3]
    texts = list(_lines(root / "texts.jsonl"))
    return Summary(
        studies=_by_split(splits.values()),
        patients=_by_split({(patients[name], splits[name]): splits[name] for name in splits}.values()),
        texts=_by_split(str(row.get("split", "train")) for row in texts),
        sources=Counter(str(extra.get("source", "unknown")) for extra in extras.values()),
        languages=Counter(row["language"] for row in rows if row["text"]),
        synthetic=sum(bool(extra.get("synthetic_text")) for extra in extras.values()),
        prevalence=_prevalence(rows, splits),
        steps=_histogram([max(sizes) for sizes in spacings], STEPS_MM),
        planes=_histogram([sorted(sizes)[0] for sizes in spacings], PLANE_MM),
        refused=tuple(refused_codes(root).most_common()),
        conflicts=Counter(kind for extra in extras.values() for kind in extra.get("conflicts", ())),
        twins=near_duplicates(prints, patients, splits),
        words=_lengths(rows + texts),
        masks=Counter(str(extra["masks"]) for extra in extras.values() if "masks" in extra),
        outlined=sum("outlines" in row for row in rows),
        scrubbed=sum(int(extra.get("scrubbed", 0)) for extra in [*extras.values(), *texts]),
    )


def write_data_report(root: Path | str, title: str) -> Summary:
    """Write ``report.html`` and ``summary.json`` into a store's folder; no identifier is in either."""
    import jinja2

    found = summarise(root)
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = page.from_string(_template()).render(s=found, title=title, splits=SPLITS, total=sum(found.studies.values()))
    plain = {"studies": dict(found.studies), "patients": dict(found.patients), "texts": dict(found.texts),
             "refused": dict(found.refused), "near_duplicates": len(found.twins),
             "masks": dict(found.masks), "outlined": found.outlined,
             "prevalence": {p.kind: [dict(p.present), dict(p.known)] for p in found.prevalence}}  # fmt: skip
    for name, content in (("report.html", text), ("summary.json", json.dumps(plain, indent=1) + "\n")):
        temporary = Path(root) / f".{name}.{os.getpid()}.partial"
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, Path(root) / name)
    return found


@cache
def _template() -> str:
    return (files(__package__) / "summary.html.j2").read_text(encoding="utf-8")


def _rows(root: Path) -> Iterator[dict[str, Any]]:
    if (root / "store.json").exists():
        yield from StudyStore(root).rows()


def refused_codes(root: Path | str) -> Counter[str]:
    """Code of the reason -> scans that were refused, by their last refusal, and have not been prepared since."""
    last = {row["id"]: row["code"] for row in _lines(Path(root) / "refused.jsonl")}
    there = written_ids(root)
    return Counter(code for study, code in last.items() if study not in there)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}"))


def _by_split(values: Any) -> dict[str, int]:
    counts = Counter(values)
    return {name: counts[name] for name in SPLITS}


def _prevalence(rows: list[dict[str, Any]], splits: Mapping[str, str]) -> tuple[Prevalence, ...]:
    present: dict[str, Counter[str]] = {kind: Counter() for kind in ontology.findings()}
    known: dict[str, Counter[str]] = {kind: Counter() for kind in ontology.findings()}
    for row in rows:
        if row["findings"] is None:
            continue
        split = splits[row["id"]]
        seen = {k for f in row["findings"] if f["status"] == "present" for k in ontology.implied(f["kind"])}
        doubtful = {
            k for f in row["findings"] if f["status"] == "uncertain" for k in ontology.implied(f["kind"])
        } - seen
        denied = {f["kind"] for f in row["findings"] if f["status"] == "absent" and not f.get("regions")}
        for kind in ontology.findings():
            present[kind][split] += kind in seen
            sure = kind in seen or kind in denied or row["exhaustive"]
            known[kind][split] += sure and kind not in doubtful
    found = [Prevalence(k, ontology.findings()[k].names["en"][0], dict(present[k]), dict(known[k])) for k in present]
    return tuple(sorted(found, key=lambda p: not sum(p.present.values())))


def _histogram(values: list[float], edges: tuple[float, ...]) -> tuple[tuple[str, int], ...]:
    """Counts of values up to each edge, and above the last."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[next((i for i, edge in enumerate(edges) if value <= edge + 1e-6), len(edges))] += 1
    labels = [f"≤ {edge:g}" for edge in edges] + [f"> {edges[-1]:g}"]
    return tuple(zip(labels, counts, strict=True))


def _lengths(rows: list[dict[str, Any]]) -> tuple[int, int, int] | None:
    texts = [(row.get("text") or row.get("findings") or "", row.get("language")) for row in rows]
    sizes = sorted(len(t) if lang == "zh" else len(t.split()) for t, lang in texts if isinstance(t, str) and t)
    return (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else None
