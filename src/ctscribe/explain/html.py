"""One self-contained HTML file: text, pictures, style and script inside, nothing fetched, nothing sent."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctscribe.pipeline import ReportResult


def render(result: ReportResult) -> str:
    """The report page of one result.

    Everything that came from outside (texts, tags) is escaped; the page's own content policy forbids the browser
    to load anything from anywhere.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from ctscribe.explain.page import build, words

    environment = Environment(
        loader=PackageLoader("ctscribe.explain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own: dict[str, Any] = {name: Markup(_file(f"report.{name}")) for name in ("css", "js")}
    template = environment.get_template("report.html.j2")
    return template.render(page=build(result), report=result.report, words=words(), **own)


def _file(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")
