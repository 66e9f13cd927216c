"""Heat maps become boxes and original slice numbers, and the numbers are right."""

from __future__ import annotations

import numpy as np
import pytest

import people_fakes as fakes
from ctscribe.pipeline import evidence, placing
from ctscribe.pipeline.evidence import Extents, pieces
from ctscribe.report import Finding


def placed(numbers: tuple[int, ...] | None = None, cells: tuple[int, int, int] = (16, 16, 16)) -> evidence.Placed:
    scan, segmentation = fakes.study(numbers)
    model = fakes.FakeModel()
    return placing.place(
        scan, segmentation, shape=model.grid.shape, spacing=model.grid.spacing, regions=model.regions, cells=cells
    )


def detection(model: fakes.FakeModel, where: evidence.Placed):
    return model.describe(where.volume, where.occupancy, where.present, ["en"]).detections[0]


def test_pieces_are_connected_and_hottest_first() -> None:
    heat = np.zeros((4, 4, 4), np.float32)
    heat[0, 0, 0:2], heat[3, 3, 3] = 0.6, 0.9
    found = pieces(heat)
    assert [(p.low, p.high) for p in found] == [((3, 3, 3), (4, 4, 4)), ((0, 0, 0), (1, 1, 2))]
    assert [p.weight for p in found] == pytest.approx([0.9, 0.6])


def test_cold_maps_have_no_pieces() -> None:
    heat = np.zeros((4, 4, 4), np.float32)
    assert pieces(heat) == []
    heat[0, 0, 0] = 1.0
    inside = np.zeros(heat.shape, bool)
    inside[3] = True
    assert pieces(heat + 0.01, inside) == []


def test_the_box_holds_the_lesion() -> None:
    where = placed()
    found = evidence.evidence_of(detection(fakes.FakeModel(), where), where)
    low, high = map(np.asarray, found[0].box_world)
    assert found[0].region == "right_lower_lobe"
    assert np.all(low <= fakes.LESION_WORLD)
    assert np.all(high >= fakes.LESION_WORLD)


@pytest.mark.parametrize("numbering", ["up", "down", "shuffled"])
def test_slices_are_those_of_the_source_however_it_counts(numbering: str) -> None:
    count = fakes.SHAPE[0]
    order = {"up": range(1, count + 1), "down": range(count, 0, -1)}.get(numbering)
    numbers = tuple(order or np.random.default_rng(0).permutation(count) + 1)
    where = placed(tuple(int(n) for n in numbers))
    found = evidence.evidence_of(detection(fakes.FakeModel(), where), where)[0]
    z = where.original.affine.to_index(np.asarray(found.box_world))[:, 0]
    covered = {int(numbers[k]) for k in range(count) if z.min() <= k <= z.max()}
    assert covered
    if numbering == "shuffled":
        assert set(found.slices) <= covered
    else:
        assert found.slices == (min(covered), max(covered))


def test_a_box_at_the_edge_of_the_scan_is_clipped_to_it() -> None:
    where = placed()
    low, high = evidence.clip_to_scan(((-1e4, -1e4, -1e4), (0.0, 0.0, 0.0)), where.original)
    assert np.allclose(low, where.original.affine.to_world(np.full(3, -0.5)), atol=0.01)
    assert high == (0.0, 0.0, 0.0)
    assert evidence.clip_to_scan(((1e4, 0.0, 0.0), (2e4, 1.0, 1.0)), where.original) is None


def test_identifiers_stay_out_unless_asked_for() -> None:
    where = placed()
    seen = detection(fakes.FakeModel(), where)
    assert all(e.sop_instance is None for e in evidence.evidence_of(seen, where))
    asked = evidence.evidence_of(seen, where, identifiers=True)[0]
    assert asked.sop_instance in where.source.sop_instance_uids


def test_a_denied_finding_points_to_where_was_looked() -> None:
    _, segmentation = fakes.study()
    extents = Extents(segmentation, placed())
    (lungs,) = extents.of_finding(Finding("lung_nodule", "absent"))
    assert (lungs.region, lungs.source, lungs.slices) == ("lungs", "segmentation", (5, 44))
    (lobe,) = extents.of_finding(Finding("atelectasis", "absent", regions=("left_lower_lobe",)))
    assert (lobe.region, lobe.slices) == ("left_lower_lobe", (5, 24))


def test_what_may_lie_on_either_side_was_looked_for_on_both() -> None:
    assert evidence.looked_in("pleural_effusion") == ("right_pleura", "left_pleura")
    assert evidence.looked_in("bone_lesion") == ("spine", "ribs")
    assert evidence.looked_in("lung_nodule") == ("lungs",)
    assert evidence.looked_in("medical_material") == ("thorax",)
    assert evidence.looked_in("airway_stenosis") == ("trachea",)


def test_a_region_without_a_mask_is_answered_by_the_nearest_around_it() -> None:
    _, segmentation = fakes.study()
    found = Extents(segmentation, placed()).of_region("aorta")
    assert found is not None
    assert found.region == "thorax"


def test_the_lungs_are_centred_on_the_grid() -> None:
    scan, segmentation = fakes.study()
    assert placing.centre_of_chest(scan.volume, segmentation) == pytest.approx((0.0, 0.0, 0.0))
    where = placed()
    middle = (np.asarray(where.volume.shape) - 1) / 2
    assert np.allclose(where.volume.affine.to_world(middle), 0.0, atol=1e-6)


def test_what_lies_outside_the_field_of_view_is_measured() -> None:
    scan, segmentation = fakes.study()
    from ctscribe.data.geometry import to_grid

    whole = to_grid(scan.volume, (64, 64, 64), (6.0, 6.0, 6.0), (0.0, 0.0, 0.0))
    half = to_grid(scan.volume, (64, 64, 64), (6.0, 6.0, 6.0), (0.0, 0.0, 192.0))
    assert placing.outside_share(segmentation, scan.volume, whole) == 0.0
    assert placing.outside_share(segmentation, scan.volume, half) == pytest.approx(0.5, abs=0.03)
