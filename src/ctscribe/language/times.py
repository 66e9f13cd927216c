"""How long a decoder takes on a GPU of 80 GB: operations and bytes over published rates. Arithmetic, not measurement.

```
 training   2 operations a parameter and token forward; as many again for the gradient of what enters each layer, and
            for that of each weight that learns; forward once more where activations are computed twice
 writing    every weight is read once a token: bytes / bandwidth
```

Eight devices train eight studies at a time, and share the reading of the weights while writing; what they say to each
other is not counted. A scan's encoder comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctscribe.language.sizes import SHAPES, MemoryRow


@dataclass(frozen=True)
class Gpu:
    """A device, by its data sheet.

    Attributes:
        memory: bytes.
        rate: operations a second of dense matrix products, by precision.
        bandwidth: bytes a second.
        share: of that rate that a decoder reaches in practice.
    """

    memory: float
    rate: dict[str, float]
    bandwidth: float
    share: float


A100 = Gpu(80e9, {"bfloat16": 312e12, "float32": 156e12}, 2.0e12, 0.4)
"""NVIDIA A100 80 GB as published (float32 by way of TF32); a share of 0.4 is what decoders commonly reach."""


def operations(row: MemoryRow, *, tokens: int = 300, checkpointing: bool = False) -> float:
    """Of one training step with one study."""
    shape = SHAPES[row.shape]
    looked_up = 0 if shape.tied else shape.vocab * shape.hidden  # a table that is read, not multiplied with
    used = row.decoder - looked_up + row.adapters + row.grafts
    learns = used if row.adapt == "all" else row.adapters + row.grafts
    return 2.0 * tokens * (used * (3 if checkpointing else 2) + learns)


def seconds_to_train(row: MemoryRow, gpu: Gpu = A100, *, tokens: int = 300, checkpointing: bool = False) -> float:
    """One step with one study on one device."""
    return operations(row, tokens=tokens, checkpointing=checkpointing) / (gpu.rate[row.dtype] * gpu.share)


def seconds_a_token(row: MemoryRow, gpu: Gpu = A100, *, gpus: int = 1) -> float:
    """One token of one report."""
    return row.weights / gpus / gpu.bandwidth
