"""No field of the whole configuration is ignored: stations walk their own fields, the rest is walked here."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tests import tiny as small

from ctscribe.beside import InputsConfig
from ctscribe.data.withhold import Withhold
from ctscribe.model import CTReportModel, GridContract, ModelConfig
from ctscribe.scene.beside import Beside
from ctscribe.tensors import Affine, Volume
from ctscribe.vision.build import build_encoder
from recipes import tiny

WALKED_ELSEWHERE = {
    "encoder": "test_vision_fields.py",
    "scene": "test_scene_options.py",
    "language": "test_language_matrix.py",
}


def test_every_field_is_walked_somewhere() -> None:
    assert {f.name for f in fields(ModelConfig)} == {"grid", "windows", "inputs", *WALKED_ELSEWHERE}
    assert {f.name for f in fields(GridContract)} == {"shape", "spacing"}
    drops = {"drop", "drop_prior", "drop_history", "drop_labs"}
    assert {f.name for f in fields(InputsConfig)} == {"prior", "history", "labs", *drops}


def test_windows_change_what_is_seen() -> None:
    config = tiny.model()
    moved = ((-300.0, 800.0), *config.windows[1:])
    seen = []
    for windows in (config.windows, moved):
        torch.manual_seed(0)
        encoder = build_encoder(config.encoder, windows).eval()
        with torch.no_grad():
            seen.append(encoder(small.scans(1)[0]).coarse.tokens)
    assert not torch.allclose(seen[0], seen[1], atol=1e-4)
    fewer = build_encoder(config.encoder, config.windows[:2])
    count = sum(p.numel() for p in fewer.parameters())
    assert count < sum(p.numel() for p in build_encoder(config.encoder, config.windows).parameters())


@pytest.mark.parametrize("changed", [{"shape": (16, 64, 64)}, {"spacing": (5.0, 5.5, 5.5)}])
def test_the_grid_decides_which_volume_is_taken(changed: dict[str, tuple[float, ...]]) -> None:
    model = small.build()
    grid = model.config.grid
    model.check_grid(lying_on(grid))
    with pytest.raises(ValueError, match="the model reads"):
        model.check_grid(lying_on(replace(grid, **changed)))


def lying_on(grid: GridContract) -> Volume:
    return Volume(np.zeros(grid.shape, np.float32), Affine(np.diag([*grid.spacing[::-1], 1.0])))


def test_each_input_adds_its_reader_and_the_rate_withholds() -> None:
    def names(**on: bool) -> set[str]:
        return {name.split(".")[0] for name, _ in Beside(InputsConfig(**on), 32, 2).named_parameters()}

    shared = names()
    added = {word: names(**{word: True}) - shared for word in ("prior", "history", "labs")}
    assert added == {"prior": {"when", "change"}, "history": {"history"}, "labs": {"labs"}}
    assert CTReportModel(tiny.model(), small.tokenizer()).scene.beside is None
    inputs = InputsConfig(drop=0.2, drop_prior=0.5, drop_history=0.0)
    assert Withhold.of(inputs) == Withhold(prior=0.5, history=0.0, labs=0.2)
    assert Withhold.of(replace(inputs, drop_labs=1.0)).labs == 1.0
