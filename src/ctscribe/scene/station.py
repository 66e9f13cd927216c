"""The scene station: `VisualTokens` + masks -> `SceneTokens`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ctscribe import ontology
from ctscribe.scene.findings import FindingHeads
from ctscribe.scene.fuse import TopDown
from ctscribe.scene.graph import GraphTransformer
from ctscribe.scene.regions import RegionPool, masked_mean, occupancy_on
from ctscribe.scene.slots import SlotAttention
from ctscribe.tensors import RegionMasks, SceneTokens, VisualTokens


@dataclass(frozen=True)
class SceneConfig:
    """The scene station.

    Attributes:
        dim: common width of region, slot and graph tokens.
        slots: number of slots.
        slot_steps: refinement steps of slot attention.
        graph_layers: depth of the graph transformer.
        heads: attention heads.
        neighbours: nearest nodes tied by a spatial edge.
    """

    dim: int = 128
    slots: int = 16
    slot_steps: int = 3
    graph_layers: int = 2
    heads: int = 4
    neighbours: int = 5


class Scene(nn.Module):
    """Regions, slots, graph and finding heads, in the order of the figure."""

    def __init__(self, config: SceneConfig, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.config = config
        self.region_names = ontology.model_regions()
        self.top_down = TopDown(widths, config.dim)
        self.region_pool = RegionPool(config.dim, len(self.region_names))
        self.slot_attention = SlotAttention(widths[1], config.dim, config.slots, config.slot_steps)
        self.graph = GraphTransformer(
            config.dim, config.heads, config.graph_layers, self.region_names, config.neighbours
        )
        self.summary = nn.Linear(widths[2], config.dim)
        self.findings = FindingHeads(config.dim, self.region_names)

    def forward(self, visual: VisualTokens, masks: RegionMasks) -> SceneTokens:
        fused = self.top_down(visual)
        weights = occupancy_on(masks, fused.grid)
        regions, present, region_centres = self.region_pool(fused, weights)

        slots, slot_masks = self.slot_attention(visual.mid.tokens, visual.mid.valid)
        slot_centres, _ = masked_mean(visual.mid.centres, slot_masks)
        overlap, _ = masked_mean(occupancy_on(masks, visual.mid.grid).transpose(1, 2), slot_masks)

        nodes = torch.cat((regions, slots.to(regions.dtype)), dim=1)
        centres = torch.cat((region_centres, slot_centres), dim=1)
        alive = torch.cat((present, present.new_ones(slots.shape[:2])), dim=1)
        graph, edges = self.graph(nodes, alive, centres, overlap)

        whole = self.summary(visual.coarse.tokens.mean(1))
        region_nodes = graph[:, : len(self.region_names)]
        summary = torch.cat((whole, graph.mean(1)), dim=-1)
        findings = self.findings(fused, weights, region_nodes, present, summary)
        return SceneTokens(regions, present, slots, graph, slot_masks, edges, findings, centres)
