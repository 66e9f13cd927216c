"""Prompt texts, remarks and notes, from ``prompts.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def prompts() -> Any:
    """The whole file."""
    return yaml.safe_load((files(__package__) / "prompts.yaml").read_text(encoding="utf-8"))
