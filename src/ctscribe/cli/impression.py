"""``impression``: findings go in, an impression with follow-up comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctscribe.cli import screen
from ctscribe.cli.report import CONTEXT, Language
from ctscribe.cli.station import (
    DOCUMENTS,
    EMBEDDINGS,
    ENDPOINT,
    GRAMMAR,
    GUIDELINES,
    LLM,
    LLM_BASE,
    LLM_FOLDER,
    LLM_SET,
    USE,
    WRITER,
    station,
)

if TYPE_CHECKING:
    from ctscribe.impression import Impression
    from ctscribe.impression.inputs import Given

HEADINGS = {
    "en": {"impression": "IMPRESSION", "references": "REFERENCES", "sources": "IN YOUR DOCUMENTS"},
    "zh": {"impression": "诊断意见", "references": "参考文献", "sources": "本单位文件相关内容"},
}


def impression(
    findings: Path = typer.Argument(..., metavar="FINDINGS", help="Findings: report.json, other JSON, or a text."),
    context: str = CONTEXT,
    writer: str = WRITER,
    llm: str = LLM,
    endpoint: str = ENDPOINT,
    llm_folder: Path | None = LLM_FOLDER,
    llm_base: Path | None = LLM_BASE,
    grammar: bool = GRAMMAR,
    llm_set: list[str] | None = LLM_SET,
    documents: Path | None = DOCUMENTS,
    embeddings: Path | None = EMBEDDINGS,
    lang: Language | None = typer.Option(None, "--lang", help="Language; default: that of the findings."),
    guidelines: Path | None = GUIDELINES,
    use: list[str] | None = USE,
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="Write the JSON here as well."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Write the impression of a chest CT from its findings.

    FINDINGS is a report.json, a JSON list of findings, a JSON table with findings and context, or a text in English or
    Chinese. With the writer rules, the default, no model and no network are used. A fact that a guideline needs and
    nobody gave is asked for. Another writer's text is checked against the findings; what happened to it is told.

    Examples:

    * `ctscribe impression report/report.json --context age=61,smoker=true,screening=false`
    * `ctscribe impression findings.txt --lang both`
    * `ctscribe impression findings.json --guidelines our-guidelines --json`
    * `ctscribe impression findings.txt --writer server --llm qwen3 --endpoint http://127.0.0.1:8000/v1`
    """
    from ctscribe.impression import inputs
    from ctscribe.impression.context import read as read_context

    made_by = station(
        writer, llm, endpoint, llm_folder, llm_base, grammar, llm_set, documents, embeddings, guidelines, use
    )
    if out is not None:
        screen.output_file(out, (".json",))
    given = inputs.read(findings)
    known = read_context(context, given.context) if context.strip() else given.context
    written = {
        code: made_by.write(given.findings, code, context=known, text=given.text)
        for code in _languages(lang, given.language)
    }
    plain = as_plain(given, written)
    if out is not None:
        screen.write_together(out.parent, {out.name: screen.json_bytes(plain)})
    if as_json:
        screen.print_json(plain)
        return
    for code, made in written.items():
        print(_as_text(made, code))
    if out is not None:
        print(out)


def _languages(lang: Language | None, of_the_findings: str) -> tuple[Any, ...]:
    if lang is None:
        return (of_the_findings,)
    return ("en", "zh") if lang is Language.both else (lang.value,)


def _as_text(made: Impression, code: str) -> str:
    """Headed lines; references by id, with the lines that cite them; the note."""
    headings = HEADINGS[code]
    blocks = [f"{headings['impression']}\n{made.text}"]
    if made.citations:
        cited = (
            f"- [{c.id}] {c.text}" + (f" doi:{c.doi}" if c.doi else "") + _cited_in(made, c.id, code)
            for c in made.citations
        )
        blocks.append("\n".join([headings["references"], *cited]))
    if made.sources:
        blocks.append("\n".join([headings["sources"], *(f"- [{s.id}] {s.text}" for s in made.sources)]))
    return "\n\n".join([*blocks, made.note, *made.guard_note]) + "\n"


def _cited_in(made: Impression, name: str, code: str) -> str:
    """The numbers of the lines that cite a reference, in brackets; nothing where there is only one line."""
    numbers = [str(n) for n, line in enumerate(made.lines, start=1) if name in line.citations]
    if len(made.lines) < 2:
        return ""
    return f" ({', '.join(numbers)})" if code == "en" else f"（{'、'.join(numbers)}）"


def as_plain(given: Given, written: dict[str, Impression]) -> dict[str, Any]:
    """What `--json` prints: the findings by index, and the impression of every language."""
    from ctscribe.report.codec import to_plain

    return {
        "findings": to_plain(given.findings),
        "impression": {code: to_plain(made) | {"text": made.text} for code, made in written.items()},
    }
