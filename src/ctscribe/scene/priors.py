"""Medical priors as tensors: where a finding may lie, which nodes never speak to one another, which rules are broken.

The rules themselves are data, in the ontology's ``constraints.yaml``. Here they become structure (edges that exist,
edges that are forbidden) and amounts between 0 and 1 that a loss can push down and a report can tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ctscribe import ontology
from ctscribe.facts import reachable
from ctscribe.tensors import SceneTokens

BROKEN = 0.5
"""A rule counts as broken when at least this much speaks for it."""


def allowed() -> Bool[Tensor, "f r"]:
    """True where a finding kind may be located in a model region, see `facts.reachable`."""
    return torch.tensor([reachable(kind) for kind in ontology.findings()])


def connected_regions(names: tuple[str, ...]) -> Float[Tensor, "r r"]:
    """1 between regions that anatomy ties together: vessel and heart, the airways, a lung and its pleura."""
    table = torch.zeros(len(names), len(names))
    place = {name: i for i, name in enumerate(names)}
    for link in ontology.connections():
        if link.a in place and link.b in place:
            table[place[link.a], place[link.b]] = table[place[link.b], place[link.a]] = 1
    return table


@cache
def forbidden_regions(names: tuple[str, ...]) -> Bool[Tensor, "r r"]:
    """True between nodes of a tree-shaped relation that are not parent and child, if one of them has children.

    Air reaches a lobe through its bronchus only: neither the trachea nor the other side's bronchus speaks to it.
    """
    # Kept for the whole process, so made with values even where a model is being built without them.
    table = torch.zeros(len(names), len(names), dtype=torch.bool, device="cpu")
    place = {name: i for i, name in enumerate(names)}
    for rule in ontology.rules().values():
        if rule.form != "tree":
            continue
        links = [c for c in ontology.connections() if c.relation == rule.relation]
        inner, tied = {c.a for c in links}, {frozenset((c.a, c.b)) for c in links}
        members = [n for n in place if n in inner | {c.b for c in links}]
        for a in members:
            for b in members:
                if a != b and (a in inner or b in inner) and frozenset((a, b)) not in tied:
                    table[place[a], place[b]] = True
    return table


@cache
def forbidden_lesions(names: tuple[str, ...]) -> Bool[Tensor, "f r"]:
    """True where a lesion of a kind never lies in a region; one more row, all False, for kinds that are not known."""
    rows = [[name in ontology.regions() and not ontology.allowed(kind, name) for name in names] for kind in _kinds()]
    return torch.tensor([*rows, [False] * len(names)], device="cpu")


def _kinds() -> tuple[str, ...]:
    return tuple(ontology.findings())


def forbidden_nodes(
    regions: Bool[Tensor, "r r"],
    lesions: Bool[Tensor, "f r"],
    kinds: Int[Tensor, "b l"],
    nodes: int,
) -> Bool[Tensor, "b k k"]:
    """The tables above on the nodes of a study: named regions, then lesions, then slots (which are free)."""
    named, count = regions.shape[0], kinds.shape[1]
    table = torch.zeros(kinds.shape[0], nodes, nodes, dtype=torch.bool, device=kinds.device)
    table[:, :named, :named] = regions
    rows = lesions[kinds]  # -1, not known, is the last row
    table[:, named : named + count, :named] = rows
    table[:, :named, named : named + count] = rows.transpose(1, 2)
    return table


def rule_amounts(
    dense: Float[Tensor, "b f n"],
    masks: Float[Tensor, "b r n"],
    names: tuple[str, ...],
    grid: tuple[int, int, int],
) -> Float[Tensor, "b q"]:
    """How much every rule of the ontology is broken, 0 to 1, in the ontology's order; differentiable.

    Args:
        dense: logits of every finding kind per fine token.
        masks: share of each fine token that each region fills.
        names: of the regions.
        grid: of the fine tokens.
    """
    place = {name: i for i, name in enumerate(names)}
    # A cell that a region fills to a quarter counts as touched by it: tubes never fill a cell.
    filled = (4 * masks.float()).clamp(max=1)
    amounts = []
    for rule in ontology.rules().values():
        if rule.finding is not None and rule.region is not None:
            inner = [place[name] for name in ontology.descendants(rule.region) if name in place]
            amounts.append(_inside(dense[:, _kinds().index(rule.finding)], masks.float(), inner))
            continue
        links = [c for c in ontology.connections() if c.relation == rule.relation and c.a in place and c.b in place]
        pairs = [(place[c.a], place[c.b]) for c in links]
        amount = _apart(filled, pairs, grid)
        if rule.form == "tree":
            siblings = [(place[c.b], place[d.b]) for c in links for d in links if c.a == d.a and c.b < d.b]
            amount = torch.maximum(amount, _shared(masks.float(), siblings))
        amounts.append(amount)
    return torch.stack(amounts, dim=-1)


def _inside(votes: Float[Tensor, "b n"], masks: Float[Tensor, "b r n"], inner: list[int]) -> Float[Tensor, " b"]:
    """Share of a finding's votes in cells that lie mostly in the region; a single weak vote hardly counts."""
    probability = votes.float().sigmoid()
    within = (2 * masks[:, inner].amax(1) - 1).clamp_min(0) if inner else torch.zeros_like(probability)
    return (probability * within).sum(-1) / (probability.sum(-1) + 0.5)


def _apart(
    filled: Float[Tensor, "b r n"], pairs: Iterable[tuple[int, int]], grid: tuple[int, int, int]
) -> Float[Tensor, " b"]:
    """The largest gap: 1 when two regions that must touch are both there and do not."""
    grown = F.max_pool3d(filled.unflatten(-1, grid), 3, 1, 1).flatten(2)
    worst = filled.new_zeros(filled.shape[0])
    for a, b in pairs:
        there = filled[:, a].amax(-1) * filled[:, b].amax(-1)
        contact = (grown[:, a] * filled[:, b]).amax(-1)
        worst = torch.maximum(worst, (there - contact).clamp_min(0))
    return worst


def _shared(masks: Float[Tensor, "b r n"], pairs: Iterable[tuple[int, int]]) -> Float[Tensor, " b"]:
    """The largest part of a region that its sibling also claims (shares of a cell above its whole)."""
    worst = masks.new_zeros(masks.shape[0])
    for a, b in pairs:
        claimed = (masks[:, a] + masks[:, b] - 1).clamp_min(0).sum(-1)
        smaller = torch.minimum(masks[:, a].sum(-1), masks[:, b].sum(-1)).clamp_min(1)
        worst = torch.maximum(worst, (claimed / smaller).clamp(max=1))
    return worst


@dataclass(frozen=True)
class Violation:
    """A rule that a scene breaks.

    Attributes:
        rule: id in the ontology.
        amount: how much, from `BROKEN` to 1.
        says: what is wrong, per language.
    """

    rule: str
    amount: float
    says: dict[str, str]


@torch.no_grad()
def violations(scene: SceneTokens, grid: tuple[int, int, int]) -> tuple[tuple[Violation, ...], ...]:
    """The rules that each study's scene breaks; ``grid`` is that of the fine tokens."""
    if scene.findings.dense is None or scene.region_masks is None:
        raise ValueError("rules are checked on votes per token and region masks; this scene declares none")
    amounts = rule_amounts(scene.findings.dense, scene.region_masks, scene.region_names, grid)
    return tuple(
        tuple(
            Violation(rule.id, float(amount), {code: names[0] for code, names in rule.names.items()})
            for rule, amount in zip(ontology.rules().values(), row, strict=True)
            if float(amount) >= BROKEN
        )
        for row in amounts
    )
