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
    memory: bool = typer.Option(False, "--memory", help="Memory and time of each decoder, by arithmetic, instead."),
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
    from ctscribe.data.anatomy.tools import WORDS
    from ctscribe.language.sizes import PRESETS, SHAPES
    from ctscribe.model import ModelConfig
    from ctscribe.training.losses import standard_losses

    presets = {word: dataclasses.asdict(SHAPES[shape]) for word, shape in PRESETS.items()}
    return {
        "options": list(options(ModelConfig, ModelConfig(), "")),
        "losses": [{"loss": name, "about": _first_line(loss)} for name, loss in standard_losses().items()],
        "segmenters": list(WORDS),
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
    """Memory (bytes) and time (seconds) of the presets' decoders and of the large shapes.

    Raises:
        DependencyMissing: adapters are counted with ``peft`` (extra ``llm``).
    """
    from ctscribe.language.sizes import memory_table
    from ctscribe.language.times import seconds_a_token, seconds_to_train

    def sums(row: Any) -> dict[str, float]:
        told = {
            "one_gpu": row.total(),
            "recomputing": row.total(checkpointing=True),
            "eight_gpus": row.total(gpus=8),
            "eight_gpus_recomputing": row.total(checkpointing=True, gpus=8),
        }
        if row.use == "inference":
            return told | {"seconds_a_token": seconds_a_token(row), "eight_gpus_token": seconds_a_token(row, gpus=8)}
        return told | {
            "seconds_a_step": seconds_to_train(row),
            "seconds_recomputing": seconds_to_train(row, checkpointing=True),
        }

    return [dataclasses.asdict(row) | sums(row) for row in memory_table()]


def _choices(option: dict[str, Any]) -> str:
    """The words of an option, the default first; else its type and its default, which a list of words has as well."""
    words, default = " | ".join(option["words"]), option["default"]
    if not words:
        return f"{option['type']} = {default if default != '' else repr(default)}"
    return f"list of {words} = {', '.join(default) or 'none'}" if isinstance(default, list) else words


def _print(facts: dict[str, Any]) -> None:
    for option in facts["options"]:
        print(f"{option['option']}: {_choices(option)}  -- {option['about']}")
    for loss in facts["losses"]:
        print(f"loss {loss['loss']}  -- {loss['about']}")
    print(f"segmenters: {' | '.join(facts['segmenters'])}")
    for preset in facts["presets"]:
        print(f"preset {preset['preset']}: {preset['decoder']}, {preset['layers']} layers of width {preset['hidden']}")
    print(f"hosts counted by --memory: {' | '.join(facts['hosts'])}")


MEMORY_HEAD = " | ".join(
    (
        "  learns precision",
        "    kept  recomputed  each of 8 ",
        "s a study  recomputed",
        "writing  each of 8 ",
        "ms a token",
    )
)


def _print_memory(rows: list[dict[str, Any]]) -> None:
    """A block for each decoder, a line for each way of training it: GB, `!` where a device of 80 GB is too small."""
    pairs = {(row["shape"], row["adapt"], row["dtype"], row["use"]): row for row in rows}
    told = ""
    for row in rows:
        if row["use"] != "training":
            continue
        if row["shape"] != told:
            told = row["shape"]
            preset = f", preset {row['preset']}" if row["preset"] else ""
            print(f"\n{told}{preset}: {row['decoder']:,} parameters, {row['grafts']:,} grafted\n{MEMORY_HEAD}")
        print(_memory_line(row, pairs[told, row["adapt"], row["dtype"], "inference"]))
    print(
        "\nGB to train on one study of 300 tokens, and to write one; each of 8: all but activations and caches spread\n"
        "over eight devices, recomputing; !: more than a GPU of 80 GB holds. Time of one A100 at 40 % of its rate.\n"
        "Arithmetic, not measurement: an allocator's waste and the encoder of the scan come on top."
    )


def _memory_line(row: dict[str, Any], writing: dict[str, Any]) -> str:
    from ctscribe.language.times import A100

    def size(count: float, width: int) -> str:
        return f"{count / GB:.2f}".rjust(width) + ("!" if count > A100.memory else " ")

    cells = (
        f"  {row['adapt']:6} {row['dtype']:9}",
        f"{size(row['one_gpu'], 8)} {size(row['recomputing'], 10)} {size(row['eight_gpus_recomputing'], 9)}",
        f"{row['seconds_a_step']:9.3f}  {row['seconds_recomputing']:10.3f}",
        f"{size(writing['one_gpu'], 7)} {size(writing['eight_gpus'], 9)}",
        f"{1000 * writing['seconds_a_token']:10.1f}",
    )
    return " | ".join(cells)
