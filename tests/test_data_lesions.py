"""Outlined lesions travel from a sample to the scene, and move with the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ctscribe import ontology
from ctscribe.data.augment import Augment, shift
from ctscribe.data.batch import Collate, Sample
from ctscribe.scene.regions import lesions_on

GRID = (4, 2, 2)


def sample(lesions: int) -> Sample:
    regions = len(ontology.model_regions())
    masks = np.zeros((lesions, *GRID), np.uint8)
    masks[:, 1, 0, 1] = 255
    return Sample(
        id="one",
        hu=np.zeros((8, 8, 8), np.int16),
        spacing=(5.0, 2.0, 2.0),
        occupancy=np.full((regions, *GRID), 128, np.uint8),
        present=np.ones(regions, bool),
        lesions=masks if lesions else None,
        lesion_kinds=np.arange(lesions) if lesions else None,
    )


def test_lists_of_lesions_are_padded_with_empty_ones() -> None:
    regions = Collate(None)([sample(2), sample(0), sample(1)]).regions
    assert regions.lesions.flatten(2).sum(-1).tolist() == [[1, 1], [0, 0], [1, 0]]
    assert regions.lesion_kinds.tolist() == [[0, 1], [-1, -1], [0, -1]]
    assert lesions_on(regions, GRID, 3).sum(-1).tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert lesions_on(regions, GRID, 1).shape == (3, 1, 16)
    none = Collate(None)([sample(0)]).regions
    assert none.lesions is None
    assert float(lesions_on(none, GRID, 2).abs().max()) == 0


def test_lesions_move_with_the_scan_and_are_withheld_with_the_masks() -> None:
    moved = shift(sample(1), (1, 1, -1))
    assert np.argwhere(moved.lesions[0]).tolist() == [[2, 1, 0]]
    hidden = Augment(forget=1.0)(sample(1), np.random.default_rng(0))
    assert hidden.lesions is None
    assert hidden.lesion_kinds is None
    batch = Collate(None)([replace(sample(1), lesion_kinds=None)])
    assert batch.regions.lesion_kinds.tolist() == [[-1]]
    assert batch.regions.lesions.dtype == torch.float32


def test_boxes_are_truth_in_millimetres_and_move_with_the_scan() -> None:
    box = np.array([[-10.0, 0, 0, 0, 4, 4]], np.float32)
    boxed = replace(sample(0), boxes=box, box_kinds=("lung_nodule",))
    moved = shift(boxed, (1, 0, -1))
    # A cell is 2 voxels of 5 mm high and 4 voxels of 2 mm wide.
    assert moved.boxes.tolist() == [[0.0, 0.0, -8.0, 10.0, 4.0, -4.0]]
    targets = Collate(None)([sample(0), boxed]).targets
    assert targets.boxes.shape == (2, 1, 6)
    assert targets.box_kinds.tolist() == [[-1], [list(ontology.findings()).index("lung_nodule")]]
    assert not targets.presence_known.any()
    assert Collate(None)([sample(0)]).targets is None
