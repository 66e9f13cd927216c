"""Which words mean the same: synonyms from the files of a WordNet installation.

Reads the database files of WordNet 3.0 as they are (``index.noun``, ``data.noun``, ``noun.exc``, ... in one folder;
Debian's `wordnet-base` puts them into ``/usr/share/wordnet``). Nothing of WordNet comes with this package. Formats:
wndb(5WN) and the detachment rules of morphy(7WN); Fellbaum, "WordNet", MIT Press 1998.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ctscribe.errors import UnreadableInput

_PARTS = ("noun", "verb", "adj", "adv")

# Endings taken off (and put on) to reach a form that is in the database.
_ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}


class WordNet:
    """Synonyms by word.

    Args:
        folder: where the database files are.

    Raises:
        UnreadableInput: files are missing or not in WordNet's format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._index = {part: _read_index(folder / f"index.{part}") for part in _PARTS}
            self._irregular = {part: _read_exceptions(folder / f"{part}.exc") for part in _PARTS}
            self._data = {part: (folder / f"data.{part}").read_bytes() for part in _PARTS}
        except (OSError, ValueError, IndexError) as error:
            raise UnreadableInput(
                f"{folder}: WordNet",
                code="bad_wordnet",
                expected="index.*, data.* and *.exc for noun, verb, adj and adv, as in Debian's wordnet-base",
                got=str(error),
                hint="apt-get install wordnet-base and give /usr/share/wordnet",
            ) from error
        self._known: dict[str, frozenset[str]] = {}

    def synonyms(self, word: str) -> frozenset[str]:
        """All single words of all synsets of a lower-case word, itself among them."""
        if word not in self._known:
            self._known[word] = self._look_up(word)
        return self._known[word]

    def _look_up(self, word: str) -> frozenset[str]:
        found = {word}
        for part in _PARTS:
            for form in self._base_forms(word, part):
                for offset in self._index[part].get(form, ()):
                    found.update(self._words(part, offset))
        return frozenset(found)

    def _base_forms(self, word: str, part: str) -> tuple[str, ...]:
        irregular = self._irregular[part].get(word)
        forms = irregular or tuple(
            word[: len(word) - len(old)] + new for old, new in _ENDINGS[part] if word.endswith(old)
        )
        return tuple(form for form in dict.fromkeys((word, *forms)) if form in self._index[part])

    def _words(self, part: str, offset: int) -> list[str]:
        """The words of one synset, spelt as there; phrases are left out."""
        data = self._data[part]
        fields = data[offset : data.index(b"\n", offset)].decode("latin-1").split(" ")
        words = (fields[4 + 2 * i] for i in range(int(fields[3], 16)))
        plain = (word.partition("(")[0] for word in words)  # "last(a)": may stand before a noun only
        return [word for word in plain if "_" not in word]


@cache
def wordnet(folder: Path) -> WordNet:
    """The WordNet of a folder, read once a process."""
    return WordNet(folder)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="latin-1").splitlines()


def _read_index(path: Path) -> dict[str, tuple[int, ...]]:
    """Word -> byte offsets of its synsets; the licence at the top is indented."""
    index = {}
    for line in _lines(path):
        if not line.startswith(" "):
            fields = line.split()
            index[fields[0]] = tuple(map(int, fields[-int(fields[2]) :]))
    return index


def _read_exceptions(path: Path) -> dict[str, tuple[str, ...]]:
    return {fields[0]: tuple(fields[1:]) for line in _lines(path) if (fields := line.split())}
