"""A small model that reads an earlier scan, the history and laboratory values beside the scan, from a prepared store.

```
ctscribe phantom --beside --n 40 --out phantoms          synthetic patients and a manifest, or a manifest of yours
ctscribe prepare phantoms --recipe beside --out store
ctscribe train beside data.prepared=store --out run
ctscribe report SCAN --model run/checkpoint --prior EARLIER --history TEXT --labs FILE --out report
```

Promises: a minute on one core, and reports that are nonsense (it is the size of ``tiny``). For a model worth its
name, put ``inputs`` and the loss ``change`` into a copy of ``demo``; what each input can teach is measured by
``benchmarks/inputs.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ctscribe.beside import InputsConfig
from ctscribe.errors import ConfigError
from ctscribe.training import course
from ctscribe.training.course import CourseConfig
from ctscribe.training.stages import Stage
from recipes import tiny

LEARNED = {"presence": 1.0, "where": 0.5, "size": 0.3, "attributes": 0.2, "change": 1.0}


def stages(text: int, detect: int, write: int) -> tuple[Stage, ...]:
    """Three stages of so many steps; ``change`` teaches what became of each finding since the earlier scan."""
    return (
        Stage("text", text, {"report": 1.0}, ("language.*",), data="text", batch_size=4, warmup=1),
        Stage("detect", detect, LEARNED, ("vision.*", "scene.*"), batch_size=4, warmup=1),
        Stage("write", write, {"report": 1.0}, ("language.*",), batch_size=2, warmup=1),
    )


def config() -> CourseConfig:
    """``tiny`` with everything on; a history is withheld as often as not, so that the scan is looked at too."""
    base = tiny.config()
    inputs = InputsConfig(prior=True, history=True, labs=True, drop=0.3, drop_history=0.5)
    return replace(
        base,
        recipe="beside",
        name="ctscribe-beside",
        model=replace(base.model, inputs=inputs),
        train=replace(base.train, stages=stages(20, 60, 20)),
    )


def run(config: CourseConfig, run_dir: Path) -> Path:
    """Train it; returns the model folder."""
    if not config.data.prepared:
        raise ConfigError(
            "this recipe learns from a prepared store: drawn phantoms have nothing beside the scan",
            expected="data.prepared=STORE",
            hint="ctscribe phantom --beside --n 40 --out phantoms; "
            "ctscribe prepare phantoms --recipe beside --out STORE",
        )
    return course.run(config, run_dir)
