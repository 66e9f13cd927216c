"""ctscribe writes chest-CT reports.

The public names load on first use (PEP 562), so that ``import ctscribe`` costs nothing and needs no torch:

* `Reporter`: from a path on disk to a report;
* `Report`: what a report is before it is text;
* `evaluate`: scores reports against references.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Reporter": "ctscribe.pipeline",
    "Report": "ctscribe.report",
    "evaluate": "ctscribe.evaluation",
}

__all__ = ["Report", "Reporter", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *_HOME})
