"""``reword``: the reports of a manifest in other words, the findings unchanged."""

from __future__ import annotations

import csv
import io
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctscribe.cli import screen
from ctscribe.cli.station import ENDPOINT, LLM_SET
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.ontology import Language

if TYPE_CHECKING:
    from ctscribe.impression.client import Client

Row = dict[str, str]


def reword(
    manifest: Path = typer.Argument(..., metavar="MANIFEST.csv", help="Manifest, or any CSV with report texts."),
    out: Path = typer.Option(..., "--out", metavar="NEW.csv", help="Write the same table here, its texts reworded."),
    llm: str = typer.Option(..., "--llm", metavar="NAME", help="Model at the endpoint."),
    endpoint: str = ENDPOINT,
    llm_set: list[str] | None = LLM_SET,
    column: str = typer.Option("findings", "--column", help="Column that holds the text."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable counts on stdout."),
) -> None:
    """Let a language model reword report texts, to train on more than one wording of the same findings.

    A new text is kept only when the report parser reads the same findings in it, with side, size and certainty; else
    the old one stays, and it is told how often. Sentences with names, dates, numbers of patients and the like are left
    out before anything is sent, and so from the new texts. With `--llm-set cache=DIR` an interrupted run goes on where
    it stopped.

    Examples:

    * `ctscribe reword pairs.csv --out pairs-b.csv --llm qwen3 --endpoint http://127.0.0.1:8000/v1 --llm-set cache=said`
    """
    from ctscribe import config
    from ctscribe.impression.client import Client
    from ctscribe.impression.endpoint import EndpointConfig

    screen.output_file(out, (".csv",))
    if out.parent.resolve() != manifest.parent.resolve():
        raise UsageError(f"--out {out}", expected="a file beside the manifest", hint="its paths are relative to it")
    names, rows = _read(manifest, column)
    client = Client(config.apply_overrides(EndpointConfig(llm, endpoint), llm_set or []))
    kept = _reworded(rows, column, client, as_json)
    screen.write_together(out.parent, {out.name: _csv(names, rows)})
    counts = {"out": str(out), "reports": len(rows), "reworded": len(rows) - kept.total(), "kept": dict(kept)}
    if as_json:
        screen.print_json({**counts, "cost": client.ledger.cost})
        return
    print(f"{counts['reworded']} of {len(rows)} texts reworded")
    for reason, number in kept.most_common():
        print(f"{number:6d} left as they were: {reason}")
    print(out)


def _reworded(rows: list[Row], column: str, client: Client, quiet: bool) -> Counter[str]:
    """Reword in place; why how many were left alone. An endpoint that cannot be used ends the run."""
    from ctscribe.impression.client import ask_all
    from ctscribe.impression.paraphrase import Paraphrase, paraphrase

    kept: Counter[str] = Counter()
    at_once = client.config.concurrency
    with screen.counting("rewording", quiet) as tick:
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            texts = [_without_identifiers(row, column) for row in some]
            asked = [(row, *found) for row, found in zip(some, texts, strict=True) if found[0]]
            kept["nothing to send"] += len(some) - len(asked)
            jobs = [partial(paraphrase, text, language, client) for _, text, language in asked]
            for (row, _, _), answer in zip(asked, ask_all(jobs, at_once), strict=True):
                if not isinstance(answer, Paraphrase):
                    raise answer
                if answer.kept_because:
                    kept[answer.kept_because] += 1
                else:
                    row[column] = answer.text
            tick(min(start + at_once, len(rows)), len(rows))
    return +kept


def _without_identifiers(row: Row, column: str) -> tuple[str, Language]:
    """The text as it may be sent, and its language."""
    from ctscribe.data.deidentify.text import scrub, without_placeholders
    from ctscribe.report.parse import detect_language

    language = detect_language(row[column])
    clean = scrub(row[column], [row[name] for name in ("study", "patient") if row.get(name)])
    return without_placeholders(clean.text, language).strip(), language


def _read(path: Path, column: str) -> tuple[list[str], list[Row]]:
    from ctscribe.data.manifest import csv_table

    if not path.is_file():
        raise UnreadableInput(f"{path} cannot be read", expected="a CSV table", got="no such file")
    names, rows = csv_table(path)
    if column not in names:
        raise UsageError(f"--column {column}", expected=f"a column of {path.name}", got=", ".join(names) or "none")
    return names, [row for _, row in rows]


def _csv(names: list[str], rows: list[Row]) -> bytes:
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode("utf-8")
