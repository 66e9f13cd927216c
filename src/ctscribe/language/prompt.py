"""Tokens and prompts: how a request for a report looks to the language model.

``<bos> <en> report <eos>``: the language marker is the whole prompt of the small model trained from scratch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ctscribe.errors import CheckpointError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<en>", "<zh>")
FILE = "tokenizer.json"


class ReportTokenizer:
    """A bilingual byte-level BPE of our own, stored as a `tokenizers` JSON file."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pad, self.bos, self.eos = (self.special(token) for token in SPECIAL[:3])

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], vocab: int) -> ReportTokenizer:
        """Learn merges from report texts of both languages; digits stay single so that sizes can be spelled."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> ReportTokenizer:
        return cls(Tokenizer.from_file(str(folder / FILE)))

    def save(self, folder: Path) -> None:
        self._tokenizer.save(str(folder / FILE))

    def to_json(self) -> str:
        return self._tokenizer.to_str()

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        if self.eos in ids:
            ids = ids[: ids.index(self.eos)]
        return self._tokenizer.decode(ids, skip_special_tokens=True).strip()

    def special(self, token: str) -> int:
        """Id of one of the `SPECIAL` tokens."""
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer has no token {token}", expected=" ".join(SPECIAL))
        return found

    def prompt(self, language: str) -> list[int]:
        """Ids that ask for a report in a language."""
        return [self.bos, self.special(f"<{language}>")]

    def example(self, text: str, language: str, longest: int) -> tuple[list[int], list[int]]:
        """(input ids, labels): the prompt is context (-100), the report and its end are to be predicted."""
        prompt = self.prompt(language)
        body = [*self.encode(text), self.eos]
        ids = (prompt + body)[:longest]
        labels = ([-100] * len(prompt) + body)[:longest]
        return ids, labels
