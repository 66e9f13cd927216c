"""Video Swin as a backbone: shifted windows at every stage, with a learned bias for every offset in a window.

```
 stage 1   W  SW  W  SW     fine     (W plain windows, SW shifted by half a window)
   │ patch merging
 stage 2   W  SW  W  SW     mid
   │ patch merging
 stage 3   W  SW  W  SW     coarse
```

After Liu et al., "Video Swin Transformer" (CVPR 2022): 3D windows, relative position bias, patch merging. Patch merging
is the pyramid's `Merge`, here along all three axes because CT has no axis of time. The bias counts tokens;
``positions`` adds to it, and ``none`` leaves it alone, which is the published design. Tubelets of every scale still
enter at the stages, by the same `INJECTIONS`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.vision.resample import Size
from ctscribe.vision.vit import PyramidEncoder
from ctscribe.vision.windows import WindowBlock


class RelativeBias(nn.Module):
    """A number per head for every offset (t, h, w) between two tokens of a window."""

    index: Tensor

    def __init__(self, window: Size, heads: int) -> None:
        super().__init__()
        spans = [2 * n - 1 for n in window]
        self.table = nn.Parameter(torch.randn(spans[0] * spans[1] * spans[2], heads) * 0.02)
        axes = torch.meshgrid(*(torch.arange(n) for n in window), indexing="ij")
        places = torch.stack(axes, dim=-1).reshape(-1, 3)
        offsets = places[:, None] - places[None] + torch.tensor(window) - 1
        index = (offsets[..., 0] * spans[1] + offsets[..., 1]) * spans[2] + offsets[..., 2]
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Float[Tensor, "h k k"]:
        return self.table[self.index].permute(2, 0, 1)


class SwinBlock(WindowBlock):
    """A window block whose attention also knows the offset between any two tokens of the window."""

    def __init__(
        self, dim: int, heads: int, window: Size, shifted: bool, mlp_ratio: float, longest_mm: float | None
    ) -> None:
        super().__init__(dim, heads, window, shifted, mlp_ratio, longest_mm)
        self.relative = RelativeBias(window, heads)

    def _brick(self, x: Tensor, valid: Tensor | None, bias: Tensor | None, places: Tensor) -> Tensor:
        relative = self.relative().expand(x.shape[0], -1, -1, -1)
        return super()._brick(x, valid, relative if bias is None else relative + bias, places)


class SwinEncoder(PyramidEncoder):
    """The pyramid with Swin blocks: no stage attends globally."""

    def _window(self, index: int) -> Size:
        return self.config.window

    def _layer(self, index: int, layer: int) -> nn.Module:
        return SwinBlock(
            self.stage_widths[index],
            self._heads(index),
            self._window(index),
            shifted=layer % 2 == 1,
            mlp_ratio=self.config.mlp_ratio,
            longest_mm=self._longest(index),
        )
