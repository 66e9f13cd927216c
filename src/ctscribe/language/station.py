"""The language station: memory + prompt -> report text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.facts import FindingFacts
from ctscribe.language.compress import build_compressor
from ctscribe.language.config import LanguageConfig
from ctscribe.language.encoder_decoder import EncoderDecoder
from ctscribe.language.fusion import FusedDecoder, Memory
from ctscribe.language.memory import MemoryWriter
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.tensors import SceneTokens, VisualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_host(config: LanguageConfig, tokenizer: ReportTokenizer) -> PreTrainedModel:
    """The stock decoder: pretrained from a path or hub id, or a small Llama from scratch."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if config.pretrained:
        return _same_words(AutoModelForCausalLM.from_pretrained(config.pretrained), config, tokenizer)
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


def _same_words(host: PreTrainedModel, config: LanguageConfig, tokenizer: ReportTokenizer) -> PreTrainedModel:
    """Refuse a host whose vocabulary is not the tokenizer's: it would read other words than were written."""
    if host.config.vocab_size != len(tokenizer):
        raise ConfigError(
            f"language: {config.pretrained} has a vocabulary of its own",
            expected=f"a decoder over the report tokenizer's {len(tokenizer)} entries",
            got=f"{host.config.vocab_size} entries",
            hint="decoders with their own tokenizer are not supported yet; leave pretrained empty to build one",
        )
    return host


def build_t5(config: LanguageConfig, tokenizer: ReportTokenizer) -> PreTrainedModel:
    """The stock encoder-decoder: pretrained from a path or hub id, or a small T5 from scratch."""
    from transformers import T5Config, T5ForConditionalGeneration

    if config.pretrained:
        return _same_words(T5ForConditionalGeneration.from_pretrained(config.pretrained), config, tokenizer)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.hidden,
            d_kv=config.hidden // config.heads,
            d_ff=config.intermediate,
            num_layers=config.layers,  # of the decoder too; the encoder is taken out
            num_heads=config.heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad,
            eos_token_id=tokenizer.eos,
            decoder_start_token_id=tokenizer.bos,
        )
    )


def build_decoder(config: LanguageConfig, tokenizer: ReportTokenizer) -> FusedDecoder | EncoderDecoder:
    """The decoder that the strategy asks for."""
    if config.strategy == "encoder_decoder":
        return EncoderDecoder(build_t5(config, tokenizer), config.memory_dim, config.compress)
    return FusedDecoder(
        build_host(config, tokenizer),
        config.memory_dim,
        config.cross_heads,
        gate=config.gate,
        strategy=config.strategy,
        compress=config.compress,
    )


class Writer(nn.Module):
    """`VisualTokens` + `SceneTokens` + facts -> next-token logits, or text."""

    def __init__(
        self, config: LanguageConfig, tokenizer: ReportTokenizer, widths: tuple[int, int, int], scene_dim: int
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.memory = MemoryWriter(widths, scene_dim, config.memory_dim, config.fine_pool)
        self.decoder = build_decoder(config, tokenizer)
        self.compress = build_compressor(
            config.compress, config.memory_dim, config.cross_heads, config.queries, config.compress_layers
        )

    def recall(self, facts: FindingFacts, visual: VisualTokens | None, scene: SceneTokens | None) -> Memory:
        """What the decoder may look at, compressed if the configuration says so."""
        memory = self.memory(visual, scene, facts)
        return memory if self.compress is None else self.compress(memory)

    def forward(
        self,
        facts: FindingFacts,
        input_ids: Int[Tensor, "b l"],
        attention: Int[Tensor, "b l"] | None,
        visual: VisualTokens | None = None,
        scene: SceneTokens | None = None,
    ) -> Float[Tensor, "b l v"]:
        return self.decoder(input_ids, attention, self.recall(facts, visual, scene))

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
        prompt = torch.tensor([self.tokenizer.prompt(language) for language in languages], device=facts.state.device)
        ids = self.decoder.generate(
            prompt,
            torch.ones_like(prompt),
            self.recall(facts, visual, scene),
            max_new_tokens=self.config.max_tokens,
            do_sample=False,
            num_beams=beams,
            pad_token_id=self.tokenizer.pad,
            eos_token_id=self.tokenizer.eos,
        )
        return [self.tokenizer.decode(row.tolist()) for row in ids]
