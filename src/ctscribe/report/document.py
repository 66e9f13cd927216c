"""The whole report: structured findings, their sentences in each language, quality notes and provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.ontology import Language
from ctscribe.report.checked import ImpressionCheck, Reference
from ctscribe.report.codec import from_plain, to_plain
from ctscribe.report.words import Evidence, Finding

SCHEMA_VERSION = "1"
SectionName = Literal["technique", "comparison", "findings", "impression"]
SECTION_NAMES: tuple[SectionName, ...] = ("technique", "comparison", "findings", "impression")

_HEADINGS: dict[str, dict[str, str]] = {
    "en": {
        "technique": "TECHNIQUE",
        "comparison": "COMPARISON",
        "findings": "FINDINGS",
        "impression": "IMPRESSION",
        "quality": "IMAGE QUALITY AND LIMITATIONS",
        "critical": "CRITICAL RESULT",
    },
    "zh": {
        "technique": "检查技术",
        "comparison": "对比检查",
        "findings": "影像所见",
        "impression": "诊断意见",
        "quality": "图像质量与局限",
        "critical": "危急值",
    },
}

_BREAKS = {"en": re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])|\n+"), "zh": re.compile(r"(?<=[。！？])\s*|\n+")}


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report and what it rests on.

    Attributes:
        text: the sentence with its full stop.
        findings: indices into the report's findings that it states; () for a sentence about none.
        evidence: places in the scan it rests on.
        citations: ids of the references it follows (`ReportText.references`).
    """

    text: str
    findings: tuple[int, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    citations: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportText:
    """The sections of a report in one language; a section without sentences is not printed.

    Attributes:
        technique: how the scan was made and which series was read.
        comparison: which earlier study it was compared with.
        findings: what is seen, organ by organ.
        impression: what matters, the most important first.
        critical: what somebody must be told at once; printed on top of everything.
        check: how the impression came about and what the guard made of it; None where none was written here.
        references: what the impression and the critical results cite.
    """

    technique: tuple[Sentence, ...] = ()
    comparison: tuple[Sentence, ...] = ()
    findings: tuple[Sentence, ...] = ()
    impression: tuple[Sentence, ...] = ()
    critical: tuple[Sentence, ...] = ()
    check: ImpressionCheck | None = None
    references: tuple[Reference, ...] = ()

    def section(self, name: SectionName) -> tuple[Sentence, ...]:
        """The sentences of one section."""
        return getattr(self, name)


@dataclass(frozen=True)
class QualityNote:
    """Something about the input or the processing that a reader must know.

    Attributes:
        code: short stable identifier for machines, such as ``thick_slices``.
        message: what it means, per language.
        severity: ``"info"``, ``"warning"`` (a degraded mode) or ``"critical"`` (do not rely on the report).
    """

    code: str
    message: Mapping[str, str]
    severity: Literal["info", "warning", "critical"] = "warning"


@dataclass(frozen=True)
class Provenance:
    """Which software and which scan made this report.

    Attributes:
        model: name of the checkpoint, or of the rule that wrote the report.
        checkpoint_hash: SHA-256 of the weights, hexadecimal; "" when no weights were used.
        software: version of ctscribe.
        series: hashes of the series identifiers, never the identifiers.
        created: time of writing, ISO 8601 with offset; "" leaves it out (reproducible output).
        impression_by: what wrote the impression: ``"rules"``, or the name of a language model.
        masks: who outlined the regions: a version of the rules, a program, a label map, the model itself, or nobody.
    """

    model: str = ""
    checkpoint_hash: str = ""
    software: str = ""
    series: tuple[str, ...] = ()
    created: str = ""
    impression_by: str = ""
    masks: str = ""


@dataclass(frozen=True)
class Report:
    """A chest-CT report.

    Attributes:
        findings: the structured findings; the sentences refer to them by index.
        texts: language -> sections; at least one language.
        quality: notes on the input and on degraded modes.
        provenance: software, weights and scan.
        watermark: a line every rendering shows ("Synthetic training data. Not for clinical use."), per language.
        schema_version: of the JSON form.
    """

    findings: tuple[Finding, ...] = ()
    texts: Mapping[Language, ReportText] = field(default_factory=dict)
    quality: tuple[QualityNote, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    watermark: Mapping[str, str] = field(default_factory=dict)
    schema_version: str = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for language, text in self.texts.items():
            for name in (*SECTION_NAMES, "critical"):
                for sentence in getattr(text, name):
                    if any(not 0 <= index < len(self.findings) for index in sentence.findings):
                        raise UsageError(
                            f"a {language} sentence of the {name} refers to a finding the report does not have",
                            expected=f"indices below {len(self.findings)}",
                            got=str(sentence.findings),
                        )

    @property
    def languages(self) -> tuple[Language, ...]:
        """Languages the report is written in, in the order given."""
        return tuple(self.texts)

    def text(self, language: Language | None = None) -> ReportText:
        """The sections in one language (the first when not said).

        Raises:
            UsageError: the report is not written in that language.
        """
        return self.texts[self._language(language)]

    def _language(self, language: Language | None) -> Language:
        chosen = language or next(iter(self.texts), None)
        if chosen is None or chosen not in self.texts:
            written = ", ".join(self.texts) or "(none)"
            raise UsageError("text of a report", expected=f"a language out of {written}", got=str(language))
        return chosen

    def section(self, name: SectionName, language: Language | None = None) -> str:
        """One section as running text, "" when it has no sentence."""
        chosen = self._language(language)
        return join_sentences(self.text(chosen).section(name), chosen)

    def to_text(self, language: Language | None = None) -> str:
        """The report as plain text with headings; the watermark is its first and last line."""
        chosen = self._language(language)
        text, headings = self.text(chosen), _HEADINGS[chosen]
        mark = self.watermark.get(chosen, "")
        blocks = [mark] if mark else []
        if text.critical:
            blocks.append("\n".join([headings["critical"], *(f"!! {sentence.text}" for sentence in text.critical)]))
        for name in SECTION_NAMES:
            if sentences := text.section(name):
                body = join_sentences(sentences, chosen) if name != "impression" else _numbered(sentences)
                blocks.append(f"{headings[name]}\n{body}")
        if self.quality:
            notes = "\n".join(f"- {n.message.get(chosen, n.code)}" for n in self.quality)
            blocks.append(f"{headings['quality']}\n{notes}")
        if mark:
            blocks.append(mark)
        return "\n\n".join(blocks) + "\n"

    def to_json(self) -> str:
        """Canonical JSON: keys sorted, two spaces, UTF-8 as it is; the same report gives the same bytes."""
        return json.dumps(to_plain(self), sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            UnreadableInput: not JSON, another schema version, or not the shape of a report.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise UnreadableInput("report JSON", code="bad_report", expected="valid JSON", got=str(error)) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise UnreadableInput(
                "report JSON",
                code="bad_report",
                expected=f"schema_version {SCHEMA_VERSION!r}",
                got=repr(version),
            )
        return from_plain(cls, data)


def join_sentences(sentences: tuple[Sentence, ...] | list[Sentence], language: Language | str) -> str:
    """Sentences as one paragraph: spaces between English sentences, nothing between Chinese ones."""
    return ("" if language == "zh" else " ").join(sentence.text for sentence in sentences)


def split_sentences(text: str, language: Language | str) -> list[str]:
    """Sentences of a text as it was written; nothing but white space between them is lost."""
    return [part.strip() for part in _BREAKS[language].split(text) if part and part.strip()]


def _numbered(sentences: tuple[Sentence, ...]) -> str:
    if len(sentences) == 1:
        return sentences[0].text
    return "\n".join(f"{i}. {sentence.text}" for i, sentence in enumerate(sentences, start=1))
