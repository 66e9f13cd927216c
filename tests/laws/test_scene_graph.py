"""The graph and its priors: what is absent or forbidden is not heard, whatever the kind of graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests import scene_kit as kit

from ctscribe import ontology
from ctscribe.scene.graph import GraphKind, GraphTransformer
from ctscribe.scene.priors import connected_regions, forbidden_regions, rule_amounts, violations
from ctscribe.scene.relations import RELATIONS, known_relations, relation_of_masks
from ctscribe.scene.tree import lesion_parents, parents, tree_names

NAMES = kit.NAMES
KINDS = list(ontology.findings())
PLACE = {name: i for i, name in enumerate(NAMES)}
NODULE = KINDS.index("lung_nodule")


def outlined(kind: int = NODULE, batch: int = 2) -> torch.Tensor:
    """Lesion kinds: the first lesion of a kind, the second not known."""
    return torch.tensor([[kind, -1]] * batch)


def with_lesions(noise: float = 0.0) -> kit.RegionMasks:
    lesions = torch.zeros(2, 2, *kit.FINE)
    lesions[:, 0, 2:4, 1:3, 1] = 1
    return replace(kit.masks(), lesions=lesions + noise, lesion_kinds=outlined())


@pytest.mark.parametrize("kind", ["fixed", "learned", "hybrid"])
def test_forbidden_edges_carry_no_attention(kind: GraphKind) -> None:
    scene = kit.station(graph=kind, priors=True, lesions=2, hierarchy="lobes")
    with torch.no_grad():
        scene.graph.edge_bias.normal_(std=3)
    found = scene(kit.visual(), with_lesions())
    assert found.forbidden is not None
    assert float((found.edges.detach() * found.forbidden).max()) == 0
    lesion = found.region_names.index("lesion")
    assert bool(found.forbidden[0, lesion, PLACE["mediastinum"]])
    assert bool(found.forbidden[0, PLACE["heart"], lesion])
    assert not bool(found.forbidden[0, lesion, PLACE["right_upper_lobe"]])
    assert not bool(found.forbidden[0, lesion + 1].any())  # its kind is not known
    sums = found.edges.detach().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-4, rtol=1e-4)


def test_air_reaches_a_lobe_only_through_its_bronchus() -> None:
    table = forbidden_regions(NAMES)
    assert bool(table[PLACE["trachea"], PLACE["left_upper_lobe"]])
    assert bool(table[PLACE["right_main_bronchus"], PLACE["left_lower_lobe"]])
    assert bool(table[PLACE["right_main_bronchus"], PLACE["left_main_bronchus"]])
    assert not bool(table[PLACE["trachea"], PLACE["right_main_bronchus"]])
    assert not bool(table[PLACE["right_upper_lobe"], PLACE["right_middle_lobe"]])
    assert not bool((table & (connected_regions(NAMES) > 0)).any())
    assert float(connected_regions(NAMES)[PLACE["aorta"], PLACE["heart"]]) == 1


def test_a_fixed_graph_speaks_only_along_known_edges() -> None:
    torch.manual_seed(0)
    graph = GraphTransformer(16, 2, 2, NAMES, neighbours=1, kind="fixed").eval()
    nodes, centres = torch.randn(1, len(NAMES) + 3, 16), torch.rand(1, len(NAMES) + 3, 3) * 100
    present, overlap = torch.ones(1, len(NAMES) + 3, dtype=torch.bool), torch.rand(1, 3, len(NAMES))
    _, edges = graph(nodes, present, centres, overlap)
    tied = graph.edges(nodes, present, centres, overlap, None, None).sum(-1) + torch.eye(len(NAMES) + 3)
    assert bool(((edges.detach() > 0) == (tied > 0)).all())
    assert float((tied > 0).float().mean()) < 0.3


@pytest.mark.parametrize(("kind", "without"), [("fixed", ()), ("learned", ()), ("hybrid", ("spatial", "learned"))])
def test_an_absent_node_is_not_heard(kind: GraphKind, without: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    graph = GraphTransformer(16, 2, 2, NAMES, kind=kind, without=without, connected=True).eval()
    with torch.no_grad():
        graph.edge_bias.normal_()
    count = len(NAMES) + 2
    nodes, centres, present = torch.randn(1, count, 16), torch.rand(1, count, 3) * 100, torch.ones(1, count).bool()
    present[0, 4] = False
    overlap = torch.rand(1, 2, len(NAMES))
    before, _ = graph(nodes, present, centres, overlap)
    louder, elsewhere = nodes.clone(), centres.clone()
    louder[0, 4] += 10
    elsewhere[0, 4] = 0
    after, _ = graph(louder, present, elsewhere, overlap)
    others = [i for i in range(count) if i != 4]
    torch.testing.assert_close(before[:, others], after[:, others])


def test_an_absent_lesion_changes_nothing() -> None:
    """A lesion node without a mask: neither its kind nor its number reaches what is detected."""
    scene = kit.station(lesions=2, hierarchy="lobes", priors=True, relations=True)
    masks = with_lesions()
    masks = replace(masks, lesions=masks.lesions * 0)
    none = replace(masks, lesions=None, lesion_kinds=None)
    one, other = scene(kit.visual(), masks).findings, scene(kit.visual(), none).findings
    torch.testing.assert_close(one.presence, other.presence)
    torch.testing.assert_close(one.where, other.where)


def test_the_tree_hears_its_parts_and_leaves_hear_only_themselves() -> None:
    scene = kit.station(hierarchy="segments", lesions=2)
    masks = with_lesions()
    before = scene(kit.visual(), masks)
    visual = kit.visual()
    inside = masks.lesions[0, 0].flatten() > 0
    louder = replace(visual.fine, tokens=visual.fine.tokens + 5 * inside[None, :, None])
    tokens = [before.regions, scene(replace(visual, fine=louder), masks).regions]
    lesion = before.region_names.index("lesion")
    assert not torch.allclose(tokens[0][0, lesion], tokens[1][0, lesion])
    up = parents(tree_names("segments"))
    assert tree_names("segments")[up[tree_names("segments").index("rul_apical_segment")]] == "right_upper_lobe"
    # Region 3 has no mask, and no part with one: not there. Its absence does not hide the right lung.
    assert not bool(before.region_present[0, 3])
    assert bool(before.region_present[0, PLACE["right_lung"]])


def test_a_parent_without_a_mask_is_known_by_its_parts() -> None:
    masks = kit.masks()
    present = torch.zeros_like(masks.present)
    present[:, [PLACE["left_upper_lobe"], PLACE["left_lower_lobe"]]] = True
    parts = replace(masks, occupancy=masks.occupancy * present[:, :, None, None, None], present=present)
    scene, flat = kit.station(hierarchy="lobes"), kit.station()
    found = scene(kit.visual(), parts)
    assert bool(found.region_present[:, [PLACE["left_lung"], PLACE["thorax"]]].all())
    assert not bool(found.region_present[:, PLACE["right_lung"]].any())
    middle = found.centres[:, [PLACE["left_upper_lobe"], PLACE["left_lower_lobe"]]].mean(1)
    torch.testing.assert_close(found.centres[:, PLACE["left_lung"]], middle)
    assert not bool(flat(kit.visual(), parts).region_present[:, PLACE["left_lung"]].any())


def test_a_lesion_belongs_to_the_deepest_region_that_holds_it() -> None:
    names = ("thorax", "right_lung", "right_upper_lobe", "right_lower_lobe")
    regions = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]])[None]
    lesions = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])[None]
    assert lesion_parents(lesions, regions, names)[0].float().argmax(-1)[:2].tolist() == [2, 0]
    assert not bool(lesion_parents(lesions, regions, names)[0, 2].any())


def test_relations_of_regions_and_of_masks() -> None:
    table = known_relations(NAMES)

    def says(a: str, b: str) -> str:
        return RELATIONS[int(table[PLACE[a], PLACE[b]])]

    assert says("right_upper_lobe", "right_lung") == "inside"
    assert says("right_lung", "right_upper_lobe") == "encloses"
    assert says("trachea", "left_main_bronchus") == says("left_main_bronchus", "trachea") == "airway"
    assert says("heart", "aorta") == "vessel"
    assert says("left_lung", "left_pleura") == "coupled"
    assert says("thyroid", "left_pleura") == "none"
    boxes = torch.zeros(3, 1, 1, 8)
    boxes[0, ..., :4], boxes[1, ..., 4:], boxes[2, ..., 2:4] = 1, 1, 1
    assert [RELATIONS[i] for i in relation_of_masks(boxes[2:].flatten(1), boxes.flatten(1), (1, 1, 8))[0].tolist()] == [
        "inside", "near", "inside"
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- rules
GRID = (2, 2, 6)
RULES = list(ontology.rules())


def anatomy(**cells: slice) -> torch.Tensor:
    """Region masks that fill a stretch of the last axis each."""
    masks = torch.zeros(1, len(NAMES), *GRID)
    for name, where in cells.items():
        masks[0, PLACE[name], ..., where] = 1
    return masks.flatten(2)


def amounts(masks: torch.Tensor, votes: torch.Tensor | None = None) -> dict[str, float]:
    dense = torch.full((1, len(KINDS), 24), -8.0)
    if votes is not None:
        dense[0, NODULE] = votes
    return dict(zip(RULES, rule_amounts(dense, masks, NAMES, GRID)[0].tolist(), strict=True))


def test_a_nodule_inside_the_mediastinum_breaks_a_rule() -> None:
    masks = anatomy(mediastinum=slice(2, 4), aorta=slice(4, 5), right_upper_lobe=slice(0, 2))
    for cell, broken in ((0, False), (2, True), (4, True), (5, False)):
        votes = torch.full(GRID, -8.0)
        votes[..., cell] = 6.0
        found = amounts(masks, votes.flatten())["nodule_outside_mediastinum"]
        assert (found > 0.5) == broken, (cell, found)


def test_vessels_and_airways_must_hang_together() -> None:
    sound = anatomy(heart=slice(0, 2), aorta=slice(2, 4), trachea=slice(0, 1), right_main_bronchus=slice(1, 3))
    assert max(amounts(sound).values()) < 0.1
    torn = anatomy(heart=slice(0, 2), aorta=slice(4, 6), trachea=slice(0, 1), right_main_bronchus=slice(3, 5))
    assert amounts(torn)["vessels_leave_the_heart"] == 1
    assert amounts(torn)["airways_form_a_tree"] == 1
    one_tube = anatomy(trachea=slice(0, 1), right_main_bronchus=slice(1, 3), left_main_bronchus=slice(1, 3))
    assert amounts(one_tube)["airways_form_a_tree"] == 1


def test_a_rule_can_be_learned() -> None:
    """The penalty has a gradient that takes votes out of the mediastinum and pulls own masks together."""
    votes = torch.zeros(1, len(KINDS), 24, requires_grad=True)
    masks = anatomy(mediastinum=slice(2, 4), heart=slice(0, 2), aorta=slice(3, 6)).mul(0.9).requires_grad_()
    rule_amounts(votes, masks, NAMES, GRID).sum().backward()
    inside = torch.zeros(GRID)
    inside[..., 2:6] = 1
    assert bool((votes.grad[0, NODULE][inside.flatten() > 0] > 0).all())
    assert float(masks.grad.abs().sum()) > 0


def test_a_broken_rule_is_told_in_both_languages() -> None:
    scene = kit.station()
    masks = kit.masks()
    occupancy = torch.zeros_like(masks.occupancy)
    occupancy[:, PLACE["heart"], :1], occupancy[:, PLACE["aorta"], -1:] = 1, 1
    found = scene(kit.visual(), replace(masks, occupancy=occupancy))
    told = violations(found, kit.FINE)
    assert [v.rule for v in told[0]] == ["vessels_leave_the_heart"]
    assert told[0][0].says["en"].startswith("a great vessel")
    assert "心脏" in told[0][0].says["zh"]
