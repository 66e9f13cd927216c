"""Raw report text -> normalised sentences, in English and Chinese."""

from __future__ import annotations

import re
import unicodedata

from ctscribe.ontology import Language

_HAN = re.compile(r"[\u4e00-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
_PLAIN = str.maketrans(
    dict.fromkeys("‐‑‒–—―−", "-") | dict.fromkeys("‘’´`", "'") | dict.fromkeys("×✕", "x") | dict.fromkeys("[]", " ")
)
# A line that goes on in small letters was only wrapped, not ended.
_WRAPPED = re.compile(r"(?<=[A-Za-z,0-9)])[ \t]*\n[ \t]*(?=[a-z(])(?![a-z]\))")
_WRAPPED_SMALL = re.compile(
    _WRAPPED.pattern + r"(?!(?:lungs?|pleura|mediastinum|heart|bones?|airways?|aorta|vessels|abdomen|impression)\b)"
)
# What announces a list of things that are named again, not of their places and sizes alone.
_ANNOUNCED = re.compile(r" as follows: (?=[^.\n]{0,60}(?:nodul|node|mass|lesion))")
_SPACES = re.compile(r"[ \t\u00a0\u3000]{2,}|[\t\u00a0\u3000]")
_ZH_UNITS = (
    (re.compile(r"毫米"), "mm"),
    (re.compile(r"厘米|公分"), "cm"),
    (re.compile(r"(?<=\d)\s*[*X]\s*(?=\d)"), "x"),
    (re.compile(r"(?<=\d)\s*乘\s*(?=\d)"), "x"),
)
_EN_SPLIT = re.compile(
    r"""(?=[.!\n"•;·?*\-\d])(?:  # one of these begins every end: the rest is tried only there
      \.(?=\s|$|["•])(?<!\d\.)      # a full stop that is no decimal point
      (?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bapprox\.)(?<!\bser\.)(?<!\bim\.)(?<!\bimg\.)  # ... and ends a word
    | (?<=\d)\.(?=\s+[A-Z"•]|\s*$)  # ... or that ends a sentence after a number
    | [!\n"•]|;(?![^()\n]*\))|(?<=\s)·(?=\s)      # bullets and CT-RATE's quote marks
    | \?(?=\s+[A-Z])                # a question outside brackets
    | (?:^|(?<=\s))[-*]\s(?=[A-Z])  # dashes as list marks
    | (?:^|(?<=\s))\d{1,2}[.)]\s(?=[A-Z])  # numbered lists
    )""",
    re.VERBOSE,
)
_ZH_SPLIT = re.compile(r"[。;!\n•]|(?<![\dA-Za-z])\.(?!\d)|(?:^|(?<=[。;\s]))\d{1,2}[.、)](?=\D)")


def detect_language(text: str) -> Language:
    """Chinese when at least a fifth of the letters are Han characters."""
    han = 0 if text.isascii() else len(_HAN.findall(text))
    return "zh" if han and han >= 0.2 * (han + len(_LATIN.findall(text))) else "en"


def normalise(text: str) -> str:
    """Half-width forms, plain quotes and dashes, ``x`` between axes, single spaces."""
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    for curly in "“”„«»″":
        plain = plain.replace(curly, '"')
    return _SPACES.sub(" ", plain.replace("\r", "\n"))


def split_sentences(text: str, language: Language) -> list[str]:
    """Sentences as written (normalised), without their full stops and bullets."""
    plain = normalise(text)
    if language == "zh":
        for pattern, unit in _ZH_UNITS:
            plain = pattern.sub(unit, plain)
        pieces = _ZH_SPLIT.split(plain)
    else:
        wrapped = _WRAPPED_SMALL if plain.islower() else _WRAPPED
        plain = wrapped.sub(" ", plain) if "\n" in plain else plain
        if " as follows: " in plain:
            plain = _ANNOUNCED.sub(" as follows:\n", plain)
        pieces = _EN_SPLIT.split(plain)
    return [piece.strip() for piece in pieces if piece and piece.strip()]


def sentences(text: str, language: Language) -> list[str]:
    """Sentences as the parser reads them: `split_sentences` in lower case."""
    return [piece.lower() for piece in split_sentences(text, language)]
