"""Decoding that can only write sentences of the ontology: a logits processor over `sentences.CanonicalText`.

```
 place in the text ─► bytes that may come next ─┐
 vocabulary, sorted by the bytes of its tokens ─┴─► tokens that may come next ─► all others to minus infinity
```

Any tokenizer will do whose tokens stand for bytes (Llama 3, Qwen, SmolLM, our own) or for pieces of text with a mark
for the space (Llama 2, Mistral, T5): sentences need not begin or end with a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctscribe.errors import UsageError
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.language.sentences import CanonicalText, Place, SortedBytes, canonical_text

SPACE = "\u2581"
"""What SentencePiece tokenizers write for a space."""
REMEMBERED = 20_000
"""Places whose tokens are kept."""


def token_bytes(tokenizer: ReportTokenizer) -> list[bytes]:
    """What each id writes, in order; nothing for markers and for ids that no token has."""
    table = tokenizer.description()
    markers = {entry["id"] for entry in table["added_tokens"]}
    by_bytes = "ByteLevel" in str(table["decoder"])
    spelled = tokenizer.spelling()
    return [b"" if i in markers else _written(text, by_bytes) for i, text in enumerate(spelled)]


def _written(text: str, by_bytes: bool) -> bytes:
    """The bytes that a token's spelling in the vocabulary stands for."""
    if by_bytes:
        table = _byte_letters()
        return bytes(table[letter] for letter in text) if all(letter in table for letter in text) else b""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace(SPACE, " ").encode()


@lru_cache(maxsize=1)
def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level vocabularies write bytes: printable ones themselves, the others from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Vocabulary:
    """The tokens of a tokenizer, to be asked which of them may come next at a place of a text."""

    def __init__(self, tokenizer: ReportTokenizer) -> None:
        self.bytes = token_bytes(tokenizer)
        ids = sorted((i for i, text in enumerate(self.bytes) if text), key=lambda i: self.bytes[i])
        self._ids, self._sorted = ids, SortedBytes([self.bytes[i] for i in ids])
        self.eos = tokenizer.eos
        self.next = lru_cache(maxsize=REMEMBERED)(self._next)

    def _next(self, text: CanonicalText, place: Place) -> tuple[int, ...]:
        """Tokens that may come next.

        Raises:
            UsageError: a text must go on here and no token of this tokenizer does.
        """
        found = [self.eos] if text.may_end(place) else []
        self._collect(text, place, 0, len(self._ids), 0, found)
        if not found:
            raise UsageError("the tokenizer cannot spell the sentences of the ontology", hint="write in free wording")
        return tuple(found)

    def _collect(self, text: CanonicalText, place: Place, low: int, high: int, depth: int, found: list[int]) -> None:
        while low < high and len(self._sorted.texts[low]) == depth:
            found.append(self._ids[low])
            low += 1
        if low == high:
            return
        for byte, after in text.following(place):
            first, last = self._sorted.narrow(low, high, depth, byte)
            if first < last:
                self._collect(text, after, first, last, depth + 1, found)

    def advance(self, text: CanonicalText, place: Place, token: int) -> Place | None:
        """The place after a token, None when the text does not go on with it."""
        here: Place | None = place
        for byte in self.bytes[token]:
            here = None if here is None else text.step(here, byte)
        return here


class OnlyFindings:
    """A logits processor: each row goes on with its language's sentences, or ends after one.

    Args:
        vocabulary: of the tokenizer that decodes.
        languages: of the studies; rows of several beams follow each other.
        prompt: tokens before the text in every row.
    """

    def __init__(self, vocabulary: Vocabulary, languages: Sequence[str], prompt: int) -> None:
        self.vocabulary, self.languages, self.prompt = vocabulary, languages, prompt
        self._places: dict[tuple[int, tuple[int, ...]], Place | None] = {}

    def __call__(self, input_ids: Int[Tensor, "n t"], scores: Float[Tensor, "n v"]) -> Float[Tensor, "n v"]:
        beams = len(input_ids) // len(self.languages)
        kept = torch.full_like(scores, -torch.inf)
        for row, written in enumerate(input_ids[:, self.prompt :].tolist()):
            study = row // beams
            text = canonical_text(self.languages[study])
            place = self._place(study, text, tuple(written))
            # A row that has ended is filled up by its caller; whatever it says here is not used.
            allowed = [self.vocabulary.eos] if place is None else list(self.vocabulary.next(text, place))
            kept[row, allowed] = scores[row, allowed]
        return kept

    def _place(self, study: int, text: CanonicalText, written: tuple[int, ...]) -> Place | None:
        """Where a row has come to; the place before its last token is remembered, unless it was cut off."""
        key = (study, written)
        if key not in self._places:
            before = text.start if not written else self._place(study, text, written[:-1])
            ended = bool(written) and (before is None or written[-1] == self.vocabulary.eos)
            self._places[key] = (
                None if ended else before if not written or before is None
                else self.vocabulary.advance(text, before, written[-1])
            )  # fmt: skip
        return self._places[key]


def complete_sentences(text: str) -> str:
    """A text without the sentence that the limit of tokens cut off."""
    return text[: max(text.rfind("."), text.rfind("。")) + 1]
