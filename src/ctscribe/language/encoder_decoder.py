"""A T5 decoder that reads the scan as if it were the encoder's output: cross-attention is its own, nothing is grafted.

```
 findings + fine + mid + coarse + structure ─► norm, linear ─► "encoder states" ─► T5 decoder ─► words
```

The vision and scene stations are the encoder; the T5 comes without its own encoder's blocks (see `hosts.prepare`), so
that no parameter is idle.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ctscribe.language.adapt import ADAPTER
from ctscribe.language.config import Compress
from ctscribe.language.fusion import Memory
from ctscribe.language.plan import visual_fields
from ctscribe.language.rows import few_rows


class EncoderDecoder(nn.Module):
    """A ``T5ForConditionalGeneration`` without encoder, fed by the memory.

    Args:
        host: from scratch or pretrained, adapted or not.
        memory_dim: width of the memory.
        compress: what the memory went through, see `compress`.
    """

    host: Any

    def __init__(self, host: nn.Module, memory_dim: int, compress: Compress = "none") -> None:
        super().__init__()
        self.host = host
        self.fields = ("findings", *visual_fields(compress))
        self.norm, self.read = nn.LayerNorm(memory_dim), nn.Linear(memory_dim, self.host.config.d_model)

    def fusion_params(self) -> list[str]:
        """Names of the parameters that the host did not bring."""
        return [n for n, _ in self.named_parameters() if not n.startswith("host.") or ADAPTER in n]

    def gates(self) -> list[dict[str, float]]:
        """None: a T5 has learned to read from the beginning."""
        return []

    def states(self, memory: Memory) -> tuple[Float[Tensor, "b m c"], Bool[Tensor, "b m"]]:
        """The memory in the width of the decoder, and which of it is real."""
        tokens, valid = memory.gather(self.fields)
        return self.read(self.norm(tokens)), valid

    def forward(
        self,
        input_ids: Int[Tensor, "b l"],
        attention_mask: Int[Tensor, "b l"] | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "b l v"]:
        """Next-token logits; rows may be padded on either side (positions are relative)."""
        if memory is None:
            states = self.read.weight.new_zeros(len(input_ids), 1, self.read.out_features)
            valid = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        else:
            states, valid = self.states(memory)
        return self.host(
            encoder_outputs=_outputs(states, self.host),
            attention_mask=valid.long(),
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            use_cache=False,
        ).logits

    @torch.no_grad()
    def generate(
        self, prompt: Int[Tensor, "b l"], attention_mask: Int[Tensor, "b l"], memory: Memory, **options: Any
    ) -> Int[Tensor, "n t"]:
        """The tokens after the prompt; the decoder's cache keeps keys and values of the states from the first step."""
        states, valid = self.states(memory)
        with few_rows(self.host, len(prompt) * options.get("num_beams", 1)):
            made = self.host.generate(
                encoder_outputs=_outputs(states, self.host),
                attention_mask=valid.long(),
                decoder_input_ids=prompt,
                decoder_attention_mask=attention_mask,
                **options,
            )
        return made[:, prompt.shape[1] :]


def _outputs(states: Tensor, host: Any) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states.to(host.dtype))
