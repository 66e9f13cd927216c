from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests import tiny as small

from ctscribe import checkpoint, ontology
from ctscribe.checkpoint import ModelInfo
from ctscribe.errors import CheckpointError
from ctscribe.facts import canonical, collapse, facts_of, findings_of, places_of
from ctscribe.model import Thresholds, decide, detections
from ctscribe.report import Finding
from ctscribe.report.sampler import sample_findings
from ctscribe.scene.priors import forbidden_lesions, forbidden_regions
from ctscribe.scene.relations import known_relations
from ctscribe.tensors import Affine, Volume
from ctscribe.training.thresholds import best_threshold, tune
from recipes import tiny


def scan() -> tuple[Volume, np.ndarray, np.ndarray]:
    volume, masks = small.scans(1)
    affine = Affine.from_spacing(tiny.model().grid.spacing)
    return Volume(volume.hu[0].numpy(), affine), masks.occupancy[0].numpy(), masks.present[0].numpy()


def test_describe_says_something_in_both_languages_and_explains_every_kind() -> None:
    description = small.build().describe(*scan(), ["en", "zh"])
    assert set(description.texts) == {"en", "zh"}
    assert {d.kind for d in description.detections} == set(ontology.findings())
    chances = [d.probability for d in description.detections]
    assert chances == sorted(chances, reverse=True)
    for d in description.detections:
        assert d.heat.shape == (16, 8, 8)
        assert d.regions


def test_describe_is_reproducible() -> None:
    one, two = (small.build().describe(*scan(), ["en"]) for _ in range(2))
    assert one.texts == two.texts
    assert one.findings == two.findings


def test_a_scan_on_another_grid_is_refused() -> None:
    volume, occupancy, present = scan()
    wrong = Volume(volume.hu[:-2], volume.affine)
    with pytest.raises(ValueError, match="the model reads"):
        small.build().describe(wrong, occupancy, present, ["en"])


def test_facts_and_findings_say_the_same() -> None:
    for seed in range(300):
        said = canonical(sample_findings(np.random.default_rng(seed), fine_regions=0.0))
        spoken = tuple(f for f in said if f.status != "absent")
        assert findings_of(facts_of([said]), 0) == spoken


def test_canonical_joins_places_and_keeps_the_largest_size() -> None:
    one = Finding("lung_nodule", "present", ("right_upper_lobe",), (6.0,), (("density", "solid"), ("number", "single")))
    two = Finding("lung_nodule", "present", ("left_lower_lobe",), (11.0, 8.0), (("density", "ground_glass"),))
    (joined,) = canonical([one, two])
    assert joined.regions == ("right_upper_lobe", "left_lower_lobe")
    assert joined.size_mm == (11.0,)
    assert dict(joined.attributes) == {"density": "ground_glass", "number": "multiple"}


def test_all_lobes_of_a_lung_are_the_lung() -> None:
    right = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe")
    assert collapse("emphysema", right) == ("right_lung",)
    assert collapse("emphysema", places_of("emphysema")) == ("lungs",)
    assert collapse("emphysema", right[:2]) == right[:2]
    assert collapse("pericardial_effusion", ("heart",)) == ("pericardium",)


def test_decisions_follow_the_thresholds() -> None:
    _, scene = small.build().see(*small.scans())
    chance = float(scene.findings.presence[0, 0].detach().sigmoid())
    kind = next(iter(ontology.findings()))
    for present, uncertain, state in ((chance - 0.01, 0.0, 2), (chance + 0.01, chance - 0.01, 1), (1.0, 0.99, 0)):
        facts = decide(scene.findings, Thresholds({kind: present}, {kind: uncertain}))
        assert int(facts.state[0, 0]) == state
    assert float(facts.where[0, 0].sum()) == 0
    assert len(detections(scene.findings, Thresholds(), (16, 8, 8))) == len(ontology.findings())


def test_best_threshold_separates_what_can_be_separated() -> None:
    score = np.concatenate([np.linspace(0.05, 0.3, 40), np.linspace(0.6, 0.9, 20)])
    truth = np.arange(60) >= 40
    cut, best = best_threshold(score, truth)
    assert 0.3 < cut < 0.6
    assert best > 0.85
    assert best_threshold(score, np.zeros(60, bool))[0] == 0.5


def test_a_detector_that_knows_nothing_of_a_kind_says_nothing() -> None:
    rng = np.random.default_rng(0)
    score, truth = rng.random(400), rng.random(400) < 0.08
    assert best_threshold(score, truth)[0] == 1.0


def test_one_lucky_study_does_not_move_the_cut() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(200) < 20
    score = 1 / (1 + np.exp(-(rng.normal(size=200) + 3 * truth - 2)))
    cuts = [best_threshold(np.delete(score, i), np.delete(truth, i))[0] for i in range(20)]
    assert np.ptp(cuts) < 0.15


def test_tune_gives_every_kind_a_threshold() -> None:
    rng = np.random.default_rng(1)
    shape = (20, len(ontology.findings()))
    thresholds, f1 = tune(rng.random(shape), rng.random(shape) < 0.5, hedge=0.5)
    assert set(thresholds.present) == set(ontology.findings()) == set(f1)
    assert all(thresholds.uncertain[k] < thresholds.present[k] for k in f1)


def test_saved_and_loaded_model_says_the_same(tmp_path) -> None:
    model = small.build()
    limits = Thresholds({"mass": 0.2})
    info = ModelInfo("small", watermark={"en": "synthetic"}, results={"macro_f1": 0.1}, card="# small\n")
    folder = checkpoint.save(tmp_path / "model", model, info, limits, dtype=torch.float32)
    loaded = checkpoint.load(folder)
    assert loaded.describe(*scan(), ["en"]).texts == model.describe(*scan(), ["en"], limits).texts
    assert loaded.thresholds == limits
    assert loaded.info.watermark == {"en": "synthetic"}
    assert len(loaded.info.checkpoint_hash) == 16
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert sorted(p.suffix for p in folder.iterdir()) == [".json"] * 4 + [".md", ".safetensors"]


def test_broken_model_folders_are_refused(tmp_path) -> None:
    folder = checkpoint.save(tmp_path / "model", small.build(), ModelInfo("small"), Thresholds())
    with pytest.raises(CheckpointError, match="no such model folder"):
        checkpoint.load(tmp_path / "nowhere")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(folder)
    weights.write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["scene"]["slots"] = 5
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.load(folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"ontology": "other"}))
    with pytest.raises(CheckpointError, match="other finding or region lists"):
        checkpoint.load(folder)


@pytest.mark.parametrize("table", [forbidden_regions, forbidden_lesions, known_relations])
def test_tables_that_are_kept_have_values_wherever_they_were_made_first(table: Callable[..., torch.Tensor]) -> None:
    with torch.device("meta"):
        assert not table(("trachea", "heart")).is_meta
