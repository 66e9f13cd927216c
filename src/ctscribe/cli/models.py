"""``models``: every choice a model is made of, read from the code that makes it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import typer

from ctscribe.cli import screen

GB = 1e9


def models(
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
    memory: bool = typer.Option(False, "--memory", help="Memory of each decoder, by arithmetic, instead."),
) -> None:
    """Every option of a model with its words, its default and what it does.

    An option is set in training: `ctscribe train demo model.encoder.backbone=swin`. The default stands first.

    Examples:

    * `ctscribe models`
    * `ctscribe models --json | jq '.options[] | select(.option == "scene.graph")'`
    * `ctscribe models --memory`
    """
    if memory:
        rows = memory_rows()
        screen.print_json({"memory": rows}) if as_json else _print_memory(rows)
        return
    facts = gather()
    screen.print_json(facts) if as_json else _print(facts)


def gather() -> dict[str, Any]:
    """Options, losses, segmenters and presets, as JSON types."""
    from ctscribe.data.anatomy.tools import TOOLS
    from ctscribe.language.sizes import PRESETS, SHAPES
    from ctscribe.model import ModelConfig
    from ctscribe.training.losses import standard_losses

    presets = {word: dataclasses.asdict(SHAPES[shape]) for word, shape in PRESETS.items()}
    return {
        "options": list(options(ModelConfig, ModelConfig(), "")),
        "losses": [{"loss": name, "about": _first_line(loss)} for name, loss in standard_losses().items()],
        "segmenters": ["classical", *TOOLS],
        "presets": [{"preset": word, "decoder": PRESETS[word], **shape} for word, shape in presets.items()],
        "hosts": list(SHAPES),
    }


def options(cls: Any, default: Any, where: str) -> Iterator[dict[str, Any]]:
    """One row for each field of a configuration and of those inside it: its words, its default, its meaning."""
    from ctscribe.config import to_dict, type_name

    hints, about, plain = typing.get_type_hints(cls), field_texts(cls), to_dict(default)
    for field in dataclasses.fields(cls):
        hint, value = hints[field.name], getattr(default, field.name)
        name = f"{where}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(hint):
            yield from options(hint, value, name)
            continue
        words = list(_words(hint))
        if isinstance(value, str) and value in words:
            words = [value, *(word for word in words if word != value)]
        yield {
            "option": name,
            "words": words,
            "type": type_name(hint),
            "default": plain[field.name],
            "about": about.get(field.name, ""),
        }


def field_texts(cls: type) -> dict[str, str]:
    """Field -> what the docstring says under ``Attributes``."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name.strip(): " ".join(said.split()) for names, said in found for name in names.split(",")}


def _words(hint: Any) -> Iterator[str]:
    """The words a field may hold, however deep in tuples and unions they stand, each once."""
    if typing.get_origin(hint) is typing.Literal:
        yield from (str(word) for word in typing.get_args(hint))
        return
    yield from dict.fromkeys(word for part in typing.get_args(hint) for word in _words(part))


def _first_line(what: Any) -> str:
    return inspect.cleandoc(type(what).__doc__ or "").split("\n\n")[0].replace("\n", " ")


def memory_rows() -> list[dict[str, Any]]:
    """The memory table of the presets' decoders and of the large shapes, in bytes.

    Raises:
        DependencyMissing: adapters are counted with ``peft`` (extra ``llm``).
    """
    from ctscribe.language.sizes import memory_table

    return [
        dataclasses.asdict(row)
        | {"one_gpu": row.total(), "recomputing": row.total(checkpointing=True), "eight_gpus": row.total(gpus=8)}
        for row in memory_table()
    ]


def _print(facts: dict[str, Any]) -> None:
    for option in facts["options"]:
        words = " | ".join(option["words"]) or f"{option['type']} = {option['default']}"
        print(f"{option['option']}: {words}  -- {option['about']}")
    for loss in facts["losses"]:
        print(f"loss {loss['loss']}  -- {loss['about']}")
    print(f"segmenters: {' | '.join(facts['segmenters'])}")
    for preset in facts["presets"]:
        print(f"preset {preset['preset']}: {preset['decoder']}, {preset['layers']} layers of width {preset['hidden']}")
    print(f"hosts counted by --memory: {' | '.join(facts['hosts'])}")


def _print_memory(rows: list[dict[str, Any]]) -> None:
    print(
        "decoder  preset  use  adapt  precision  parameters  GB on 1 GPU  GB recomputing activations  GB on each of 8"
    )
    for row in rows:
        sizes = (row["one_gpu"], row["recomputing"], row["eight_gpus"])
        print(
            f"{row['shape']}  {row['preset'] or '-'}  {row['use']}  {row['adapt']}  {row['dtype']}"
            f"  {row['decoder']:,}  " + "  ".join(f"{size / GB:.2f}" for size in sizes)
        )
    print("Arithmetic, not measurement: an allocator's waste and the encoder of the scan come on top.")
