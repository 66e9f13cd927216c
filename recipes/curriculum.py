"""From nothing to a report, the specification's way: pretraining, then stage-wise fine-tuning, in one command.

Promises: on synthetic phantoms, about four times the steps of ``demo`` spread over seven stages, and a model folder; it
shows the whole road, it is not tuned for the best result (`demo` is). The parameters that learn are printed before each
stage.

```
masked      the encoder fills in hidden tubelets           connect   the writer's cross-attention learns to look
contrast    scans and reports find each other              refine    scene and top of the encoder join, all losses
multitask   regions, lesions and findings                  gates     only the gates
text        the writer learns to say given facts
```

``pretrain.contrast`` and ``pretrain.masked`` hold the choices. ``start.weights=FILE start.layout=published`` begins
with a ViT or VideoMAE instead of random weights, ``start.weights=RUN/averaged.safetensors`` with the pretraining of
another run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ctscribe.model import ModelConfig
from ctscribe.scene.station import SceneConfig
from ctscribe.training import course, plans
from ctscribe.training.course import CourseConfig
from ctscribe.training.stages import Stage
from recipes import demo


def supervised(scene: SceneConfig) -> SceneConfig:
    """A scene with the heads that the specification's losses teach: own masks, objects in slots, relations."""
    return replace(scene, masks="given_or_own", slot_objects=True, relations=True)


def stages(
    masked: int, contrast: int, multitask: int, text: int, connect: int, refine: int, gates: int
) -> tuple[Stage, ...]:
    """Seven stages of so many steps each; one of 0 is left out."""
    speech = Stage("text", text, demo.READING, ("language.*",), data="text", lr=1e-3, batch_size=24, warmup=text // 10)
    return (
        *plans.pretraining(masked, contrast, multitask, lr=1.5e-3, muon=plans.INSIDE_ENCODER),
        *((speech,) if text else ()),
        *plans.stage_wise(connect, refine, gates),
    )


def config() -> CourseConfig:
    """The demo preset, taught in seven stages instead of three."""
    base = demo.config()
    model: ModelConfig = replace(base.model, scene=supervised(base.model.scene))
    return replace(
        base,
        recipe="curriculum",
        name="ctscribe-curriculum",
        model=model,
        train=replace(base.train, stages=stages(2000, 1000, 2000, 800, 400, 1000, 100)),
    )


def run(config: CourseConfig, run_dir: Path) -> Path:
    """Train it; returns the model folder."""
    return course.run(config, run_dir)
