"""Which layer reads which memory, for every strategy: the one table that answers "hierarchical or parallel?".

```
 quarters    layer 0 .. L    fine | mid | coarse | structure, one quarter of the layers each   one gate a layer
 parallel    every layer     fine + mid + coarse + structure + findings                        one gate each
 top_down    first pass      coarse, structure                                                 one gate a layer
             second pass     fine, mid                                                         one gate a layer
```

The findings come along everywhere. A Q-Former replaces the four visual memories by its queries.
"""

from __future__ import annotations

from ctscribe.language.config import Compress, Strategy

QUARTERS = ("fine", "mid", "coarse", "structure")
OVERVIEW, DETAIL = "overview", "detail"
ONLY = ""
"""Name of a layer's reader when it has but one."""

Readers = dict[str, tuple[str, ...]]
"""Reader -> the fields of `Memory` it attends to, side by side."""


def quarter_of(layer: int, layers: int) -> str:
    """Which memory a layer reads; ranges are fractions, so any depth works."""
    return QUARTERS[min(3, 4 * layer // layers)]


def visual_fields(compress: Compress) -> tuple[str, ...]:
    """The memories that come from the scan."""
    return ("queries",) if compress == "qformer" else QUARTERS


def readers_of(strategy: Strategy, compress: Compress, layer: int, layers: int) -> Readers:
    """What one decoder layer reads."""
    if strategy == "parallel":
        return {field: (field,) for field in ("findings", *visual_fields(compress))}
    if strategy == "top_down":
        return {OVERVIEW: ("findings", "coarse", "structure"), DETAIL: ("findings", "fine", "mid")}
    quarter = "queries" if compress == "qformer" else quarter_of(layer, layers)
    return {ONLY: ("findings", quarter)}
