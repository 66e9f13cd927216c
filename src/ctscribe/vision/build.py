"""One word of the configuration -> a backbone."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.vit import PyramidEncoder

#: backbone -> (module, class); modules load when they are chosen.
BACKBONES: dict[str, tuple[str, str]] = {
    "pyramid": ("vit", "PyramidEncoder"),
    "isotropic": ("isotropic", "IsotropicEncoder"),
    "swin": ("swin", "SwinEncoder"),
    "timesformer": ("timesformer", "TimeSformerEncoder"),
    "astra": ("public", "PublicEncoder"),
    "colipri": ("public", "PublicEncoder"),
    "spectre-fm": ("public", "PublicEncoder"),
}


def build_encoder(config: EncoderConfig, windows: tuple[tuple[float, float], ...]) -> PyramidEncoder:
    """The backbone that ``config.backbone`` names; every one of them is an `Encoder`.

    Raises:
        ConfigError: the configuration asks this backbone for something that it does not have.
        CheckpointError: the weights of a public encoder are missing or do not fit.
    """
    module, name = BACKBONES[config.backbone]
    encoder = getattr(import_module(f"ctscribe.vision.{module}"), name)
    return cast(PyramidEncoder, encoder(config, windows))
