"""Is a dense graph the right choice at this size? Ours against the sparse TransformerConv of PyTorch Geometric.

    python benchmarks/graph.py [--repeats 20]

One layer of message passing with edge features, forward and backward, one thread, CPU time per batch. The peer gets the
edge list ready-made; its time excludes building it. Both compute queries, keys, values, attention and edge features,
ours an output projection as well. PyTorch Geometric is no dependency: without it only the dense side is printed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable

import torch
from timing import milliseconds
from torch import Tensor, nn

from ctscribe.layers import Attention


class Dense(nn.Module):
    """Attention over all nodes with an additive bias per edge type, as `scene.graph` does it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.edge_bias = nn.Parameter(torch.zeros(heads, 3))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        bias = torch.einsum("bijt,ht->bhij", edges, self.edge_bias)
        return self.attention(nodes, bias=bias)[0]


def dense_step(batch: int, nodes: int, dim: int, heads: int) -> Callable[[], None]:
    model, x, edges = Dense(dim, heads), torch.randn(batch, nodes, dim), torch.rand(batch, nodes, nodes, 3)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x, edges).square().mean().backward()

    return step


def sparse_step(batch: int, nodes: int, dim: int, heads: int, degree: int) -> Callable[[], None] | None:
    """The peer: every node hears ``degree`` others (all of them when it equals ``nodes``)."""
    if importlib.util.find_spec("torch_geometric") is None:
        return None
    model = importlib.import_module("torch_geometric.nn").TransformerConv(
        dim, dim // heads, heads=heads, edge_dim=3, root_weight=False
    )
    x = torch.randn(batch * nodes, dim)
    receivers = torch.arange(batch * nodes).repeat_interleave(degree)
    choice = torch.stack([torch.randperm(nodes)[:degree] for _ in range(batch * nodes)]).flatten()
    senders = receivers // nodes * nodes + choice
    index, features = torch.stack((senders, receivers)), torch.rand(len(senders), 3)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x, index, features).square().mean().backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dim, heads = 128, 4
    print(
        f"{'batch':>5s} {'nodes':>5s} {'dense ms':>9s} {'sparse, 7 neighbours ms':>24s} {'sparse, all pairs ms':>21s}"
    )
    for batch, nodes in ((1, 40), (8, 40), (8, 64), (8, 128), (1, 512), (1, 2048)):
        few = sparse_step(batch, nodes, dim, heads, 7)
        every = sparse_step(batch, nodes, dim, heads, nodes) if nodes <= 128 else None
        row = [f"{milliseconds(dense_step(batch, nodes, dim, heads), options.repeats):9.2f}"]
        for step, width in ((few, 24), (every, 21)):
            row.append(f"{milliseconds(step, options.repeats):{width}.2f}" if step else f"{'-':>{width}s}")
        print(f"{batch:5d} {nodes:5d} " + " ".join(row), flush=True)


if __name__ == "__main__":
    main()
