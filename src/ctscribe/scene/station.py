"""The scene station: `VisualTokens` + masks -> `SceneTokens`.

```
 fused tokens ──► masks: given, own, or given where there are some ──► region tokens ──► tree: parts join their wholes
 tokens of a scale ──► slots ──► parent slots ──► boxes and kinds
                                  regions + lesions + slots ──► graph ──► relations
                                                                      └──► findings
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.beside import InputsConfig, StudyBeside
from ctscribe.scene.beside import Beside
from ctscribe.scene.findings import FindingHeads
from ctscribe.scene.fuse import TopDown
from ctscribe.scene.graph import EDGES_OF, EdgeType, GraphKind, GraphTransformer
from ctscribe.scene.masks import MaskSource, OwnMasks, choose
from ctscribe.scene.objects import ObjectHead
from ctscribe.scene.priors import forbidden_lesions, forbidden_nodes, forbidden_regions
from ctscribe.scene.regions import (
    LesionPool,
    Pooling,
    RegionPool,
    in_order,
    lesion_kinds,
    lesions_on,
    masked_mean,
    occupancy_on,
)
from ctscribe.scene.relations import RelationHead
from ctscribe.scene.slots import SCALES, ScaledSlots, SlotAttention, SlotParents, SlotScale, on_grid_of
from ctscribe.scene.tree import Hierarchy, RegionTree, lesion_parents, tree_names
from ctscribe.tensors import LESION, RegionMasks, ScaleTokens, SceneTokens, VisualTokens


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
        pooling: ``"mean"`` of the features under a mask, or ``"align"``: ROIAlign in the mask's box.
        align_bins: bins per axis of ROIAlign.
        align_samples: sample points per axis and bin of ROIAlign.
        masks: where region masks come from: ``"given"`` from outside, ``"own"`` from the model's segmentation head, or
            ``"given_or_own"``: its own where none is given.
        hierarchy: ``"flat"`` regions, or a tree whose parents hear their parts: ``"lobes"`` over the model regions,
            ``"segments"`` with the bronchopulmonary segments below.
        lesions: nodes for outlined lesions, in the order given; missing ones are absent, further ones have no node.
        slot_noise: spread of the noise on the slots' starts in training, over that of the starts.
        slot_scales: scale that each group of slots looks at: fine, mid, coarse.
        slot_parents: slots that gather the others into larger things.
        slot_objects: a head that says which box and which kind of finding each slot holds.
        graph: ``"fixed"`` (only along known edges), ``"learned"`` or ``"hybrid"``.
        edges_off: types of edges left out: spatial, anatomical, learned.
        relations: a head that says how every two nodes relate: inside, near, airway, ...
        priors: medical priors as structure: connected regions share an edge, pairs that anatomy rules out never speak.
    """

    dim: int = 128
    slots: int = 16
    slot_steps: int = 3
    graph_layers: int = 2
    heads: int = 4
    neighbours: int = 5
    pooling: Pooling = "mean"
    align_bins: int = 2
    align_samples: int = 4
    masks: MaskSource = "given"
    hierarchy: Hierarchy = "flat"
    lesions: int = 0
    slot_noise: float = 0.1
    slot_scales: tuple[SlotScale, ...] = ("mid",)
    slot_parents: int = 0
    slot_objects: bool = False
    graph: GraphKind = "hybrid"
    edges_off: tuple[EdgeType, ...] = ()
    relations: bool = False
    priors: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and every word that would change nothing."""
        low = {"slots": 2, "slot_steps": 1, "graph_layers": 1, "align_bins": 1, "align_samples": 1, "neighbours": 1}
        for name, least in {**low, "lesions": 0, "slot_parents": 0, "slot_noise": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, at least {least} is needed")
        scales = self.slot_scales
        if not scales or len(set(scales)) < len(scales) or len(scales) > self.slots:
            raise ValueError(f"slot_scales names each scale once, for at most {self.slots} slots, not {scales}")
        if self.slot_parents == 1 or self.slot_parents >= self.slots:
            raise ValueError(f"slot_parents is 0 or from 2 to below slots ({self.slots}), not {self.slot_parents}")
        strange = [name for name in self.edges_off if name not in EDGES_OF[self.graph]]
        if strange:
            raise ValueError(f"edges_off: a {self.graph} graph has no {strange[0]} edges")
        spatial = "spatial" in EDGES_OF[self.graph] and "spatial" not in self.edges_off
        self._idle("pooling is mean", self.pooling == "mean", "align_bins", "align_samples")
        self._idle("the graph has no spatial edges", not spatial, "neighbours")

    def _idle(self, why: str, idle: bool, *names: str) -> None:
        defaults: Mapping[str, Any] = {f.name: f.default for f in fields(self)}
        changed = [name for name in names if getattr(self, name) != defaults[name]]
        if idle and changed:
            raise ValueError(f"{changed[0]} changes nothing where {why}: leave it out")


class _SeenSlots(NamedTuple):
    """Slots, their masks on the mid grid, who belongs to which parent; the tokens they looked at (the mid ones where
    groups look at several scales), and their masks there."""

    slots: Float[Tensor, "b s d"]
    masks: Float[Tensor, "b s n"]
    shares: Float[Tensor, "b p c"] | None
    own_masks: Float[Tensor, "b s m"]
    place: ScaleTokens


class Scene(nn.Module):
    """Regions, slots, graph and finding heads, in the order of the figure."""

    no_go: Tensor
    no_go_lesions: Tensor

    def __init__(self, config: SceneConfig, widths: tuple[int, int, int], inputs: InputsConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.region_names = tree_names("flat")
        self.node_names = tree_names(config.hierarchy)
        self.top_down = TopDown(widths, config.dim)
        self.region_pool = RegionPool(
            config.dim,
            len(self.node_names),
            pooling=config.pooling,
            bins=config.align_bins,
            samples=config.align_samples,
        )
        self.slot_attention = self._slots(config, widths)
        self.graph = GraphTransformer(
            config.dim,
            config.heads,
            config.graph_layers,
            self.node_names,
            config.neighbours,
            kind=config.graph,
            without=config.edges_off,
            connected=config.priors,
        )
        self.summary = nn.Linear(widths[2], config.dim)
        self.findings = FindingHeads(config.dim, self.region_names)
        # What follows exists only where it is asked for.
        self.own_masks = OwnMasks(config.dim, len(self.region_names)) if config.masks != "given" else None
        self.tree = RegionTree(config.dim, self.node_names) if config.hierarchy != "flat" else None
        self.lesion_pool = LesionPool(config.dim) if config.lesions else None
        self.parents = (
            SlotParents(config.dim, config.slot_parents, config.slot_steps, config.slot_noise)
            if config.slot_parents
            else None
        )
        self.objects = ObjectHead(config.dim) if config.slot_objects else None
        self.relations = RelationHead(config.dim) if config.relations else None
        self.beside = Beside(inputs, config.dim, config.heads) if inputs is not None and inputs.names else None
        self.register_buffer("no_go", forbidden_regions(self.node_names), persistent=False)
        self.register_buffer("no_go_lesions", forbidden_lesions(self.node_names), persistent=False)

    @staticmethod
    def _slots(config: SceneConfig, widths: tuple[int, int, int]) -> SlotAttention | ScaledSlots:
        scales = config.slot_scales
        if len(scales) == 1:
            width = widths[SCALES.index(scales[0])]
            return SlotAttention(width, config.dim, config.slots, config.slot_steps, config.slot_noise)
        return ScaledSlots(widths, config.dim, config.slots, scales, config.slot_steps, config.slot_noise)

    def forward(
        self,
        visual: VisualTokens,
        masks: RegionMasks,
        beside: StudyBeside | None = None,
        before: SceneTokens | None = None,
    ) -> SceneTokens:
        """One batch; ``beside`` is known beside the scans, ``before`` is what this station made of earlier ones."""
        fused = self.top_down(visual)
        masks = in_order(masks, self.node_names)
        mask_logits = None
        if self.own_masks is not None:
            mask_logits = self.own_masks(fused)
            masks = choose(self.config.masks, masks, mask_logits, fused.grid)
        weights = self._occupancy(masks, fused)
        regions, present, region_centres, owners = self._regions(fused, masks, weights)

        seen = self._see_slots(visual)
        slots, slot_masks, shares = seen.slots, seen.masks, seen.shares
        slot_centres, _ = masked_mean(visual.mid.centres, slot_masks)
        overlap, _ = masked_mean(self._occupancy(masks, visual.mid).transpose(1, 2), slot_masks)

        nodes = torch.cat((regions, slots.to(regions.dtype)), dim=1)
        centres = torch.cat((region_centres, slot_centres), dim=1)
        alive = torch.cat((present, present.new_ones(slots.shape[:2])), dim=1)
        forbidden = self._forbidden(masks, nodes) if self.config.priors else None
        graph, edges = self.graph(
            nodes, alive, centres, overlap, lesion_parents=owners, slot_parents=shares, forbidden=forbidden
        )

        change = given = None
        if self.beside is not None and beside is not None:
            graph = self.beside(graph, beside, before)

        whole = self.summary(_mean(visual.coarse))
        model = len(self.region_names)
        summary = torch.cat((whole, self._mean_node(graph, present)), dim=-1)
        findings = self.findings(fused, weights[:, :model], graph[:, :model], present[:, :model], summary)
        boxes = kinds = None
        if self.objects is not None:
            boxes, kinds = self.objects(slots, seen.own_masks, seen.place.centres)
        relations = None if self.relations is None else self.relations(graph, centres)
        if self.beside is not None and beside is not None:
            change, given = self.beside.became(findings, beside, before)
        return SceneTokens(
            regions,
            present,
            slots,
            graph,
            slot_masks,
            edges,
            findings,
            centres,
            region_names=self.node_names + (LESION,) * self.config.lesions,
            region_masks=weights,
            mask_logits=mask_logits,
            slot_boxes=boxes,
            slot_kinds=kinds,
            slot_parents=shares,
            relations=relations,
            forbidden=forbidden,
            change=change,
            change_given=given,
            before=None if change is None or before is None else before.findings,
        )

    def outline(self, visual: VisualTokens) -> Float[Tensor, "b r n"] | None:
        """The model's own soft masks of the model regions on the fine grid; None without a segmentation head."""
        return None if self.own_masks is None else self.own_masks(self.top_down(visual)).sigmoid()

    def _occupancy(self, masks: RegionMasks, scale: ScaleTokens) -> Float[Tensor, "b r n"]:
        """Share of every token's cell that each region node fills, lesions last."""
        weights = occupancy_on(masks, scale.grid)
        if not self.config.lesions:
            return weights
        return torch.cat((weights, lesions_on(masks, scale.grid, self.config.lesions)), dim=1)

    def _regions(
        self, fused: ScaleTokens, masks: RegionMasks, weights: Float[Tensor, "b r n"]
    ) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, "b l q"] | None]:
        """Tokens, presence and centres of all region nodes, and which region holds each lesion."""
        named = len(self.node_names)
        tokens, present, centres = self.region_pool(fused, weights[:, :named])
        owners = None
        if self.lesion_pool is not None:
            found = self.lesion_pool(
                self.region_pool, fused, weights[:, named:], lesion_kinds(masks, self.config.lesions)
            )
            tokens = torch.cat((tokens, found[0]), dim=1)
            present = torch.cat((present, found[1]), dim=1)
            centres = torch.cat((centres, found[2]), dim=1)
            owners = lesion_parents(weights[:, named:], weights[:, :named], self.node_names)
        if self.tree is not None:
            tokens, present, centres = self.tree(tokens, present, centres, owners)
        return tokens, present, centres, owners

    def _see_slots(self, visual: VisualTokens) -> _SeenSlots:
        """Slots: children, then parents."""
        if isinstance(self.slot_attention, ScaledSlots):
            place = visual.mid
            slots, masks = self.slot_attention(visual)
        else:
            place = visual.scales[SCALES.index(self.config.slot_scales[0])]
            slots, masks = self.slot_attention(place.tokens, place.valid)
        shares = None
        if self.parents is not None:
            parents, parent_masks, shares = self.parents(slots, masks)
            slots, masks = torch.cat((slots, parents), dim=1), torch.cat((masks, parent_masks), dim=1)
        return _SeenSlots(slots, on_grid_of(visual.mid, masks, place.grid), shares, masks, place)

    def _forbidden(self, masks: RegionMasks, nodes: Tensor) -> Bool[Tensor, "b k k"]:
        return forbidden_nodes(self.no_go, self.no_go_lesions, lesion_kinds(masks, self.config.lesions), nodes.shape[1])

    def _mean_node(self, graph: Float[Tensor, "b k c"], present: Bool[Tensor, "b r"]) -> Float[Tensor, "b c"]:
        """Mean over the nodes every scan has (model regions and slots) and over those further ones that are there."""
        model, regions = len(self.region_names), present.shape[1]
        if model == regions:
            return graph.mean(1)
        counted = torch.cat((torch.ones_like(present[:, :model]), present[:, model:]), dim=1)
        counted = torch.cat((counted, counted.new_ones(graph.shape[0], graph.shape[1] - regions)), dim=1)
        share = counted.to(graph.dtype).unsqueeze(-1)
        return (graph * share).sum(1) / share.sum(1)


def _mean(scale: ScaleTokens) -> Float[Tensor, "b c"]:
    """Mean of the valid tokens."""
    if bool(scale.valid.all()):
        return scale.tokens.mean(1)
    return masked_mean(scale.tokens, scale.valid.unsqueeze(1).float())[0].squeeze(1)
