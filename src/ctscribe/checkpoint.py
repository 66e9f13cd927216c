"""A model folder: weights, configuration and the contract with the input, without pickles.

```
folder/
  model.safetensors   weights (float16 or float32)
  config.json         ModelConfig: sizes, grid, windows
  tokenizer.json      the writer's tokens (and prompts.json where they are a pretrained decoder's)
  decision.json       thresholds from logits to statements
  card.json           name, languages, synthetic or not, watermark, measured results
  README.md           the model card, for people
```

A writer whose pretrained decoder was frozen or adapted stores only what is new; ``config.json`` then names the decoder
and its fingerprint (``base``). One that learned as a whole stores everything, and the decoder's shape in ``host.json``.

An impression head (`save_head`) is a folder of the same files without ``tokenizer.json`` and ``decision.json``: it
holds the new layers only, and names the model folder that they belong to, with the hash of its weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
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
from ctscribe.beside import StudyBeside
from ctscribe.data.outlines import Outlines
from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.language.config import LanguageConfig
from ctscribe.language.head import HeadConfig, head_params, with_head
from ctscribe.language.hosts import host_from_description
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.language.station import Writer
from ctscribe.layers import usable_device
from ctscribe.model import CTReportModel, Description, GridContract, ModelConfig, Thresholds
from ctscribe.tensors import Volume

WEIGHTS, HOST = "model.safetensors", "host.json"
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

    def require_outlines(self) -> None:
        """See `CTReportModel.require_outlines`."""
        self.model.require_outlines()

    def outline(self, volume: Volume) -> tuple[Float[np.ndarray, "r t h w"], Bool[np.ndarray, " r"]]:
        """See `CTReportModel.outline`."""
        return self.model.outline(volume)

    def describe(
        self,
        volume: Volume,
        occupancy: Float[np.ndarray, "r t h w"],
        present: Bool[np.ndarray, " r"],
        languages: Sequence[str],
        beside: StudyBeside | None = None,
        lesions: Outlines | None = None,
    ) -> Description:
        """See `CTReportModel.describe`; uses this checkpoint's thresholds."""
        return self.model.describe(volume, occupancy, present, languages, self.thresholds, beside, lesions)


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
    with _scratch(folder) as scratch:
        save_file(_slim(model, dtype), scratch / WEIGHTS, metadata={"format": "pt"})
        model.language.tokenizer.save(scratch)
        _write_json(scratch / "config.json", {"format": FORMAT, "model": cfg.to_dict(model.config)} | _base(model))
        if model.config.language.pretrained and model.language.base is None:
            _write_json(scratch / HOST, model.language.decoder.host.config.to_dict())
        _write_json(scratch / "decision.json", asdict(thresholds))
        card = {k: v for k, v in asdict(info).items() if k not in ("card", "checkpoint_hash")}
        _write_json(scratch / "card.json", card | {"ontology": ontology_hash()})
        (scratch / "README.md").write_text(info.card or f"# {info.name}\n", encoding="utf-8")
    return folder


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name that takes its place once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(folder: Path | str | None = None, *, device: str = "cpu", pretrained: Path | str | None = None) -> LoadedModel:
    """Read a model folder (the bundled one when none is named).

    Args:
        folder: as `save` wrote it.
        device: a torch device.
        pretrained: where the pretrained decoder lies that the folder belongs to, if not where it lay in training. A
            folder that is complete in itself takes none.

    Raises:
        CheckpointError: a file is missing or truncated, or the weights do not fit the configuration or the ontology;
            the pretrained decoder is not there, or is another one.
        UsageError: there is no such device.
    """
    place, target = bundled() if folder is None else Path(folder), usable_device(device)
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
    plain = _read_json(place / "config.json")
    config = cfg.from_dict(ModelConfig, plain["model"])
    model = _build(place, config, plain.get("base"), None if pretrained is None else str(pretrained))
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
    return LoadedModel(model.to(target).eval(), info, thresholds)


@dataclass(frozen=True)
class HeadCard:
    """What an impression head says about itself.

    Attributes:
        name: as impressions name their writer.
        languages: it can write.
        head: its layers.
        base: name of the model whose report writer it was put on.
        base_hash: of that model's weights.
        synthetic: no real report was used to teach it.
    """

    name: str
    languages: tuple[str, ...]
    head: HeadConfig
    base: str
    base_hash: str
    synthetic: bool = True


def save_head(folder: Path, writer: Writer, card: HeadCard, base: str = "") -> Path:
    """Write the new layers of a report writer, see `with_head`.

    Args:
        folder: written under a temporary name, then renamed into place.
        writer: with its head.
        card: what it is.
        base: model folder it belongs to, empty for the bundled one.
    """
    new = set(head_params(writer, card.head.layers))
    weights = {name: value.contiguous() for name, value in writer.state_dict().items() if name in new}
    with _scratch(folder) as scratch:
        save_file(weights, scratch / WEIGHTS, metadata={"format": "pt"})
        _write_json(scratch / "config.json", {"format": FORMAT, "head": asdict(card.head), "folder": base})
        plain = {name: value for name, value in asdict(card).items() if name != "head"}
        _write_json(scratch / "card.json", plain | {"ontology": ontology_hash()})
        (scratch / "README.md").write_text(_HEAD_README.format(card=card), encoding="utf-8")
    return folder


def load_head(folder: Path | str, *, base: Path | str | None = None, device: str = "cpu") -> tuple[Writer, HeadCard]:
    """Read an impression head and the report writer that it belongs to.

    Args:
        folder: as `save_head` wrote it.
        base: where that model folder lies, if not where it lay in training.
        device: a torch device.

    Raises:
        CheckpointError: a file is missing or truncated, or the model folder is another one.
    """
    place = Path(folder)
    if not (place / WEIGHTS).is_file() or "head" not in (plain := _read_json(place / "config.json")):
        raise CheckpointError(f"{place}: no impression head", hint="train one: ctscribe train impression_head")
    about = _read_json(place / "card.json")
    if about.pop("ontology", None) != ontology_hash():
        raise CheckpointError(f"{place}: was trained with other finding or region lists", hint="train it again")
    card = cfg.from_dict(HeadCard, about | {"head": plain["head"]})
    below = load(base or plain["folder"] or None, device=device)
    if below.info.checkpoint_hash != card.base_hash:
        raise CheckpointError(
            f"{place}: belongs to another model folder",
            expected=f"{card.base}, weights {card.base_hash}",
            got=f"{below.info.name}, weights {below.info.checkpoint_hash}",
        )
    writer = with_head(below.model.language, card.head)
    state = _weights(place / WEIGHTS)
    new = head_params(writer, card.head.layers)
    if set(state) != set(new):
        raise CheckpointError(f"{place / WEIGHTS}: the weights do not fit config.json", hint="copy the whole folder")
    writer.load_state_dict(state, strict=False)
    return writer.to(device).eval(), card


_HEAD_README = """# {card.name}

Layers on the report writer of `{card.base}` that write impressions from structured findings ({card.languages}). Taught
on **synthetic findings and rule-written impressions only**; every impression is checked by the guard before it is used.
Not for clinical use.
"""


def ontology_hash() -> str:
    """Short hash of everything in the ontology that fixes tensor shapes and their order."""
    shape = [
        [(k.id, sorted((n, list(v)) for n, v in k.attributes.items())) for k in ontology.findings().values()],
        list(ontology.model_regions()),
    ]
    return cfg.json_hash(shape)


def _base(model: CTReportModel) -> dict[str, Any]:
    """The entry that names the pretrained decoder; nothing for a model that is complete in itself."""
    return {} if model.language.base is None else {"base": asdict(model.language.base)}


def _build(place: Path, config: ModelConfig, base: dict[str, Any] | None, pretrained: str | None) -> CTReportModel:
    """The model with the weights it does not store; what it does store is still to be filled in."""
    tokenizer = _tokenizer(place)
    if base is None:
        if pretrained is not None:
            raise CheckpointError(f"{place}: is complete in itself", got=f"a pretrained decoder {pretrained}")
        return CTReportModel(config, tokenizer, _own_host(place, config.language, tokenizer))
    named = config.language if pretrained is None else replace(config.language, pretrained=pretrained)
    try:
        model = CTReportModel(replace(config, language=named), tokenizer)
    except ConfigError as error:
        raise CheckpointError(
            f"{place}: needs the pretrained decoder {base['name']}, which it does not contain",
            expected=f"{base['parameters']:,} parameters with fingerprint {base['fingerprint']}",
            got=f"{error.what}{'' if error.got is None else f': {error.got}'}",
            hint="say where it lies: checkpoint.load(folder, pretrained=PATH)",
        ) from error
    found = model.language.base
    if found is None or found.fingerprint != base["fingerprint"]:
        raise CheckpointError(
            f"{place}: {named.pretrained} is not the pretrained decoder that it was trained with",
            expected=f"{base['name']}, {base['parameters']:,} parameters, fingerprint {base['fingerprint']}",
            got="nothing" if found is None else f"{found.parameters:,} parameters, fingerprint {found.fingerprint}",
            hint="say where the right one lies: checkpoint.load(folder, pretrained=PATH)",
        )
    return model


def _own_host(place: Path, config: LanguageConfig, tokenizer: ReportTokenizer) -> torch.nn.Module | None:
    """A decoder that began as a pretrained one, by its stored shape; None when the configuration alone describes it."""
    if not config.pretrained:
        return None
    return host_from_description(_read_json(place / HOST), config, tokenizer)


def _slim(model: CTReportModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state dict in the stored precision, tied weights once, without the weights of a named base."""
    seen: set[int] = set()
    slim, left_out = {}, set(model.fixed_params())
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen and tensor.numel() > 1:
            continue
        seen.add(tensor.data_ptr())
        if name in left_out:
            continue
        slim[name] = tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor.contiguous()
    return slim


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})", hint="copy the model folder again") from error


def _fill(model: CTReportModel, path: Path) -> None:
    state = _weights(path)
    try:
        result = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: the weights do not fit config.json",
            got=str(error).splitlines()[-1].strip(),
            hint="copy the whole model folder",
        ) from error
    held = model.state_dict()
    filled = {held[name].data_ptr() for name in (*state, *model.fixed_params()) if name in held}
    missing = sorted(name for name in result.missing_keys if held[name].data_ptr() not in filled)
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
