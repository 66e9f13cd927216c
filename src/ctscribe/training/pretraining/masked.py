"""Masked tubelet prediction: hide most of the scan, see the rest, fill in what is missing.

```
 volume ── hide 75 % of the cells ──► encoder (hidden voxels are padding: nothing of them enters)
                                         │ fine + mid + coarse tokens
 fine grid:  visible token | mask token ─┴─► small decoder ──► voxels of every fine tubelet
                                                               loss on the hidden ones only
```

After He et al. ("Masked Autoencoders Are Scalable Vision Learners", CVPR 2022) and Tong et al. ("VideoMAE", NeurIPS
2022). Hidden means invalid, as voxels beyond the border are: every backbone already leaves those out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.resample import Size
from ctscribe.vision.tubelets import fill_up, pool_valid, token_centres
from ctscribe.vision.vit import Bring, PyramidEncoder
from ctscribe.vision.windows import WindowBlock

Unit = Literal["fine", "mid", "coarse"]
UNITS: tuple[Unit, ...] = ("fine", "mid", "coarse")


@dataclass(frozen=True)
class MaskedConfig:
    """What is hidden, and the decoder that fills it in.

    Attributes:
        ratio: share of the cells that are hidden.
        unit: scale whose cells are hidden as a whole; small cells are guessed from their neighbours.
        width: channels of the decoder.
        layers: layers of the decoder.
        normalised: predict every tubelet relative to its own mean and spread.
    """

    ratio: float = 0.75
    unit: Unit = "mid"
    width: int = 64
    layers: int = 2
    normalised: bool = True


@dataclass(frozen=True)
class Reconstruction:
    """Voxels of fine tubelets as predicted and as they are, and which tubelets were hidden (and are not padding)."""

    predicted: Float[Tensor, "b n p"]
    target: Float[Tensor, "b n p"]
    hidden: Bool[Tensor, "b n"]


def draw_hidden(studies: int, grid: Size, ratio: float, device: torch.device) -> Bool[Tensor, "b t h w"]:
    """Cells to hide: the same number in every study, at least one, never all. Drawn from torch's generator."""
    cells = grid[0] * grid[1] * grid[2]
    if cells < 2:
        raise ConfigError(
            "nothing is left to see when the only cell is hidden", expected="two cells", hint="lower masked.unit"
        )
    count = min(max(1, round(ratio * cells)), cells - 1)
    # On the CPU, so that a seed hides the same cells everywhere.
    rank = torch.rand(studies, cells).argsort(1).argsort(1)
    return (rank < count).reshape(studies, *grid).to(device)


def hide(volume: VolumeBatch, hidden: Bool[Tensor, "b t h w"], cell: Size) -> VolumeBatch:
    """The scan with hidden cells of ``cell`` voxels turned into padding, their values gone."""
    covered = hidden
    for axis, voxels in enumerate(cell, start=1):
        covered = covered.repeat_interleave(voxels, axis)
    valid = ~covered if volume.valid is None else volume.valid & ~covered
    return VolumeBatch(torch.where(valid, volume.hu, torch.zeros_like(volume.hu)), volume.spacing, valid)


def tubelet_voxels(image: Float[Tensor, "b w z y x"], size: Size, *, normalised: bool) -> Float[Tensor, "b n p"]:
    """Windowed voxels of every tubelet, one window after the other.

    Normalised, each window of a tubelet has mean 0 and spread 1; flat tubelets (air) stay near zero instead of having
    their noise magnified.
    """
    a, b, c = size
    voxels = rearrange(image, "b w (t a) (h b2) (x c2) -> b (t h x) w (a b2 c2)", a=a, b2=b, c2=c)
    if normalised:
        spread = (voxels.var(-1, keepdim=True, unbiased=False) + 1e-4).sqrt()
        voxels = (voxels - voxels.mean(-1, keepdim=True)) / spread
    return voxels.flatten(2)


class MaskedHead(nn.Module):
    """Hides, looks and fills in.

    Args:
        config: what is hidden and how large the decoder is.
        encoder: whose widths, tubelets and windows decide the shapes; it is not a part of the head.
    """

    def __init__(self, config: MaskedConfig, encoder: PyramidEncoder) -> None:
        super().__init__()
        if not 0 < config.ratio < 1:
            raise ConfigError(
                "that share of a scan cannot be hidden", expected="masked.ratio between 0 and 1", got=f"{config.ratio}"
            )
        self.config = config
        fine, mid, coarse = encoder.widths
        self.enter = nn.Linear(fine, config.width)
        self.bring = nn.ModuleList(Bring(width, config.width) for width in (mid, coarse))
        self.missing = nn.Parameter(torch.randn(config.width) * 0.02)
        longest = encoder.config.longest_mm
        heads = max(1, config.width // encoder.config.head_dim)
        self.layers = nn.ModuleList(
            WindowBlock(config.width, heads, encoder.config.window, layer % 2 == 1, 2.0, longest)
            for layer in range(config.layers)
        )
        a, b, c = encoder.config.tubelets.strides[0]
        windows = len(encoder.tokenizer.windows.low)
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, windows * a * b * c)

    def forward(self, encoder: PyramidEncoder, volume: VolumeBatch) -> Reconstruction:
        """Reconstruction of a batch by an encoder that sees only what is not hidden."""
        tubelets = encoder.config.tubelets
        volume = fill_up(encoder.adapt(volume), tubelets.multiple)
        fine, cell = tubelets.strides[0], tubelets.strides[UNITS.index(self.config.unit)]
        z, y, x = volume.hu.shape[1:]
        grid = (z // cell[0], y // cell[1], x // cell[2])
        covered = draw_hidden(len(volume.hu), grid, self.config.ratio, volume.hu.device)
        seen = hide(volume, covered, cell)
        target = tubelet_voxels(encoder.tokenizer.windows(volume.hu), fine, normalised=self.config.normalised)
        real, visible = pool_valid(volume, fine), pool_valid(seen, fine)
        visual = encoder.encode(seen)
        places = token_centres(visual.fine.grid, fine, volume.spacing)
        filled = self.fill(visual, ScaleTokens(visual.fine.tokens, visual.fine.grid, places, real), visible)
        return Reconstruction(filled, target, real & ~visible)

    def fill(self, visual: VisualTokens, place: ScaleTokens, visible: Bool[Tensor, "b n"]) -> Float[Tensor, "b n p"]:
        """Voxels of every fine tubelet, from the tokens of those that were visible."""
        known = visible.unsqueeze(-1)
        x = torch.where(known, self.enter(visual.fine.tokens), self.missing.to(visual.fine.tokens.dtype))
        for scale, bring in zip((visual.mid, visual.coarse), self.bring, strict=True):
            x = x + bring(scale, place.grid, True)
        for layer in self.layers:
            x = layer(place.map(x), masked=True)
        return self.leave(self.norm(x))
