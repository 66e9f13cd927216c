"""Teaches an impression head: new layers on a report writer learn to write the impression from the findings' facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ctscribe import checkpoint, ontology
from ctscribe import config as cfg
from ctscribe.data.batch import pad_examples
from ctscribe.facts import facts_of
from ctscribe.language.head import HeadConfig, head_params, with_head
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import ModelOutputs
from ctscribe.training.course import load_weights
from ctscribe.training.impression_pairs import Pair, Pairs, check_course, head_target, teach
from ctscribe.training.order import Samples
from ctscribe.training.stages import TrainConfig
from ctscribe.training.wording import TextBatch


@dataclass(frozen=True)
class HeadCourse:
    """Everything that decides an impression head.

    Attributes:
        recipe: the recipe it came from.
        name: of the head, as impressions name their writer.
        base: model folder whose report writer it is put on; empty for the bundled one.
        head: the new layers.
        train: stages and optimisation.
        languages: of the impressions, in turn.
        variety: share of impressions in free wording; the canonical one, which the report writer knows, is learned
            sooner.
        comments: it also writes what to consider about a finding; these words are new to the report writer and take
            much longer to learn. Without them they come from the rules, as follow-up does.
        longest: tokens after which an impression to learn from is cut.
    """

    recipe: str
    name: str
    head: HeadConfig
    train: TrainConfig
    base: str = ""
    languages: tuple[ontology.Language, ...] = ontology.LANGUAGES
    variety: float = 0.0
    comments: bool = False
    longest: int = 400

    def __post_init__(self) -> None:
        check_course(self)


class HeadLearner(nn.Module):
    """A writer with a head, as the training loop calls it."""

    def __init__(self, writer: nn.Module, layers: int) -> None:
        super().__init__()
        self.writer, self.layers = writer, layers

    def fixed_params(self) -> list[str]:
        """Everything but the new layers."""
        new = {f"writer.{name}" for name in head_params(self.writer, self.layers)}  # type: ignore[arg-type]
        return [name for name, _ in self.named_parameters() if name not in new]

    def forward(self, batch: TextBatch, *, wants: frozenset[str] = frozenset()) -> ModelOutputs:
        return ModelOutputs(text_logits=self.writer(batch.facts, batch.input_ids, batch.attention))


def run(config: HeadCourse, run_dir: Path | str, pairs: Samples | None = None) -> Path:
    """Train it; returns the folder of the head. May be stopped and started again.

    Args:
        config: what is trained.
        run_dir: made if needed.
        pairs: items of type `Pair` to learn from; None for synthetic ones (`Pairs`).
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    cfg.save_resolved(config, folder / "recipe.yaml")
    base = checkpoint.load(config.base or None)
    torch.manual_seed(config.train.seed)
    learner = HeadLearner(with_head(base.model.language, config.head), config.head.layers)
    pairs = pairs or Pairs(config.train.seed + 1, config.languages, config.variety)
    collate = collate_pairs(base.model.language.tokenizer, config.longest, config.comments)
    result = teach(learner, config.train, pairs, collate, folder)
    load_weights(learner, result.averaged or result.weights)
    card = checkpoint.HeadCard(config.name, config.languages, config.head, base.info.name, base.info.checkpoint_hash)
    return checkpoint.save_head(folder / "head", learner.writer, card, config.base)  # type: ignore[arg-type]


def collate_pairs(
    tokenizer: ReportTokenizer, longest: int, comments: bool = False
) -> Callable[[list[Pair]], TextBatch]:
    """Pairs -> facts, and the impressions of them."""

    def collate(pairs: list[Pair]) -> TextBatch:
        examples = [tokenizer.example(head_target(pair, comments), pair.language, longest) for pair in pairs]
        padded: Any = pad_examples(examples, tokenizer.pad)
        return TextBatch(facts_of([pair.findings for pair in pairs]), *padded)

    return collate
