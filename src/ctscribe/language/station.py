"""The language station: memory + prompt -> report text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctscribe.facts import FindingFacts
from ctscribe.language.compress import build_compressor
from ctscribe.language.config import LanguageConfig
from ctscribe.language.constrain import OnlyFindings, Vocabulary, complete_sentences
from ctscribe.language.encoder_decoder import EncoderDecoder
from ctscribe.language.fusion import FusedDecoder, Memory
from ctscribe.language.hosts import adapted, build_host
from ctscribe.language.memory import MemoryWriter
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.language.written import Written, by_sentence
from ctscribe.tensors import SceneTokens, VisualTokens

__all__ = ["LanguageConfig", "Writer", "graft"]


def graft(host: Any, config: LanguageConfig) -> FusedDecoder | EncoderDecoder:
    """The decoder that the strategy asks for, around a host."""
    if config.strategy == "encoder_decoder":
        return EncoderDecoder(host, config.memory_dim, config.compress)
    return FusedDecoder(
        host,
        config.memory_dim,
        config.cross_heads,
        gate=config.gate,
        strategy=config.strategy,
        compress=config.compress,
    )


class Writer(nn.Module):
    """`VisualTokens` + `SceneTokens` + facts -> next-token logits, or text.

    Args:
        config: which decoder, and how it reads.
        tokenizer: the decoder's words.
        widths: of the visual tokens, fine to coarse.
        scene_dim: of the scene tokens.
        host: a decoder that was built before; None builds the one that the configuration names.
    """

    def __init__(
        self,
        config: LanguageConfig,
        tokenizer: ReportTokenizer,
        widths: tuple[int, int, int],
        scene_dim: int,
        host: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self._vocabulary: Vocabulary | None = None
        self.memory = MemoryWriter(widths, scene_dim, config.memory_dim, config.fine_pool)
        host = build_host(config, tokenizer) if host is None else host
        self.base = adapted(host, config)
        self.decoder = graft(host, config)
        self.compress = build_compressor(
            config.compress, config.memory_dim, config.cross_heads, config.queries, config.compress_layers
        )

    def fixed_params(self) -> list[str]:
        """Names of the parameters that never learn: the weights of a decoder that is frozen or adapted."""
        if self.config.adapt == "all":
            return []
        new = set(self.decoder.fusion_params())
        return [f"decoder.{name}" for name, _ in self.decoder.named_parameters() if name not in new]

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
        ids = self._decode(self.recall(facts, visual, scene), languages, *self._prompts(facts, languages), beams)
        return [self._text(row) for row in ids.tolist()]

    @torch.no_grad()
    def compose(
        self,
        facts: FindingFacts,
        languages: Sequence[str],
        visual: VisualTokens | None = None,
        scene: SceneTokens | None = None,
        *,
        beams: int = 1,
    ) -> list[Written]:
        """As `write`, and the probability of every token, from one more forward pass over the finished texts."""
        prompt, real = self._prompts(facts, languages)
        memory = self.recall(facts, visual, scene)
        ids = self._decode(memory, languages, prompt, real, beams)
        whole = torch.cat((prompt, ids), dim=1)
        attention = torch.cat((real, torch.ones_like(ids)), dim=1)
        logits = self.decoder(whole[:, :-1], attention[:, :-1], memory)[:, prompt.shape[1] - 1 :].float()
        chosen = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        written = []
        for language, row, logs in zip(languages, ids.tolist(), chosen.tolist(), strict=True):
            ends = [len(self.tokenizer.decode(row[: count + 1])) for count in range(len(row))]
            body = row.index(self.tokenizer.eos) if self.tokenizer.eos in row else len(row)
            probabilities = [math.exp(value) for value in logs[:body]]
            written.append(by_sentence(self._text(row), language, ends[:body], probabilities))
        return written

    def _prompts(self, facts: FindingFacts, languages: Sequence[str]) -> tuple[Int[Tensor, "b l"], Int[Tensor, "b l"]]:
        prompt, real = self.tokenizer.batch_prompts(languages)
        return prompt.to(facts.state.device), real.to(facts.state.device)

    def _decode(
        self,
        memory: Memory,
        languages: Sequence[str],
        prompt: Int[Tensor, "b l"],
        real: Int[Tensor, "b l"],
        beams: int,
    ) -> Int[Tensor, "b t"]:
        """The tokens after the prompts."""
        options: dict[str, Any] = {}
        if self.config.wording == "canonical":
            self._vocabulary = self._vocabulary or Vocabulary(self.tokenizer)
            options["logits_processor"] = [OnlyFindings(self._vocabulary, languages, prompt.shape[1])]
        return self.decoder.generate(
            prompt,
            real,
            memory,
            max_new_tokens=self.config.max_tokens,
            do_sample=False,
            num_beams=beams,
            pad_token_id=self.tokenizer.pad,
            eos_token_id=self.tokenizer.eos,
            **options,
        )

    def _text(self, ids: list[int]) -> str:
        """The text of one row; in canonical wording without a sentence that was cut off."""
        text = self.tokenizer.decode(ids)
        return complete_sentences(text) if self.config.wording == "canonical" else text
