"""Pairs of findings and impressions to learn from: plausible findings, a random patient, and what the rules write.

With `variety` the wording of the findings is another each time, so that it is learned what may be said, not one text
by heart. The same pair teaches both kinds of writers: one that is given the guidelines' sentences and repeats them by
number (`tuned_target`), and one that sees findings only and leaves those sentences to the rules (`head_target`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ctscribe import ontology
from ctscribe.config import check_numbers
from ctscribe.errors import ConfigError
from ctscribe.facts import canonical
from ctscribe.impression import Context, Statement, lines, write
from ctscribe.impression.guard import Known
from ctscribe.report import Finding, sample_findings
from ctscribe.training.loop import TrainResult, train
from ctscribe.training.losses import standard_losses
from ctscribe.training.order import Samples, ordered_batches
from ctscribe.training.stages import TrainConfig

_OWN = ("finding", "normal")
_COMMENTS = ("differential", "significance")


@dataclass(frozen=True)
class Pair:
    """One study and what an impression of it may rest on.

    Attributes:
        known: findings, recommendations and the rules' sentences.
        language: of the impression.
        seed: of the findings' wording; None for the canonical one.
    """

    known: Known
    language: ontology.Language
    seed: int | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.known.findings


class Pairs:
    """An endless-looking data set; item i is a pure function of (seed, i).

    Args:
        seed: of everything.
        languages: in turn.
        variety: share of impressions in free wording; the others are in the canonical one.
        length: items of one epoch.
    """

    def __init__(
        self,
        seed: int,
        languages: tuple[ontology.Language, ...] = ontology.LANGUAGES,
        variety: float = 1.0,
        length: int = 1_000_000,
    ) -> None:
        self.seed, self.languages, self.variety, self.length = seed, languages, variety, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng([self.seed, index])
        busy = float(rng.choice([0.0, 2.0, 4.0, 6.0], p=[0.05, 0.35, 0.4, 0.2]))
        findings = canonical(sample_findings(rng, mean_present=busy, uncertain=0.1, fine_regions=0.0))
        language = self.languages[index % len(self.languages)]
        ruled = write(findings, language, context=patient(rng))
        known = Known(findings, ruled.recommendations, ruled.statements)
        return Pair(known, language, int(rng.integers(2**31)) if rng.random() < self.variety else None)

    def length_of(self, index: int) -> float:
        """Characters of the impression; a Chinese one has about a third as many for as many tokens."""
        pair = self[index]
        return len(head_target(pair)) * (3 if pair.language == "zh" else 1)


def check_course(course: Any) -> None:
    """What both impression courses want of their numbers.

    Raises:
        ConfigError: languages, variety or longest are not what they should be.
    """
    check_numbers(course, "", variety=(0, 1), longest=(2, math.inf))
    if not course.languages:
        raise ConfigError("languages", expected="en, zh or both", got="none")


def patient(rng: np.random.Generator) -> Context:
    """A random patient; every fact is known or not by chance."""

    def maybe(chance: float) -> bool | None:
        return None if rng.random() < 0.2 else bool(rng.random() < chance)

    return Context(
        age=None if rng.random() < 0.2 else int(rng.integers(25, 90)),
        smoker=maybe(0.5),
        family_history=maybe(0.1),
        exposure=maybe(0.1),
        cancer=maybe(0.1),
        immunosuppressed=maybe(0.1),
        screening=maybe(0.3),
    )


def tuned_target(pair: Pair) -> str:
    """Findings in other words, and the number of each given sentence where the rules have it."""
    numbers = {s: number for number, s in enumerate(lines.given(pair.known), start=1)}
    said = [f"[{numbers[s]}]" if s in numbers else _said(s, pair) for s in _told(pair)]
    return "\n".join(said)


def head_target(pair: Pair, comments: bool = False) -> str:
    """The findings that matter in their order, a line each; with comments also what to consider about them."""
    own = (*_OWN, *_COMMENTS) if comments else _OWN
    return "\n".join(_said(s, pair) for s in _told(pair) if s.role in own)


def _told(pair: Pair) -> Iterator[Statement]:
    """The rules' statements below the critical results, which are put on top of any writer's text."""
    return (s for s in pair.known.ruled if s.role != "critical")


def _said(statement: Statement, pair: Pair) -> str:
    if statement.role != "finding":
        return statement.text
    index = statement.findings[0]
    seed = None if pair.seed is None else pair.seed + index
    return lines.restated(pair.findings[index], pair.language, seed)


def teach(
    learner: nn.Module, config: TrainConfig, pairs: Samples, collate: Callable[[list[Pair]], Any], folder: Path
) -> TrainResult:
    """Train on pairs in an order that the seed and a stage's name decide."""
    return train(
        learner,
        config,
        lambda stage: ordered_batches(
            pairs, collate, batch_size=stage.batch_size, seed=(config.seed, stage.name), bucket=stage.bucket
        ),
        standard_losses(),
        folder,
    )
