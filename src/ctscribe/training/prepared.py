"""Training from a store that ``ctscribe prepare`` filled, instead of from phantoms.

```
ctscribe prepare manifest.csv --recipe NAME --out STORE       ctscribe train NAME data.prepared=STORE
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctscribe.beside import InputsConfig
from ctscribe.data.splits import ids_of_split
from ctscribe.data.store import StudyStore
from ctscribe.errors import UsageError
from ctscribe.model import ModelConfig
from ctscribe.training.stages import Stage

WATERMARK = {
    "en": "Draft by a model under development. For research, not for clinical use.",
    "zh": "本草稿由研发中的模型生成，仅供研究，不得用于临床。",
}
CALLED = {"prior": "an earlier scan", "history": "a history", "labs": "laboratory values"}


def open_prepared(root: Path | str, model: ModelConfig) -> tuple[StudyStore, StudyStore]:
    """Studies of the splits ``train`` and ``validation``, with what the model reads beside the scan.

    Raises:
        UsageError: no store, a split without studies, or scans on another grid than the model's.
    """
    parts = [StudyStore(root, ids_of_split(root, name), beside=model.inputs.names) for name in ("train", "validation")]
    grid, layout, row = model.grid, parts[0].layout, next(parts[0].rows())
    cells = model.encoder.tubelets.cells(grid.shape, grid.spacing)
    wanted = (grid.shape, tuple(round(step, 3) for step in grid.spacing), cells)
    there = (layout.shape, tuple(round(step, 3) for step in row["spacing"]), layout.region_grid)
    if wanted != there:
        shown = [f"{s[0]} voxels of {s[1]} mm, regions on {s[2]}" for s in (wanted, there)]
        raise UsageError(
            f"the scans in {root} lie on another grid than the model's",
            expected=shown[0],
            got=shown[1],
            hint="ctscribe prepare --recipe NAME prepares for a recipe's model",
        )
    return parts[0], parts[1]


def account(inputs: InputsConfig, studies: StudyStore) -> list[str]:
    """What the model is asked to read beside the scan, and how much of it the data have; a line each."""
    lines = []
    for name, count in studies.known(inputs.names).items():
        text = f"model.inputs.{name}: {count} of {len(studies)} studies have {CALLED[name]}"
        if count:
            share = inputs.chance_of_drop(name)
            text += f", withheld from {share:.0%} of them in each epoch"
        else:
            text += ": the model cannot learn to read it"
        lines.append(text)
    return lines


def card(name: str, stages: Sequence[Stage], studies: StudyStore, results: Mapping[str, Any]) -> str:
    """The model card, for people."""
    taught = "\n".join(f"- `{s.name}`: {s.steps} steps of {s.batch_size}, losses {', '.join(s.losses)}" for s in stages)
    sources = sorted({str(studies.extra(i).get("source", "unknown")) for i in range(len(studies))})
    return f"""# {name}

A chest-CT report model trained on prepared studies. **Not for clinical use.** Every report it writes carries the
watermark:

> {WATERMARK["en"]}

- training: {len(studies)} studies from {", ".join(sources)}
{taught}
- thresholds: best expected F1 per finding on {results["validation_studies"]} validation studies; macro F1 there
  {results["validation_macro_f1"]}

It says what these studies taught. Nobody has measured it on others.
"""
