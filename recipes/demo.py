"""The bundled checkpoint: trained from synthetic phantoms alone, on two CPU cores.

Promises: about two hours on two cores with a bfloat16 matrix unit (several times that without one), 8 GiB of memory,
8 GiB of disk for the phantoms; a checkpoint below 40 MB whose held-out results ``benchmarks/heldout.py`` prints.

```
text     the writer learns to say given facts, in English and Chinese, without any scan
detect   vision and scene learn which findings are there, where, how large (losses on every fine token and region)
write    the writer learns to look at the scan too; vision and scene stay as they are
```
"""

from __future__ import annotations

from pathlib import Path

from ctscribe.language.station import LanguageConfig
from ctscribe.model import ModelConfig
from ctscribe.training import course
from ctscribe.training.course import CourseConfig
from ctscribe.training.stages import Stage, TrainConfig
from ctscribe.vision.tubelets import TubeletConfig
from ctscribe.vision.vit import EncoderConfig

DETECTION = {"presence": 1.0, "where": 0.5, "dense": 1.0, "size": 0.3, "attributes": 0.2, "consistency": 0.2}
READING = {"report": 1.0}


def config() -> CourseConfig:
    """The demo preset: tubelets of (2, 8, 8) voxels on a (64, 128, 128) grid, 12 encoder layers, a 10 M writer."""
    # At 2.75 mm a tubelet of 8 x 8 voxels covers 22 mm, about what 16 x 16 covers at full resolution.
    tubelets = TubeletConfig((2, 8, 8), (4, 16, 16), (8, 32, 32), widths=(96, 192, 256), stem=24)
    return CourseConfig(
        recipe="demo",
        name="ctscribe-demo",
        model=ModelConfig(
            encoder=EncoderConfig(tubelets=tubelets, depths=(2, 4, 6), mlp_ratio=2.0),
            # A host that starts from scratch has nothing to protect: its gates start open.
            language=LanguageConfig(vocab=2000, gate=0.5),
        ),
        train=TrainConfig(
            stages=(
                Stage("text", 800, READING, ("language.*",), data="text", lr=1e-3, batch_size=32, warmup=100),
                Stage("detect", 5000, DETECTION, ("vision.*", "scene.*"), lr=4e-4, batch_size=4, warmup=100),
                Stage("write", 200, READING, ("language.*",), lr=3e-4, batch_size=16, warmup=20),
            ),
            precision="bfloat16",
            ema=0.998,
            checkpoint_every=100,
        ),
    )


def run(config: CourseConfig, run_dir: Path) -> Path:
    """Train it; returns the model folder."""
    return course.run(config, run_dir)
