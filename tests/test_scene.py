from __future__ import annotations

import torch
from tests import tiny as small

from ctscribe import ontology
from ctscribe.scene.graph import GraphTransformer, anatomical_edges, spatial_edges
from ctscribe.scene.priors import allowed
from ctscribe.scene.regions import RegionPool, masked_mean, occupancy_on, region_geometry
from ctscribe.scene.slots import SlotAttention
from ctscribe.tensors import RegionMasks, ScaleTokens

NAMES = ontology.model_regions()


def test_masked_mean_equals_a_loop() -> None:
    torch.manual_seed(0)
    values, weights = torch.randn(2, 9, 4), torch.rand(2, 3, 9)
    weights[0, 1] = 0
    mean, total = masked_mean(values, weights)
    for b in range(2):
        for r in range(3):
            whole = sum(weights[b, r, n] * values[b, n] for n in range(9))
            expected = whole / weights[b, r].sum() if weights[b, r].sum() > 0 else torch.zeros(4)
            torch.testing.assert_close(mean[b, r], expected, atol=1e-5, rtol=1e-4)
    assert total[0, 1] == 0


def test_region_geometry_measures_a_box() -> None:
    axis = torch.arange(4).float()
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    centres = torch.stack((z, y, x), -1).reshape(1, -1, 3) * 10
    box = ((z < 2) & (y < 1)).float().reshape(1, 1, -1)
    described, middle = region_geometry(box, centres)
    torch.testing.assert_close(middle[0, 0], torch.tensor([5.0, 0.0, 15.0]))
    torch.testing.assert_close(described[0, 0, 4:] * 100, torch.tensor([5.0, 0.0, 125.0**0.5]), atol=1e-3, rtol=1e-3)


def test_learned_masks_of_one_cell_or_none_have_finite_gradients() -> None:
    centres = torch.randn(1, 6, 3) * 100
    weights = torch.zeros(1, 3, 6)
    weights[0, 0, 2], weights[0, 1] = 1, 1
    weights.requires_grad_()
    described, _ = region_geometry(weights, centres)
    described.square().sum().backward()
    assert bool(torch.isfinite(weights.grad).all())
    assert float(weights.grad[0, 1].abs().max()) > 0


def test_absent_region_is_a_learned_token_on_the_same_path() -> None:
    torch.manual_seed(0)
    pool = RegionPool(8, 3)
    fused = ScaleTokens(torch.randn(1, 5, 8), (5, 1, 1), torch.randn(1, 5, 3), torch.ones(1, 5, dtype=torch.bool))
    weights = torch.rand(1, 3, 5)
    weights[0, 1] = 0
    tokens, present, _ = pool(fused, weights)
    assert present.tolist() == [[True, False, True]]
    torch.testing.assert_close(tokens[0, 1], pool.absent[1])


def test_occupancy_is_pooled_to_the_token_grid_and_hidden_where_absent() -> None:
    occupancy = torch.rand(1, 2, 4, 4, 4)
    masks = RegionMasks(occupancy, torch.tensor([[True, False]]), ("a", "b"))
    pooled = occupancy_on(masks, (2, 2, 2))
    torch.testing.assert_close(pooled[0, 0, 0], occupancy[0, 0, :2, :2, :2].mean())
    assert float(pooled[0, 1].abs().max()) == 0


def test_slots_are_permutation_equivariant() -> None:
    torch.manual_seed(0)
    attention = SlotAttention(12, 16, slots=5).eval()
    tokens, valid = torch.randn(2, 20, 12), torch.ones(2, 20, dtype=torch.bool)
    start, order = torch.randn(2, 5, 16), torch.tensor([3, 0, 4, 1, 2])
    slots, masks = attention(tokens, valid, start)
    turned, turned_masks = attention(tokens, valid, start[:, order])
    torch.testing.assert_close(slots[:, order], turned, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(masks[:, order], turned_masks, atol=1e-5, rtol=1e-4)


def test_slots_do_not_care_about_the_order_of_tokens_and_share_every_valid_one() -> None:
    torch.manual_seed(0)
    attention = SlotAttention(12, 16, slots=5).eval()
    tokens, valid = torch.randn(1, 20, 12), torch.ones(1, 20, dtype=torch.bool)
    valid[0, 15:] = False
    slots, masks = attention(tokens, valid)
    order = torch.randperm(20)
    turned, _ = attention(tokens[:, order], valid[:, order])
    torch.testing.assert_close(slots, turned, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(masks.sum(1)[0, :15], torch.ones(15))
    assert float(masks[0, :, 15:].detach().abs().max()) == 0


def test_spatial_edges_join_the_nearest_present_nodes() -> None:
    centres = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2.5, 0, 0], [10, 0, 0]]])
    present = torch.tensor([[True, True, False, True]])
    edges = spatial_edges(centres, present, neighbours=1)
    assert edges[0].tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]


def test_anatomical_edges_follow_the_region_tree() -> None:
    edges = anatomical_edges(NAMES)
    place = {name: i for i, name in enumerate(NAMES)}
    assert edges[place["right_lung"], place["right_upper_lobe"]] == 1
    assert edges[place["right_lung"], place["left_upper_lobe"]] == 0
    torch.testing.assert_close(edges, edges.T)


def test_absent_node_is_not_heard_in_the_graph() -> None:
    torch.manual_seed(0)
    regions = len(NAMES)
    graph = GraphTransformer(16, 2, 2, NAMES).eval()
    nodes, centres = torch.randn(1, regions + 2, 16), torch.rand(1, regions + 2, 3) * 100
    present = torch.ones(1, regions + 2, dtype=torch.bool)
    present[0, 4] = False
    overlap = torch.rand(1, 2, regions)
    before, edges = graph(nodes, present, centres, overlap)
    nodes[0, 4] += 10
    after, _ = graph(nodes, present, centres, overlap)
    others = [i for i in range(regions + 2) if i != 4]
    torch.testing.assert_close(before[:, others], after[:, others])
    assert float(edges[0, :, 4].detach().max()) < 1e-6


def test_nodule_is_never_allowed_inside_the_mediastinum() -> None:
    kinds = list(ontology.findings())
    table = allowed()
    assert not table[kinds.index("lung_nodule"), NAMES.index("mediastinum")]
    assert table[kinds.index("lung_nodule"), NAMES.index("right_upper_lobe")]
    assert table[kinds.index("pericardial_effusion"), NAMES.index("heart")]


def test_forbidden_places_get_no_chance_and_every_output_is_declared() -> None:
    model = small.build()
    visual, scene = model.see(*small.scans())
    kinds = list(ontology.findings())
    where = scene.findings.where.detach().sigmoid()
    assert float(where[:, kinds.index("lung_nodule"), NAMES.index("heart")].max()) < 1e-4
    nodes = len(NAMES) + model.config.scene.slots
    assert scene.edges.shape == (2, nodes, nodes)
    torch.testing.assert_close(scene.edges.sum(-1), torch.ones(2, nodes), atol=1e-4, rtol=1e-4)
    assert scene.slot_masks.shape == (2, model.config.scene.slots, visual.mid.tokens.shape[1])


def test_without_any_mask_everything_still_works() -> None:
    model = small.build()
    volume, masks = small.scans()
    none = RegionMasks(torch.zeros_like(masks.occupancy), torch.zeros_like(masks.present), masks.names)
    _, scene = model.see(volume, none)
    assert not scene.region_present.any()
    assert bool(torch.isfinite(scene.findings.presence).all())
    assert bool(torch.isfinite(scene.graph).all())


def test_gradients_reach_every_parameter_of_vision_and_scene() -> None:
    model = small.build().train()
    volume, masks = small.scans()
    visual, scene = model.see(volume, masks)
    logits = scene.findings
    total = logits.presence.sum() + logits.where.sum() + logits.size.sum() + model.vision.embed_scales(visual).sum()
    total = total + sum(v.sum() for v in logits.attributes.values()) + scene.graph.sum() + scene.edges.square().sum()
    total.backward()
    silent = [n for n, p in model.named_parameters() if not n.startswith("language") and p.grad is None]
    assert silent == []
