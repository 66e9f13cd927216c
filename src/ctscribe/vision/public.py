"""A public encoder as a second pair of eyes: its frozen features join the tubelets, the pyramid goes on from there.

```
 volume ─┬─ tubelets ─────────────────────────────────► tokens ──┐
         │                                                       + ──► stages of the pyramid
         └─ framed as published ─ frozen network ─ features ─────┘
                                     read at each token's centre, norm, project to the scale's width
```

A public encoder sees the chest at its own grid, often of several centimetres; the tubelets keep what is small. Its
weights never learn: it runs without gradients and in evaluation mode, whatever the training does.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.astra import AstraNetwork
from ctscribe.vision.colipri import ColipriNetwork
from ctscribe.vision.config import EncoderConfig, PublicConfig
from ctscribe.vision.resample import Mode, Size, resample_box
from ctscribe.vision.spectre import SpectreNetwork
from ctscribe.vision.tubelets import fill_up, valid_box
from ctscribe.vision.vit import PyramidEncoder
from ctscribe.vision.weights import fit, packaged_astra, read_state

Network = AstraNetwork | ColipriNetwork | SpectreNetwork
NETWORKS: dict[str, type[Network]] = {
    "astra": AstraNetwork,
    "colipri": ColipriNetwork,
    "spectre-fm": SpectreNetwork,
}
#: HU of what lies beyond a scan.
AIR_HU = -1000.0


def public_network(backbone: str, config: PublicConfig) -> Network:
    """The architecture with its weights, in evaluation mode.

    Raises:
        ConfigError: no weights are named.
        DependencyMissing, CheckpointError: see `ctscribe.vision.weights`.
    """
    network = NETWORKS[backbone](config.size)
    if config.weights != "random":
        if not config.weights and backbone != "astra":
            raise ConfigError(
                f"the backbone {backbone} needs its published weights",
                expected="a local file in encoder.public.weights, or random to try things out",
                got="nothing",
                hint="no package ships these weights: download them from their authors",
            )
        path = Path(config.weights) if config.weights else packaged_astra()
        fit(network, read_state(path), path, prefixes=network.prefixes, drop=network.drop)
    return network.eval()


class PublicFeatures(nn.Module):
    """Features of a frozen public encoder, read where the tokens are."""

    def __init__(self, backbone: str, config: PublicConfig, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = public_network(backbone, config).requires_grad_(False)
        self.frame: Size = config.frame if any(config.frame) else self.network.frame
        if min(self.frame) < 1:
            raise ConfigError(
                "encoder.public.frame has an empty side",
                expected="voxels (z, y, x), or three zeros",
                got=str(self.frame),
            )
        self.norm = nn.LayerNorm(self.network.channels)
        self.project = nn.ModuleList(nn.Linear(self.network.channels, w) for w in widths)

    def train(self, mode: bool = True) -> PublicFeatures:
        """The public encoder stays in evaluation mode: its running statistics are part of its weights."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, volume: VolumeBatch, tubelets: VisualTokens) -> VisualTokens:
        features, half_mm = self.features(volume)
        scales = []
        for scale, project in zip(tubelets.scales, self.project, strict=True):
            read = read_at(features, scale, half_mm)
            scales.append(scale.map(scale.tokens + project(self.norm(read))))
        return VisualTokens(scales[0], scales[1], scales[2])

    @torch.no_grad()
    def features(self, volume: VolumeBatch) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b 3"]]:
        """The feature map, and half of its extent (z, y, x) in mm around the centre of the field of view."""
        if volume.valid is None:
            hu = volume.hu
            low = torch.zeros_like(volume.spacing)
            high = low + torch.tensor(hu.shape[1:], device=hu.device, dtype=low.dtype)
        else:
            hu = torch.where(volume.valid, volume.hu, AIR_HU)
            low, high = valid_box(volume.valid)
        if self.network.spacing is not None:
            extent = torch.tensor([n * mm for n, mm in zip(self.frame, self.network.spacing, strict=True)])
            middle, half = (low + high) / 2, extent.to(low) / volume.spacing / 2
            low, high = middle - half, middle + half
        framed = resample_box(hu.float(), low, high, self.frame, fill=AIR_HU, mode=cast(Mode, self.network.mode))
        return self.network(framed), (high - low) * volume.spacing / 2


def read_at(
    features: Float[Tensor, "b c t h w"], scale: ScaleTokens, half_mm: Float[Tensor, "b 3"]
) -> Float[Tensor, "b n c"]:
    """Features at the tokens' centres, between cells by trilinear interpolation; beyond the map its border holds."""
    places = (scale.centres / half_mm[:, None, :]).flip(-1)[:, :, None, None]
    read = F.grid_sample(features.float(), places.float(), mode="bilinear", padding_mode="border", align_corners=False)
    return read.flatten(2).transpose(1, 2)


class PublicEncoder(PyramidEncoder):
    """The pyramid over tubelets that know what a public encoder sees there."""

    def __init__(self, config: EncoderConfig, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__(config, windows)
        self.public = PublicFeatures(config.backbone, config.public, self.widths)

    def see(self, volume: VolumeBatch) -> VisualTokens:
        volume = fill_up(volume, self.config.tubelets.multiple)
        return self.public(volume, super().see(volume))
