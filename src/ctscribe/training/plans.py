"""The specification's training strategy as lists of stages, ready for a recipe.

```
 pretraining   masked ─► contrast ─► multitask          the encoder, from scans, from reports, from masks and findings
 stage-wise    connect ─► refine ─► gates               option 1: cross-attention; then the encoder's top; then gates
 end to end    everything                               option 2
```

Patterns hold for every backbone, scene and decoder; a recipe may `dataclasses.replace` what differs.
"""

from __future__ import annotations

from collections.abc import Mapping

from ctscribe.training.losses import SPEC_WEIGHTS
from ctscribe.training.stages import Stage

CROSS_ATTENTION = ("language.*.cross.*", "language.memory.*")
"""What lets the decoder look at the scan: its cross-attention, gates included, and the keys' way there."""
TOP_OF_ENCODER = ("vision.stages.2.*", "vision.norms.*")
"""The last third of the encoder's layers (9 to 12 of the reference's 12)."""
INSIDE_ENCODER = (
    "vision.tokenizer.stems.*.residuals.*",
    "vision.tokenizer.stems.*.convs.[1-9].*",
    "vision.merges.*",
    "vision.inject.*",
    "vision.stages.*",
)
"""Matrices between the first and the last layers of the pyramid with convolutional stems: Muon's."""
TEXT_SIDE = "contrast.text.blocks.*"
GATES = ("language.*.gate.scale",)
MULTITASK: Mapping[str, float] = {"masks": 1.0, "presence": 1.0, "dense": 1.0, "where": 0.5}
"""Segmentation of the regions and of the lesions, and classification of the findings; needs ``scene.masks`` with the
model's own segmentation (``own`` or ``given_or_own``)."""


def pretraining(
    masked: int,
    contrast: int,
    multitask: int,
    *,
    batch_size: int = 4,
    lr: float = 4e-4,
    form: str = "siglip",
    muon: tuple[str, ...] = (),
) -> tuple[Stage, ...]:
    """The encoder's three lessons; one of 0 steps is left out.

    Args:
        masked: steps of masked tubelet prediction.
        contrast: steps of CT-text contrast.
        multitask: steps of segmentation and classification.
        batch_size: studies in a forward pass; the contrast takes four times as many, for its negatives.
        lr: peak learning rate; AdamW alone wants no more than the default, with Muon 1.5e-3 is safe and much faster.
        form: ``siglip`` or ``clip``.
        muon: what Muon moves, such as `INSIDE_ENCODER`; the contrast's text side is then Muon's as well.
    """
    stages = (
        ("masked", masked, {"masked": 1.0}, ("vision.*", "masked.*"), batch_size, muon),
        ("contrast", contrast, {form: 1.0}, ("vision.*", "contrast.*"), 4 * batch_size, muon and (*muon, TEXT_SIDE)),
        ("multitask", multitask, dict(MULTITASK), ("vision.*", "scene.*"), batch_size, muon),
    )
    return tuple(
        Stage(name, steps, losses, trainable, lr=lr, batch_size=size, warmup=_warmup(steps), muon=turned)
        for name, steps, losses, trainable, size, turned in stages
        if steps
    )


def stage_wise(
    connect: int,
    refine: int,
    gates: int,
    *,
    losses: Mapping[str, float] = SPEC_WEIGHTS,
    batch_size: int = 4,
    lr: float = 3e-4,
) -> tuple[Stage, ...]:
    """Option 1, recommended: what thaws grows step by step.

    Args:
        connect: steps of cross-attention alone, from the report loss alone: nothing else could move.
        refine: steps with the scene and the top of the encoder as well, under all losses.
        gates: steps of the gates alone.
        losses: weights while everything refines.
        batch_size: studies in a forward pass.
        lr: peak learning rate of the first stage; the others take a third of it, gates ten times as much.
    """
    report = {"report": SPEC_WEIGHTS["report"]}
    stages = (
        ("connect", connect, report, CROSS_ATTENTION, lr),
        ("refine", refine, dict(losses), (*CROSS_ATTENTION, *TOP_OF_ENCODER, "scene.*"), lr / 3),
        ("gates", gates, report, GATES, 10 * lr),
    )
    return tuple(
        Stage(name, steps, weights, trainable, lr=rate, batch_size=batch_size, warmup=_warmup(steps))
        for name, steps, weights, trainable, rate in stages
        if steps
    )


def end_to_end(
    steps: int, *, losses: Mapping[str, float] = SPEC_WEIGHTS, batch_size: int = 4, lr: float = 1e-4
) -> tuple[Stage, ...]:
    """Option 2: everything that may learn learns, from the start, under all losses."""
    return (Stage("joint", steps, dict(losses), ("*",), lr=lr, batch_size=batch_size, warmup=_warmup(steps)),)


def _warmup(steps: int) -> int:
    """A twentieth of a stage, 100 steps at most."""
    return min(100, steps // 20)
