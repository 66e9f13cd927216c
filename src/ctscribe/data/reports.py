"""Reference reports: free text -> sections, and `Report` <-> the text columns of a manifest row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctscribe.errors import UsageError
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import SECTION_NAMES, Finding, Report, ReportText, SectionName, Sentence
from ctscribe.report.codec import from_plain, to_plain
from ctscribe.report.parse import detect_language, normalise, parse_sentence, split_sentences

# Headings people use, by section; "other" is recognised so that it does not run on into the section before it.
_HEADINGS: dict[str, tuple[str, ...]] = {
    "technique": (
        "technique", "procedure", "protocol", "examination technique", "scan technique", "ct technique", "method",
        "检查技术", "检查方法", "扫描技术", "扫描方法", "检查项目", "技术",
    ),
    "comparison": (
        "comparison", "comparisons", "compared with", "prior studies", "prior examinations", "previous examination",
        "对比检查", "对比", "比较", "前片对比", "与前片比较",
    ),
    "findings": (
        "findings", "finding", "report", "description", "observations", "ct findings", "chest ct findings",
        "影像所见", "检查所见", "影像学所见", "影像表现", "影像学表现", "ct所见", "ct表现", "放射所见", "所见", "描述",
    ),
    "impression": (
        "impression", "impressions", "conclusion", "conclusions", "opinion", "result", "results", "summary",
        "assessment", "interpretation", "diagnosis",
        "诊断意见", "影像诊断", "影像学诊断", "放射学诊断", "ct诊断", "诊断印象", "诊断", "印象", "结论", "意见",
    ),
    "other": (
        "exam", "examination", "history", "clinical history", "clinical information", "clinical indication",
        "indication", "reason for exam", "patient", "recommendation", "recommendations", "addendum",
        "临床诊断", "临床资料", "病史", "主诉", "检查部位", "建议",
    ),
}  # fmt: skip
_SECTION_OF = {heading: section for section, headings in _HEADINGS.items() for heading in headings}
_ALTERNATIVES = "|".join(re.escape(h) for h in sorted(_SECTION_OF, key=len, reverse=True))
# A heading opens a line or follows a full stop, and ends with a colon, or is alone on its line. In running text an
# English one must be capitalised: "Description: ..." starts a section, "... of this description: ..." does not.
_HEADING = re.compile(
    rf"(?:^|\n)[ \t]*[【\[*#]*[ \t]*(?P<line>{_ALTERNATIVES})[ \t]*[】\]*]*[ \t]*(?::|(?=\n)|(?<=】))"
    rf"|(?<=[.。;\s])(?P<run>(?-i:[A-Z])(?:(?<=A)|(?<=[B-Z]))[A-Za-z ]{{3,25}}|[\u4e00-\u9fffcCtT]{{2,6}})[ \t]*:",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'(?:(?<=[.?!)\s])|^)\s*["•·]\s*(?=\S)')
_FIRST_SENTENCE = re.compile(r"[^\n。]*?(?:\.(?=\s+[A-Z])|[。\n]|$)")


@dataclass(frozen=True)
class ReportSections:
    """A report's text cut into sections; "" where there is none.

    Attributes:
        other: what stood under headings that are none of the four (history, indication, ...).
    """

    technique: str = ""
    comparison: str = ""
    findings: str = ""
    impression: str = ""
    other: str = ""


def split_report(text: str) -> ReportSections:
    """Cut free report text into sections.

    Understands English and Chinese headings, on their own line or in running text; without any heading, the first quote
    mark or bullet that opens a sentence separates findings from impression, as in CT-RATE. Text before the first
    heading counts as findings when there is no findings heading, else as ``other``.
    """
    plain = normalise(text).strip()
    marks = [(m, _section(m)) for m in _HEADING.finditer(plain)]
    marks = [(m, section) for m, section in marks if section is not None]
    if not marks:
        findings, impression = _split_quoted(plain)
        return ReportSections(findings=findings, impression=impression)
    found: dict[str, list[str]] = {}
    lead = plain[: marks[0][0].start()].strip()
    if lead:
        named = any(section == "findings" for _, section in marks)
        found["other" if named else "findings"] = [lead]
    for (mark, section), after in zip(marks, [*(m.start() for m, _ in marks[1:]), len(plain)], strict=True):
        body = plain[mark.end() : after].strip()
        if body and section is not None:
            found.setdefault(section, []).append(body)
    sections = {section: "\n".join(bodies) for section, bodies in found.items()}
    return ReportSections(**_completed(sections))


def _completed(sections: dict[str, str]) -> dict[str, str]:
    """Findings that stand without a heading of their own, behind a one-sentence technique or comparison."""
    if "findings" not in sections:
        for name in ("comparison", "technique"):
            first = _FIRST_SENTENCE.match(sections.get(name, ""))
            if first and (rest := sections[name][first.end() :].strip()):
                sections[name], sections["findings"] = first.group().strip(), rest
                break
    if "impression" not in sections and "findings" in sections:
        sections["findings"], sections["impression"] = _split_quoted(sections["findings"])
    return sections


def _section(mark: re.Match[str]) -> str | None:
    heading = (mark["line"] or mark["run"]).strip().lower()
    return _SECTION_OF.get(heading)


def _split_quoted(text: str) -> tuple[str, str]:
    mark = _QUOTED.search(text)
    if mark is None or mark.start() == 0:
        return text, ""
    items = [item.strip(' "•·') for item in re.split(r'["•]|(?<=\s)·(?=\s)', text[mark.end() :])]
    ended = [item if item.endswith((".", "?", "!", "。")) else f"{item}." for item in items if item]
    return text[: mark.start()].strip(), " ".join(ended)


def read_report(text: str, language: Language | None = None, findings: tuple[Finding, ...] | None = None) -> Report:
    """Free text as a `Report`: sections, sentences, and the findings each sentence states.

    Args:
        text: a whole report (see `split_report`).
        language: detected when None.
        findings: structured findings if they are known; else they are parsed from findings and impression.
    """
    chosen = language or detect_language(text)
    sections = split_report(text)
    return _report({name: getattr(sections, name) for name in SECTION_NAMES}, chosen, findings)


def _report(sections: Mapping[str, str], language: Language, known: tuple[Finding, ...] | None) -> Report:
    table: dict[Finding, int] = {}
    for finding in known or ():
        table.setdefault(finding, len(table))
    stated: dict[SectionName, tuple[Sentence, ...]] = {}
    for name in ("findings", "impression", "technique", "comparison"):
        sentences = []
        for piece in split_sentences(sections.get(name, ""), language):
            said = parse_sentence(piece.lower(), language) if name in ("findings", "impression") else ()
            if known is None:
                for finding in said:
                    table.setdefault(finding, len(table))
            indices = tuple(table[f] for f in said if f in table)
            sentences.append(Sentence(_with_stop(piece, language), indices))
        stated[name] = tuple(sentences)
    text = ReportText(stated["technique"], stated["comparison"], stated["findings"], stated["impression"])
    return Report(findings=known if known is not None else tuple(table), texts={language: text})


def _with_stop(sentence: str, language: Language) -> str:
    stop = "。" if language == "zh" else "."
    return sentence if sentence.endswith(("?", "!", stop)) else sentence + stop


def row_of_report(report: Report, language: Language | None = None) -> dict[str, str]:
    """The text columns of a manifest row: ``findings``, ``impression``, ``language`` and ``structured`` (JSON).

    Raises:
        UsageError: the report is not written in that language.
    """
    text = report.text(language)
    chosen = next(key for key, value in report.texts.items() if value is text)
    return {
        "findings": report.section("findings", chosen),
        "impression": report.section("impression", chosen),
        "language": chosen,
        "structured": json.dumps([to_plain(f) for f in report.findings], ensure_ascii=False, sort_keys=True),
    }


def report_of_row(row: Mapping[str, Any]) -> Report:
    """The report of a manifest row: its structured findings if it has them, else those its text states.

    Raises:
        UsageError: an unknown language, or ``structured`` is not JSON.
        UnreadableInput: ``structured`` is JSON, but not findings.
    """
    language = row.get("language") or "en"
    if language not in LANGUAGES:
        raise UsageError("column 'language'", expected=" or ".join(LANGUAGES), got=str(language))
    value = row.get("structured") or None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UsageError("column 'structured'", expected="JSON", got=str(error)) from error
    known = None if value is None else from_plain(tuple[Finding, ...], value, "column 'structured'")
    return _report({name: str(row.get(name) or "") for name in SECTION_NAMES}, language, known)
