"""Headings: what the sentences below them speak of, and which sections state no findings.

"LUNGS: ..." says where to look; under "PLEURA:" a bare "effusion" is pleural; what stands under "INDICATION:" was
asked, not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ctscribe.ontology import Language
from ctscribe.report.parse.lexicon import Lexicon, lexicon
from ctscribe.report.parse.text import split_sentences


@dataclass(frozen=True)
class Piece:
    """One sentence with what the heading above it says.

    Attributes:
        sentence: normalised, in lower case, without its heading.
        topic: names of topics joined by "+", in the order of the reading table; "" for none.
        section: ``"findings"`` or ``"impression"``.
    """

    sentence: str
    topic: str
    section: str


def pieces(text: str, language: Language) -> Iterator[Piece]:
    """Sentences that state findings, each with its topic; those of a history, a technique and the like are left out.

    Where no other heading follows, such a section is one sentence long, but recommendations go on.
    """
    words = lexicon(language)
    headed = [_unheaded(sentence, language) for sentence in split_sentences(text, language)]
    speaking = [n for n, (named, _) in enumerate(headed) if named and "silent" not in named]
    above, topic, section, silent, advice = "", "", "findings", False, False
    for n, (named, sentence) in enumerate(headed):
        if named:
            silent, advice = "silent" in named, "advice" in named
            section = next((name for name in ("impression", "findings") if name in named), section)
            above, topic = _below(above, [name for name in named if name in words.topics], words)
        elif topic != above and words.cues["other_heading"].match(sentence):
            topic = above
        if sentence and not silent:
            yield Piece(sentence, topic, section)
        silent = silent and (advice or not sentence or (bool(speaking) and n < speaking[-1]))


def _below(above: str, names: list[str], words: Lexicon) -> tuple[str, str]:
    """(topics of the heading above, of a heading below it): a lobe below "NODULES" is where a nodule lies."""
    if not names or not all(words.topics[name].place for name in names):
        return "+".join(names), "+".join(names)
    whole = all(words.topics[name].part for name in names)
    kept = [name for name in above.split("+") if name and (whole or words.topics[name].listed)]
    return above if kept else "", "+".join(dict.fromkeys([*kept, *names]))


@lru_cache(maxsize=65536)
def _unheaded(sentence: str, language: Language) -> tuple[tuple[str, ...], str]:
    """(topics its headings name, the sentence without them in lower case); a heading of none of them names "other".

    Without a colon it is a heading only in capitals: "LYMPH NODES" is one, "Mediastinal lymph nodes" is a finding.
    """
    words = lexicon(language)
    named: list[str] = []
    shouted, sentence = sentence.upper() == sentence, sentence.lower()
    if not shouted and ":" not in sentence:
        heading = words.cues["dictated"].match(sentence)
        return (tuple(topics_of(heading.group(), words)), sentence[heading.end() :]) if heading else ((), sentence)
    if words.cues["anaphora"].match(sentence) or words.cues["valued"].match(sentence):
        return (), sentence
    while (heading := words.cues["headings"].match(sentence)) and (shouted or ":" in heading.group()):
        named = topics_of(heading.group(), words) or ["other"]
        if words.cues["kept"].match(sentence):
            break
        sentence = sentence[heading.end() :]
    return tuple(named), sentence


def topics_of(heading: str, words: Lexicon) -> list[str]:
    """Topics a heading names, in the order of the table."""
    return [name for name, regex in words.headed.items() if regex.search(heading)]
