"""A learned mapping of scales to layers needs a loss that keeps it balanced, and a table that tells what it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ctscribe.data.batch import Collate
from ctscribe.data.store import StudyStore
from ctscribe.training.stages import Stage, matches

BALANCE = 0.01
"""Weight of the loss ``routing`` where a recipe names none: the one of Fedus et al. (2021)."""
SCALES = ("fine", "mid", "coarse")
_ROUTER = "vision.routers.0.0.score.weight"
"""A parameter that every routed encoder has."""


def with_balance(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages with the loss ``routing`` added wherever routers learn from scans and it was not named.

    A stage that names it keeps its weight; 0 leaves the balance out and logs it.
    """
    return tuple(
        replace(stage, losses={**stage.losses, "routing": BALANCE}) if _needs_balance(stage) else stage
        for stage in stages
    )


def _needs_balance(stage: Stage) -> bool:
    learns = matches(_ROUTER, stage.trainable) and not matches(_ROUTER, stage.frozen)
    return learns and stage.data != "text" and "routing" not in stage.losses


@torch.no_grad()
def learned_map(model: nn.Module, studies: StudyStore, most: int = 16) -> list[dict[str, Any]]:
    """How much each layer listens to each scale, mean over tokens and studies: one row a layer."""
    collate, shares = Collate(None), []
    model.eval()
    for index in range(min(most, len(studies))):
        routing = model(collate([studies[index]]), wants=frozenset()).visual.routing
        shares.append(routing.shares.float().mean(0))
    mean = torch.stack(shares).mean(0).tolist()
    return [
        {"layer": layer, **{scale: round(share, 4) for scale, share in zip(SCALES, row, strict=True)}}
        for layer, row in enumerate(mean, start=1)
    ]


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """The learned map as Markdown, for the model card."""
    head = f"| layer | {' | '.join(SCALES)} |\n| --- |{' ---: |' * len(SCALES)}\n"
    return head + "\n".join(f"| {row['layer']} | " + " | ".join(f"{row[s]:.2f}" for s in SCALES) + " |" for row in rows)
