"""The smallest course that walks the whole road: for tests and for looking around.

Promises: a minute on one core, a few megabytes, and reports that are nonsense.
"""

from __future__ import annotations

from pathlib import Path

from ctscribe.language.station import LanguageConfig
from ctscribe.model import GridContract, ModelConfig
from ctscribe.scene.station import SceneConfig
from ctscribe.training import course
from ctscribe.training.course import CourseConfig, PhantomData
from ctscribe.training.stages import Stage, TrainConfig
from ctscribe.vision.tubelets import TubeletConfig
from ctscribe.vision.vit import EncoderConfig

DETECTION = {"presence": 1.0, "where": 0.5, "dense": 1.0, "size": 0.3, "attributes": 0.2, "consistency": 0.2}


def model() -> ModelConfig:
    """Three encoder layers of width 32 and a four-layer writer, on a (32, 64, 64) grid."""
    return ModelConfig(
        grid=GridContract((32, 64, 64), (10.0, 5.5, 5.5)),
        encoder=EncoderConfig(
            tubelets=TubeletConfig(
                (2, 8, 8), (4, 16, 16), (8, 32, 32), widths=(32, 32, 32), stem=8, stem_blocks=(0, 1, 1)
            ),
            depths=(1, 1, 1),
            head_dim=16,
            embedding=16,
        ),
        scene=SceneConfig(dim=32, slots=4, graph_layers=1, heads=2),
        language=LanguageConfig(
            vocab=700, hidden=32, layers=4, heads=2, intermediate=64, memory_dim=32, cross_heads=2, max_tokens=48
        ),
    )


def config() -> CourseConfig:
    """A handful of steps of every stage."""
    return CourseConfig(
        recipe="tiny",
        name="ctscribe-tiny",
        model=model(),
        train=TrainConfig(
            stages=(
                Stage("text", 4, {"report": 1.0}, ("language.*",), data="text", batch_size=4, warmup=1),
                Stage("detect", 4, DETECTION, ("vision.*", "scene.*"), batch_size=2, warmup=1),
                Stage("write", 2, {"report": 1.0}, ("language.*",), batch_size=2, warmup=1),
            ),
            ema=0.9,
        ),
        data=PhantomData(studies=4, validation=4, processes=1),
    )


def run(config: CourseConfig, run_dir: Path) -> Path:
    """Train it; returns the model folder."""
    return course.run(config, run_dir)
