"""The image encoder of Astra: a 152-layer residual network with 3D convolutions, trained on real chest CT.

```
 (1, 160, 224, 224) ─ 7x7 conv ─ max pool ─ 3 blocks ─ 8 blocks ─ 36 blocks ─ 3 blocks ─► (2048, 10, 7, 7)
                      channels 64            256        512        1024        2048
```

An inflated ResNet (Carreira & Zisserman 2017; Merlin, Blankemeier et al. 2024): 2D kernels of 3x3 become 3x3x3, and
every stride in the plane is also one along z, except in the first convolution. Parameter names are those of the
published file (MIT), which loads strictly. Input: -1000..200 HU as 0..1, three equal channels, axes (z, right,
anterior).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.vision.resample import Size

LAYERS = {"published": (3, 8, 36, 3), "tiny": (1, 1, 1, 1)}
FIRST = {"published": 64, "tiny": 4}


class Bottleneck(nn.Module):
    """1x1x1 down, 3x3x3, 1x1x1 up to four times the width, added back."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        out = 4 * channels
        self.conv1, self.bn1 = nn.Conv3d(channels_in, channels, 1, bias=False), nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(channels)
        self.conv3, self.bn3 = nn.Conv3d(channels, out, 1, bias=False), nn.BatchNorm3d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != out:
            self.downsample = nn.Sequential(nn.Conv3d(channels_in, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Float[Tensor, "b c z x y"]) -> Float[Tensor, "b d t h w"]:
        kept = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + kept)


class AstraNetwork(nn.Module):
    """HU on the frame -> features of a tenth (z) and a seventh (x, y) of the field of view each."""

    frame: Size = (160, 224, 224)
    spacing = None
    mode = "area"
    prefixes: tuple[str, ...] = ("visual_encoder.model.encode_image.i3_resnet.",)
    drop: tuple[str, ...] = ()
    #: how images lie in memory; ``benchmarks/encoders.py`` measures both
    layout: torch.memory_format = torch.channels_last_3d

    def __init__(self, size: str) -> None:
        super().__init__()
        first = FIRST[size]
        self.channels = 32 * first
        self.conv1 = nn.Conv3d(3, first, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(first)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        before = first
        for number, blocks in enumerate(LAYERS[size]):
            channels = first * 2**number
            strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
            stage = []
            for stride in strides:
                stage.append(Bottleneck(before, channels, stride))
                before = 4 * channels
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))

    def forward(self, hu: Float[Tensor, "b z y x"]) -> Float[Tensor, "b c t h w"]:
        """``hu`` in this house's axes (superior, posterior, left), and so are the features."""
        image = ((hu + 1000) / 1200).clamp(0, 1).flip(2, 3).transpose(2, 3)
        x = image.unsqueeze(1).expand(-1, 3, -1, -1, -1).contiguous(memory_format=self.layout)
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return x.transpose(3, 4).flip(3, 4)
