"""The bundled checkpoint: trained from synthetic phantoms alone, on two CPU cores.

Promises: about an hour and a half on two cores with a bfloat16 matrix unit (several times that without one); 8 GiB of
memory, 6 GiB of disk for the phantoms; a checkpoint below 40 MB whose held-out results ``benchmarks/heldout.py`` prints
(0.57 CRG, 0.61 macro F1 for the bundled one).

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
from ctscribe.training.course import CourseConfig, PhantomData
from ctscribe.training.stages import Stage, TrainConfig
from ctscribe.vision.tubelets import TubeletConfig
from ctscribe.vision.vit import EncoderConfig

DETECTION = {"presence": 1.0, "where": 0.5, "dense": 1.0, "size": 0.3, "attributes": 0.2, "consistency": 0.2}
READING = {"report": 1.0}


# Between the first and the last layers Muon learns about twice as fast as AdamW; tables, heads and norms stay AdamW's.
SEEING = (
    "vision.tokenizer.stems.*.residuals.*",
    "vision.tokenizer.stems.*.convs.[1-9].*",
    "vision.merges.*",
    "vision.inject.*",
    "vision.stages.*",
    "scene.top_down.lateral.*",
    "scene.slot_attention.[kqvm]*.*",
    "scene.graph.blocks.*",
    "scene.findings.vote.0.*",
    "scene.findings.*_vote.up.*",
)
SAYING = ("language.decoder.host.model.layers.*", "language.memory.facts.mlp.*")

# Emphysema and mosaic attenuation differ by tens of HU within the lung, effusions and cysts within the soft tissue:
# a narrow window each beside the three of a reading room.
WINDOWS = ((-600.0, 1500.0), (-850.0, 300.0), (40.0, 400.0), (60.0, 160.0), (500.0, 2000.0))


def config() -> CourseConfig:
    """The demo preset: tubelets of (2, 8, 8) voxels on a (64, 128, 128) grid, 12 encoder layers, a 10 M writer."""
    # At 2.75 mm a tubelet of 8 x 8 voxels covers 22 mm, about what 16 x 16 covers at full resolution.
    tubelets = TubeletConfig((2, 8, 8), (4, 16, 16), (8, 32, 32), widths=(96, 192, 224), stem=24, stem_blocks=(0, 2, 1))
    return CourseConfig(
        recipe="demo",
        name="ctscribe-demo",
        model=ModelConfig(
            windows=WINDOWS,
            encoder=EncoderConfig(tubelets=tubelets, depths=(2, 4, 6), mlp_ratio=2.0),
            # A host that starts from scratch has nothing to protect: its gates start open.
            language=LanguageConfig(vocab=2000, gate=0.5),
        ),
        train=TrainConfig(
            stages=(
                Stage(
                    "text", 320, READING, ("language.*",), data="text", lr=2e-3, batch_size=24, warmup=40, muon=SAYING
                ),
                Stage(
                    "detect", 1900, DETECTION, ("vision.*", "scene.*"), lr=1.5e-3, batch_size=4, warmup=100, muon=SEEING
                ),
                Stage("write", 40, READING, ("language.*",), lr=3e-4, batch_size=12, warmup=10, muon=SAYING),
            ),
            precision="bfloat16",
            ema=0.998,
            checkpoint_every=100,
        ),
        data=PhantomData(studies=1850, crowding=2.0),
    )


def run(config: CourseConfig, run_dir: Path) -> Path:
    """Train it; returns the model folder."""
    return course.run(config, run_dir)
