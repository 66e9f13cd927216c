"""Pretraining: what is hidden stays hidden, what contrast computes, and that the masked loss falls."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tests import pretraining_run, tiny
from torch import Tensor

from ctscribe.engines.world import World
from ctscribe.tensors import RegionMasks, ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.training.losses import standard_losses
from ctscribe.training.losses.clip import ClipLoss, centred
from ctscribe.training.losses.masked import MaskedLoss
from ctscribe.training.losses.siglip import SiglipLoss
from ctscribe.training.pretraining.contrast import Contrast, ContrastConfig, pooled, standardised
from ctscribe.training.pretraining.masked import (
    MaskedConfig,
    MaskedHead,
    Reconstruction,
    draw_hidden,
    hide,
    tubelet_voxels,
)
from ctscribe.training.pretraining.model import PretrainConfig, Pretrainer, PretrainOutputs, with_heads

ROOT = Path(__file__).resolve().parents[1]
CONFIG = PretrainConfig(
    MaskedConfig(width=32, layers=1), ContrastConfig(dim=16, width=32, layers=1, heads=2, longest=48)
)


@dataclass(frozen=True)
class Batch:
    volume: VolumeBatch
    regions: RegionMasks
    input_ids: Tensor | None = None
    labels: Tensor | None = None
    facts: None = None
    attention: None = None


def batch(studies: int = 4) -> Batch:
    """Scans of different brightness, each with a text that says which."""
    volume, regions = tiny.scans(studies)
    shift = torch.linspace(-600, 600, studies)[:, None, None, None]
    texts = [tiny.tokenizer().encode("nodule " * (i + 1)) for i in range(studies)]
    ids = torch.zeros(studies, max(map(len, texts)), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = labels[row, : len(text)] = torch.tensor(text)
    return Batch(VolumeBatch(volume.hu + shift, volume.spacing), regions, ids, labels)


def learner(*losses: str, seed: int = 0) -> Pretrainer:
    torch.manual_seed(seed)
    made = with_heads(tiny.build(seed), CONFIG, losses)
    assert isinstance(made, Pretrainer)
    return made


# --------------------------------------------------------------------------------------------------- masked
def test_the_same_share_of_every_study_is_hidden_and_the_seed_decides_which() -> None:
    torch.manual_seed(3)
    first = draw_hidden(3, (4, 4, 4), 0.75, torch.device("cpu"))
    torch.manual_seed(3)
    assert torch.equal(first, draw_hidden(3, (4, 4, 4), 0.75, torch.device("cpu")))
    assert first.flatten(1).sum(1).tolist() == [48, 48, 48]
    assert not torch.equal(first[0], first[1])
    few = draw_hidden(2, (1, 1, 2), 0.99, torch.device("cpu"))
    assert few.flatten(1).sum(1).tolist() == [1, 1]


def test_what_is_hidden_cannot_be_read_from_any_visible_token() -> None:
    model = tiny.build()
    volume, _ = tiny.scans(1)
    strides = model.config.encoder.tubelets.strides[1]
    covered = draw_hidden(
        1, tuple(n // s for n, s in zip(volume.hu.shape[1:], strides, strict=True)), 0.5, volume.hu.device
    )
    seen = hide(volume, covered, strides)
    assert not seen.hu[~seen.valid].any()
    # Even the values that `hide` takes away could not be read: invalid voxels reach no token.
    other = VolumeBatch(
        torch.where(seen.valid, volume.hu, torch.full_like(volume.hu, 777.0)), volume.spacing, seen.valid
    )
    with torch.no_grad():
        one, two = model.vision.encode(seen), model.vision.encode(other)
    for a, b in zip(one.scales, two.scales, strict=True):
        assert torch.equal(a.valid, b.valid)
        assert torch.equal(a.tokens, b.tokens)
    assert not one.fine.valid.all()
    assert one.fine.valid.any()


def test_tubelets_are_cut_where_tokens_lie_and_normalised_each_by_itself() -> None:
    image = torch.rand(1, 2, 4, 16, 16)
    cut = tubelet_voxels(image, (2, 8, 8), normalised=False)
    assert torch.equal(cut[0, 5], image[0, :, 2:4, 0:8, 8:16].flatten())
    scaled = tubelet_voxels(image, (2, 8, 8), normalised=True).unflatten(-1, (2, -1))
    assert scaled.mean(-1).abs().max() < 1e-5
    assert (scaled.std(-1) - 1).abs().max() < 0.02
    flat = tubelet_voxels(torch.full((1, 2, 2, 8, 8), 0.3), (2, 8, 8), normalised=True)
    assert flat.abs().max() < 1e-3


def test_the_masked_loss_counts_hidden_tubelets_only() -> None:
    target, hidden = torch.zeros(2, 3, 4), torch.tensor([[True, False, False], [False, False, False]])
    predicted = torch.tensor([2.0, 9.0, 9.0])[None, :, None].expand(2, 3, 4)
    result = MaskedLoss()(PretrainOutputs(reconstruction=Reconstruction(predicted, target, hidden)), None)
    assert (float(result.value), result.seen) == (4.0, 1)
    none = MaskedLoss()(PretrainOutputs(reconstruction=Reconstruction(predicted, target, hidden & False)), None)
    assert (float(none.value), none.seen) == (0.0, 0)


# ------------------------------------------------------------------------------------------------- contrast
def contrast(rows: int, paired: list[bool] | None = None, seed: int = 0) -> Contrast:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.nn.functional.normalize(torch.randn(2, rows, 6, generator=generator), dim=-1)
    return Contrast(images, texts, torch.tensor(paired or [True] * rows), torch.tensor(5.0), torch.tensor(-1.0))


def test_clip_and_siglip_equal_their_formulas() -> None:
    made = contrast(4)
    images, texts = (torch.nn.functional.normalize(side - side.mean(0), dim=-1) for side in (made.images, made.texts))
    logits = 5.0 * images @ texts.T
    own = torch.arange(4)
    clip = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    assert torch.isclose(ClipLoss()(PretrainOutputs(contrast=made), None).value, clip)
    sign = 2 * torch.eye(4) - 1
    siglip = -(sign * (logits - 1)).sigmoid().log().sum() / 4
    assert torch.isclose(SiglipLoss()(PretrainOutputs(contrast=made), None).value, siglip)


def test_what_all_rows_share_does_not_count_and_rows_without_a_partner_do_not_move_the_middle() -> None:
    rows, paired = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([True] * 4 + [False])
    shared = 100 * torch.ones(6)
    assert torch.allclose(centred(rows, paired), centred(rows + shared, paired), atol=1e-4)
    other = torch.cat((rows[:4], 9 * rows[4:]))
    assert torch.equal(centred(rows, paired)[:4], centred(other, paired)[:4])


def test_channels_count_alike_however_much_they_vary_and_unknown_rows_do_not_count() -> None:
    rows, known = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([True] * 4 + [False])
    uneven = rows * torch.tensor([1.0, 10.0, 0.1, 1.0, 1.0, 1.0]) + 50
    assert torch.allclose(standardised(rows, known), standardised(uneven, known), atol=1e-2)
    other = torch.cat((rows[:4], 9 * rows[4:]))
    assert torch.equal(standardised(rows, known)[:4], standardised(other, known)[:4])


def test_a_lesion_in_one_token_is_seen_and_padding_is_not() -> None:
    tokens, valid = torch.zeros(1, 8, 3), torch.ones(1, 8, dtype=torch.bool)
    tokens[0, 2, 1], tokens[0, 7], valid[0, 7] = 5.0, 99.0, False
    scale = ScaleTokens(tokens, (2, 2, 2), torch.zeros(1, 8, 3), valid)
    seen = pooled(VisualTokens(scale, scale, scale))[0, :6]
    assert torch.allclose(seen, torch.tensor([0.0, 5 / 7, 0.0, 0.0, 5.0, 0.0]))


@pytest.mark.parametrize("loss", [ClipLoss(), SiglipLoss()], ids=["clip", "siglip"])
def test_a_study_without_a_report_changes_nothing(loss: ClipLoss | SiglipLoss) -> None:
    made = contrast(4, [True, False, True, True])
    kept = made.paired
    fewer = replace(made, images=made.images[kept], texts=made.texts[kept], paired=kept[kept])
    with_it, without = (loss(PretrainOutputs(contrast=c), None) for c in (made, fewer))
    assert with_it.seen == without.seen == 3
    assert torch.isclose(with_it.value, without.value)
    for lonely in ([False] * 3, [True, False, False]):
        nobody = loss(PretrainOutputs(contrast=contrast(3, lonely)), None)
        assert (float(nobody.value), nobody.seen) == (0.0, 0)


def test_a_batch_without_texts_pairs_nobody() -> None:
    made = learner("clip")(replace(batch(2), input_ids=None, labels=None), wants=frozenset({"clip"}))
    assert not made.contrast.paired.any()


def test_negatives_of_other_processes_count_as_if_all_were_in_one(tmp_path: Path) -> None:
    file = tmp_path / "two.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    run = subprocess.run(
        [*command, str(ROOT / "tests" / "pretraining_run.py"), str(file)],
        capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    two, one = torch.load(file), pretraining_run.measured(World())
    assert two.keys() == one.keys()
    for name, value in one.items():
        assert torch.allclose(two[name].float(), value.float(), atol=1e-6), name


# ------------------------------------------------------------------------------------------------- learning
GUESSING = {"masked": math.inf, "clip": math.log(4), "siglip": 4 * math.log(4) - 3 * math.log(3)}
"""What knowing nothing of the four scans costs, at best. Noise cannot be filled in: there any fall will do."""


@pytest.mark.parametrize("name", list(GUESSING))
def test_the_loss_falls_below_that_of_guessing(name: str) -> None:
    model, studies = learner(name), batch()
    loss = standard_losses()[name]
    optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if not n.startswith("language")], 3e-3)
    values = []
    for _ in range(12):
        torch.manual_seed(5)
        value = loss(model(studies, wants=frozenset({name})), studies).value
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.9 * min(values[0], GUESSING[name])
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"vision", "masked" if name == "masked" else "contrast"}


def test_pretraining_heads_stand_beside_the_report_model_and_leave_its_names() -> None:
    plain = tiny.build()
    assert with_heads(plain, CONFIG, ["report", "presence"]) is plain
    names = {n for n, _ in learner("masked", "clip").named_parameters()}
    own = {n for n, _ in plain.named_parameters()}
    assert own < names
    assert {n.split(".")[0] for n in names - own} == {"masked", "contrast"}


def test_a_head_over_every_unit_reconstructs_every_tubelet() -> None:
    model, (volume, _) = tiny.build(), tiny.scans(1)
    for unit in ("fine", "coarse"):
        made = MaskedHead(MaskedConfig(unit=unit, width=32, layers=1), model.vision)(model.vision, volume)
        assert made.predicted.shape == made.target.shape
        assert 0.4 < made.hidden.float().mean() < 0.9
