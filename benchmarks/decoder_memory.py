"""Memory of decoders with what is grafted onto them, for training and for writing: arithmetic, not measurement.

    python benchmarks/decoder_memory.py [SHAPE ...]

One study, 300 tokens, 256 tokens in each visual memory. ``kept`` and ``twice``: a training step on one device with all
activations kept, and with them computed twice; ``of 8``: the latter with everything else spread over eight devices.
"""

from __future__ import annotations

import sys

from ctscribe.language.sizes import SHAPES, memory_table

GB = 1e9


def main() -> None:
    print("| decoder | parameters | grafts | adapters | learns | precision | kept | twice | of 8 | writing |")
    print("| --- | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for name in sys.argv[1:] or SHAPES:
        rows = {(row.adapt, row.dtype, row.use): row for row in memory_table([name])}
        for adapt, dtype, use in rows:
            if use == "inference":
                continue
            row, writing = rows[adapt, dtype, "training"], rows[adapt, dtype, "inference"]
            sizes = (row.total(), row.total(checkpointing=True), row.total(checkpointing=True, gpus=8), writing.total())
            print(
                f"| {name} | {row.decoder:,} | {row.grafts:,} | {row.adapters:,} | {adapt} | {dtype} | "
                + " | ".join(f"{size / GB:.3g} GB" for size in sizes)
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
