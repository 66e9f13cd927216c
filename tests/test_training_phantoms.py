"""Filling a store with synthetic studies."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.data.store import StudyStore
from ctscribe.errors import TrainingError, UsageError
from ctscribe.phantom import GridSpec, LesionMask, LesionPrior, generate
from ctscribe.training import phantoms
from ctscribe.training.phantoms import PhantomPlan, fill_store, lesion_tokens, phantom_id, phantom_sample

KINDS = list(ontology.findings())
# Coarse enough to be quick, large enough to hold a chest.
PLAN = PhantomPlan(
    2, first_seed=3, grid=GridSpec((32, 64, 64), (10.0, 5.5, 5.5)), region_grid=(16, 8, 8), token_grid=(16, 8, 8)
)

drawn = cache(generate)


@pytest.fixture(autouse=True)
def _draw_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time here, and equal seeds give equal phantoms."""
    monkeypatch.setattr(phantoms, "generate", lambda seed, grid, *, lesions: drawn(seed, grid))


def test_tokens_are_those_that_hold_the_lesion_and_move_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = LesionMask(((3, 7, 8), (5, 9, 10)), np.ones((2, 2, 2), bool))
    study = replace(drawn(5, PLAN.grid), lesions=(), lesion_masks={})
    monkeypatch.setattr(type(study), "kind_masks", lambda self: [("consolidation", piece)])
    flags = lesion_tokens(study, (16, 8, 8))
    marked = {tuple(place) for place in np.argwhere(flags[KINDS.index("consolidation")]).tolist()}
    # Voxels z 3..4, y 7..8, x 8..9 in tokens of 2 x 8 x 8 voxels.
    assert marked == {(1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 1, 1)}
    assert flags.any(axis=(1, 2, 3)).nonzero()[0].tolist() == sorted(
        KINDS.index(k) for k in ontology.implied("consolidation")
    )
    moved = lesion_tokens(study, (16, 8, 8), (1, 1, -1))
    assert {tuple(p) for p in np.argwhere(moved[KINDS.index("consolidation")]).tolist()} == {
        (2, 1, 0), (2, 1, 1),
    }  # fmt: skip
    assert not lesion_tokens(study, (16, 8, 8), (-5, 0, 0)).any()


def test_a_phantom_sample_is_reproducible_and_true() -> None:
    one, extra = phantom_sample(5, PLAN)
    other, _ = phantom_sample(5, PLAN)
    assert np.array_equal(one.hu, other.hu)
    assert one.findings == other.findings == drawn(5, PLAN.grid).findings
    assert one.dense is not None
    assert one.findings is not None
    present = {k for f in one.findings if f.status == "present" for k in ontology.implied(f.kind)}
    assert {KINDS[n] for n in one.dense.any(axis=(1, 2, 3)).nonzero()[0]} <= present
    assert extra["masks"] != "none"
    assert one.present.any()
    lungs = [ontology.model_regions().index(r) for r in ("right_lung", "left_lung")]
    box = np.argwhere(one.occupancy[lungs].any(axis=0))
    middle = (np.array(PLAN.region_grid) - 1) / 2
    assert np.abs((box.min(axis=0) + box.max(axis=0)) / 2 - middle).max() <= 1.0


def test_a_phantom_that_cannot_be_segmented_is_kept_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(volume: object) -> None:
        raise UsageError("no lungs here")

    monkeypatch.setattr(phantoms, "segment", refuse)
    sample, extra = phantom_sample(5, PLAN)
    assert not sample.present.any()
    assert (extra["masks"], extra["refusal"]) == ("none", "no lungs here")


def test_a_store_is_filled_continued_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill_store(replace(PLAN, first_seed=5, n=1), tmp_path, processes=1, show=False)
    assert store.ids == (phantom_id(5),)
    store = fill_store(replace(PLAN, n=3), tmp_path, processes=2, show=False)
    assert store.ids == (phantom_id(3), phantom_id(4), phantom_id(5))
    assert np.array_equal(store[2].hu, phantom_sample(5, PLAN)[0].hu)
    assert not np.array_equal(store[0].hu, store[1].hu)
    assert len(list(tmp_path.glob("shard-*"))) == 3
    monkeypatch.setattr(phantoms, "_run", None)
    assert len(fill_store(PLAN, tmp_path)) == 2
    assert len(StudyStore(tmp_path)) == 3


def test_phantoms_that_were_drawn_otherwise_are_not_taken_for_these(tmp_path: Path) -> None:
    fill_store(replace(PLAN, n=1), tmp_path, processes=1, show=False)
    assert len(fill_store(replace(PLAN, n=1, lesions=LesionPrior()), tmp_path)) == 1
    for other, said in (
        ({"lesions": LesionPrior.crowded(2.0)}, "another frequency"),
        ({"grid": GridSpec(PLAN.grid.shape, (9.0, 5.5, 5.5))}, "10.0"),
        ({"grid": GridSpec((16, 64, 64), (10.0, 5.5, 5.5))}, "(32, 64, 64)"),
    ):
        with pytest.raises(UsageError, match="drawn otherwise") as caught:
            fill_store(replace(PLAN, n=1, **other), tmp_path)
        assert said in str(caught.value)


def test_a_full_disk_is_refused_before_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("ctscribe.training.failures.shutil.disk_usage", lambda path: usage)
    with pytest.raises(TrainingError, match="disk space for the phantoms"):
        fill_store(PLAN, tmp_path, show=False)
