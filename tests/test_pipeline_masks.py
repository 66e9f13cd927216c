"""Who outlines the regions: every word reaches the report, and the model's own head needs no other tool."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import people_fakes as fakes
import tiny
from ctscribe import checkpoint
from ctscribe.cli import table
from ctscribe.data.anatomy import WORDS
from ctscribe.errors import DependencyMissing, UsageError
from ctscribe.model import CTReportModel, ModelConfig, Thresholds
from ctscribe.pipeline import Reporter
from ctscribe.pipeline.masks import Outliner, place_outlined
from ctscribe.scene.station import SceneConfig


@pytest.fixture(autouse=True)
def small_chest(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def segmenting(seed: int = 0) -> checkpoint.LoadedModel:
    """A tiny model with a segmentation head of its own."""
    torch.manual_seed(seed)
    config: ModelConfig = tiny.tiny.model()
    config = replace(config, scene=replace(config.scene, masks="given_or_own"))
    model = CTReportModel(config, tiny.tokenizer()).eval()
    return checkpoint.LoadedModel(model, fakes.FakeModel().info, Thresholds())


def label_map(path: Path) -> Path:
    """The small chest's labels in numbers of their own, turned on its side."""
    volume, segmentation = fakes.chest()
    ras = nib.Nifti1Image(
        (segmentation.labels * 3).transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine.matrix
    )
    nib.save(ras.as_reoriented(nib.orientations.axcodes2ornt(("S", "L", "A"))), path)
    names = {str(3 * value): name for value, name in segmentation.names.items()}
    path.with_name("names.json").write_text(json.dumps(names))
    return path


def made(model: object, word: str, scheme: str = ""):
    return fakes.reporter(model, segmenter=word, regions_scheme=scheme).report("scan")


def test_a_label_map_gives_the_regions_that_it_holds(tmp_path: Path) -> None:
    rules = made(fakes.FakeModel(), "classical")
    path = label_map(tmp_path / "map.nii.gz")
    found = made(fakes.FakeModel(), f"labelmap:{path}", str(tmp_path / "names.json"))
    np.testing.assert_array_equal(found.placed.occupancy, rules.placed.occupancy)
    assert found.report.provenance.masks == "labels named by names.json"
    assert rules.report.provenance.masks == "test"
    assert json.loads(found.report.to_json())["provenance"]["masks"] == "labels named by names.json"


def test_without_masks_every_region_is_absent_and_the_scan_lies_in_the_same_place() -> None:
    rules, bare = made(fakes.FakeModel(), "classical"), made(fakes.FakeModel(), "none")
    assert not bare.placed.present.any()
    assert not bare.placed.occupancy.any()
    np.testing.assert_array_equal(bare.placed.volume.hu, rules.placed.volume.hu)
    assert bare.report.provenance.masks == "none"
    assert "no_regions" in {note.code for note in bare.report.quality}


def test_own_masks_reach_the_model_soft_and_the_page_hard() -> None:
    model = segmenting()
    with torch.no_grad():  # the head says: right lung where x is low, and nothing else
        model.model.scene.own_masks.head[-1].down.bias.fill_(-9.0)
        model.model.scene.own_masks.head[-1].down.bias[model.regions.index("right_lower_lobe")] = 1.5
    found = made(model, "own")
    where = model.regions.index("right_lower_lobe")
    assert found.placed.present[where]
    assert 0 < found.placed.occupancy[where].min() < found.placed.occupancy[where].max() < 1
    assert found.segmentation.names == dict.fromkeys(found.segmentation.names, "right_lower_lobe")
    assert found.segmentation.has("right_lung")
    assert found.segmentation.labels.shape == found.study.volume.shape
    assert found.report.provenance.masks.startswith("own: fake ")
    assert any("agree little" in note.message["en"] for note in found.report.quality)


def test_own_masks_given_back_are_what_the_model_would_have_used() -> None:
    """given_or_own: the scene is the same whether the soft masks come from outside or from inside."""
    model = segmenting(3)
    study, _ = fakes.study()
    outlined = Outliner("own", model=lambda: model)(study)
    placed = place_outlined(
        study,
        outlined,
        shape=model.grid.shape,
        spacing=model.grid.spacing,
        regions=model.regions,
        cells=model.cells,
    )
    from ctscribe.model import on_grid

    given = on_grid(placed.volume, placed.occupancy, placed.present)
    nothing = on_grid(placed.volume, np.zeros_like(placed.occupancy), np.zeros_like(placed.present))
    with torch.no_grad():
        one, two = (model.model.see(*pair)[1] for pair in (given, nothing))
    assert torch.equal(one.region_present, two.region_present)
    torch.testing.assert_close(one.graph, two.graph)


def test_a_model_without_a_head_says_so_before_a_scan_is_read() -> None:
    model = tiny.build()
    bare = checkpoint.LoadedModel(model, fakes.FakeModel().info, Thresholds())
    with pytest.raises(UsageError, match="no segmentation head"):
        made(bare, "own")
    bundled = Reporter(segmenter="own")
    assert bundled.model.model.config.scene.masks == SceneConfig().masks == "given"
    with pytest.raises(UsageError, match=r"trained to read masks from outside") as refusal:
        bundled.report("nowhere")
    assert "given_or_own" in str(refusal.value)


def test_a_model_on_another_grid_is_refused() -> None:
    model = segmenting()
    study, _ = fakes.study()
    outlined = Outliner("own", model=lambda: model)(study)
    with pytest.raises(UsageError, match="another grid"):
        place_outlined(study, outlined, shape=(8, 8, 8), spacing=(40.0, 40.0, 40.0), regions=(), cells=(8, 8, 8))


@pytest.mark.parametrize(
    ("word", "scheme", "says"),
    [
        ("nobody", "", "unknown segmenter"),
        ("none:x", "", "unknown segmenter"),
        ("labelmap", "lungmask_r231", "needs a file"),
        ("labelmap:nowhere.nii.gz", "lungmask_r231", "no such file"),
        ("classical", "lungmask_r231", "--regions-scheme"),
        ("nnunet", "", "model folder"),
    ],
)
def test_wrong_words_are_refused_before_a_scan_is_read(word: str, scheme: str, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Outliner(word, scheme).check()
    assert says in str(refusal.value)


def test_a_label_map_without_scheme_and_a_program_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = label_map(tmp_path / "map.nii.gz")
    with pytest.raises(UsageError, match="needs the scheme"):
        Outliner(f"labelmap:{path}").check()
    monkeypatch.setenv("PATH", "")
    for word in ("totalsegmentator", "lungmask"):
        with pytest.raises(DependencyMissing, match="not installed"):
            Outliner(word).check()
    assert set(WORDS) >= {"classical", "labelmap", "own", "none"}


def test_segment_writes_what_a_label_map_holds(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = label_map(tmp_path / "map.nii.gz")
    out = tmp_path / "out.nii.gz"
    words = ["segment", "scan.dcm", "--out", str(out), "--segmenter", f"labelmap:{path}"]
    assert table.run([*words, "--regions-scheme", str(tmp_path / "names.json")]) == 0
    labels = json.loads((tmp_path / "out.json").read_text())["labels"]
    _, segmentation = fakes.chest()
    written = np.asarray(nib.load(out).dataobj).transpose(2, 1, 0)
    lobe = next(int(value) for value, name in labels.items() if name == "left_upper_lobe")
    np.testing.assert_array_equal(written == lobe, segmentation.mask("left_upper_lobe"))
    assert table.run([*words[:-1], "own"]) == 2
    assert "no segmentation head" in capsys.readouterr().err
