"""Published key layouts of vision transformers, read into one: blocks, patch embedding, positions.

```
 Hugging Face (ViT, VideoMAE)                         timm, DINO, VideoMAE's own repository
 embeddings.patch_embeddings.projection.weight        patch_embed.proj.weight
 embeddings.position_embeddings                       pos_embed
 encoder.layer.0.layernorm_before.weight              blocks.0.norm1.weight
 encoder.layer.0.attention.attention.query.weight     blocks.0.attn.qkv.weight      (three stacked)
 encoder.layer.0.attention.attention.q_bias           blocks.0.attn.q_bias          (VideoMAE: keys have no bias)
 encoder.layer.0.attention.output.dense.weight        blocks.0.attn.proj.weight
 encoder.layer.0.layernorm_after.weight               blocks.0.norm2.weight
 encoder.layer.0.intermediate.dense.weight            blocks.0.mlp.fc1.weight
 encoder.layer.0.output.dense.weight                  blocks.0.mlp.fc2.weight
```

Transformers 5 writes files under the left names; its modules in memory (``state_dict``) say
``layers.0.attention.q_proj``, ``o_proj`` and ``layers.0.mlp.fc1`` for a ViT, and ``query.bias`` without ``key.bias``
for a VideoMAE. These are read too.

A leading ``vit.``, ``videomae.``, ``encoder.``, ``module.`` or ``backbone.`` is taken off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctscribe.errors import CheckpointError

PREFIXES = ("module.", "backbone.", "vit.", "videomae.", "encoder.")
BLOCK = re.compile(r"(?:encoder\.layer|blocks|layers)\.(\d+)\.(.+)")
ROLES = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attention.out",
    "attention.o_proj": "attention.out",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.out",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
SIDES = {
    "attention.attention.query": "q",
    "attention.attention.key": "k",
    "attention.attention.value": "v",
    "attention.q_proj": "q",
    "attention.k_proj": "k",
    "attention.v_proj": "v",
}
"""Queries, keys and values where each has a matrix of its own."""
PATCH = ("embeddings.patch_embeddings.projection", "patch_embed.proj")
POSITIONS = ("embeddings.position_embeddings", "pos_embed")


@dataclass
class Published:
    """A vision transformer as published.

    Attributes:
        blocks: per layer, our names within a block -> tensors.
        patch: weight of the patch embedding, (c, 3, p, p) for images, (c, 3, t, p, p) for videos.
        patch_bias: its bias.
        positions: learned positions (1, n, c), None where they are fixed and not in the file.
        left: names in the file that belong to none of these.
    """

    blocks: list[dict[str, Tensor]] = field(default_factory=list)
    patch: Tensor | None = None
    patch_bias: Tensor | None = None
    positions: Tensor | None = None
    left: list[str] = field(default_factory=list)

    @property
    def video(self) -> bool:
        """True when its patches have a depth."""
        return self.patch is not None and self.patch.ndim == 5


def read_published(state: Mapping[str, Tensor]) -> Published:
    """Sort the tensors of a file by what they are.

    Raises:
        CheckpointError: no block or no patch embedding is recognised, or a block is incomplete.
    """
    found, blocks = Published(), dict[int, dict[str, Tensor]]()
    for name, tensor in state.items():
        short = _short(name)
        block = BLOCK.fullmatch(short)
        stem, _, kind = short.rpartition(".")
        if block is not None:
            blocks.setdefault(int(block[1]), {})[block[2]] = tensor.float()
        elif stem in PATCH and kind == "weight":
            found.patch = tensor.float()
        elif stem in PATCH and kind == "bias":
            found.patch_bias = tensor.float()
        elif short in POSITIONS:
            found.positions = tensor.float()
        else:
            found.left.append(name)
    if not blocks or found.patch is None:
        raise CheckpointError(
            "not a vision transformer in a layout that is known here",
            expected="the names of ViT or VideoMAE in Hugging Face's, timm's or VideoMAE's own layout",
            got=", ".join(sorted(state)[:3]),
        )
    found.blocks = [_block(number, blocks[number], found.left) for number in sorted(blocks)]
    return found


def _short(name: str) -> str:
    """A name without what other code put before it; ``encoder.layer`` is a name of its own."""
    for prefix in PREFIXES:
        if name.startswith(prefix) and not name.startswith("encoder.layer."):
            name = name.removeprefix(prefix)
    return name


def _block(number: int, tensors: dict[str, Tensor], left: list[str]) -> dict[str, Tensor]:
    """One block under our names."""
    made: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem in ROLES:
            made[f"{ROLES[stem]}.{kind}"] = tensor
        elif stem in SIDES:
            rest[f"{SIDES[stem]}.{kind}"] = tensor
        elif kind in ("q_bias", "v_bias"):
            rest[f"{kind[0]}.bias"] = tensor
        elif stem == "attn.qkv":
            rest.update({f"{side}.{kind}": part for side, part in zip("qkv", tensor.chunk(3), strict=True)})
        else:
            left.append(f"block {number}: {name}")
    try:
        made["attention.q.weight"], made["attention.q.bias"] = rest["q.weight"], rest["q.bias"]
        made["attention.kv.weight"] = torch.cat((rest["k.weight"], rest["v.weight"]))
        # VideoMAE's keys have no bias, which is a bias of zero.
        keys = rest.get("k.bias", torch.zeros_like(rest["q.bias"]))
        made["attention.kv.bias"] = torch.cat((keys, rest["v.bias"]))
    except KeyError as error:
        raise CheckpointError(f"block {number} of the vision transformer is incomplete", got=f"no {error}") from error
    return made
