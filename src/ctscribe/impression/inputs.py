"""What an impression is written from: structured findings in JSON, or a findings text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctscribe.errors import UnreadableInput
from ctscribe.impression.context import Context, from_plain
from ctscribe.impression.details import with_details
from ctscribe.ontology import Language
from ctscribe.report import Finding, Report
from ctscribe.report.codec import from_plain as finding_from_plain
from ctscribe.report.parse import detect_language, parse

_EXPECTED = (
    "a report.json of ctscribe, a list of findings, or a table with the keys findings, context, text and language"
)


@dataclass(frozen=True)
class Given:
    """What an impression is written from.

    Attributes:
        findings: structured, as given or as read from the text.
        text: the findings as written, "" when only structured ones were given.
        context: what came with them.
        language: of the text; English when there is none.
    """

    findings: tuple[Finding, ...]
    text: str = ""
    context: Context = field(default_factory=Context)
    language: Language = "en"


def read(path: str | Path) -> Given:
    """Findings from a file: ``.json`` holds structured ones, anything else is read as text.

    Raises:
        UnreadableInput: not there, not text, or JSON of another shape.
        ConfigError: a context that came with the findings does not fit.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise UnreadableInput(f"{path.name}", code="no_such_path", expected="a file of findings", got=why) from error
    except UnicodeDecodeError as error:
        raise UnreadableInput(
            f"{path.name}", code="bad_findings", expected="text in UTF-8", got="other bytes"
        ) from error
    if path.suffix.lower() == ".json":
        return from_json(content, path.name)
    return from_text(content, path.name)


def from_text(text: str, name: str = "the text") -> Given:
    """Findings read from a report's text.

    Raises:
        UnreadableInput: the text is empty.
    """
    if not text.strip():
        raise UnreadableInput(f"{name} is empty", code="bad_findings", expected="the findings section of a report")
    language = detect_language(text)
    findings = tuple(parse(text, language))
    return Given(findings, text, with_details(Context(), findings, text), language)


def from_json(text: str, name: str = "the JSON") -> Given:
    """Findings from JSON: a report, a list of findings, or a table of findings and context.

    Raises:
        UnreadableInput: none of these.
        ConfigError: the context does not fit.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableInput(name, code="bad_findings", expected="valid JSON", got=str(error)) from error
    if isinstance(data, Mapping) and "schema_version" in data:
        report = Report.from_json(text)
        language: Language = report.languages[0] if report.languages else "en"
        written = report.section("findings", language) if report.languages else ""
        return Given(report.findings, written, with_details(Context(), report.findings, written), language)
    if isinstance(data, list):
        data = {"findings": data}
    if not isinstance(data, Mapping) or set(data) - {"findings", "context", "text", "language"} or not data:
        got = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise UnreadableInput(name, code="bad_findings", expected=_EXPECTED, got=got or "nothing")
    return _from_table(data, name)


def _from_table(data: Mapping[str, Any], name: str) -> Given:
    written = data.get("text", "")
    if not isinstance(written, str):
        raise UnreadableInput(f"{name}: text", code="bad_findings", expected="a text", got=type(written).__name__)
    context = data.get("context", {})
    if not isinstance(context, Mapping):
        raise UnreadableInput(f"{name}: context", code="bad_findings", expected="a table", got=type(context).__name__)
    language = data.get("language", detect_language(written) if written else "en")
    if language not in ("en", "zh"):
        raise UnreadableInput(f"{name}: language", code="bad_findings", expected="en or zh", got=str(language))
    if "findings" not in data:
        findings = tuple(parse(written, language))
    elif isinstance(data["findings"], list):
        findings = finding_from_plain(tuple[Finding, ...], data["findings"], "findings")
    else:
        got = type(data["findings"]).__name__
        raise UnreadableInput(f"{name}: findings", code="bad_findings", expected="a list", got=got)
    return Given(findings, written, with_details(from_plain(context), findings, written), language)
