"""Every word that `ctscribe models` lists takes part in a whole model that trains two steps and writes a report.

The models are read off the list itself: the first takes the first word of every option, the second the second, and so
on, so that an option or a word that is added tomorrow is tried tomorrow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import hosts_kit as hosts
from tests import tiny as small

from ctscribe import config as cfg
from ctscribe.cli.models import gather
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.language.hosts import host_tokenizer
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, ModelConfig
from ctscribe.tensors import Affine, RegionMasks, Volume, VolumeBatch
from ctscribe.training.losses import standard_losses
from recipes import tiny

ELSEWHERE = {
    "language.adapt": "needs a pretrained decoder: tried below",
    "language.wording": "listing all sentences takes seconds: test_language_wording.py",
    "encoder.public.size": "published sizes are built on the meta device: test_vision_fields.py",
}
CONTEXT = {"encoder.public": {"weights": "random", "size": "tiny", "frame": [16, 32, 32]}, "language.max_tokens": 4}
LOSSES = ("report", "presence", "where", "size", "attributes", "consistency", "routing")


@dataclass(frozen=True)
class Batch:
    volume: VolumeBatch
    regions: RegionMasks
    facts: Any
    input_ids: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor
    targets: Targets


@cache
def listed() -> dict[str, tuple[Any, ...]]:
    """Option -> the values it may take, for every option that is a word, a list of words, or yes and no."""
    found: dict[str, tuple[Any, ...]] = {}
    for row in gather()["options"]:
        if row["option"] in ELSEWHERE:
            continue
        words = [False, True] if row["type"] == "bool" else row["words"]
        if isinstance(row["default"], list):
            words = [[word] * len(row["default"]) if row["default"] else [word] for word in words]
        if words:
            found[row["option"]] = tuple(words)
    return found


def chosen(turn: int) -> dict[str, Any]:
    """The words of one model."""
    return {option: words[turn % len(words)] for option, words in listed().items()}


TURNS = range(max(len(words) for words in listed().values()))


def model_of(turn: int) -> CTReportModel:
    plain = cfg.to_dict(replace(tiny.model(), language=replace(tiny.model().language, layers=2)))
    for option, value in {**chosen(turn), **CONTEXT}.items():
        *path, last = option.split(".")
        node = plain
        for step in path:
            node = node[step]
        node[last] = value
    if plain["scene"]["graph"] == "fixed":  # it has no learned edges to leave out
        plain["scene"]["edges_off"] = [word for word in plain["scene"]["edges_off"] if word != "learned"]
    torch.manual_seed(turn)
    return CTReportModel(cfg.from_dict(ModelConfig, json.loads(json.dumps(plain))), small.tokenizer())


@cache
def batch() -> Batch:
    words: ReportTokenizer = small.tokenizer()
    volume, regions = small.scans()
    ids = torch.randint(5, len(words), (2, 8), generator=torch.Generator().manual_seed(0))
    targets = targets_from_findings([[small.NODULE], [small.EFFUSION]])
    return Batch(volume, regions, small.facts(), ids, torch.ones_like(ids), ids, targets)


def test_every_word_has_its_turn() -> None:
    tried = {(option, str(value)) for turn in TURNS for option, value in chosen(turn).items()}
    assert tried == {(option, str(value)) for option, values in listed().items() for value in values}
    assert {"encoder.backbone", "scene.graph", "language.strategy", "inputs.prior"} <= set(listed())
    assert set(ELSEWHERE) <= {row["option"] for row in gather()["options"]}


@pytest.mark.parametrize("turn", TURNS)
def test_it_trains_two_steps_and_writes(turn: int) -> None:
    model = model_of(turn)
    moved = trained(model, batch())
    assert all(any(name.startswith(f"{part}.") for name in moved) for part in ("vision", "scene", "language"))
    assert set(written(model)) == {"en", "zh"}


def adaptations() -> list[str]:
    return next(row["words"] for row in gather()["options"] if row["option"] == "language.adapt")


@pytest.mark.parametrize("adapt", adaptations())
def test_a_pretrained_decoder_trains_two_steps_and_writes(adapt: str, tmp_path: Path) -> None:
    if adapt == "lora":
        pytest.importorskip("peft", reason="peft is not installed (extra llm)")
    language = replace(tiny.model().language, pretrained=hosts.llama(tmp_path), adapt=adapt, max_tokens=4)
    words = host_tokenizer(language)
    model = CTReportModel(replace(tiny.model(), language=language), words)
    fixed = set(model.fixed_params())
    moved = trained(
        model, replace(batch(), input_ids=batch().input_ids % len(words), labels=batch().labels % len(words))
    )
    assert not moved & fixed
    assert any(".lora_" in name for name in moved) == (adapt == "lora")
    assert (fixed == set()) == (adapt == "all")
    assert set(written(model)) == {"en", "zh"}


def trained(model: CTReportModel, given: Batch) -> set[str]:
    """Two steps of all that may learn; the names of the parameters that moved."""
    known, fixed = standard_losses(), set(model.train().fixed_params())
    optimiser = torch.optim.AdamW([p for n, p in model.named_parameters() if n not in fixed], lr=1e-3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(2):
        outputs = model(given, wants=frozenset(LOSSES))
        total = torch.stack([known[name](outputs, given).value for name in LOSSES]).sum()
        assert bool(torch.isfinite(total.detach()))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def written(model: CTReportModel) -> dict[str, str]:
    """What the model writes about the first study, by language."""
    volume, regions = batch().volume, batch().regions
    scan = Volume(volume.hu[0].numpy(), Affine.from_spacing(model.config.grid.spacing))
    occupancy, present = regions.occupancy[0].numpy(), regions.present[0].numpy()
    return model.eval().describe(scan, occupancy, present, ["en", "zh"]).texts
