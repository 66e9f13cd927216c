"""An impression head: three layers on the report writer of a model folder write impressions, English and Chinese.

Learns from pairs of synthetic findings and rule-written impressions; no scan is needed. ``variety=0.5`` words half of
them freely. Promises: a folder of about 13 MB beside the model folder it belongs to, for ``--writer head``.
"""

from __future__ import annotations

from pathlib import Path

from ctscribe.language.head import HeadConfig
from ctscribe.training import impression_head
from ctscribe.training.impression_head import HeadCourse
from ctscribe.training.stages import Stage, TrainConfig

INSIDE = ("*.q_proj.weight", "*.k_proj.weight", "*.v_proj.weight", "*.o_proj.weight", "*.up_proj.weight",
          "*.gate_proj.weight", "*.down_proj.weight", "*.attention.*.weight")  # fmt: skip


def config() -> HeadCourse:
    """One stage; the report writer stays as it is."""
    stage = Stage(
        "impression",
        250,
        {"report": 1.0},
        data="text",
        lr=3e-3,
        batch_size=16,
        warmup=20,
        weight_decay=0.01,
        muon=INSIDE,
        bucket=8,
    )
    return HeadCourse(
        recipe="impression_head",
        name="impression-head",
        head=HeadConfig(),
        train=TrainConfig((stage,), precision="bfloat16", ema=0.98, checkpoint_every=50, save_frozen=False),
    )


def run(config: HeadCourse, run_dir: Path) -> Path:
    """Train it; returns the folder of the head."""
    return impression_head.run(config, run_dir)
