"""A plain ViT: one width and one grid (that of the mid scale) from the first layer to the last.

```
 fine tubelets ─ mean ─►┐                mid tubelets ─►┐              coarse tubelets ─ copy ─►┐
                        ▼                               ▼                                      ▼
 mid grid     [ windowed ... global ] ─────► [ windowed ... global ] ─────► [ windowed ... global ]
                        │                               │                                      │
                        ▼ copy, + fine tubelets         ▼                                      ▼ mean
                   fine tokens                      mid tokens                           coarse tokens
```

The last layer of each stage attends globally, the others inside windows: what Li et al. ("Exploring Plain Vision
Transformer Backbones for Object Detection", 2022) found to be enough. Width: that of the mid scale.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.tensors import ScaleTokens, VisualTokens
from ctscribe.vision.resample import Size, regrid
from ctscribe.vision.vit import PyramidEncoder
from ctscribe.vision.windows import WindowBlock


class Stay(nn.Module):
    """Between stages of one grid and width nothing needs to be merged."""

    def forward(self, scale: ScaleTokens, grid: Size, masked: bool) -> Float[Tensor, "b n c"]:
        return scale.tokens


class IsotropicEncoder(PyramidEncoder):
    """Every stage works on the mid grid at the mid width; scales come and leave by mean or copy."""

    def _build_choices(self) -> None:
        super()._build_choices()
        self.leave = nn.ModuleList(nn.Linear(self.stage_widths[1], w) for w in self.widths)
        self.lateral = nn.Linear(self.widths[0], self.widths[0], bias=False)

    @property
    def stage_widths(self) -> tuple[int, int, int]:
        width = self.widths[1]
        return width, width, width

    def _window(self, index: int) -> Size | None:
        return self.config.window

    def _layer(self, index: int, layer: int) -> nn.Module:
        last = layer == self.config.depths[index] - 1
        return WindowBlock(
            self.stage_widths[index],
            self._heads(index),
            None if last else self._window(index),
            shifted=not last and layer % 2 == 1,
            mlp_ratio=self.config.mlp_ratio,
            longest_mm=self._longest(index),
        )

    def _merge(self, index: int) -> nn.Module:
        return Stay()

    def _places(self, tubelets: VisualTokens) -> tuple[ScaleTokens, ScaleTokens, ScaleTokens]:
        return tubelets.mid, tubelets.mid, tubelets.mid

    def _own(self, index: int, tubelets: VisualTokens, masked: bool) -> Tensor:
        scale = tubelets.scales[index]
        return regrid(scale, tubelets.mid.grid, self.inject[index](scale.tokens), masked=masked)

    def _leave(self, index: int, stream: ScaleTokens, tubelets: VisualTokens, masked: bool) -> Float[Tensor, "b n c"]:
        scale = tubelets.scales[index]
        tokens = regrid(stream, scale.grid, self.leave[index](stream.tokens), masked=masked)
        # Nine in ten fine tokens share their copy with a neighbour: the tubelets themselves tell them apart.
        return tokens + self.lateral(scale.tokens) if index == 0 else tokens
