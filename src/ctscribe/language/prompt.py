"""Tokens and prompts: how a request for a report looks to the language model.

```
 from scratch   <bos> <en>                                      report <eos>     a bilingual tokenizer of our own
 pretrained     its chat template around an instruction         report <eos>     the decoder's own tokenizer
```

The language marker is the whole prompt of the small model trained from scratch. A pretrained decoder is asked in plain
words, so prompts of different languages differ in length: `batch_prompts` pads them on the left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from ctscribe.errors import CheckpointError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<en>", "<zh>")
FILE, REQUESTS = "tokenizer.json", "prompts.json"
INSTRUCTIONS = {"en": "Write the findings of this chest CT in English.", "zh": "用中文写出这次胸部CT的所见。"}


@dataclass(frozen=True)
class Requests:
    """What a foreign tokenizer calls things: ids of padding, beginning and end, and a prompt for each language."""

    pad: int
    bos: int
    eos: int
    prompts: Mapping[str, Sequence[int]]


class ReportTokenizer:
    """A byte-level BPE of our own, or a pretrained decoder's tokenizer with its `Requests`."""

    def __init__(self, tokenizer: Tokenizer, requests: Requests | None = None) -> None:
        self._tokenizer, self.requests = tokenizer, requests
        if requests is None:
            self.pad, self.bos, self.eos = (self.special(token) for token in SPECIAL[:3])
        else:
            self.pad, self.bos, self.eos = requests.pad, requests.bos, requests.eos

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
        """Read what `save` wrote.

        Raises:
            CheckpointError: the requests beside the tokenizer cannot be read.
        """
        path, requests = folder / REQUESTS, None
        if path.is_file():
            try:
                requests = Requests(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise CheckpointError(
                    f"{path}: cannot be read ({error})", hint="copy the model folder again"
                ) from error
        return cls(Tokenizer.from_file(str(folder / FILE)), requests)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, and ``prompts.json`` for a tokenizer that was not made here."""
        self._tokenizer.save(str(folder / FILE))
        if self.requests is not None:
            (folder / REQUESTS).write_text(json.dumps(asdict(self.requests)) + "\n", encoding="utf-8")

    def to_json(self) -> str:
        """The tokenizer as `tokenizers` writes it."""
        return self._tokenizer.to_str()

    def description(self) -> dict[str, Any]:
        """The same as plain containers."""
        return json.loads(self.to_json())

    def spelling(self) -> list[str]:
        """What stands for each id in the vocabulary, in order; an id that none has is an empty text."""
        listed = [""] * (max(self._tokenizer.get_vocab().values()) + 1)
        for text, number in self._tokenizer.get_vocab().items():
            listed[number] = text
        return listed

    def encode(self, text: str) -> list[int]:
        """Ids of a text, no markers added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text before the first end."""
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
        if self.requests is not None:
            return list(self.requests.prompts[language])
        return [self.bos, self.special(f"<{language}>")]

    def batch_prompts(self, languages: Sequence[str]) -> tuple[Int[Tensor, "b l"], Int[Tensor, "b l"]]:
        """Prompts of several studies and which of their ids are real; shorter ones are padded on the left."""
        prompts = [self.prompt(language) for language in languages]
        longest = max(map(len, prompts))
        ids = torch.tensor([[self.pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        return ids, real

    def example(self, text: str, language: str, longest: int) -> tuple[list[int], list[int]]:
        """(input ids, labels): the prompt is context (-100), the report and its end are to be predicted."""
        prompt = self.prompt(language)
        body = [*self.encode(text), self.eos]
        ids = (prompt + body)[:longest]
        labels = ([-100] * len(prompt) + body)[:longest]
        return ids, labels
