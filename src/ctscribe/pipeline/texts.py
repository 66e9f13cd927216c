"""The sections of a report in one language, the impression with its guard's record among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ctscribe.ontology import Language
from ctscribe.pipeline import framing
from ctscribe.pipeline.reading_back import unique_findings
from ctscribe.report import Finding, Reference, ReportText, Sentence

if TYPE_CHECKING:
    from ctscribe.data import Study
    from ctscribe.impression import Context, Impression
    from ctscribe.impression.result import Line, Statement
    from ctscribe.impression.station import Station
    from ctscribe.pipeline.reading_back import ReadSentence


def impressions(
    station: Station, read: Mapping[Language, Sequence[ReadSentence]], known: Mapping[Language, Context | None]
) -> dict[Language, Impression]:
    """An impression in each language, of the findings that the sentences of that language state and what is known."""
    return {
        code: station.write(
            unique_findings(sentences), code, context=known[code], text=" ".join(s.text for s in sentences)
        )
        for code, sentences in read.items()
    }


def report_text(
    sentences: Sequence[ReadSentence],
    written: Impression,
    findings: tuple[Finding, ...],
    study: Study,
    comparison: tuple[Sentence, ...],
) -> ReportText:
    """All sections of one language.

    Args:
        sentences: the findings section, read back.
        written: the impression of the same language.
        findings: of the whole report; sentences refer to them by index.
        study: the scan.
        comparison: what was compared with.
    """
    said = unique_findings(sentences)
    lines = (line for line in written.lines if line.statements[0].role != "critical")
    return ReportText(
        technique=framing.technique(study.ingest, written.language),
        comparison=comparison,
        findings=tuple(_sentence(s.text, s.findings, findings) for s in sentences),
        impression=_sentences(lines, said, findings),
        critical=_sentences(written.critical, said, findings),
        check=written.check,
        references=tuple(Reference(c.id, c.text, c.doi) for c in written.citations),
    )


def _sentences(
    said_of: Iterable[Line | Statement], said: Sequence[Finding], findings: tuple[Finding, ...]
) -> tuple[Sentence, ...]:
    return tuple(_sentence(one.text, [said[i] for i in one.findings], findings, one.citations) for one in said_of)


def _sentence(
    text: str, said: Sequence[Finding], findings: tuple[Finding, ...], citations: tuple[str, ...] = ()
) -> Sentence:
    evidence = []
    for finding in said:
        evidence += [item for item in finding.evidence if item not in evidence]
    return Sentence(text, tuple(findings.index(finding) for finding in said), tuple(evidence), citations)
