"""What surrounds the findings: technique, comparison and the notes on quality, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from ctscribe import ontology
from ctscribe.beside import CHANGES
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Confidence, QualityNote, Sentence

if TYPE_CHECKING:
    from ctscribe.data import IngestReport
    from ctscribe.data.anatomy import Segmentation
    from ctscribe.impression import Impression


@cache
def phrases() -> Mapping[str, Any]:
    """The pipeline's own sentences, from ``phrases.yaml``."""
    return yaml.safe_load((files(__package__) / "phrases.yaml").read_text(encoding="utf-8"))


def technique(ingest: IngestReport, language: Language) -> tuple[Sentence, ...]:
    """How the scan was made, as far as the file says so, and which series was read."""
    words, facts = phrases()["technique"], ingest.technique
    parts = [words["scan"][language], words[f"contrast_{facts.contrast}"][language]]
    step = facts.slice_step_mm or next(iter(ingest.stored_spacing), None)
    for key, value in (("thickness", facts.slice_thickness_mm), ("step", step)):
        if value is not None:
            parts.append(words[key][language].format(value=f"{value:.3g}"))
    if facts.kernel_class in phrases()["kernel_class"]:
        kind = phrases()["kernel_class"][facts.kernel_class][language]
        key = "kernel_named" if facts.kernel else "kernel"
        parts.append(words[key][language].format(kind=kind, name=facts.kernel))
    comma, stop = (", ", ".") if language == "en" else ("，", "。")
    sentences = [Sentence(comma.join(parts) + stop)]
    if why := _chosen_for(ingest):
        reasons = comma.join(phrases()["chosen_for"][key][language] for key in why)
        sentences.append(Sentence(words["chosen"][language].format(total=len(ingest.candidates), why=reasons)))
    return tuple(sentences)


def _chosen_for(ingest: IngestReport) -> list[str]:
    """Keys of the reasons for which the series was read and not the next usable one; none where there was no choice."""
    usable = [c for c in ingest.candidates if c.refusal is None]
    if len(usable) < 2:
        return []
    if any(note.code == "series_asked_for" for note in ingest.notes):
        return ["asked"]
    best, second = (candidate.components for candidate in usable[:2])
    gains = {key: points - second[key] for key, points in best.items()}
    return sorted((key for key in gains if gains[key] > 0), key=lambda key: -gains[key]) or ["first"]


def comparison(
    language: Language,
    changes: Mapping[str, tuple[str, float]] | None = None,
    days: float | None = None,
    by_mm: Mapping[str, float] | None = None,
) -> tuple[Sentence, ...]:
    """What was compared with, and what became of each kind of finding.

    Args:
        changes: kind -> (change, how sure), as the model says it; None without an earlier scan.
        days: between the scans, where known.
        by_mm: kind -> by how much it has grown or shrunk, where known.
    """
    if changes is None:
        return (Sentence(phrases()["comparison"][language]),)
    words = phrases()["compared"]
    told = [words["with"][language] if days is None else words["with_days"][language].format(days=round(days))]
    comma = ", " if language == "en" else "、"
    for change in CHANGES:
        kinds = [kind for kind, (said, _) in changes.items() if said == change]
        parts = [_listed((kind,), language) for kind in kinds]
        for place, kind in enumerate(kinds):
            if (mm := (by_mm or {}).get(kind)) is not None:
                parts[place] = words[f"{change}_by"][language].format(kind=parts[place], mm=f"{mm:g}")
        if kinds:
            told.append(words[change][language].format(kind=comma.join(parts)))
    if not changes:
        told.append(words["nothing"][language])
    return tuple(Sentence(text) for text in told)


def confidence_note(stated: Mapping[str, Confidence]) -> QualityNote:
    """How sure the model is of each kind that is stated, in three words."""
    levels: dict[str, list[str]] = {"definite": [], "likely": [], "possible": []}
    for kind, word in stated.items():
        levels[word].append(kind)
    words, entry = phrases()["confidence"], phrases()["notes"]["confidence"]
    message: dict[str, str] = {}
    for language in LANGUAGES:
        parts = [words[n][language].format(kind=_listed(tuple(k), language)) for n, k in levels.items() if k]
        message[language] = entry[language].format(value=("; " if language == "en" else "；").join(parts))
    return QualityNote("confidence", message, entry["severity"])


def violation_note(amount: float, says: Mapping[str, str]) -> QualityNote:
    """A rule of anatomy that is broken by `amount` (0 to 1), in the ontology's words."""
    entry = phrases()["notes"]["anatomy_broken"]
    message = {str(code): entry[code].format(value=round(100 * amount), text=says[code]) for code in LANGUAGES}
    return QualityNote("anatomy_broken", message, entry["severity"])


def _listed(kinds: tuple[str, ...], language: Language) -> str:
    return (", " if language == "en" else "、").join(ontology.findings()[k].names[language][0] for k in kinds)


def note(code: str, *, value: object = "", kinds: tuple[str, ...] = (), text: str = "any") -> QualityNote:
    """One of the pipeline's own notes.

    Args:
        value: a number to name.
        kinds: finding kinds to list, in each language by their own names.
        text: language of the text it speaks of, "any" where there is one or all agree.
    """
    entry = phrases()["notes"][code]
    message: dict[str, str] = {}
    for language in LANGUAGES:
        listed = _listed(kinds, language)
        named = phrases()["texts"][text][language]
        message[language] = entry[language].format(value=value, kind=listed, text=named)
    return QualityNote(code, message, entry["severity"])


def scan_notes(ingest: IngestReport, segmentation: Segmentation, chest_notes: tuple[Any, ...]) -> list[QualityNote]:
    """Notes of the reader, the segmentation and the body-part check; what is in order stays in the reader's account."""
    known = phrases()["reader_notes"]
    told = [n for n in ingest.notes if n.severity == "warning" or n.code in known]
    notes = [QualityNote(n.code, _both(n.code, n.message), n.severity) for n in told]
    notes += [QualityNote("segmentation", _both("segmentation", text), "info") for text in segmentation.notes]
    for item in chest_notes:
        code, text = getattr(item, "code", "chest_check"), getattr(item, "message", str(item))
        notes.append(QualityNote(code, _both(code, text), getattr(item, "severity", "warning")))
    if not segmentation.names or not segmentation.labels.any():
        notes.append(note("no_regions"))
    return notes


def impression_notes(written: Mapping[Language, Impression]) -> list[QualityNote]:
    """How the impression came about, and what the guard made of it; each language tells of its own text."""
    from ctscribe.impression import METHOD
    from ctscribe.impression.station import guard_note_in, note_in

    told = {code: written.get(code) or next(iter(written.values())) for code in LANGUAGES}
    code = "impression_by_rule" if all(m.method == METHOD for m in written.values()) else "impression_by_model"
    fine = all(m.check is None or m.check.verdict in ("passed", "corrected") for m in written.values())
    return [
        QualityNote(code, {str(c): note_in(made, c) for c, made in told.items()}, "info"),
        QualityNote(
            "impression_guard",
            {str(c): guard_note_in(made, c) for c, made in told.items()},
            "info" if fine else "warning",
        ),
    ]


def _both(code: str, text: str) -> dict[str, str]:
    """A message in both languages; the English one stands in where no Chinese wording is known for the code."""
    chinese = phrases()["reader_notes"].get(code) or phrases()["segmentation_notes"].get(text) or text
    return {"en": text[:1].upper() + text[1:].rstrip(".") + ".", "zh": chinese}
