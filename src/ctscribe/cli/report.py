"""``report``: a scan goes in, a report comes out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctscribe.cli import screen
from ctscribe.cli.data import PATH, SERIES
from ctscribe.cli.segmenting import LESIONS, LESIONS_SCHEME, SCHEME, SEGMENTER, tell_licence
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
from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from ctscribe.impression import Context
    from ctscribe.pipeline import ReportResult

STEP_NAMES = {
    "load": "reading the scan",
    "segment": "finding the regions",
    "check": "checking that it is a chest",
    "place": "putting it on the model's grid",
    "describe": "looking and writing",
    "ground": "tracing sentences to slices",
    "write": "assembling the report",
    "draw": "drawing the page",
}


class Language(StrEnum):
    """Languages a report can be asked for."""

    en = "en"
    zh = "zh"
    both = "both"


class Spoken(StrEnum):
    """Languages one text can be in."""

    en = "en"
    zh = "zh"


class Certainty(StrEnum):
    """Whether sentences say how sure the model is."""

    text = "text"
    words = "words"


LANGUAGE = typer.Option(Language.en, "--lang", help="Language of the report.")
CONTEXT = typer.Option(
    "",
    "--context",
    metavar="KEY=VALUE,...",
    help="What the guidelines may know of the patient: age=61,sex=female,smoker=true, or a JSON or YAML file.",
)
PRIOR = typer.Option(None, "--prior", metavar="PATH", help="Earlier scan of the patient, for models trained with one.")
DAYS = typer.Option(
    None,
    "--prior-days",
    min=0,
    help="Days between the earlier scan and this one; default: by the dates in their DICOM headers.",
)
HISTORY = typer.Option("", "--history", metavar="TEXT", help="Clinical history, for models trained with it.")
LABS = typer.Option(
    None, "--labs", metavar="FILE", help="Laboratory values (JSON or YAML: crp: 80), for models trained with them."
)
MODEL = typer.Option(None, "--model", metavar="DIR", help="Model folder; default: the bundled demonstration model.")


def report(
    path: Path = PATH,
    out: Path | None = typer.Option(
        None, "--out", metavar="DIR", help="Write report.txt, .json and .html here; default: only print."
    ),
    lang: Language = LANGUAGE,
    series: str | None = SERIES,
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout instead of the text."),
    model: Path | None = MODEL,
    pretrained: str | None = typer.Option(
        None, "--pretrained", metavar="DIR", help="Where the pretrained decoder lies that the model folder names."
    ),
    device: str = typer.Option("cpu", "--device", help="Torch device, such as cpu or cuda:0."),
    context: str = CONTEXT,
    prior: Path | None = PRIOR,
    prior_days: float | None = DAYS,
    history: str = HISTORY,
    labs: Path | None = LABS,
    segmenter: str = SEGMENTER,
    certainty: Certainty = typer.Option(
        Certainty.text,
        "--certainty",
        help="text: sentences as the model wrote them; words: they say likely or possible by calibrated probability.",
    ),
    writer: str = WRITER,
    llm: str = LLM,
    endpoint: str = ENDPOINT,
    llm_folder: Path | None = LLM_FOLDER,
    llm_base: Path | None = LLM_BASE,
    grammar: bool = GRAMMAR,
    llm_set: list[str] | None = LLM_SET,
    documents: Path | None = DOCUMENTS,
    embeddings: Path | None = EMBEDDINGS,
    guidelines: Path | None = GUIDELINES,
    use: list[str] | None = USE,
    scheme: str = SCHEME,
    lesions: Path | None = LESIONS,
    lesions_scheme: str = LESIONS_SCHEME,
    identifiers: bool = typer.Option(
        False, "--identifiers", help="Write SOP Instance UIDs into the evidence. They identify the patient's images."
    ),
) -> None:
    """Write the report of a chest CT.

    PATH is a DICOM folder, a zip or a NIfTI file. When it holds several series, the best one is chosen and the report
    says why; `--series` overrules. A scan that no report may be written from is refused with the reason (exit code 3).

    The impression is written by rule unless another writer is named; whoever writes it, a guard compares it with the
    findings and the guideline tables, and its record is part of the report.

    Examples:

    * `ctscribe report study/ --out report`
    * `ctscribe report study.zip --out report --lang both`
    * `ctscribe report study/ --out report --context age=61,smoker=true,screening=false`
    * `ctscribe report study/ --certainty words --lang both`
    * `ctscribe report scan.nii.gz --out report --segmenter labelmap:masks.nii.gz --regions-scheme totalsegmentator_v2`
    * `ctscribe report study/ --model run/checkpoint --prior earlier/ --history "Fever for four days." --labs labs.yaml`
    * `ctscribe report scan.nii.gz --json | jq '.report.findings[].kind'`
    * `ctscribe report study/ --out report --writer server --llm qwen3 --endpoint http://127.0.0.1:8000/v1`
    """
    if out is not None:
        screen.output_folder(out)
    options: dict[str, Any] = {"series": series, "device": device, "identifiers": identifiers}
    options |= {"context": _context(context), "pretrained": pretrained}
    options |= {"prior": prior, "prior_days": prior_days, "history": history, "labs": _labs(labs)}
    options["certainty"] = certainty.value
    options["station"] = station(
        writer, llm, endpoint, llm_folder, llm_base, grammar, llm_set, documents, embeddings, guidelines, use
    )
    options |= {"segmenter": segmenter, "regions_scheme": scheme}
    options |= {"lesions": _lesions(lesions, lesions_scheme), "lesions_scheme": lesions_scheme}
    tell_licence(segmenter)
    made, contents = make(path, lang.value, model, options, draw=out is not None)
    written = {} if out is None else screen.write_together(out, contents)
    if as_json:
        screen.print_json(as_plain(made, written))
        return
    for code in made.report.languages:
        print(made.report.to_text(code))
    for place in written.values():
        print(place)


def _context(words: str) -> Context | None:
    """What was said about the patient; None when nothing was."""
    from ctscribe.impression.context import read

    return read(words) if words.strip() else None


def _lesions(path: Path | None, scheme: str) -> Path | None:
    """A map of lesions whose scheme is known and which is there."""
    if path is None and scheme:
        raise UsageError(f"--lesions-scheme {scheme}", expected="--lesions FILE to go with it")
    if path is not None:
        from ctscribe.data.anatomy.labelmaps import lesion_names_of

        lesion_names_of(scheme)
        if not path.is_file():
            raise UsageError(f"--lesions {path}", expected="a NIfTI label map", got="no such file")
    return path


def _labs(path: Path | None) -> dict[str, Any] | None:
    """The table in a file of laboratory values; None without a file."""
    if path is None:
        return None
    import yaml

    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--labs {path}", expected="a readable JSON or YAML file", got=str(error)) from error
    if not isinstance(table, dict):
        raise UsageError(f"--labs {path}", expected="a table such as crp: 80", got=type(table).__name__)
    return table


def make(
    path: Path, language: Any, model: Path | None, options: dict[str, Any], *, draw: bool = True
) -> tuple[ReportResult, dict[str, bytes]]:
    """Read, describe and draw under a progress bar; returns the result and the bytes of the files to write."""
    from datetime import UTC, datetime

    from ctscribe.pipeline import STEPS, Reporter

    with screen.steps(len(STEPS) + draw) as step:
        reporter = Reporter(
            model,
            options.get("device", "cpu"),
            identifiers=options.get("identifiers", False),
            pretrained=options.get("pretrained"),
            segmenter=options.get("segmenter", "classical"),
            station=options.get("station"),
            regions_scheme=options.get("regions_scheme", ""),
            lesions_scheme=options.get("lesions_scheme", ""),
        )
        made = reporter.report(
            path,
            language=language,
            series=options.get("series"),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            context=options.get("context"),
            prior=options.get("prior"),
            prior_days=options.get("prior_days"),
            history=options.get("history", ""),
            labs=options.get("labs"),
            certainty=options.get("certainty", "text"),
            lesions=options.get("lesions"),
            on_step=lambda name: step(STEP_NAMES[name]),
        )
        if not draw:
            return made, {}
        step(STEP_NAMES["draw"])
        return made, files(made)


def files(made: ReportResult) -> dict[str, bytes]:
    """The three files of a report, as bytes."""
    from ctscribe.explain import render_html

    texts = [made.report.to_text(code) for code in made.report.languages]
    return {
        "report.txt": ("\n" + "=" * 80 + "\n\n").join(texts).encode("utf-8"),
        "report.json": made.report.to_json().encode("utf-8"),
        "report.html": render_html(made).encode("utf-8"),
    }


def as_plain(made: ReportResult, written: dict[str, Path]) -> dict[str, Any]:
    """What `--json` prints: the report as in report.json, how the scan was read, and where the files are."""
    import json

    since = made.since
    return {
        "report": json.loads(made.report.to_json()),
        "ingest": made.study.ingest.to_json(),
        "prior": None if since is None else {"days": since.days, "by": since.origin, "why": since.why},
        "segmentation": {"source": made.segmentation.source, "quality": made.segmentation.quality},
        "seconds": made.seconds,
        "files": {name: str(place) for name, place in written.items()},
    }
