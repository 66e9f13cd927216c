"""The figures of the stations, from what `station_figures` saw: one function a figure, in the order of the house."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from svg import (
    CARD,
    COARSE,
    FACTS,
    FINE,
    INK,
    LINE,
    MID,
    SCALES,
    SOFT,
    STRUCTURE,
    Svg,
    blended,
    grey,
    resized,
)  # fmt: skip

from ctscribe import ontology
from ctscribe.language.plan import OVERVIEW, readers_of
from ctscribe.training.optim import learning_rate
from ctscribe.training.stages import matches
from recipes import demo

Seen = dict[str, np.ndarray]
WIDTH = 860


def name_of(identifier: str) -> str:
    """The English name of a region or a kind of finding."""
    known = ontology.regions() if identifier in ontology.regions() else ontology.findings()
    return known[identifier].names["en"][0]


def cell_of(seen: Seen, kind: str) -> tuple[int, int, int]:
    """The fine cell where a finding is hottest."""
    heat = seen["heat"][list(seen["kinds"]).index(kind)]
    z, y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(z), int(y), int(x)


# ---------------------------------------------------------------------------------------------- vision
def vision(seen: Seen) -> str:
    svg = Svg(WIDTH, 840, "Tubelets and tokens at three scales, and which layer hears which scale")
    z = cell_of(seen, "consolidation")[0]
    plane, side = grey(seen["hu"][2 * z]), 256
    svg.text(24, 34, "One slice of a synthetic chest, cut into tubelets", size=16, bold=True)
    svg.text(24, 358, "Its tokens behind the encoder: alike colours are alike features", size=16, bold=True)
    for place, (name, cells) in enumerate((("fine", 16), ("mid", 8), ("coarse", 4))):
        x, size, depth = 24 + place * (side + 22), 128 // cells, 2 << place
        svg.picture(x, 46, side, side, plane)
        for step in range(cells + 1):
            at = step * side / cells
            svg.line([(x + at, 46), (x + at, 46 + side)], stroke="#ffffff", width=0.8, opacity=0.55)
            svg.line([(x, 46 + at), (x + side, 46 + at)], stroke="#ffffff", width=0.8, opacity=0.55)
        svg.box(x, 46, side, side, stroke=SCALES[name], width=2.5)
        grid = seen[f"tokens_{name}"].shape[:3]
        words = f"{name}: {depth} x {size} x {size} voxels"
        svg.text(x, 46 + side + 18, words, fill=SCALES[name], bold=True)
        svg.picture(x, 370, side, side, seen[f"tokens_{name}"][z >> place] * 255, sharp=True)
        svg.box(x, 370, side, side, stroke=SCALES[name], width=2.5)
        svg.text(x, 370 + side + 18, f"{grid[0]} x {grid[1]} x {grid[2]} tokens", fill=SCALES[name], bold=True)
    mapping(svg, seen, 690)
    return svg.render()


def mapping(svg: Svg, seen: Seen, top: float) -> None:
    """Which of the twelve layers hears which scale."""
    names, depths = ("fine", "mid", "coarse"), seen["depths"]
    layers = int(depths.sum())
    svg.text(24, top - 10, "Which layer hears which scale", size=16, bold=True)
    step, high = 256 / layers, 66
    owner = [names[i] for i, n in enumerate(depths) for _ in range(n)]
    told = ("each layer the scale of its stage", "at the start of training, by this scan", "a branch for each scale")
    for place, word in enumerate(("thirds", "routed", "parallel")):
        x0, y0 = 24 + place * 278, top + 28
        svg.text(x0, top + 14, f"mapping={word}", bold=True)
        for layer in range(layers):
            x = x0 + layer * step
            shares = [1.0 if owner[layer] == n else 0.0 for n in names]
            if word == "routed":
                shares = list(seen["routed"][layer])
            if word == "parallel":
                index = names.index(owner[layer])
                svg.box(x + 1, y0 + index * high / 3 + 1, step - 2, high / 3 - 2, fill=SCALES[owner[layer]])
                continue
            below = 0.0
            for name, share in zip(names, shares, strict=True):
                svg.box(x + 1, y0 + below * high, step - 2, share * high, fill=SCALES[name])
                below += share
        svg.text(x0, y0 + high + 17, "layer 1", size=11, fill=SOFT)
        svg.text(x0 + 256, y0 + high + 17, str(layers), size=11, fill=SOFT, anchor="end")
        svg.text(x0, y0 + high + 36, told[place], size=12, fill=SOFT)
    for place, name in enumerate(names):
        svg.box(330 + place * 90, top - 21, 12, 12, fill=SCALES[name])
        svg.text(347 + place * 90, top - 10, name, size=12, fill=SOFT)


# ----------------------------------------------------------------------------------------------- scene
PALETTE = ("#2dd4bf", "#60a5fa", "#f472b6", "#fbbf24", "#a78bfa", "#34d399", "#fb7185", "#38bdf8", "#c084fc", "#facc15")


def leaves(seen: Seen) -> list[int]:
    parents = set(seen["parents"].tolist())
    return [i for i in range(len(seen["regions"])) if i not in parents and bool(seen["present"][i])]


def scene(seen: Seen) -> str:
    svg = Svg(WIDTH, 1136, "Regions as a tree, slots, and the three kinds of edges of the graph")
    svg.text(24, 34, "Regions: masks on a coronal slice", size=16, bold=True)
    hu, (dz, _, dx) = seen["hu"], seen["spacing"]
    row = int(hu.shape[1] * 0.5)
    wide = 330.0
    tall = wide * hu.shape[0] * dz / (hu.shape[2] * dx)
    picture = grey(resized(hu[::-1, row], (2 * 120, 2 * 128)))
    shown = leaves(seen)
    for number, index in enumerate(shown):
        mask = resized(seen["occupancy"][index][::-1, row // 8].astype(np.float32), picture.shape[:2])
        picture = blended(picture, PALETTE[number % len(PALETTE)], 0.5 * np.clip(3 * mask - 1, 0, 1))
    svg.picture(24, 46, wide, tall, picture)
    svg.text(24, 46 + tall + 18, "right of the patient on the left, as on a film", size=12, fill=SOFT)
    tree(svg, seen, 400, 34, shown)
    slots(svg, seen, 484)
    graph(svg, seen, 778)
    return svg.render()


def tree(svg: Svg, seen: Seen, left: float, top: float, shown: list[int]) -> None:
    """The named regions, each below the one that encloses it; grey where this scan has no mask."""
    svg.text(left, top, "... and as a tree: every node is a token", size=16, bold=True)
    parents, names = seen["parents"], list(seen["regions"])
    order: list[tuple[int, int]] = []

    def walk(node: int, depth: int) -> None:
        order.append((node, depth))
        for child in np.flatnonzero(parents == node):
            walk(int(child), depth + 1)

    for root in np.flatnonzero(parents < 0):
        walk(int(root), 0)
    where: dict[int, tuple[float, float]] = {}
    for line, (node, depth) in enumerate(order):
        x, y = left + 8 + 26 * depth, top + 24 + 16.6 * line
        where[node] = (x, y)
        if depth:
            px, py = where[int(parents[node])]
            svg.line([(px, py + 5), (px, y), (x - 6, y)], stroke=LINE, width=1.4)
        there = bool(seen["present"][node])
        colour = PALETTE[shown.index(node) % len(PALETTE)] if node in shown else (INK if there else LINE)
        svg.dot(x, y, 5, fill=colour)
        svg.text(x + 12, y + 4, name_of(names[node]) + ("" if there else "  (no mask: not seen)"), size=12,
                 fill=INK if there else SOFT)  # fmt: skip


def slots(svg: Svg, seen: Seen, top: float) -> None:
    """Each slot's share of the mid tokens, seen from the front: left alone, and taught."""
    svg.text(24, top, "Slots: the share of each token that a slot explains, seen from the front", size=16, bold=True)
    rows = (
        ("slot_masks", "left alone (bundled model): all alike, the known collapse; 8 of 16 shown"),
        ("slots_taught", "after 150 steps of the loss alignment on this scan alone: each holds a part"),
    )
    side, hu = 92, seen["hu"]
    under = 0.4 * grey(resized(hu[::-1, hu.shape[1] // 2], (96, 96)))
    for line, (key, told) in enumerate(rows):
        y = top + 14 + line * (side + 36)
        fronts = [mask.mean(1)[::-1] for mask in seen[key]]
        chosen = sorted(range(len(fronts)), key=lambda i: -float(fronts[i].std()))[:8]
        brightest = max(float(fronts[i].max()) for i in chosen)
        for place, index in enumerate(chosen):
            front = 0.85 * np.sqrt(np.clip(resized(fronts[index], (96, 96)) / brightest, 0, 1))
            svg.picture(24 + place * (side + 11), y, side, side, blended(under, "#fbbf24", front))
        svg.text(24, y + side + 16, told, size=12, fill=SOFT)


def graph(svg: Svg, seen: Seen, top: float) -> None:
    """Nodes where they lie, seen from the front, with one kind of edge in each panel."""
    svg.text(
        24,
        top,
        "Graph: who hears whom (regions where they lie, seen from the front; slots at the side)",
        size=16,
        bold=True,
    )
    regions = len(seen["regions"])
    alive = np.concatenate((seen["present"], np.ones(len(seen["nodes"]) - regions, bool)))
    anatomical = np.zeros_like(seen["spatial"])
    anatomical[:regions, :regions] = seen["anatomical"]
    x, z = seen["nodes"][:, 2], seen["nodes"][:, 0]
    span = [(float(v[:regions][seen["present"]].min()), float(v[:regions][seen["present"]].max())) for v in (x, z)]
    panels = (
        ("spatial", "nearest neighbours in mm", seen["spatial"], FINE),
        ("anatomical", "a part and what encloses it", anatomical, MID),
        ("heard", "attention paid, the strongest edges", strongest(seen["edges"], alive), STRUCTURE),
    )
    for place, (name, told, edges, colour) in enumerate(panels):
        left, high, side = 24 + place * 278, top + 14, 256
        svg.box(left, high, side, side, stroke=LINE, round_=6)

        def at(i: int, left: float = left, high: float = high, side: int = side) -> tuple[float, float]:
            if i >= regions:
                return left + side - 14, high + 14 + (i - regions) * (side - 28) / (len(x) - regions - 1)
            u = (x[i] - span[0][0]) / (span[0][1] - span[0][0])
            v = (span[1][1] - z[i]) / (span[1][1] - span[1][0])
            return left + 16 + u * (side - 66), high + 16 + v * (side - 32)

        for a, b in zip(*np.nonzero(edges), strict=True):
            if alive[a] and alive[b] and a != b:
                thick = 0.6 + 3 * float(edges[a, b]) / float(edges.max()) if name == "heard" else 1.1
                svg.line([at(a), at(b)], stroke=colour, width=thick, opacity=0.55)
        for i in np.flatnonzero(alive):
            svg.dot(*at(int(i)), 4.5, fill=FACTS if i < regions else "#fbbf24", stroke=INK)
        svg.text(left, high + side + 19, name, bold=True, fill=colour)
        svg.text(left, high + side + 36, told, size=12, fill=SOFT)
    svg.dot(30, top + 332, 4.5, fill=FACTS, stroke=INK)
    svg.text(40, top + 336, "region", size=12, fill=SOFT)
    svg.dot(100, top + 332, 4.5, fill="#fbbf24", stroke=INK)
    svg.text(110, top + 336, "slot", size=12, fill=SOFT)


def strongest(edges: np.ndarray, alive: np.ndarray, most: int = 60) -> np.ndarray:
    """The edges along which most attention flows, as a table with zeros elsewhere."""
    table = edges * alive[:, None] * alive[None]
    np.fill_diagonal(table, 0)
    return np.where(table >= np.sort(table.ravel())[-most], table, 0)


# --------------------------------------------------------------------------------------------- language
def language(seen: Seen) -> str:
    svg = Svg(WIDTH, 590, "Which layer of the writer reads which memory, and how far its gates are open")
    svg.text(24, 34, "Which layer reads which memory", size=16, bold=True)
    told = {
        "quarters": "a quarter of the layers for each scale (default)",
        "parallel": "every layer everything, a gate each",
        "top_down": "two passes: overview (left half), then detail",
        "encoder_decoder": "a T5's own cross-attention over everything",
    }
    for place, (strategy, words) in enumerate(told.items()):
        memories(svg, strategy, words, 24 + (place % 2) * 420, 56 + (place // 2) * 184)
    gates(svg, seen, 440)
    return svg.render()


def memories(svg: Svg, strategy: str, words: str, left: float, top: float, layers: int = 8) -> None:
    """A row for each memory, a column for each layer."""
    svg.text(left, top + 4, f"strategy={strategy}", bold=True)
    svg.text(left, top + 21, words, size=12, fill=SOFT)
    for row, (name, colour) in enumerate(SCALES.items()):
        y = top + 32 + row * 23
        svg.text(left + 70, y + 15, name, size=12, anchor="end", fill=colour, bold=True)
        for layer in range(layers):
            x = left + 80 + layer * 38
            svg.box(x, y, 34, 19, fill="#eef1f4", round_=3)
            if strategy == "encoder_decoder":
                svg.box(x, y, 34, 19, fill=colour, round_=3)
                continue
            for reader, fields in readers_of(strategy, "none", layer, layers).items():  # type: ignore[arg-type]
                if name in fields:
                    half = strategy == "top_down"
                    offset = 17 if half and reader != OVERVIEW else 0
                    svg.box(x + offset, y, 17 if half else 34, 19, fill=colour, round_=3)
    svg.text(left + 80, top + 32 + 5 * 23 + 10, "layer 1", size=11, fill=SOFT)
    svg.text(left + 80 + layers * 38 - 4, top + 32 + 5 * 23 + 10, str(layers), size=11, fill=SOFT, anchor="end")


def gates(svg: Svg, seen: Seen, top: float) -> None:
    """How far each gate of the bundled model is open."""
    svg.text(24, top, "How far the gates of the bundled model are open", size=16, bold=True)
    values, high, base = seen["gates"], 80.0, top + 110
    order = list(SCALES)[:4]
    svg.line([(104, base), (104 + 8 * 84, base)], stroke=LINE)
    svg.text(92, base + 4, "closed 0", size=11, fill=SOFT, anchor="end")
    svg.text(92, base - high + 4, "open 1", size=11, fill=SOFT, anchor="end")
    svg.line([(104, base - high), (104 + 8 * 84, base - high)], stroke=LINE, dash="3 4")
    for layer, value in enumerate(values):
        memory = order[4 * layer // len(values)]
        x = 114 + layer * 84
        svg.box(x, base - high * float(value), 56, high * float(value), fill=SCALES[memory], round_=2)
        svg.text(x + 28, base - high * float(value) - 5, f"{value:.2f}", size=12, anchor="middle")
        svg.text(x + 28, base + 17, f"{layer + 1}: {memory}", size=11, fill=SOFT, anchor="middle")


# ------------------------------------------------------------------------------------------------ model
def model(seen: Seen) -> str:
    svg = Svg(WIDTH, 562, "From a slice to a sentence: what is seen, what is decided, what is written")
    svg.text(24, 34, "From a slice to a sentence (synthetic scan, bundled model)", size=16, bold=True)
    kinds = list(seen["kinds"])
    wanted = [k for k in ("consolidation", "pleural_effusion") if k in kinds]
    z = cell_of(seen, wanted[0])[0]
    plane = grey(seen["hu"][2 * z])
    svg.picture(24, 50, 256, 256, plane)
    svg.text(24, 324, "what the scanner saw", size=12, fill=SOFT)
    for place, kind in enumerate(wanted, start=1):
        at = cell_of(seen, kind)[0]
        under = grey(seen["hu"][2 * at])
        heat = resized(seen["heat"][kinds.index(kind)][at], under.shape[:2])
        x = 24 + place * 278
        svg.picture(x, 50, 256, 256, blended(under, "#f97316", 0.75 * heat))
        svg.text(x, 324, f"votes of the fine tokens for {name_of(kind)}", size=12, fill=SOFT)
    decided(svg, seen, 24, 360)
    written(svg, seen, 440, 360)
    return svg.render()


def decided(svg: Svg, seen: Seen, left: float, top: float) -> None:
    """Probability of each stated kind and the threshold it had to pass."""
    svg.text(left, top, "What is decided", size=16, bold=True)
    order = [i for i in np.argsort(-seen["chances"]) if seen["chances"][i] >= seen["limits"][i]][:7]
    for line, index in enumerate(order):
        y = top + 14 + line * 25
        chance, limit = float(seen["chances"][index]), float(seen["limits"][index])
        svg.text(left + 168, y + 14, name_of(str(seen["kinds"][index])), size=12, anchor="end")
        svg.box(left + 176, y + 3, 180, 14, fill="#eef1f4", round_=3)
        svg.box(left + 176, y + 3, 180 * chance, 14, fill=FACTS, round_=3)
        svg.line([(left + 176 + 180 * limit, y), (left + 176 + 180 * limit, y + 20)], stroke=STRUCTURE, width=2)
        svg.text(left + 364, y + 14, f"{chance:.2f}", size=12)
    svg.text(left + 176, top + 14 + len(order) * 25 + 12, "bar: probability; line: threshold", size=11, fill=SOFT)


def written(svg: Svg, seen: Seen, left: float, top: float) -> None:
    """The sentences that state what was decided."""
    svg.text(left, top, "What is written", size=16, bold=True)
    stated = set(seen["kinds"].tolist())
    line = 0
    for sentence in json.loads(str(seen["said"])):
        if not stated & set(sentence["kinds"]) or line > 8:
            continue
        for piece in wrapped(sentence["text"], 58):
            svg.text(left, top + 26 + line * 19, piece, size=13)
            line += 1
    svg.text(left, top + 34 + line * 19, "and what is not there: one sentence for each organ", size=12, fill=SOFT)


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines of at most so many characters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


# --------------------------------------------------------------------------------------------- training
PARTS = {
    "vision": "vision.stages.0.blocks.0.attention.qkv.weight",
    "scene": "scene.graph.blocks.0.attention.qkv.weight",
    "writer": "language.decoder.host.model.layers.0.cross.gate.scale",
}


def training(seen: Seen) -> str:
    svg = Svg(WIDTH, 420, "The stages of the recipe demo: what learns, from which losses, at which rate")
    svg.text(24, 34, "The stages of the recipe demo", size=16, bold=True)
    stages = demo.config().train.stages
    left, wide = 104.0, 720.0
    shares = np.array([max(s.steps, 380) for s in stages], float)
    shares *= wide / shares.sum()
    x = left
    highest = max(s.lr for s in stages)
    for stage, share in zip(stages, shares, strict=True):
        svg.text(x + 6, 62, stage.name, bold=True, size=14)
        svg.text(x + 6, 79, f"{stage.steps:,} steps of {stage.batch_size}", size=12, fill=SOFT)
        for row, (part, parameter) in enumerate(PARTS.items()):
            y = 92 + row * 34
            learns = matches(parameter, stage.trainable) and not matches(parameter, stage.frozen)
            svg.box(x + 3, y, share - 6, 28, fill=FINE if learns else "#eef1f4", round_=4)
            svg.text(x + share / 2, y + 19, "learns" if learns else "stays", size=12, anchor="middle",
                     fill=CARD if learns else SOFT)  # fmt: skip
            if x == left:
                svg.text(left - 10, y + 19, part, anchor="end", bold=True)
        rates = [
            (x + 3 + (share - 6) * t / 60, learning_rate(stage, int(t * (stage.steps - 1) / 60))) for t in range(61)
        ]
        svg.line([(u, 280 - 66 * rate / highest) for u, rate in rates], stroke=COARSE, width=2)
        svg.line([(x + 3, 280), (x + share - 3, 280)], stroke=LINE)
        svg.text(x + 6, 297, f"peak {stage.lr:g}", size=11, fill=SOFT)
        for line, (loss, weight) in enumerate(stage.losses.items()):
            svg.text(x + 6 + 124 * (line // 3), 330 + 19 * (line % 3), f"{weight:g} x {loss}", size=12, fill=MID)
        x += share
    svg.text(left - 10, 250, "rate", anchor="end", bold=True)
    svg.text(left - 10, 330, "losses", anchor="end", bold=True)
    svg.text(24, 400, "Widths are not to scale: a stage of 40 steps would be a hair.", size=11, fill=SOFT)
    return svg.render()


FIGURES: dict[str, Callable[[Seen], str]] = {
    "vision": vision,
    "scene": scene,
    "language": language,
    "model": model,
    "training": training,
}
