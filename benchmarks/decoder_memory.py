"""Memory and time of decoders with what is grafted onto them, for training and writing: arithmetic, not measurement.

    python benchmarks/decoder_memory.py [SHAPE ...]

One study, 300 tokens, 256 tokens in each visual memory. ``kept`` and ``twice``: a training step on one device with all
activations kept, and with them computed twice; ``of 8``: the latter with everything else spread over eight devices.
``s``: seconds a study on one A100 80 GB, recomputing, at 40 % of its published rate; ``ms``: a written token.
"""

from __future__ import annotations

import sys

from ctscribe.language.sizes import SHAPES, memory_table
from ctscribe.language.times import seconds_a_token, seconds_to_train

GB = 1e9


def main() -> None:
    print("| decoder | parameters | grafts | adapters | learns | precision | kept | twice | of 8 | s | writing | ms |")
    print("| --- | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in sys.argv[1:] or SHAPES:
        rows = {(row.adapt, row.dtype, row.use): row for row in memory_table([name])}
        for adapt, dtype, use in rows:
            if use == "inference":
                continue
            row, writing = rows[adapt, dtype, "training"], rows[adapt, dtype, "inference"]
            sizes = (row.total(), row.total(checkpointing=True), row.total(checkpointing=True, gpus=8))
            print(
                f"| {name} | {row.decoder:,} | {row.grafts:,} | {row.adapters:,} | {adapt} | {dtype} | "
                + " | ".join(f"{size / GB:.3g} GB" for size in sizes)
                + f" | {seconds_to_train(row, checkpointing=True):.2g} | {writing.total() / GB:.3g} GB"
                + f" | {1000 * seconds_a_token(writing):.2g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
