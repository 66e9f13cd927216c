"""Single lesions on the page: outlined ones and those of slots, below their region, beside their sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import people_fakes as fakes
import tiny
from ctscribe import checkpoint
from ctscribe.cli import table
from ctscribe.errors import UsageError
from ctscribe.explain import render_html
from ctscribe.explain.page import build
from ctscribe.model import Thresholds
from ctscribe.scene.objects import SlotObject

SLOT = SlotObject("lung_nodule", 0.8, (-55.0, 5.0, -85.0, -25.0, 35.0, -55.0))
"""A box of 30 mm around the small chest's lesion at z -40, y 20, x -70 mm; the grid's middle is the origin."""


@pytest.fixture(autouse=True)
def small_chest(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def outlined(path: Path) -> Path:
    """The small chest's lesion, outlined."""
    volume, _ = fakes.chest()
    z, y, x = np.round(volume.affine.to_index(np.array(fakes.LESION_WORLD))).astype(int)
    labels = np.zeros(volume.shape, np.uint8)
    labels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 2
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine.matrix
    nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), matrix), path)
    return path


def made(path: Path | None = None, slots: tuple[SlotObject, ...] = ()):
    reporter = fakes.reporter(fakes.FakeModel(slots=slots), lesions_scheme="totalsegmentator_lung_nodules")
    return reporter.report("scan", language="both", lesions=path)


def test_a_lesion_hangs_below_its_lobe_with_its_size_and_its_sentence(tmp_path: Path) -> None:
    result = made(outlined(tmp_path / "lesions.nii.gz"), (SLOT,))
    lesion, slot = result.nodes
    assert (lesion.source, lesion.kind, lesion.region, lesion.probability) == (
        "lesion", "lung_nodule", "right_lower_lobe", None
    )  # fmt: skip
    assert (slot.source, slot.region, slot.probability) == ("slot", "right_lower_lobe", 0.8)
    assert slot.size_mm == pytest.approx(30, abs=0.1)
    assert 15 <= lesion.size_mm <= 25
    for node in (lesion, slot):
        low, high = np.array(node.box_world)
        assert (low < fakes.LESION_WORLD).all()
        assert (high > fakes.LESION_WORLD).all()
    number = result.study.source.locate(fakes.LESION_WORLD).slice_number
    assert lesion.slices[0] <= number <= lesion.slices[1]
    first = result.report.text("en").findings[0]
    assert [e.source for e in first.evidence[:2]] == ["lesion", "slot"]


def test_the_page_shows_the_tree_and_leads_to_pictures(tmp_path: Path) -> None:
    result = made(outlined(tmp_path / "lesions.nii.gz"), (SLOT,))
    page = build(result)
    rows = [(row.depth, row.what, row.name["en"]) for row in page.tree]
    at = rows.index(next(row for row in rows if row[2] == "right lower lobe"))
    depth = rows[at][0]
    assert [what for _, what, _ in rows[at + 1 : at + 4]] == ["lesion", "slot", "finding"]
    assert {d for d, _, _ in rows[at + 1 : at + 4]} == {depth + 1}
    volume = result.segmentation.mask("right_lower_lobe").sum() * 0.125
    assert page.tree[at].measure == f"{volume:,.0f} ml"
    ids = {place.id for place in page.places}
    assert all(set(row.places) <= ids for row in page.tree)
    assert all(row.places for row in page.tree if row.what != "region")
    text = render_html(result)
    assert "found by a slot of the model" in text
    assert "勾画的病灶" in text


def test_without_lesions_and_without_masks_the_tree_holds_what_is_stated() -> None:
    assert [row.what for row in build(made()).tree].count("finding") == 1
    bare = fakes.reporter(segmenter="none").report("scan")
    assert [(row.depth, row.what) for row in build(bare).tree] == [(0, "finding")]


def test_a_model_without_nodes_refuses_outlined_lesions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bare = checkpoint.LoadedModel(tiny.build(), fakes.FakeModel().info, Thresholds())
    with pytest.raises(UsageError, match="no nodes for outlined lesions"):
        fakes.reporter(bare).report("scan", lesions=outlined(tmp_path / "l.nii.gz"))
    assert table.run(["report", "scan", "--lesions", str(tmp_path / "l.nii.gz")]) == 2
    assert "needs its scheme" in capsys.readouterr().err
    assert table.run(["report", "scan", "--lesions-scheme", "totalsegmentator_lung_nodules"]) == 2


def test_outlined_lesions_reach_the_scene_and_slots_come_back(tmp_path: Path) -> None:
    from dataclasses import replace

    import torch

    from ctscribe.model import CTReportModel

    config = tiny.tiny.model()
    config = replace(config, scene=replace(config.scene, lesions=2, slot_objects=True))
    torch.manual_seed(0)
    loaded = checkpoint.LoadedModel(
        CTReportModel(config, tiny.tokenizer()).eval(), fakes.FakeModel().info, Thresholds()
    )
    seen = []
    inner = loaded.model.scene.forward
    loaded.model.scene.forward = lambda *a, **k: seen.append(inner(*a, **k)) or seen[-1]
    reporter = fakes.reporter(loaded, lesions_scheme="totalsegmentator_lung_nodules")
    result = reporter.report("scan", lesions=outlined(tmp_path / "l.nii.gz"))
    assert seen[0].region_present[0, -2:].tolist() == [True, False]
    assert [node.source for node in result.nodes].count("lesion") == 1
    assert not reporter.report("scan").placed.lesions
    assert seen[1].region_present[0, -2:].tolist() == [False, False]
