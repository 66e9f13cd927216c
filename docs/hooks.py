"""What mkdocs calls while it builds: the navigation, and the pages that are written from the code itself.

A page asks for a generated part by a line ``<!-- generated: NAME -->``. Such a part is made from the program
that is being documented, so it cannot tell anything else than what the program does.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

SECTIONS = {
    "tutorials": "Tutorials",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "adr": "Decisions",
}
MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


# -------------------------------------------------------------------------------------- mkdocs
def on_config(config: Any) -> Any:
    """Navigation from the folders: each section lists the pages that lie in it, by title."""
    docs = Path(config["docs_dir"])
    nav: list[Any] = [{"Home": "index.md"}]
    for folder, name in SECTIONS.items():
        pages = sorted((docs / folder).glob("*.md"))
        if pages:
            nav.append({name: [{page_title(page): page.relative_to(docs).as_posix()} for page in pages]})
    config["nav"] = nav
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every marker by what it stands for."""
    return MARKER.sub(lambda match: generated(match[1]), markdown)


def page_title(page: Path) -> str:
    """The first heading of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return next((line[2:].strip() for line in lines if line.startswith("# ")), page.stem)


def generated(name: str) -> str:
    """The generated part called ``name``, as Markdown."""
    parts: dict[str, Callable[[], str]] = {
        "commands": commands,
        "configurations": configurations,
        "error_kinds": error_kinds,
        "errors": errors,
        "findings": findings,
        "guideline_facts": guideline_facts,
        "guidelines": guidelines,
        "knowledge": knowledge,
        "questions": questions,
        "regions": regions,
        "report": report,
    }
    return parts[name]()


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# ------------------------------------------------------------------------------------ ontology
def regions() -> str:
    """The regions, each with the one it lies in and its names, parents first."""
    from ctscribe import ontology

    rows = [
        [
            f"`{region.id}`" + (" ●" if region.model else ""),
            f"`{region.parent}`" if region.parent else "",
            *(", ".join(region.names[language]) for language in ontology.LANGUAGES),
        ]
        for region in ontology.regions().values()
    ]
    return table(["region", "inside", "English", "Chinese"], rows)


def findings() -> str:
    """Every kind of finding with its names, places, attributes and sizes, by report section."""
    from ctscribe import ontology

    parts: dict[str, list[str]] = {}
    for kind in ontology.findings().values():
        lines = [f"#### `{kind.id}`", ""]
        lines += [f"- English: {', '.join(kind.names['en'])}", f"- Chinese: {', '.join(kind.names['zh'])}"]
        if kind.ct_rate:
            lines.append(f"- CT-RATE label: {kind.ct_rate}")
        lines.append("- regions: " + ", ".join(f"`{region}`" for region in kind.regions))
        if kind.also:
            lines.append("- read, never chosen, in: " + ", ".join(f"`{region}`" for region in kind.also))
        for name, values in kind.attributes.items():
            lines.append(f"- {name}: " + ", ".join(f"`{value}`" for value in values))
        if kind.size_mm:
            lines.append(f"- size: {kind.size_mm[0]:g} to {kind.size_mm[1]:g} mm")
        if kind.implies:
            lines.append("- implies: " + ", ".join(f"`{other}`" for other in kind.implies))
        if kind.critical:
            lines.append("- critical: an impression never leaves it out")
        parts.setdefault(kind.section, []).append("\n".join(lines))
    return "\n\n".join(f"### Section: {name}\n\n" + "\n\n".join(kinds) for name, kinds in parts.items())


def report() -> str:
    """One table per class that a report is made of: fields, types, meaning."""
    from ctscribe.config import type_name
    from ctscribe.report import Report

    found: dict[str, type] = {}
    _collect(Report, found)
    parts = []
    for cls in found.values():
        hints, texts = typing.get_type_hints(cls), field_texts(cls)
        summary = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
        rows = [
            [f"`{f.name}`", f"`{type_name(hints[f.name])}`", texts.get(f.name, "")] for f in dataclasses.fields(cls)
        ]
        parts.append(f"### `{cls.__name__}`\n\n{summary}\n\n" + table(["field", "type", "meaning"], rows))
    return "\n\n".join(parts)


# ------------------------------------------------------------------------------------ reader study
def questions() -> str:
    """The scales of a reader study with the anchor of every point, best first."""
    from ctscribe.evaluation.reader_study.questions import SCORES, words

    parts = []
    for facts in words()["scales"].values():
        rows = [[str(score), *facts["anchors"][score].values()] for score in reversed(SCORES)]
        heading = f"### {facts['name']['en']}\n\n{facts['question']['en']} {facts['question']['zh']}\n"
        parts.append(heading + "\n" + table(["score", "English", "Chinese"], rows) + "\n")
    return "\n".join(parts)


def error_kinds() -> str:
    """The kinds of errors that readers count."""
    from ctscribe.evaluation.reader_study.questions import words

    rows = [
        [facts["name"]["en"], facts["hint"]["en"], facts["name"]["zh"], f"`{kind}`"]
        for kind, facts in words()["errors"].items()
    ]
    return table(["error", "meaning", "Chinese", "column"], rows)


# ---------------------------------------------------------------------------------- guidelines
def guidelines() -> str:
    """Every guideline table that ships: for whom, its rows in the order in which they are tried, its source."""
    from ctscribe.impression.guidelines import DEFAULT_SETS, shipped

    sets = shipped()
    order = [*DEFAULT_SETS, *(name for name in sets if name not in DEFAULT_SETS)]
    return "\n\n".join(_guideline(sets[name]) for name in order)


def _guideline(rule_set: Any) -> str:
    checked = {
        "original": "compared with the publication",
        "copy": "compared with renditions of the publication, not with itself",
        "no": "**not compared with the publication**",
    }
    source = f"{rule_set.citation.text} [doi:{rule_set.citation.doi}](https://doi.org/{rule_set.citation.doi})"
    lines = [
        f"### {rule_set.title['en']} · {rule_set.title['zh']}",
        f"`{rule_set.id}` · {source}",
        f"- Table: {checked[rule_set.checked]}.",
        f"- Signed off by: {rule_set.signed_off_by or '**no radiologist**'}.",
        "- About: " + ", ".join(f"`{kind}`" for kind in rule_set.about) + ".",
    ]
    lines += [f"- Applies when: {limit.condition}." for limit in rule_set.scope]
    lines += [f"- {rule_set.remarks['en']}"] if rule_set.remarks else []
    rows = [
        [
            "; or ".join(", ".join(map(str, conditions)) or "nothing found" for conditions in row.when),
            row.category,
            rule_set.actions[row.do].words["en"],
            rule_set.actions[row.do].words["zh"],
            "yes" if row.checked != "no" else "**no**",
        ]
        for row in rule_set.all_rows
    ]
    header = ["when", "category", "what to do", "Chinese", "compared"]
    return "\n\n".join([*lines[:2], "\n".join(lines[2:]), table(header, rows)])


def knowledge() -> str:
    """Every passage of the knowledge base, in both languages, with the works it follows."""
    from ctscribe.impression.passages import knowledge_entries, references

    parts = []
    for name, entry in knowledge_entries().items():
        about = ", ".join(f"`{kind}`" for kind in entry.get("kinds", ())) or f"`{entry.get('guideline')}`"
        lines = [f"### `{name}`", f"About {about}."]
        lines += ["\n".join(f"- *{part}*: {text}" for part, text in entry[code].items()) for code in ("en", "zh")]
        lines.append("After: " + " ".join(references()[key] for key in entry["after"]))
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def guideline_facts() -> str:
    """The facts that the tables ask about, and what silence means for each."""
    from ctscribe.impression.guidelines.tables import common_facts

    rows = [
        [
            f"`{fact.name}`",
            ", ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in fact.values)
            or (f"a number ({fact.unit['en']})" if fact.unit else "a number" if fact.number else "a word"),
            "it is asked for" if fact.unstated == "ask" else "no",
            fact.ask.get("en", ""),
        ]
        for fact in common_facts().values()
    ]
    return table(["fact", "values", "silence means", "asked as"], rows)


# ---------------------------------------------------------------------------------- the program
def commands() -> str:
    """Every command with its arguments and options, from the command line itself."""
    from typer.main import get_command

    from ctscribe.cli import app

    parts = []
    for name, command in _leaves(get_command(app)):
        with command.make_context(name, [], resilient_parsing=True) as context:
            usage = " ".join(["ctscribe", name, *command.collect_usage_pieces(context)])
        text = re.sub(r"[\b\f]", "", inspect.cleandoc(command.help or ""))
        parts.append(f"### `ctscribe {name}`\n\n{text}\n\n```text\n{usage}\n```\n")
        rows = [_parameter(p) for p in command.params if not getattr(p, "hidden", False)]
        if rows:
            parts.append(table(["argument or option", "meaning", "default"], rows) + "\n")
    return "\n".join(parts)


def _leaves(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{before}{name} ")
        else:
            yield before + name, command


def _parameter(parameter: Any) -> list[str]:
    """One row of a command's table."""
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    if default in (None, (), False) or callable(default):
        shown = "required" if parameter.required else ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    return [name, " ".join((parameter.help or "").split()), shown]


def errors() -> str:
    """The exceptions with their exit codes, from the exception tree."""
    from ctscribe import errors as tree

    classes = [c for _, c in inspect.getmembers(tree, inspect.isclass) if issubclass(c, tree.CTScribeError)]
    classes.sort(key=lambda c: (c.exit_code, len(c.__mro__), c.__name__))
    return table(
        ["exit code", "exception", "when"],
        [[str(c.exit_code), f"`{c.__name__}`", inspect.cleandoc(c.__doc__ or "").split("\n")[0]] for c in classes],
    )


# ------------------------------------------------------------------------------- configurations
def config_classes() -> list[type]:
    """Every dataclass of the package whose name ends in ``Config``, and those that these are made of."""
    import ctscribe

    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(ctscribe.__path__, "ctscribe."):
        if module.name.startswith("ctscribe.cli"):
            continue
        for name, member in vars(importlib.import_module(module.name)).items():
            if name.endswith("Config") and inspect.isclass(member) and dataclasses.is_dataclass(member):
                _collect(member, found)
    return [found[key] for key in sorted(found)]


def _collect(cls: Any, found: dict[str, type]) -> None:
    """Add a dataclass of this package, and those inside its fields."""
    key = f"{cls.__module__}.{cls.__qualname__}"
    if key in found or not cls.__module__.startswith("ctscribe."):
        return
    found[key] = cls
    waiting = list(typing.get_type_hints(cls).values())
    while waiting:
        hint = waiting.pop()
        waiting += typing.get_args(hint)
        if inspect.isclass(hint) and dataclasses.is_dataclass(hint):
            _collect(hint, found)


def field_texts(cls: type) -> dict[str, str]:
    """Field name -> what the docstring says about it.

    That is its entry under ``Attributes`` or ``Args``, or else a sentence that names it in backquotes.
    """
    import docstring_parser

    texts: dict[str, str] = {}
    for parent in reversed(cls.__mro__[1:-1]):
        texts.update(field_texts(parent))
    text = inspect.cleandoc(cls.__doc__ or "")
    for f in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        sentence = re.search(
            rf"(?:^|[.;:]\s|\n\n)((?:[^.;\n]|\n(?!\n))*?`{f.name}`.*?)(?:[.;](?:\s|$)|\n\n|$)", text, re.S
        )
        if sentence:
            texts[f.name] = " ".join(sentence[1].split())
    for parameter in docstring_parser.parse(text, style=docstring_parser.DocstringStyle.GOOGLE).params:
        for name in parameter.arg_name.split(","):
            texts[name.strip().strip("`")] = " ".join((parameter.description or "").split())
    return texts


def configurations() -> str:
    """One table per configuration dataclass: fields, types, defaults, meaning."""
    from ctscribe.config import type_name

    parts = []
    for cls in config_classes():
        hints, texts = typing.get_type_hints(cls), field_texts(cls)
        summary = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
        rows = [
            [f"`{f.name}`", f"`{type_name(hints[f.name])}`", _default(f), texts.get(f.name, "")]
            for f in dataclasses.fields(cls)
            if f.init
        ]
        heading = f"### `{cls.__name__}`\n\n`{cls.__module__}` · {summary}\n"
        parts.append(heading + "\n" + table(["field", "type", "default", "meaning"], rows) + "\n")
    return "\n".join(parts) or "No configuration is defined yet."


def _default(f: dataclasses.Field[Any]) -> str:
    if f.default is not dataclasses.MISSING:
        text = repr(f.default)
    elif f.default_factory is not dataclasses.MISSING:
        text = repr(f.default_factory())
    else:
        return "required"
    return f"`{text}`" if len(text) <= 60 else f"`{text.split('(')[0]}(...)`"
