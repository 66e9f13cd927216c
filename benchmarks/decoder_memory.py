"""Memory and time of decoders with what is grafted onto them, for training and writing: arithmetic, not measurement.

    PYTHONPATH=. python benchmarks/decoder_memory.py [SHAPE ...]

One study, 300 tokens, 256 tokens in each visual memory. ``kept`` and ``twice``: a training step on one device with all
activations kept, and with them computed twice; ``of 8``: the latter with everything else spread over eight devices.
``s``: seconds a study on one A100 80 GB, recomputing, at 40 % of its published rate; ``ms``: a written token.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ctscribe.language.sizes import SHAPES, kept_bytes, memory_table
from ctscribe.language.times import seconds_a_token, seconds_to_train
from ctscribe.tensors import VolumeBatch
from ctscribe.vision.build import build_encoder
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.tubelets import TubeletConfig
from recipes import demo

GB = 1e9


def main() -> None:
    encoder_table()
    print()
    decoder_table()


def decoder_table() -> None:
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


FULL = (240, 480, 480)
"""Voxels of a whole scan at 1.5 x 0.75 x 0.75 mm."""


def encoders() -> Iterator[tuple[str, EncoderConfig, tuple[int, int, int]]]:
    """Name, encoder and voxels."""
    base = demo.config().model
    yield "demo", base.encoder, base.grid.shape
    for widths in ((96, 192, 384), (192, 384, 768)):
        cut = TubeletConfig((2, 16, 16), (4, 32, 32), (8, 64, 64), widths=widths, stem=0)
        yield "/".join(map(str, widths)), EncoderConfig(tubelets=cut), FULL


def encoder_table() -> None:
    """Parameters, and bytes of one training step in float32, of encoders with their grids, on the meta device."""
    print("| encoder | voxels | parameters | kept | twice |\n| --- | --- | ---: | ---: | ---: |")
    for name, config, shape in encoders():
        count, sizes = 0, []
        for twice in (False, True):
            with torch.device("meta"):
                encoder = build_encoder(replace(config, checkpointing=twice), demo.WINDOWS).train()
                volume = VolumeBatch(torch.zeros(1, *shape), torch.zeros(1, 3))
                kept, _ = kept_bytes(lambda e=encoder, v=volume: tokens_of(e, v), encoder)  # type: ignore[misc]
            count = sum(p.numel() for p in encoder.parameters())
            sizes.append(kept + 16 * count)  # weights, gradients and two moments
        voxels = " x ".join(map(str, shape))
        print(f"| {name} | {voxels} | {count:,} | " + " | ".join(f"{size / GB:.3g} GB" for size in sizes) + " |")


def tokens_of(encoder: nn.Module, volume: VolumeBatch) -> Tensor:
    return torch.cat([scale.tokens.flatten() for scale in encoder(volume).scales])


if __name__ == "__main__":
    main()
