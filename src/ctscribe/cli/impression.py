"""``impression``: findings go in, an impression with follow-up comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctscribe.cli import screen
from ctscribe.cli.report import CONTEXT, Language
from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from ctscribe.impression import Impression
    from ctscribe.impression.inputs import Given
    from ctscribe.impression.writers import Writer

HEADINGS = {
    "en": {"impression": "IMPRESSION", "references": "REFERENCES"},
    "zh": {"impression": "诊断意见", "references": "参考文献"},
}


def impression(
    findings: Path = typer.Argument(..., metavar="FINDINGS", help="Findings: report.json, other JSON, or a text."),
    context: str = CONTEXT,
    writer: str = typer.Option("rules", "--writer", help="Who writes it: rules, openai, server or local."),
    llm: str = typer.Option("", "--llm", metavar="NAME", help="Model at the endpoint, such as gpt-5.1."),
    endpoint: str = typer.Option("", "--endpoint", metavar="URL", help="OpenAI-compatible server, ending in /v1."),
    llm_folder: Path | None = typer.Option(
        None, "--llm-folder", metavar="DIR", help="Language model in a folder, for the writer local."
    ),
    llm_set: list[str] | None = typer.Option(
        None, "--llm-set", metavar="KEY=VALUE", help="Limits of the endpoint (EndpointConfig), such as retries=1."
    ),
    documents: Path | None = typer.Option(
        None, "--documents", metavar="DIR", help="Your own documents, for a language model to use and cite."
    ),
    lang: Language | None = typer.Option(None, "--lang", help="Language; default: that of the findings."),
    guidelines: Path | None = typer.Option(
        None, "--guidelines", metavar="DIR", help="Folder with your own guideline tables (YAML)."
    ),
    use: list[str] | None = typer.Option(
        None, "--use", metavar="ID", help="Use only this guideline; may be given several times."
    ),
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
    from ctscribe.impression import inputs, retrieval
    from ctscribe.impression.context import read as read_context
    from ctscribe.impression.guidelines import load

    author = _writer(writer, llm, endpoint, llm_folder, llm_set or [])
    if out is not None:
        screen.output_file(out, (".json",))
    given = inputs.read(findings)
    known = read_context(context, given.context) if context.strip() else given.context
    rule_sets = load(guidelines, use or None)
    library = None if documents is None else retrieval.shipped() + retrieval.documents(documents)
    written = {
        code: _write(given, code, known, rule_sets, author, library) for code in _languages(lang, given.language)
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


def _writer(name: str, llm: str, endpoint: str, folder: Path | None, limits: list[str]) -> Writer | None:
    """The writer that was asked for; nothing is sent before it is used."""
    from ctscribe import config
    from ctscribe.impression import writers
    from ctscribe.impression.endpoint import EndpointConfig

    if name == "rules" and (llm or endpoint or folder or limits):
        raise UsageError("a language model is named", expected="--writer openai, server or local with it")
    chosen = None
    if llm:
        chosen = config.apply_overrides(EndpointConfig(llm, endpoint), limits)
    return writers.make(name, chosen, folder)


def _write(given: Given, code: Any, context: Any, rule_sets: Any, author: Writer | None, library: Any) -> Impression:
    from ctscribe.impression.writing import write_with

    return write_with(
        author, given.findings, code, context=context, rule_sets=rule_sets, text=given.text, library=library
    )


def _languages(lang: Language | None, of_the_findings: str) -> tuple[str, ...]:
    if lang is None:
        return (of_the_findings,)
    return ("en", "zh") if lang is Language.both else (lang.value,)


def _as_text(made: Impression, code: str) -> str:
    """Headed lines, references and the note."""
    headings = HEADINGS[code]
    blocks = [f"{headings['impression']}\n{made.text}"]
    if made.citations:
        cited = "\n".join(f"- {c.text}" + (f" doi:{c.doi}" if c.doi else "") for c in made.citations)
        blocks.append(f"{headings['references']}\n{cited}")
    return "\n\n".join([*blocks, made.note, *made.remarks]) + "\n"


def as_plain(given: Given, written: dict[str, Impression]) -> dict[str, Any]:
    """What `--json` prints: the findings by index, and the impression of every language."""
    from ctscribe.report.codec import to_plain

    return {
        "findings": to_plain(given.findings),
        "impression": {code: to_plain(made) | {"text": made.text} for code, made in written.items()},
    }
