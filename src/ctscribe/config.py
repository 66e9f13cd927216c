"""Configurations: plain dataclasses that travel to YAML or JSON and back.

A configuration is any dataclass whose fields are scalars, ``Literal``, ``Path``, enumerations, unions,
tuples, lists, dictionaries or other such dataclasses. Nothing here knows what the fields mean.

```
defaults in the dataclass  <  a YAML or JSON file  <  dotted overrides (train.seed=1)
```

Keys are checked here, so that a wrong one can be answered with the right one; values are converted by
jsonargparse, which reads ``False`` as false and ``3e-4`` as a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ctscribe.errors import ConfigError

T = TypeVar("T")
_NONE_WORDS = ("None", "null", "~")


class _Text(str):
    """A value as typed on the command line: its type is still to be found."""


# ------------------------------------------------------------------------------------------ out
def to_dict(cfg: Any) -> dict[str, Any]:
    """Plain containers and scalars that YAML and JSON can hold, in field order.

    Raises:
        ConfigError: a value is of a kind that a configuration cannot hold.
    """
    if not dataclasses.is_dataclass(cfg) or isinstance(cfg, type):
        raise ConfigError("not a configuration", expected="an instance of a dataclass", got=repr(cfg))
    return _plain(cfg, type(cfg).__name__)


def dump_yaml(cfg: Any) -> str:
    """The whole configuration as YAML, defaults included, in field order."""
    import yaml

    return yaml.safe_dump(to_dict(cfg), sort_keys=False, allow_unicode=True)


def config_hash(cfg: Any) -> str:
    """16 hexadecimal digits that change exactly when a value changes.

    Neither the order of keys nor the way a number was written (``1`` or ``1.0`` for a float) matters.
    """
    canonical = to_dict(from_dict(type(cfg), to_dict(cfg)))
    text = json.dumps(canonical, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def json_hash(value: Any) -> str:
    """12 hexadecimal digits of a value made of JSON types; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def save_resolved(cfg: Any, path: str | Path) -> Path:
    """Write the resolved configuration beside a run: YAML, or JSON when ``path`` ends in ``.json``.

    The file appears complete or not at all. `load` reads it back to an equal configuration.
    """
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(to_dict(cfg), indent=2, ensure_ascii=False) + "\n"
    else:
        text = f"# {type(cfg).__name__} {config_hash(cfg)}\n{dump_yaml(cfg)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in _fields(type(value))}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, f"{where}.{i}") for i, item in enumerate(value)]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return value.as_posix()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(
        f"{where} cannot be written to a configuration file",
        expected="a scalar, path, enumeration, tuple, list, dictionary or dataclass",
        got=f"{type(value).__name__}",
    )


def check_numbers(cfg: Any, where: str, **limits: tuple[float, float]) -> None:
    """Refuse numbers of a configuration out of their ranges; None passes.

    Args:
        where: how the user calls the configuration, such as ``data.``.
        limits: field -> smallest and largest value.

    Raises:
        ConfigError: the first that lies outside.
    """
    for name, (low, high) in limits.items():
        value = getattr(cfg, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not low <= number <= high:
                expected = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
                raise ConfigError(f"{where}{name}", expected=expected, got=f"{number:g}")


# ------------------------------------------------------------------------------------------- in
def from_dict(cls: type[T], data: Any) -> T:
    """Build ``cls`` from a table of plain values; fields that are not named keep their defaults.

    A nested table changes only the fields it names: the rest come from the default of its own field.

    Raises:
        ConfigError: an unknown or missing key, or a value that does not fit its type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"the configuration {cls.__name__} is not a table of keys",
            expected="key: value, one of " + _listing(_names(cls)),
            got=_show(data),
        )
    return _build(cls, data, "", None)


def load(cls: type[T], path: str | Path, overrides: Iterable[str] = ()) -> T:
    """Read ``cls`` from a YAML or JSON file and apply dotted overrides on top.

    Raises:
        ConfigError: the file cannot be read, or see `from_dict`.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        data = json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"cannot read the configuration file {path}",
            expected="a YAML or JSON file",
            got=" ".join(str(error).split()),
        ) from error
    data = {} if data is None else data
    if isinstance(data, Mapping):
        data = _overridden(data, overrides)
    try:
        return from_dict(cls, data)
    except ConfigError as error:
        error.what = f"{path}: {error.what}"
        raise


def apply_overrides(cfg: T, overrides: Iterable[str]) -> T:
    """A copy of ``cfg`` with ``key.of.field=value`` texts applied, left to right.

    Numbers index tuples and lists (``stages.0.steps=100``), ``*`` stands for each entry (``stages.*.steps=100``);
    ``None`` and ``null`` stand for None; tuples are written ``[1, 2]``, ``(1, 2)`` or ``1,2``.

    Raises:
        ConfigError: not of the form key=value, an unknown key, or a value that does not fit.
    """
    return from_dict(type(cfg), _overridden(to_dict(cfg), overrides))


def _overridden(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    result = json.loads(json.dumps(data, default=str))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{override!r} is not an override", expected="key=value, such as train.seed=1")
        _set(result, key.strip().split("."), _Text(text.strip()), key.strip())
    return result


def _set(node: Any, steps: Sequence[str], value: _Text, key: str) -> None:
    """Put ``value`` at the end of a path through tables and lists, in place."""
    step: str | int = steps[0]
    if isinstance(node, list) and step == "*":
        for place in range(len(node)):
            _set(node, [str(place), *steps[1:]], value, key)
        return
    if isinstance(node, list):
        if not steps[0].isdecimal() or int(steps[0]) >= len(node):
            raise ConfigError(
                f"configuration key {key}: {steps[0]!r} is not an entry of the list",
                expected=f"a number from 0 to {len(node) - 1}" if node else "nothing: the list is empty",
            )
        step = int(steps[0])
    elif not isinstance(node, dict):
        raise ConfigError(f"configuration key {key}: {steps[0]!r} is looked for inside a plain value", got=_show(node))
    if len(steps) == 1:
        node[step] = value
        return
    inner = node[step] if isinstance(step, int) else node.get(step)
    if inner is None:
        node[step] = inner = {}
    _set(inner, steps[1:], value, key)


# --------------------------------------------------------------------------------- one dataclass
def _build(cls: Any, data: Mapping[str, Any], where: str, base: Any) -> Any:
    """``cls`` from ``data``; fields not in it come from ``base`` (an instance) or the class defaults."""
    _check_keys(cls, data, where)
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for f in _fields(cls):
        default = getattr(base, f.name) if isinstance(base, cls) else _default(f)
        if f.name in data:
            arguments[f.name] = _convert(hints[f.name], data[f.name], _join(where, f.name), default)
        elif default is not dataclasses.MISSING:
            arguments[f.name] = default
        else:
            raise ConfigError(
                f"configuration key {_join(where, f.name)} is missing",
                expected=f"{cls.__name__} needs a value of type {type_name(hints[f.name])}",
            )
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"configuration {where or cls.__name__} is refused by {cls.__name__}: {error}") from error


def _check_keys(cls: Any, data: Mapping[str, Any], where: str) -> None:
    names = _names(cls)
    for key in data:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            raise ConfigError(
                f"unknown configuration key {_join(where, str(key))}",
                expected=f"a field of {cls.__name__}: {_listing(names)}",
                hint=f"did you mean {_join(where, close[0])}?" if close else None,
            )


def _convert(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    """``value`` as ``hint``: structure is followed here, scalars are left to jsonargparse."""
    options = _options(hint)
    classes: list[Any] = [option for option in options if dataclasses.is_dataclass(option)]
    if type(None) in options and (value is None or (isinstance(value, _Text) and value in _NONE_WORDS)):
        return None
    if classes and isinstance(value, tuple(classes)):
        value = to_dict(value)
    if isinstance(value, _Text) and (classes or _holds_dataclass(hint)):
        value = _parsed(value, where)
    if classes and isinstance(value, Mapping):
        return _build(_best(classes, value), value, where, default)
    if _holds_dataclass(hint):
        return _container(hint, value, where)
    if classes:
        raise _misfit(hint, value, where)
    return _scalar(hint, value, where)


def _container(hint: Any, value: Any, where: str) -> Any:
    """A tuple, list or dictionary whose items are dataclasses."""
    hint = next(option for option in _options(hint) if _holds_dataclass(option))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(key): _convert(arguments[1], item, _join(where, str(key))) for key, item in value.items()}
    if origin is not None and issubclass(origin, Sequence) and isinstance(value, (tuple, list)):
        fixed = origin is tuple and arguments[-1] is not Ellipsis
        if not fixed or len(value) == len(arguments):
            kinds = arguments if fixed else [arguments[0]] * len(value)
            items = [_convert(k, v, _join(where, str(i))) for i, (k, v) in enumerate(zip(kinds, value, strict=True))]
            return tuple(items) if origin is tuple else items
    raise _misfit(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    options = _options(hint)
    if Any in options or object in options:
        return _parsed(value, where) if isinstance(value, _Text) else value
    if value is None:
        raise _misfit(hint, value, where)
    if isinstance(value, str) and str in options and (options == (str,) or not isinstance(value, _Text)):
        return str(value)
    if isinstance(value, _Text) and any(typing.get_origin(o) in (tuple, list) for o in options) and value[:1] != "[":
        value = f"[{value.removeprefix('(').removesuffix(')')}]"
    if isinstance(value, tuple):
        value = list(value)
    from jsonargparse import ArgumentError

    try:
        return _parser(hint).parse_object({"value": str(value) if isinstance(value, _Text) else value}).value
    except ArgumentError as error:
        raise _misfit(hint, value, where) from error


@cache
def _parser(hint: Any) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def _parsed(text: str, where: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration key {where} cannot be read", expected="YAML", got=str(text)) from error


# ----------------------------------------------------------------------------------------- types
def _fields(cls: Any) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.init]


def _names(cls: Any) -> list[str]:
    return [f.name for f in _fields(cls)]


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _holds_dataclass(hint: Any) -> bool:
    return any(dataclasses.is_dataclass(a) or _holds_dataclass(a) for a in typing.get_args(hint))


def _best(classes: list[Any], data: Mapping[str, Any]) -> Any:
    """The member of a union of dataclasses that knows most of the keys."""
    return max(classes, key=lambda cls: len(set(data) & set(_names(cls))) - len(set(data) - set(_names(cls))))


def type_name(hint: Any) -> str:
    """A type as a user would write it: ``float | None``, ``tuple[int, ...]``, ``'adamw' | 'sgd'``."""
    if hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if typing.get_origin(hint) is Literal:
        return " | ".join(repr(value) for value in typing.get_args(hint))
    if len(_options(hint)) > 1:
        return " | ".join(type_name(option) for option in _options(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(member.name for member in hint)
    name = getattr(hint, "__name__", str(hint))
    arguments = ", ".join(type_name(a) for a in typing.get_args(hint))
    return f"{name}[{arguments}]" if arguments else name


def _misfit(hint: Any, value: Any, where: str) -> ConfigError:
    return ConfigError(
        f"configuration key {where} has a value that does not fit", expected=type_name(hint), got=_show(value)
    )


def _show(value: Any) -> str:
    text = repr(str(value)) if isinstance(value, str) else repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__.replace('_Text', 'text')})"


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
