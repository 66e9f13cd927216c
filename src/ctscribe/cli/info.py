"""``info``: what is installed, and which model would write."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from typing import Any

import typer

from ctscribe.cli import screen

EXTRAS = {
    "train": ("matplotlib", "tensorboard"),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "data": ("blosc2", "pylidc", "webdataset"),
    "api": ("openai",),
    "documents": ("pypdf",),
    "llm": ("accelerate", "gguf", "peft"),
    "grammar": ("llguidance",),
    "dicom": ("highdicom",),
    "zh": ("jieba",),
}
"""Extra -> the modules it brings; `tests/test_cli_info.py` compares it with the package's own metadata."""


def info(
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Version, bundled model card, installed extras, compute, and the vocabulary's size.

    Examples:

    * `ctscribe info`
    * `ctscribe info --json | jq .model`
    """
    facts = gather()
    if as_json:
        screen.print_json(facts)
    else:
        _print(facts)


def gather() -> dict[str, Any]:
    """Everything `ctscribe info` knows, as JSON types; a missing model is a fact, not an error."""
    import platform

    import torch

    from ctscribe import __version__, ontology

    return {
        "version": __version__,
        "python": platform.python_version(),
        "model": _model(),
        "compute": {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.is_available(),
        },
        "extras": {extra: all(find_spec(m) is not None for m in modules) for extra, modules in EXTRAS.items()},
        "libraries": {name: _version(name) for name in ("pydicom", "SimpleITK", "transformers", "numpy")},
        "vocabulary": {
            "languages": list(ontology.LANGUAGES),
            "findings": list(ontology.findings()),
            "regions": list(ontology.regions()),
        },
    }


def _model() -> dict[str, Any]:
    from ctscribe.errors import CTScribeError

    try:
        from ctscribe import checkpoint

        loaded = checkpoint.load()
    except (CTScribeError, ImportError) as error:
        return {"available": False, "why": str(error)}
    return {
        "available": True,
        "name": loaded.info.name,
        "checkpoint_hash": loaded.info.checkpoint_hash,
        "synthetic": loaded.info.synthetic,
        "languages": list(loaded.info.languages),
        "watermark": dict(loaded.info.watermark),
        "grid": {"shape": list(loaded.grid.shape), "spacing_mm": list(loaded.grid.spacing)},
        "card": loaded.info.card,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _print(facts: dict[str, Any]) -> None:
    from rich.markdown import Markdown
    from rich.panel import Panel
    from rich.table import Table

    console = screen.console()
    table = Table.grid(padding=(0, 2))
    model, compute = facts["model"], facts["compute"]
    table.add_row("ctscribe", facts["version"])
    table.add_row("python", facts["python"])
    table.add_row(
        "torch", f"{compute['torch']}, {compute['threads']} threads, GPU: {'yes' if compute['cuda'] else 'no'}"
    )
    table.add_row("extras", ", ".join(f"{k} ({'yes' if v else 'no'})" for k, v in facts["extras"].items()))
    words = facts["vocabulary"]
    table.add_row("vocabulary", f"{len(words['findings'])} finding kinds, {len(words['regions'])} regions")
    if model["available"]:
        table.add_row("model", f"{model['name']}  {model['checkpoint_hash'][:12]}")
        shape = " x ".join(map(str, model["grid"]["shape"]))
        table.add_row("model grid", f"{shape} voxels of {' x '.join(f'{s:g}' for s in model['grid']['spacing_mm'])} mm")
    else:
        table.add_row("model", f"not available: {model['why']}")
    console.print(table)
    if model["available"]:
        console.print(Panel(Markdown(model["card"]), title="model card"))
