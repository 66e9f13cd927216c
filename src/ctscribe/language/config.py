"""What the language station can be told: one word for how layers read, one for how much they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctscribe.errors import ConfigError

Strategy = Literal["quarters", "parallel", "top_down", "encoder_decoder"]
Compress = Literal["none", "qformer", "resampler"]


@dataclass(frozen=True)
class LanguageConfig:
    """The language station.

    Attributes:
        pretrained: local path or hub id of a Llama-family decoder (of a T5 for ``encoder_decoder``); empty builds one
            from scratch with the sizes below.
        vocab: entries of the tokenizer that is trained with a decoder from scratch.
        hidden: width of the decoder.
        layers: layers of the decoder.
        heads: attention heads of the decoder.
        intermediate: width of its feed-forward layers.
        memory_dim: width of what the writer reads.
        cross_heads: attention heads of the grafted cross-attention.
        gate: where the gates start (0 for a pretrained host).
        fine_pool: fine tokens (t, h, w) that are averaged into one memory entry.
        max_tokens: longest text that is written, in tokens.
        strategy: how layers read the scan: ``quarters`` (each quarter of the layers its scale), ``parallel`` (every
            layer every scale, a gate each), ``top_down`` (two passes: overview, then detail) or ``encoder_decoder``
            (a T5 decoder whose own cross-attention reads everything).
        compress: what stands between scan and layers: ``none``, ``resampler`` (`queries` latents for each scale) or
            ``qformer`` (`queries` learned questions to everything seen).
        queries: latents of a resampler per scale, or questions of a Q-Former.
        compress_layers: layers of the resampler or Q-Former.
    """

    pretrained: str = ""
    vocab: int = 3000
    hidden: int = 256
    layers: int = 8
    heads: int = 8
    intermediate: int = 704
    memory_dim: int = 256
    cross_heads: int = 8
    gate: float = 0.0
    fine_pool: tuple[int, int, int] = (2, 2, 2)
    max_tokens: int = 640
    strategy: Strategy = "quarters"
    compress: Compress = "none"
    queries: int = 32
    compress_layers: int = 2

    def __post_init__(self) -> None:
        if self.strategy == "top_down" and self.compress == "qformer":
            raise ConfigError(
                "language: top_down reads coarse before fine, but a Q-Former leaves no scales",
                expected="compress: none or resampler",
                got="strategy: top_down with compress: qformer",
            )
        if self.queries < 1 or self.compress_layers < 1:
            raise ConfigError(
                "language: queries and compress_layers must be at least 1",
                got=f"queries: {self.queries}, compress_layers: {self.compress_layers}",
            )
