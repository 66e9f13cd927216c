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

Chinese by words (`jieba`), for comparison with papers that segment: the same levelling, then the accurate mode of
`jieba` with its own dictionary (an optional extra). It splits rare terms as it pleases, and one pair scores about half
as much as by characters: never compare across conventions.

Tools made for English silently give Chinese a score of about zero, because they see no word in it or one word per
clause. Here a text is refused when it is not written in the script of its language.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping
from functools import cache, lru_cache
from sys import intern
from typing import Any, Literal

from ctscribe.errors import DependencyMissing, InputRefused
from ctscribe.ontology import Language

CONVENTIONS: Mapping[Language, str] = {"en": "ptb", "zh": "characters"}

Segmentation = Literal["standard", "words"]

_DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))

_RENAMED = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

# Words whose full stop belongs to them: always, before a number, and with a capital (Massachusetts, not a mass).
_ABBREVIATED = (
    "vs|dr|mr|mrs|ms|prof|etc|al|cf|st|mt|dept|ft|est|ext|sr|jr|co|inc|corp|ltd|ave|gen|col|rev|rep|pres|ph[.]d|"
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tue|wed|thu|fri|ct|ga|va|md|ky|mo|conn|mich|kan|mont|tel"
)
_NUMBERED = frozenset(("no.", "nos.", "fig.", "figs.", "ca.", "pp.", "op.", "art.", "seq."))
_CAPITAL = "LA|La|PA|Pa|MASS|Mass|MISS|Miss|IND|Ind|ILL|Ill|DEL|Del|ORE|Ore"

_ENGLISH = re.compile(
    rf"""
      \d+(?:[.,]\d+)+(?:-\w+)+                          # 3.5-4 of the range 3.5-4.0
    | [+-]?\d*(?:[.,:]\d+)+                             # 12.5   .5   2,3,4
    | [^\W_]+(?:/[^\W_]+)+(?![\w-])                     # 1/3    05/10/2015    t11/t12
    | \d+/\d+(?:/\d+)*
    | [^\W\d_]+(?:[-/][^\W\d_]+)+(?![\w-])             # ground-glass/consolidation
    | \b(?:(?:[^\W\d_][.]){{2,}}|[^\W\d_][.](?!\w))     # e.g.   i.v.   initials
    | \b(?:{_ABBREVIATED})[.](?!\w)                     # vs.    ct.
    | \b(?-i:{_CAPITAL})[.](?!\w)
    | [^\W_]+(?:[.?/+][^\W\d_]+)+(?![\w-])              # pet/ct, and sentences run together without a space
    | can(?=not\b) | (?<=can)not\b                      # "cannot" is two words
    | \w+(?=n't\b) | n't\b | '(?:s|ll|re|ve|d|m)\b      # clitics
    | \w+(?:-\w+)*
    | [+-]\d+
    | \.\.+ | --+ | \?\?+ | !!+
    | [^\s]
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Quotation marks and dashes in their typographic forms; PTB writes them as ASCII and the convention drops
# those.
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": None, "”": None, '"': None, "–": " ", "—": " ", "…": " "})

_CHINESE_UNITS = (("毫米", "mm"), ("厘米", "cm"), ("公分", "cm"))
_CHINESE = re.compile(r"\d+(?:\.\d+)?|[a-z]+|[^\W\d_a-z]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")


def english_tokens(text: str) -> tuple[str, ...]:
    """Penn-Treebank tokens in lower case without punctuation."""
    tokens: list[str] = []
    chunks = text.translate(_QUOTES).split()
    for place, chunk in enumerate(chunks):
        if chunk[-1] == "." and chunk.lower() in _NUMBERED and "".join(chunks[place + 1 : place + 2])[:1].isdigit():
            tokens.append(chunk.lower())
        else:
            tokens += _chunk_tokens(chunk)
    return tuple(tokens)


@lru_cache(maxsize=1 << 16)
def _chunk_tokens(chunk: str) -> tuple[str, ...]:
    """Tokens of what stands between two white spaces: reports repeat it."""
    words = (m.group().lower() for m in _ENGLISH.finditer(chunk))
    return tuple(
        intern(_RENAMED.get(word, word)) for word in words if word not in _DROPPED and not word.startswith("..")
    )


def _levelled(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower()
    for unit, symbol in _CHINESE_UNITS:
        text = text.replace(unit, symbol)
    return text


def chinese_tokens(text: str) -> tuple[str, ...]:
    """Characters, Latin words and numbers."""
    return tuple(_CHINESE.findall(_levelled(text)))


def chinese_words(text: str) -> tuple[str, ...]:
    """Words as `jieba` cuts them, without punctuation.

    Raises:
        DependencyMissing: `jieba` is not installed.
    """
    cut = _jieba().lcut(_levelled(text))
    return tuple(word for word in map(str.strip, cut) if _CHINESE.search(word))


@cache
def _jieba() -> Any:
    from importlib import import_module

    try:
        with warnings.catch_warnings():  # its sources predate today's rules on escapes
            warnings.simplefilter("ignore")
            module = import_module("jieba")
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            "Chinese by words", expected="the package jieba", got="not installed", hint="pip install 'ctscribe[zh]'"
        ) from error
    module.setLogLevel("ERROR")
    return module.Tokenizer()


def tokenise(text: str, language: Language, segmentation: Segmentation = "standard") -> tuple[str, ...]:
    """Tokens of a report under its language's convention; () when it holds nothing but punctuation.

    Args:
        segmentation: ``"words"`` cuts Chinese into words; English is by words already.

    Raises:
        InputRefused: a text in Chinese characters called English.
        DependencyMissing: words are asked for and `jieba` is not installed.
    """
    if language == "en":
        _refuse_chinese(text)
        return english_tokens(text)
    tokens = chinese_tokens(text) if segmentation == "standard" else chinese_words(text)
    return tuple(map(intern, tokens))  # a vocabulary is small, a corpus is not: one copy of each word


def _refuse_chinese(text: str) -> None:
    """English rules see one word in a Chinese clause: scores would be zero without a word of warning."""
    if not text.isascii() and 2 * len(_HAN.findall(text)) > len(_LETTER.findall(text)):
        raise InputRefused(
            "tokens of a report",
            code="mixed_languages",
            expected="English text",
            got="mostly Chinese characters",
            hint='state its language: "zh"',
        )
