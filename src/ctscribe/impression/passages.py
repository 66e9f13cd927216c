"""Passages that a writer may use and cite: the knowledge base that ships, and a site's own documents.

```
knowledge/*.yaml ── one entry for each kind of finding and each rule set, English and Chinese ─┐
a site's folder ─── Markdown, text and PDF, cut at headings and blank lines ───────────────────┴─ Passage
```

A passage's id is made from its entry, or from its document and heading, so a citation stays valid when the text around
it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ctscribe.errors import DependencyMissing, UnreadableInput, UsageError
from ctscribe.impression.result import Citation, Words
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report.parse import detect_language

ENDINGS = (".md", ".txt", ".pdf")
LONGEST = 1200
"""Letters of one passage of a site's document."""

_SOURCE: Words = {
    "en": "ctscribe knowledge base, not reviewed by a radiologist; after: {after}",
    "zh": "ctscribe知识库，未经放射科医师审阅；参考：{after}",
}


@dataclass(frozen=True)
class Passage:
    """A piece of text with its source.

    Attributes:
        id: stable; what a statement cites.
        text: what it says.
        language: of the text.
        kinds: kinds of findings it is about, () when that is found by its words alone.
        source: the references it follows, as printed; the document's name for a site's own.
        differential: the part that names what else it may be, "" where there is none.
        guideline: id of the rule set it tells about, "" for the others.
    """

    id: str
    text: str
    language: Language
    kinds: tuple[str, ...] = ()
    source: str = ""
    differential: str = ""
    guideline: str = ""

    @property
    def citation(self) -> Citation:
        """As a reference below an impression."""
        return Citation(self.id, self.source or self.id)

    @property
    def shipped(self) -> bool:
        """It belongs to the knowledge base, not to a site."""
        return bool(self.kinds or self.guideline)


# ------------------------------------------------------------------------------------- the knowledge base
@cache
def knowledge() -> tuple[Passage, ...]:
    """The knowledge base that comes with ctscribe: its own words, with the references each passage follows."""
    return tuple(
        _passage(name, entry, language) for name, entry in knowledge_entries().items() for language in LANGUAGES
    )


def meaning(kind: str, language: Language) -> Passage:
    """The passage on one kind of finding."""
    return next(p for p in knowledge() if p.language == language and kind in p.kinds)


@cache
def knowledge_entries() -> Mapping[str, Mapping[str, Any]]:
    """The entries of the knowledge base as they stand in its files, by name."""
    folder = files(__package__) / "knowledge"
    found: dict[str, Mapping[str, Any]] = {}
    for table in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if table.name.endswith(".yaml") and table.name != "references.yaml":
            found |= yaml.safe_load(table.read_text(encoding="utf-8"))
    return found


@cache
def references() -> Mapping[str, str]:
    """The works that the knowledge base follows, as printed, by name."""
    return yaml.safe_load((files(__package__) / "knowledge" / "references.yaml").read_text(encoding="utf-8"))


def _passage(name: str, entry: Mapping[str, Any], language: Language) -> Passage:
    parts = entry[language]
    after = (" " if language == "en" else "；").join(references()[key] for key in entry["after"])
    return Passage(
        id=f"kb:{name}:{language}",
        text=(" " if language == "en" else "").join(parts.values()),
        language=language,
        kinds=tuple(entry.get("kinds", ())),
        source=_SOURCE[language].format(after=after),
        differential=parts.get("differential", ""),
        guideline=entry.get("guideline", ""),
    )


# ------------------------------------------------------------------------------------- a site's documents
def documents(folder: Path) -> tuple[Passage, ...]:
    """A site's own documents: Markdown, text and PDF (extra ``documents``), cut at headings and blank lines.

    Raises:
        UsageError: no such folder.
        UnreadableInput: no document there, or one that cannot be read.
        DependencyMissing: a PDF, and ``pypdf`` is not installed.
    """
    if not folder.is_dir():
        raise UsageError(f"documents in {folder}", expected="a folder", got="a file" if folder.exists() else "nothing")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    found = tuple(p for path in paths for p in _passages(path, path.relative_to(folder).as_posix()))
    if not found:
        raise UnreadableInput(
            f"no documents in {folder.name}",
            code="no_documents",
            expected=f"files with text, ending in {', '.join(ENDINGS)}",
            got=f"{len(paths)} such files without text" if paths else "none",
        )
    return found


def _passages(path: Path, name: str) -> Iterable[Passage]:
    """Passages are numbered below their heading; a heading that comes again goes on counting."""
    heading = ""
    counts: dict[str, int] = {}
    for block in re.split(r"\n\s*\n|(?=^#+ )", _text(path), flags=re.MULTILINE):
        lines = block.strip().splitlines()
        if lines and re.match(r"#+ ", lines[0]):
            heading, lines = lines[0].strip("# ").strip(), lines[1:]
        body = " ".join(line.strip() for line in lines)
        for start in range(0, len(body), LONGEST):
            counts[heading] = counts.get(heading, 0) + 1
            identity = f"site:{name}#{heading or 'top'}/{counts[heading]}"
            text = f"{heading}: {body[start : start + LONGEST]}" if heading else body[start : start + LONGEST]
            yield Passage(identity, text, detect_language(text), (), name)


def _text(path: Path) -> str:
    if path.suffix.lower() != ".pdf":
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableInput(f"{path.name}", code="bad_document", expected="text in UTF-8") from error
    try:
        import pypdf
    except ImportError as error:
        raise DependencyMissing("reading PDF needs pypdf", hint="pip install 'ctscribe[documents]'") from error
    try:
        return "\n\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    except (pypdf.errors.PyPdfError, OSError) as error:
        raise UnreadableInput(f"{path.name}", code="bad_document", expected="a PDF with text") from error
