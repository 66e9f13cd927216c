"""Every word of the scene's configuration is real: it changes what is built or what comes out, and it trains."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import scene_kit as kit
from tests import tiny as small
from tests.scene_kit import Batch, Outputs

from ctscribe import checkpoint, ontology
from ctscribe import config as cfg
from ctscribe.checkpoint import ModelInfo
from ctscribe.data.targets import targets_from_findings
from ctscribe.errors import ConfigError
from ctscribe.model import CTReportModel, ModelConfig, Thresholds
from ctscribe.report import Finding
from ctscribe.scene.station import Scene, SceneConfig
from ctscribe.tensors import Affine, RegionMasks, VisualTokens, Volume
from ctscribe.training.losses import standard_losses
from recipes import tiny

# Field -> (what else must be said for it to matter, another value). Every field of the configuration is here.
WORDS: dict[str, tuple[dict[str, Any], Any]] = {
    "dim": ({}, 48),
    "slots": ({}, 6),
    "slot_steps": ({}, 1),
    "graph_layers": ({}, 1),
    "heads": ({}, 4),
    "neighbours": ({}, 2),
    "pooling": ({}, "align"),
    "align_bins": ({"pooling": "align"}, 1),
    "align_samples": ({"pooling": "align"}, 1),
    "masks": ({}, "own"),
    "hierarchy": ({}, "lobes"),
    "lesions": ({}, 3),
    "slot_noise": ({}, 0.5),
    "slot_scales": ({}, ("fine", "coarse")),
    "slot_parents": ({}, 2),
    "slot_objects": ({}, True),
    "graph": ({}, "fixed"),
    "edges_off": ({}, ("learned",)),
    "relations": ({}, True),
    "priors": ({}, True),
}


@cache
def batch() -> Batch:
    """Two studies: a nodule in the right upper lobe, and an effusion; the nodule is also outlined for the scene."""
    kinds = list(ontology.findings())
    dense = torch.zeros(2, len(kinds), *kit.FINE, dtype=torch.bool)
    dense[0, kinds.index("lung_nodule"), 2:4, 1, 1] = True
    dense[1, kinds.index("pleural_effusion"), 0:3, 2, 0:2] = True
    findings = [
        [Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(12.0,))],
        [Finding("pleural_effusion", regions=("left_pleura",))],
    ]
    lesions = torch.zeros(2, 2, *kit.FINE)
    lesions[0, 0, 2:4, 1, 1] = 1
    outlined = torch.tensor([[kinds.index("lung_nodule"), -1], [-1, -1]])
    return Batch(
        replace(kit.masks(), lesions=lesions, lesion_kinds=outlined),
        targets_from_findings(findings, dense=list(dense.numpy())),
    )


def look(scene: Scene) -> Outputs:
    visual = kit.visual()
    return Outputs(visual, scene(visual, batch().regions))


def test_every_field_is_tried() -> None:
    assert set(WORDS) == {f.name for f in fields(SceneConfig)}


def loosened(**changes: Any) -> Scene:
    """A scene in training mode whose edges have learned something: freshly built, their biases are zero."""
    scene = kit.station(**changes).train()
    with torch.no_grad():
        scene.graph.edge_bias.fill_(0.7)
    return scene


@pytest.mark.parametrize("name", WORDS)
def test_every_word_changes_what_is_built_or_what_comes_out(name: str) -> None:
    others, value = WORDS[name]
    one, other = loosened(**others), loosened(**others, **{name: value})
    shapes = [{n: p.shape for n, p in s.named_parameters()} for s in (one, other)]
    if shapes[0] == shapes[1]:
        results = []
        for scene in (one, other):
            torch.manual_seed(3)
            results.append(look(scene).scene)
        assert any(not torch.equal(a, b) for a, b in zip(*(kit.declared(r).values() for r in results), strict=False))


@pytest.mark.parametrize(
    "changes",
    [
        {"align_bins": 3},
        {"neighbours": 3, "edges_off": ("spatial",)},
        {"graph": "fixed", "edges_off": ("learned",)},
        {"slot_scales": ("mid", "mid")},
        {"slot_scales": ()},
        {"slot_parents": 1},
        {"slot_parents": 4},
        {"slots": 1},
        {"slot_steps": 0},
    ],
)
def test_words_that_would_change_nothing_or_cannot_be_built_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"slot|leave it out|has no"):
        kit.station(**changes)


OPTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "default": ({}, ("alignment", "slot_use", "slot_overlap", "priors")),
    "align": ({"pooling": "align", "align_bins": 3}, ()),
    "own masks": ({"masks": "own"}, ("masks", "priors")),
    "given or own masks": ({"masks": "given_or_own", "pooling": "align"}, ("masks",)),
    "tree of lobes": ({"hierarchy": "lobes"}, ()),
    "tree of segments and lesions": ({"hierarchy": "segments", "lesions": 2}, ("priors",)),
    "slots by scale": ({"slot_scales": ("fine", "mid", "coarse")}, ("alignment",)),
    "slots with parents": ({"slot_parents": 2, "slot_scales": ("coarse",)}, ("alignment", "slot_overlap")),
    "slots that name objects": ({"slot_objects": True, "slot_steps": 4}, ("slots",)),
    "fixed graph": ({"graph": "fixed"}, ()),
    "learned graph": ({"graph": "learned"}, ()),
    "no edges": ({"edges_off": ("spatial", "anatomical", "learned")}, ()),
    "relations": ({"relations": True, "lesions": 2}, ("relations",)),
    "everything": (
        {
            "pooling": "align", "masks": "given_or_own", "hierarchy": "segments", "lesions": 2, "slots": 6,
            "slot_scales": ("fine", "mid"), "slot_parents": 2, "slot_objects": True, "relations": True, "priors": True,
        },
        ("masks", "slots", "alignment", "relations", "priors", "slot_use", "slot_overlap"),
    ),
}  # fmt: skip
DETECTION = ("presence", "where", "dense", "size")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_trains(name: str) -> None:
    """Two steps; every parameter hears of the loss, and the loss goes down on the batch it was taken from."""
    changes, losses = OPTIONS[name]
    scene, known = kit.station(**changes), standard_losses()
    optimizer = torch.optim.AdamW(scene.parameters(), lr=3e-4)
    totals = []
    for _ in range(3):
        outputs = look(scene)
        values = {loss: known[loss](outputs, batch()) for loss in DETECTION + losses}
        assert all(value.seen > 0 and bool(torch.isfinite(value.value)) for value in values.values()), values
        total = torch.stack([value.value for value in values.values()]).sum()
        totals.append(float(total.detach()))
        optimizer.zero_grad()
        # Attributes and the graph's last say have no truth in this batch: they join through their squares.
        rest = (
            sum(v.square().mean() for v in outputs.findings.attributes.values()) + outputs.scene.graph.square().mean()
        )
        (total + 1e-3 * rest).backward()
        silent = [n for n, p in scene.named_parameters() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
        assert silent == []
        optimizer.step()
    assert totals[2] < totals[0]


@pytest.mark.parametrize("loss", ["masks", "slots", "relations"])
def test_a_loss_of_a_head_that_is_not_built_is_refused(loss: str) -> None:
    with pytest.raises(ConfigError, match=r"needs a model|needs slots"):
        standard_losses()[loss](look(kit.station()), batch())


FULL = OPTIONS["everything"][0]


def test_half_precision_trains_and_agrees() -> None:
    """Under bfloat16 autocast, as training runs: losses are float32, finite and close to those in full precision."""
    scene, known = kit.station(**FULL), standard_losses()
    full = look(scene)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = look(scene)
    for loss in DETECTION + OPTIONS["everything"][1]:
        one, other = known[loss](full, batch()).value, known[loss](half, batch()).value
        assert other.dtype == torch.float32, loss
        assert float(other.detach()) == pytest.approx(float(one.detach()), rel=0.1, abs=0.02), loss
        other.backward(retain_graph=True)
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in scene.parameters())


def test_the_whole_model_learns_writes_and_is_saved_with_every_option(tmp_path: Path) -> None:
    """From a configuration file with every word changed, through two steps, to a saved model that writes the same."""
    config = replace(tiny.model(), scene=replace(tiny.model().scene, **FULL))
    config = cfg.from_dict(ModelConfig, json.loads(json.dumps(cfg.to_dict(config))))
    torch.manual_seed(0)
    model = CTReportModel(config, small.tokenizer()).train()
    volume, regions = small.scans()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        visual, scene = model.see(volume, regions)
        outputs, given = Outputs(visual, scene), Batch(regions, batch().targets)
        wide = replace(given.targets, dense=None, dense_known=torch.zeros(2, dtype=torch.bool))
        losses = ("presence", "where", "masks", "slots", "alignment", "relations", "priors")
        total = torch.stack([standard_losses()[n](outputs, replace(given, targets=wide)).value for n in losses]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    folder = checkpoint.save(tmp_path / "model", model.eval(), ModelInfo("all"), Thresholds(), dtype=torch.float32)
    again = checkpoint.load(folder).model
    scan = Volume(volume.hu[0].numpy(), Affine.from_spacing(config.grid.spacing))
    said = [m.describe(scan, regions.occupancy[0].numpy(), regions.present[0].numpy(), ["en"]) for m in (model, again)]
    assert said[0].texts == said[1].texts
    assert again.config == config


def test_batched_equals_single() -> None:
    scene, both, regions = kit.station(**FULL), kit.visual(), batch().regions
    whole = kit.declared(scene(both, regions))
    for row in range(2):
        visual = VisualTokens(*(replace(s, tokens=s.tokens[row : row + 1], centres=s.centres[row : row + 1],
                                        valid=s.valid[row : row + 1]) for s in both.scales))  # fmt: skip
        alone = RegionMasks(
            regions.occupancy[row : row + 1],
            regions.present[row : row + 1],
            regions.names,
            regions.lesions[row : row + 1],
            regions.lesion_kinds[row : row + 1],
        )
        for name, value in kit.declared(scene(visual, alone)).items():
            torch.testing.assert_close(
                value[0], whole[name][row], atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def padded(scale: Any, grid: kit.Size) -> Any:
    """The same tokens in the corner of a larger grid that is filled with noise."""
    size = grid[0] * grid[1] * grid[2]
    t, h, w = scale.grid
    places = torch.arange(size).reshape(grid)[:t, :h, :w].flatten()
    tokens = torch.randn(scale.tokens.shape[0], size, scale.tokens.shape[2]) * 5
    centres = torch.randn(scale.tokens.shape[0], size, 3) * 300
    valid = torch.zeros(scale.tokens.shape[0], size, dtype=torch.bool)
    tokens[:, places], centres[:, places], valid[:, places] = scale.tokens, scale.centres, True
    return type(scale)(tokens, grid, centres, valid)


def test_padding_is_invisible() -> None:
    """A scan in the corner of a larger grid says the same, whatever the padding holds."""
    torch.manual_seed(5)
    scene, bare, regions = kit.station(**FULL), kit.visual(), batch().regions
    grid = (kit.FINE[0] + 4, kit.FINE[1] + 4, kit.FINE[2])
    wrapped = VisualTokens(
        *(padded(s, (grid[0] // n, grid[1] // n, grid[2] // n)) for s, n in zip(bare.scales, (1, 2, 4), strict=True))
    )
    pad = (0, 0, 0, 4, 0, 4)
    larger = replace(
        regions,
        occupancy=torch.nn.functional.pad(regions.occupancy, pad),
        lesions=torch.nn.functional.pad(regions.lesions, pad),
    )
    one, other = kit.declared(scene(bare, regions)), kit.declared(scene(wrapped, larger))
    for name, value in one.items():
        if value.shape == other[name].shape:
            torch.testing.assert_close(other[name], value, atol=2e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    assert sum(v.shape == other[n].shape for n, v in one.items()) > 15
