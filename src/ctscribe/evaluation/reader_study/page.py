"""One self-contained page for one reader: nothing fetched, nothing sent, answers kept in the reader's browser."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ctscribe.evaluation.reader_study.forms import answer_columns, finding_columns
from ctscribe.evaluation.reader_study.questions import CANNOT_JUDGE, MOST_ERRORS, SCORES, checklist_names, words

if TYPE_CHECKING:
    from ctscribe.evaluation.reader_study.build import ReadingSet


def page_data(reading: ReadingSet, reader: str) -> dict[str, Any]:
    """All that the page of one reader knows. No system, no seed, no repeat mark: nothing of the key but codes."""
    key = reading.key
    scans = [scan for scan in key.scans if scan.reader == reader]
    items = [item for item in key.items if item.reader == reader]
    cases = dict.fromkeys([scan.case for scan in scans] + [item.case for item in items])
    return {
        "study": key.study,
        "reader": reader,
        "instrument": key.instrument,
        "language": key.language,
        "columns": {"answers": answer_columns(), "findings": finding_columns()},
        "cases": {
            case: {"reference": reading.references.get(case, ""), "images": reading.images.get(case, [])}
            for case in cases
        },
        "items": [
            *({"code": s.code, "number": s.position, "case": s.case, "kind": "scan"} for s in scans),
            *(
                {"code": i.code, "number": i.position, "case": i.case, "text": reading.texts[i.case, i.system]}
                for i in items
            ),
        ],
        "findings": checklist_names() if scans else {},
        "scores": SCORES,
        "cannot": CANNOT_JUDGE,
        "most_errors": MOST_ERRORS,
    }


def render(reading: ReadingSet, reader: str) -> str:
    """The page of one reader. The content policy forbids the browser to load anything from anywhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own: dict[str, Any] = {name: Markup(_file(f"reading.{name}")) for name in ("css", "js")}
    data = {"data": _embedded(page_data(reading, reader)), "words": _embedded(words())}
    template = environment.get_template("reading.html.j2")
    return template.render(reader=reader, study=reading.key.study, language=reading.key.language, **own, **data)


def _embedded(value: Any) -> Any:
    """JSON that cannot end the script element it stands in."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _file(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")
