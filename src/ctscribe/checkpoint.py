"""A model folder: weights, configuration and the contract with the input, without pickles.

```
folder/
  model.safetensors   weights (float16 or float32)
  config.json         ModelConfig: sizes, grid, windows
  tokenizer.json      the writer's tokens
  decision.json       thresholds from logits to statements
  card.json           name, languages, synthetic or not, watermark, measured results
  README.md           the model card, for people
```
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ctscribe import config as cfg
from ctscribe import ontology
from ctscribe.errors import CheckpointError
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, Description, GridContract, ModelConfig, Thresholds
from ctscribe.tensors import Volume

WEIGHTS = "model.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class ModelInfo:
    """What a checkpoint says about itself.

    ``watermark`` is written into every report; ``synthetic`` is True when no real scan was ever used in training.
    """

    name: str
    languages: tuple[str, ...] = ("en", "zh")
    synthetic: bool = True
    watermark: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    checkpoint_hash: str = ""
    card: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to describe scans."""

    model: CTReportModel
    info: ModelInfo
    thresholds: Thresholds

    @property
    def grid(self) -> GridContract:
        """The grid a scan must be put on: shape and spacing (z, y, x)."""
        return self.model.config.grid

    @property
    def cells(self) -> tuple[int, int, int]:
        """Fine token grid (t, h, w): the grid divided evenly; region occupancy and heat maps live on it."""
        return self.model.config.encoder.tubelets.cells(self.grid.shape, self.grid.spacing)

    @property
    def regions(self) -> tuple[str, ...]:
        """Region ids in the order in which ``occupancy`` is expected."""
        return ontology.model_regions()

    def describe(
        self,
        volume: Volume,
        occupancy: Float[np.ndarray, "r t h w"],
        present: Bool[np.ndarray, " r"],
        languages: Sequence[str],
    ) -> Description:
        """See `CTReportModel.describe`; uses this checkpoint's thresholds."""
        return self.model.describe(volume, occupancy, present, languages, self.thresholds)


def bundled() -> Path:
    """The folder of the checkpoint that ships with the package."""
    return Path(str(files("ctscribe"))) / "weights" / "demo"


def save(
    folder: Path,
    model: CTReportModel,
    info: ModelInfo,
    thresholds: Thresholds,
    *,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a model folder under a temporary name, then rename it into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(_slim(model, dtype), scratch / WEIGHTS, metadata={"format": "pt"})
        model.language.tokenizer.save(scratch)
        _write_json(scratch / "config.json", {"format": FORMAT, "model": cfg.to_dict(model.config)})
        _write_json(scratch / "decision.json", asdict(thresholds))
        card = {k: v for k, v in asdict(info).items() if k not in ("card", "checkpoint_hash")}
        _write_json(scratch / "card.json", card | {"ontology": ontology_hash()})
        (scratch / "README.md").write_text(info.card or f"# {info.name}\n", encoding="utf-8")
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def load(folder: Path | str | None = None, *, device: str = "cpu") -> LoadedModel:
    """Read a model folder (the bundled one when none is named).

    Raises:
        CheckpointError: a file is missing or truncated, or the weights do not fit the configuration or the ontology.
    """
    place = bundled() if folder is None else Path(folder)
    if not place.is_dir():
        raise CheckpointError(
            f"{place}: no such model folder",
            expected=f"a folder with {WEIGHTS}, config.json, tokenizer.json, decision.json and card.json",
            hint="train one with `ctscribe train demo`, or leave the option out to use the bundled model",
        )
    card = _read_json(place / "card.json")
    if card.pop("ontology", None) != ontology_hash():
        raise CheckpointError(
            f"{place}: was trained with other finding or region lists than this version of ctscribe has",
            hint="use the ctscribe version that wrote it, or train again",
        )
    config = cfg.from_dict(ModelConfig, _read_json(place / "config.json")["model"])
    model = CTReportModel(config, _tokenizer(place))
    _fill(model, place / WEIGHTS)
    info = cfg.from_dict(ModelInfo, card)
    readme = place / "README.md"
    info = ModelInfo(
        **{
            **asdict(info),
            "checkpoint_hash": _hash(place / WEIGHTS),
            "card": readme.read_text(encoding="utf-8") if readme.exists() else "",
        }
    )
    thresholds = cfg.from_dict(Thresholds, _read_json(place / "decision.json"))
    return LoadedModel(model.to(device).eval(), info, thresholds)


def ontology_hash() -> str:
    """Short hash of everything in the ontology that fixes tensor shapes and their order."""
    shape = [
        [(k.id, sorted((n, list(v)) for n, v in k.attributes.items())) for k in ontology.findings().values()],
        list(ontology.model_regions()),
    ]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:12]


def _slim(model: CTReportModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state dict in the stored precision, tied weights once."""
    seen: dict[int, str] = {}
    slim = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen and tensor.numel() > 1:
            continue
        seen[tensor.data_ptr()] = name
        slim[name] = tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor.contiguous()
    return slim


def _fill(model: CTReportModel, path: Path) -> None:
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})", hint="copy the model folder again") from error
    try:
        result = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: the weights do not fit config.json",
            got=str(error).splitlines()[-1].strip(),
            hint="copy the whole model folder",
        ) from error
    tied = {name for name in result.missing_keys if name.endswith("lm_head.weight")}
    missing = sorted(set(result.missing_keys) - tied)
    if missing or result.unexpected_keys:
        raise CheckpointError(
            f"{path}: the weights do not fit config.json",
            expected=f"every parameter once; missing: {', '.join(missing[:3]) or 'none'}",
            got=f"unknown: {', '.join(result.unexpected_keys[:3]) or 'none'}",
        )


def _tokenizer(place: Path) -> ReportTokenizer:
    path = place / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing", hint="copy the whole model folder")
    return ReportTokenizer.load(place)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})", hint="copy the whole model folder") from error


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
