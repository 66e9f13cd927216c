"""Dataclasses of this package <-> plain JSON data, and the JSON schema of both, from the same type hints.

Knows just what the report needs: str, int, float, bool, None, Literal, tuples, mappings with string keys, unions with
None and frozen dataclasses. A tuple of (name, value) string pairs is a JSON object.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ctscribe.errors import UnreadableInput

_PAIRS = tuple[tuple[str, str], ...]
_SCALARS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def to_plain(value: Any, kind: Any = None) -> Any:
    """Turn a dataclass (or a value of a field's type) into dicts, lists and scalars."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        return {f.name: to_plain(getattr(value, f.name), hints[f.name]) for f in fields(value)}
    if kind == _PAIRS:
        return dict(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: Any, data: Any, where: str = "report") -> Any:
    """Read plain data back as `kind`.

    Raises:
        UnreadableInput: a key is missing or unknown, or a value has the wrong type; names the place.
    """
    if is_dataclass(kind):
        return _dataclass_from(kind, data, where)
    if kind == _PAIRS:
        return tuple(sorted(_expect(data, dict, where, "an object").items()))
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        return from_plain(next(a for a in args if a is not type(None)), data, where)
    if origin is Literal:
        if data not in args:
            raise _wrong(where, " | ".join(map(str, args)), data)
        return data
    if origin is tuple:
        return _tuple_from(args, data, where)
    if origin is not None and issubclass(origin, Mapping):
        items = _expect(data, dict, where, "an object").items()
        return {key: from_plain(args[1], item, f"{where}.{key}") for key, item in items}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return data
    if not isinstance(data, kind) or (kind is not bool and isinstance(data, bool)):
        raise _wrong(where, _SCALARS[kind], data)
    return data


def _dataclass_from(kind: Any, data: Any, where: str) -> Any:
    _expect(data, dict, where, "an object")
    known = {f.name: f for f in fields(kind)}
    for key in data:
        if key not in known:
            raise _wrong(where, f"keys out of {', '.join(known)}", key)
    values = {}
    for name, spec in known.items():
        if name in data:
            values[name] = from_plain(_hints(kind)[name], data[name], f"{where}.{name}")
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise _wrong(where, f"key {name!r}", "nothing")
    return kind(**values)


def _tuple_from(args: tuple, data: Any, where: str) -> tuple:
    _expect(data, list, where, "a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(from_plain(args[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if len(args) != len(data):
        raise _wrong(where, f"{len(args)} items", data)
    return tuple(from_plain(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(args, data, strict=True)))


def _expect(data: Any, kind: type, where: str, name: str) -> Any:
    if not isinstance(data, kind):
        raise _wrong(where, name, data)
    return data


def _wrong(where: str, expected: str, got: object) -> UnreadableInput:
    return UnreadableInput(f"{where}: not a ctscribe report", code="bad_report", expected=expected, got=repr(got)[:80])


def schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """JSON schema (2020-12) of a type; dataclasses are collected in `definitions` and referred to."""
    if is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        if name not in definitions:
            definitions[name] = {}
            hints = _hints(kind)  # type: ignore[arg-type]
            definitions[name] = {
                "type": "object",
                "properties": {f.name: schema_of(hints[f.name], definitions) for f in fields(kind)},
                "required": [f.name for f in fields(kind)],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}
    if kind == _PAIRS:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = [schema_of(a, definitions) for a in args if a is not type(None)]
        return {"anyOf": [*inner, {"type": "null"}]} if type(None) in args else {"anyOf": inner}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return {"type": "array", "items": schema_of(args[0], definitions)}
    if origin is tuple:
        items = [schema_of(a, definitions) for a in args]
        return {"type": "array", "prefixItems": items, "minItems": len(args), "maxItems": len(args)}
    if origin is not None:
        return {"type": "object", "additionalProperties": schema_of(args[1], definitions)}
    return {"type": _SCALARS[kind]}
