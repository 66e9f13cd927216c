"""The bricks that the tensor stations share: attention, MLP, norm, gate, positions in millimetres."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.errors import UsageError

UNHEARD = -1e4
"""Added to an attention score, it leaves a weight of exactly zero; finite, so that rows of it stay numbers."""
SAMPLES = 64
"""Values of each tensor that enter a network's fingerprint."""


class MLP(nn.Module):
    """Linear -> GELU -> linear."""

    def __init__(self, dim: int, hidden: int | None = None, out: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 4 * dim
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, out or dim)

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
        hidden = self.up(x)
        # The widest layer of a block: what does not learn needs no second copy of it.
        return self.down(F.gelu(hidden) if torch.is_grad_enabled() else torch.ops.aten.gelu_(hidden))


class TanhGate(nn.Module):
    """A scalar gate: ``tanh(scale) * x``. At zero the grafted path is the identity's silent partner."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([float(start)]))

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        return torch.tanh(self.scale) * x


def rotary_angles(positions: Float[Tensor, "*b n 3"], head_dim: int, longest_mm: float) -> Float[Tensor, "*b n a"]:
    """Angles of RoPE-3D over millimetres: a third of the channel pairs for each axis.

    Wavelengths run geometrically from 4 mm (below a fine tubelet) to ``longest_mm``; pairs left over when
    ``head_dim / 2`` is not divisible by three do not rotate.
    """
    pairs = head_dim // 2
    per_axis = pairs // 3
    if per_axis == 0:
        return positions.new_zeros(*positions.shape[:-1], pairs)
    steps = torch.linspace(0, 1, per_axis, device=positions.device, dtype=torch.float32)
    waves = 4.0 * (longest_mm / 4.0) ** steps
    angles = positions.float().unsqueeze(-1) * (2 * math.pi / waves)
    angles = rearrange(angles, "... n k p -> ... n (k p)")
    return F.pad(angles, (0, pairs - 3 * per_axis))


def rotate(x: Float[Tensor, "*b h n d"], angles: Float[Tensor, "*b n a"]) -> Float[Tensor, "*b h n d"]:
    """Rotate channel pairs (first half with second half) of queries or keys by ``angles``."""
    cos, sin = angles.cos().unsqueeze(-3).to(x.dtype), angles.sin().unsqueeze(-3).to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.addcmul(x * torch.cat((cos, cos), dim=-1), torch.cat((b, a), dim=-1), torch.cat((-sin, sin), dim=-1))


class Remembered(NamedTuple):
    """A memory as attention wants it, made once and attended many times.

    Attributes:
        kv: keys and values by head.
        mask: what is added to the scores: validity, and whatever bias there is.
        weight: what is heard is multiplied by it; 0 where a sample has no valid token.
    """

    kv: Float[Tensor, "b 2 h m d"]
    mask: Float[Tensor, "b heads 1 m"]
    weight: Float[Tensor, "b 1 1"]


class Attention(nn.Module):
    """Multi-head attention, self or cross, through PyTorch's fused kernel.

    Args:
        dim: channels of the queries and of the output.
        memory_dim: channels of keys and values (``dim`` when not given).
        longest_mm: when given, RoPE-3D over millimetres with this longest wavelength; needs ``positions``.
    """

    def __init__(self, dim: int, heads: int, *, memory_dim: int | None = None, longest_mm: float | None = None) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention width {dim} is not divisible by {heads} heads")
        self.heads, self.longest_mm = heads, longest_mm
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(memory_dim or dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def remember(self, memory: Float[Tensor, "b m d"]) -> Float[Tensor, "b m kv"]:
        """Keys and values of a memory, side by side: computed once, attended many times."""
        return self.kv(memory)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        remembered: Float[Tensor, "b m kv"] | None = None,
        *,
        valid: Bool[Tensor, "b m"] | None = None,
        bias: Float[Tensor, "b h n m"] | None = None,
        positions: Float[Tensor, "b n 3"] | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n m"] | None]:
        """Returns the output and, if asked, the weights averaged over heads; self-attention without ``remembered``.

        A query whose keys are all invalid receives the average of nothing: zero.
        """
        if remembered is None and positions is not None and self._turns_complex(x):
            q, k, v = self._turned(x, positions)
        else:
            remembered = self.remember(x) if remembered is None else remembered
            q = self._by_head(self.q(x))
            k, v = rearrange(remembered, "b m (two h d) -> two b h m d", two=2, h=self.heads)
            if self.longest_mm is not None and positions is not None:
                angles = rotary_angles(positions, q.shape[-1], self.longest_mm)
                q, k = rotate(q, angles), rotate(k, angles)
        mask = _additive_mask(valid, bias, q.dtype)
        heard, weights = self._attend(q, k, v, mask, return_weights)
        return (heard if valid is None else heard * valid.any(-1)[:, None, None]), weights

    def prepare(
        self, memory: Float[Tensor, "b m d"], valid: Bool[Tensor, "b m"], bias: Float[Tensor, "1 h 1 m"] | None = None
    ) -> Remembered:
        """A memory with everything about it that does not depend on who asks; for `recall`."""
        kv = rearrange(self.remember(memory), "b m (two h d) -> b two h m d", two=2, h=self.heads).contiguous()
        real = valid.any(-1)[:, None, None].to(kv.dtype)
        unheard = _invalid(valid, kv.dtype)
        return Remembered(kv, unheard if bias is None else unheard + bias.to(kv.dtype), real)

    def recall(
        self, x: Float[Tensor, "b n c"], memory: Remembered, *, return_weights: bool = False
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n m"] | None]:
        """`forward` for a memory that was made ready by `prepare`."""
        k, v = memory.kv.unbind(1)
        q = self._by_head(self.q(x))
        heard, weights = self._attend(q, k, v, memory.mask.to(q.dtype), return_weights)
        return heard * memory.weight.to(heard.dtype), weights

    def _turns_complex(self, x: Tensor) -> bool:
        """Whether `_turned` may stand for `rotate`: complex numbers know two precisions and no compiler here."""
        known = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(x.device.type)
        return self.longest_mm is not None and known and x.device.type == "cpu" and not torch.compiler.is_compiling()

    def _turned(self, x: Float[Tensor, "b n c"], positions: Float[Tensor, "b n 3"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of self-attention, the first two turned as complex numbers: one pass over memory
        where `rotate` needs six. For that each pair's halves lie side by side, which no product of queries and keys
        can see."""
        dim, heads = self.q.in_features, self.heads
        pairs = dim // heads // 2
        rows = torch.cat((self.q.weight, self.kv.weight[:dim])).unflatten(0, (2 * heads, 2, pairs))
        shift = torch.cat((self.q.bias, self.kv.bias[:dim])).unflatten(0, (2 * heads, 2, pairs))
        asked = F.linear(x, rows.transpose(1, 2).flatten(0, 2), shift.transpose(1, 2).flatten())
        angles = rotary_angles(positions, 2 * pairs, cast(float, self.longest_mm)).to(x.dtype)
        turn = torch.view_as_complex(torch.stack((angles.cos(), angles.sin()), dim=-1)).unsqueeze(-2)
        turned = torch.view_as_complex(asked.unflatten(-1, (2 * heads, pairs, 2))) * turn
        q, k = torch.view_as_real(turned).flatten(-2).transpose(1, 2).chunk(2, dim=1)
        return q, k, self._by_head(F.linear(x, self.kv.weight[dim:], self.kv.bias[dim:]))

    def _by_head(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, return_weights: bool
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n m"] | None]:
        # PyTorch's fused kernel has a slow backward pass on CPU (about five times the plain one at these sizes).
        plain = return_weights or (q.device.type == "cpu" and torch.is_grad_enabled())
        if plain:
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = (scores if mask is None else scores + mask).softmax(-1, dtype=v.dtype)
            heard = weights @ v
        else:
            weights = None
            heard = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = self.out(heard.transpose(1, 2).flatten(2))
        return out, weights.mean(1) if return_weights and weights is not None else None


def _additive_mask(valid: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Validity and bias as one additive mask."""
    if valid is None:
        return None if bias is None else bias.to(dtype)
    return _invalid(valid, dtype) if bias is None else _invalid(valid, dtype) + bias.to(dtype)


def _invalid(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Validity (b, m) as an additive mask (b, 1, 1, m); finite, so that an all-invalid row stays a number."""
    return torch.zeros_like(valid, dtype=dtype).masked_fill(~valid, UNHEARD)[:, None, None, :]


class Block(nn.Module):
    """Pre-norm transformer block: self-attention (optionally with positions, bias), then MLP."""

    def __init__(self, dim: int, heads: int, *, mlp_ratio: float = 4.0, longest_mm: float | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, longest_mm=longest_mm)
        self.mlp = MLP(dim, int(mlp_ratio * dim))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        *,
        valid: Bool[Tensor, "b n"] | None = None,
        bias: Float[Tensor, "b h n n"] | None = None,
        positions: Float[Tensor, "b n 3"] | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n n"] | None]:
        heard, weights = self.attention(
            self.norm1(x), valid=valid, bias=bias, positions=positions, return_weights=return_weights
        )
        x = x + heard
        return x + self.mlp(self.norm2(x)), weights


def usable_device(word: str) -> torch.device:
    """A torch device on which a tensor can be made.

    Raises:
        UsageError: no such device, or not on this machine.
    """
    try:
        device = torch.device(word)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise UsageError(
            f"device {word!r} cannot be used",
            expected="cpu" if not cards else "cpu, cuda" + "".join(f", cuda:{n}" for n in range(cards)),
            got=str(error).split(",")[0].split("\n")[0][:120],
            hint="install a torch built for your GPU" if word.startswith("cuda") and not cards else None,
        ) from error
    return device


def fingerprint(host: nn.Module) -> str:
    """16 hexadecimal digits over every tensor's name, shape and `SAMPLES` of its values: tells networks apart."""
    digest = hashlib.sha256()
    for name, tensor in host.state_dict().items():
        values = tensor.detach().flatten()
        places = torch.linspace(0, len(values) - 1, SAMPLES, dtype=torch.float64, device=values.device).long()
        picked = values[places].float().cpu()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + picked.numpy().tobytes())
    return digest.hexdigest()[:16]
