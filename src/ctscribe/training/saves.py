"""Checkpoints: whole or not there at all, safetensors and JSON only.

```
checkpoints/step-00000500/   weights.safetensors  ema.safetensors  optimizer.safetensors  state.json
```

A checkpoint is written under a temporary name, flushed to the disk and renamed; ``state.json`` lists the size
and SHA-256 of every other file, so that one cut short by a full disk or a copy is recognised and skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctscribe.engines.shards import like
from ctscribe.errors import TrainingError

FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """One checkpoint that was read and found whole."""

    path: Path
    state: dict

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of one file; empty when the checkpoint has no such file."""
        file = self.path / f"{name}.safetensors"
        return load_file(file) if file.exists() else {}


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict, *, keep: int
) -> Path:
    """Write ``folder/step-XXXXXXXX`` atomically and drop all but the newest `keep`.

    Args:
        folder: the run's ``checkpoints``.
        step: optimiser steps done over all stages.
        tensors: file name without suffix -> tensors.
        state: JSON values.
        keep: how many to leave on disk, at least 1.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".{final.name}.partial"
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        listing = {}
        for name, group in tensors.items():
            file = temporary / f"{name}.safetensors"
            write_tensors(file, group)
            listing[file.name] = {"bytes": file.stat().st_size, "sha256": _digest(file)}
        document = {"format": FORMAT, **state, "files": listing}
        _write_durably(temporary / "state.json", json.dumps(document, indent=1).encode())
    except (OSError, SafetensorError):
        # What could not be finished gives its space back at once.
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    _sync_folder(folder)
    for old in sorted(folder.glob("step-*"))[: -max(1, keep)]:
        shutil.rmtree(old)
    return final


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Saved | None:
    """The newest whole checkpoint; each newer one that is damaged is named in a warning and skipped."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        problem, state = _inspect(path)
        if problem is None:
            return Saved(path, state)
        warn(f"checkpoint {path.name} is skipped: {problem}")
    return None


def own_state(model: nn.Module, leave_out: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each shared tensor once, as they are stored in the model.

    Args:
        model: any module.
        leave_out: parameter names not wanted.
    """
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            if name not in leave_out:
                tensors[name] = tensor.detach()
    return tensors


@torch.no_grad()
def load_own_state(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy into the model what `own_state` took out.

    Raises:
        TrainingError: a tensor is unknown to the model or has another shape.
    """
    places = model.state_dict(keep_vars=True)
    for name, value in tensors.items():
        place = places.get(name)
        if place is None or place.shape != value.shape:
            raise TrainingError(
                f"checkpoint {source.name} does not fit the model: {name}",
                expected=f"a tensor of shape {tuple(value.shape)}",
                got="no such tensor in the model" if place is None else f"shape {tuple(place.shape)}",
                hint="build the same model, or start in a new run folder",
            )
        place.copy_(like(value, place))


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Safetensors under a temporary name, flushed, then renamed."""
    temporary = file.with_name(f".{file.name}.partial")
    # Views into one storage cannot be stored twice, hence the copies of non-contiguous or shared tensors.
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, file)


def _inspect(path: Path) -> tuple[str | None, dict]:
    """(what is wrong or None, state)."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "state.json is missing or cut short", {}
    if state.get("format") != FORMAT:
        return f"written in format {state.get('format')}, this version reads {FORMAT}", {}
    for name, expected in state["files"].items():
        file = path / name
        if not file.exists():
            return f"{name} is missing", {}
        if file.stat().st_size != expected["bytes"]:
            return f"{name} has {file.stat().st_size} bytes of {expected['bytes']}", {}
        if _digest(file) != expected["sha256"]:
            return f"{name} has changed since it was written", {}
    return None, state


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _write_durably(file: Path, content: bytes) -> None:
    with file.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
