"""Every choice of the vision station, and the one place that says which backbone a word stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctscribe.vision.positions import PositionKinds
from ctscribe.vision.resample import Size
from ctscribe.vision.tubelets import TubeletConfig

Backbone = Literal["pyramid", "isotropic", "swin", "timesformer", "astra", "colipri", "spectre-fm"]
InjectionKind = Literal["residual", "concat", "cross"]
MappingKind = Literal["thirds", "routed", "parallel"]
PublicSize = Literal["published", "tiny"]


@dataclass(frozen=True)
class PublicConfig:
    """A public encoder that stays as it was trained; read by the backbones ``astra``, ``colipri`` and ``spectre-fm``.

    Attributes:
        weights: file of weights (.safetensors or .pt); empty takes the installed weight package (astra only);
            ``random`` starts from random weights, for trying things out.
        size: ``published`` for the architecture as published, ``tiny`` for the same one with few layers, for tests.
        frame: voxels (z, y, x) that the public encoder is shown; zeros for what it was trained with.
    """

    weights: str = ""
    size: PublicSize = "published"
    frame: Size = (0, 0, 0)


@dataclass(frozen=True)
class EncoderConfig:
    """The vision station.

    Attributes:
        tubelets: how the volume is cut into tokens.
        depths: layers per stage (fine, mid, coarse).
        head_dim: channels per attention head.
        window: tokens (t, h, w) per attention window; ``timesformer`` has none.
        mlp_ratio: width of the feed-forward layers over that of the tokens.
        longest_mm: longest wavelength of the rotary positions, and the field of view of learned ones.
        embedding: width of the one-vector-per-scale summaries that the consistency loss compares.
        backbone: the network over the tokens.
        injection: how the tubelets of a scale enter a stage: added, concatenated and projected, or attended to.
        mapping: which layers hear which scale: a third of the layers each, a learned routing, or a branch each.
        positions: how each scale (fine, mid, coarse) knows where its tokens are.
        routes: scales that a token listens to in each layer, of three; read by ``mapping="routed"``.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        skip_air: treat tubelets outside the body like padding, and leave out windows that hold nothing else.
        public: the public encoder whose features join the tubelets.
    """

    tubelets: TubeletConfig = TubeletConfig()
    depths: tuple[int, int, int] = (4, 4, 4)
    head_dim: int = 32
    window: Size = (4, 4, 4)
    mlp_ratio: float = 4.0
    longest_mm: float = 400.0
    embedding: int = 64
    backbone: Backbone = "pyramid"
    injection: InjectionKind = "residual"
    mapping: MappingKind = "thirds"
    positions: PositionKinds = ("rope", "rope", "rope")
    routes: int = 2
    checkpointing: bool = False
    skip_air: bool = False
    public: PublicConfig = PublicConfig()
