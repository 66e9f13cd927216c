"""Passages that a writer may use and cite: the shipped knowledge base and a site's own documents.

Lexical search in SQLite's full-text index (BM25), which is part of Python: English as word stems, Chinese as pairs of
neighbouring characters. A passage's id is made from its document and heading, so a citation stays valid when the text
around it changes.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from ctscribe import ontology
from ctscribe.errors import DependencyMissing, UnreadableInput
from ctscribe.impression.result import Citation
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Finding
from ctscribe.report.parse import detect_language, normalise

ENDINGS = (".md", ".txt", ".pdf")
LONGEST = 1200
"""Letters of one passage of a site's document."""

_WORD = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]+")


@dataclass(frozen=True)
class Passage:
    """A piece of text with its source.

    Attributes:
        id: stable; what a statement cites.
        text: what it says.
        language: of the text.
        kinds: kinds of findings it is about, () when that is found by its words alone.
        source: the reference it follows, as printed; the document's name for a site's own.
    """

    id: str
    text: str
    language: Language
    kinds: tuple[str, ...] = ()
    source: str = ""

    @property
    def citation(self) -> Citation:
        """As a reference below an impression."""
        return Citation(self.id, self.source or self.id)


class Library:
    """Passages and their index, in memory.

    Raises:
        DependencyMissing: this Python's SQLite was built without full-text search.
    """

    def __init__(self, passages: Iterable[Passage]) -> None:
        self.passages = {p.id: p for p in passages}
        self._lock = threading.Lock()
        self._base = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._base.execute("CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, language UNINDEXED, words)")
        except sqlite3.OperationalError as error:
            raise DependencyMissing(
                "SQLite without full-text search (FTS5)", hint="use another build of Python"
            ) from error
        rows = [(p.id, p.language, " ".join(tokens(p.text))) for p in self.passages.values()]
        self._base.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)

    def search(self, query: str, language: Language, most: int = 5) -> list[Passage]:
        """The passages that fit a query best, best first; [] when no word of it occurs."""
        words = " OR ".join(f'"{token}"' for token in dict.fromkeys(tokens(query)))
        if not words:
            return []
        ask = "SELECT id FROM passages WHERE words MATCH ? AND language = ? ORDER BY bm25(passages), id LIMIT ?"
        with self._lock:
            found = self._base.execute(ask, (words, language, most)).fetchall()
        return [self.passages[name] for (name,) in found]

    def about(self, findings: Sequence[Finding], language: Language, most: int = 3) -> list[Passage]:
        """Passages on the findings of a study: those written for their kinds, and a site's best for each kind."""
        kinds = dict.fromkeys(f.kind for f in findings if f.status != "absent")
        chosen = [p for p in self.passages.values() if p.language == language and set(p.kinds) & kinds.keys()]
        for kind in kinds:
            names = " ".join(ontology.findings()[kind].names[language][:2])
            chosen += [p for p in self.search(names, language, most) if not p.kinds]
        return list(dict.fromkeys(chosen))

    def __add__(self, other: Library) -> Library:
        return Library([*self.passages.values(), *other.passages.values()])


def tokens(text: str) -> list[str]:
    """Word stems of English, pairs of neighbours (or the single character) of Chinese."""
    found = []
    for run in _WORD.findall(normalise(text).lower()):
        if run[0] < "\u4e00":
            found.append(_stemmer().stemWord(run))
        else:
            found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
    return found


@cache
def _stemmer():  # type: ignore[no-untyped-def]
    import snowballstemmer

    return snowballstemmer.stemmer("english")


@cache
def shipped() -> Library:
    """The knowledge base that comes with ctscribe: its own words, with the reference each passage follows."""
    passages = []
    for file in ("findings.yaml",):
        table = yaml.safe_load((files(__package__) / "knowledge" / file).read_text(encoding="utf-8"))
        for name, entry in table["passages"].items():
            sources = "; ".join(table["references"][key] for key in entry["after"])
            for language in LANGUAGES:
                identity = f"kb:{name}:{language}"
                passages.append(Passage(identity, entry[language], language, tuple(entry["kinds"]), sources))
    return Library(passages)


def documents(folder: Path) -> Library:
    """A site's own documents: Markdown, text and PDF (extra ``documents``), cut at headings and blank lines.

    Raises:
        UnreadableInput: no document there, or one that cannot be read.
        DependencyMissing: a PDF, and ``pypdf`` is not installed.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not paths:
        raise UnreadableInput(
            f"no documents in {folder.name}", code="no_documents", expected=f"files ending in {', '.join(ENDINGS)}"
        )
    return Library(p for path in paths for p in _passages(path, path.relative_to(folder).as_posix()))


def _passages(path: Path, name: str) -> Iterable[Passage]:
    heading, count = "", 0
    for block in re.split(r"\n\s*\n|(?=^#+ )", _text(path), flags=re.MULTILINE):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("#"):
            heading, count, lines = lines[0].strip("# ").strip(), 0, lines[1:]
        body = " ".join(line.strip() for line in lines)
        for start in range(0, len(body), LONGEST):
            count += 1
            identity = f"site:{name}#{heading or 'top'}/{count}"
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
