"""Text to tokens: the convention every n-gram metric depends on, one per language.

English (`ptb`): lower case, Penn-Treebank tokens, punctuation dropped, as the COCO caption evaluation does
with Stanford's PTBTokenizer, which needs Java. Written here from that tokeniser's behaviour; on 800 real CT
reports `benchmarks/evaluation.py` prints how many come out identical. Its oddities are kept on purpose
because published scores have them: round brackets stay as the tokens "-lrb-" and "-rrb-", "12x9.3" is "12x9"
and ".3", and "CT." keeps its full stop.

Chinese (`characters`): NFKC (full-width forms and units such as one-glyph "mm" unfold), lower case, the
Chinese names of millimetre and centimetre written "mm" and "cm", then every Chinese character is a token and
so is every run of Latin letters and every number; white space and punctuation are dropped. No dictionary
decides where words end, so the score depends on nobody's segmenter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from sys import intern

from ctscribe.ontology import Language

CONVENTIONS: Mapping[Language, str] = {"en": "ptb", "zh": "characters"}

_DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))

_RENAMED = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_ENGLISH = re.compile(
    r"""
      [+-]?\d*(?:[.,:]\d+)+                             # 12.5   .5   2,3,4
    | \d+/\d+(?:/\d+)*                                  # 1/3    05/10/2015
    | [^\W_]+(?:[.?/+][^\W\d_]+)+(?![\w-])              # pet/ct, and sentences run together without a space
    | can(?=not\b) | (?<=can)not\b                      # "cannot" is two words
    | \w+(?=n't\b) | n't\b | '(?:s|ll|re|ve|d|m)\b      # clitics
    | ct\. | e\.g\. | i\.e\.                            # read as abbreviations
    | \w+(?:-\w+)*
    | [+-]\d+
    | \.\.+ | --+ | \?\?+ | !!+
    | [^\s]
    """,
    re.VERBOSE,
)

# Quotation marks and dashes in their typographic forms; PTB writes them as ASCII and the convention drops
# those.
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": None, "”": None, '"': None, "–": " ", "—": " ", "…": " "})

_CHINESE_UNITS = (("毫米", "mm"), ("厘米", "cm"), ("公分", "cm"))
_CHINESE = re.compile(r"\d+(?:\.\d+)?|[a-z]+|[^\W\d_a-z]")


def english_tokens(text: str) -> tuple[str, ...]:
    """Penn-Treebank tokens in lower case without punctuation."""
    words = (m.group() for m in _ENGLISH.finditer(text.lower().translate(_QUOTES)))
    return tuple(_RENAMED.get(word, word) for word in words if word not in _DROPPED and not word.startswith(".."))


def chinese_tokens(text: str) -> tuple[str, ...]:
    """Characters, Latin words and numbers."""
    text = unicodedata.normalize("NFKC", text).lower()
    for unit, symbol in _CHINESE_UNITS:
        text = text.replace(unit, symbol)
    return tuple(_CHINESE.findall(text))


def tokenise(text: str, language: Language) -> tuple[str, ...]:
    """Tokens of a report under its language's convention; () when it holds nothing but punctuation."""
    tokens = english_tokens(text) if language == "en" else chinese_tokens(text)
    return tuple(map(intern, tokens))  # a vocabulary is small, a corpus is not: one copy of each word
