"""The language station: memory + prompt -> report text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctscribe.facts import FindingFacts
from ctscribe.language.fusion import FusedDecoder, Memory
from ctscribe.language.memory import MemoryWriter
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.tensors import SceneTokens, VisualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LanguageConfig:
    """The language station.

    Attributes:
        pretrained: local path or hub id of a Llama-family decoder; empty builds one from scratch with the sizes below.
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


def build_host(config: LanguageConfig, tokenizer: ReportTokenizer) -> PreTrainedModel:
    """The stock decoder: pretrained from a path or hub id, or a small Llama from scratch."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if config.pretrained:
        return AutoModelForCausalLM.from_pretrained(config.pretrained)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            intermediate_size=config.intermediate,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos,
            eos_token_id=tokenizer.eos,
            pad_token_id=tokenizer.pad,
            attn_implementation="eager" if torch.get_default_device().type == "cpu" else "sdpa",
        )
    )


class Writer(nn.Module):
    """`VisualTokens` + `SceneTokens` + facts -> next-token logits, or text."""

    def __init__(
        self, config: LanguageConfig, tokenizer: ReportTokenizer, widths: tuple[int, int, int], scene_dim: int
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.memory = MemoryWriter(widths, scene_dim, config.memory_dim, config.fine_pool)
        self.decoder = FusedDecoder(
            build_host(config, tokenizer), config.memory_dim, config.cross_heads, gate=config.gate
        )

    def forward(
        self,
        facts: FindingFacts,
        input_ids: Int[Tensor, "b l"],
        attention: Int[Tensor, "b l"] | None,
        visual: VisualTokens | None = None,
        scene: SceneTokens | None = None,
    ) -> Float[Tensor, "b l v"]:
        return self.decoder(input_ids, attention, self.memory(visual, scene, facts))

    @torch.no_grad()
    def write(
        self,
        facts: FindingFacts,
        languages: Sequence[str],
        visual: VisualTokens | None = None,
        scene: SceneTokens | None = None,
        *,
        beams: int = 1,
    ) -> list[str]:
        """One report text per study (``languages[i]`` for study i), decoded with a KV cache."""
        memory: Memory = self.memory(visual, scene, facts)
        prompt = torch.tensor([self.tokenizer.prompt(language) for language in languages], device=facts.state.device)
        ids = self.decoder.host.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=self.config.max_tokens,
            do_sample=False,
            num_beams=beams,
            pad_token_id=self.tokenizer.pad,
            eos_token_id=self.tokenizer.eos,
            **self.decoder.remember(memory),
        )
        return [self.tokenizer.decode(row.tolist()) for row in ids[:, prompt.shape[1] :]]
