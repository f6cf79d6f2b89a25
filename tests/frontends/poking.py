"""Brute force: each position of the input is poked, and the outputs that move depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import footprint
from eyeshot.graph import Graph, Node
from tests.networks import make_positive

Table = NDArray[np.bool_]
"""(output units …, input positions …): which unit depends on which position."""

Function = Callable[..., torch.Tensor]


class Apply(nn.Module):
    """A function as a module, with what weights it needs."""

    def __init__(self, function: Function, *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.parts)


class Menu(nn.Module):
    """Many modules on one input, side by side: one export and one pass a poke for all of them."""

    def __init__(self, dishes: dict[str, nn.Module]) -> None:
        super().__init__()
        self.dishes = nn.ModuleList(dishes.values())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(dish(x) for dish in self.dishes)


def menu_of(dishes: dict[str, nn.Module | Function]) -> Menu:
    """The dishes in eval mode, with positive weights so that nothing cancels."""
    modules = {
        name: dish if isinstance(dish, nn.Module) else Apply(dish) for name, dish in dishes.items()
    }
    torch.manual_seed(0)
    net = Menu(modules).eval()
    make_positive(net)
    return net


def tables_by_poking(
    net: nn.Module, graph: Graph, size: Sequence[int], base: torch.Tensor, pokes: Sequence[float]
) -> list[Table]:
    """For each output of the network, its table; every poke is of all channels of a position."""
    net = net.double()
    nodes = [graph[name] for name in graph.outputs]
    positions = tuple(size[1:])
    channels = 1 + 0.1 * torch.arange(size[0], dtype=torch.float64)  # so that their order may turn
    tables = [np.zeros((*node.extents, *positions), dtype=bool) for node in nodes]
    with torch.no_grad():
        still = _outputs(net, base)
        for place in np.ndindex(positions):
            for poke in pokes:
                x = base.clone()
                x[(0, slice(None), *place)] = poke * channels
                for table, node, before, after in zip(
                    tables, nodes, still, _outputs(net, x), strict=True
                ):
                    table[(..., *place)] |= by_units(node, _moved(before, after))
    return tables


def _outputs(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    actual = net(x.clone())
    return list(actual) if isinstance(actual, (tuple, list)) else [actual]


def _moved(before: torch.Tensor, after: torch.Tensor) -> Table:
    same = torch.isclose(before.double(), after.double(), rtol=1e-9, atol=1e-12, equal_nan=True)
    moved: Table = (~same).numpy()
    return moved


def by_units(node: Node, moved: Table) -> Table:
    """Over all that is not a spatial axis, whether any number moved."""
    assert moved.shape == node.shape
    places = [dim for dim in node.dims if dim is not None]
    others = tuple(dim for dim in range(moved.ndim) if dim not in places)
    kept = moved.any(axis=others)
    ranks = [sorted(places).index(dim) for dim in places]
    ordered: Table = np.transpose(kept, ranks).reshape(node.extents)
    return ordered


def table_predicted(graph: Graph, node: Node) -> Table:
    """The same table, from the graph alone."""
    masks = [footprint(graph, node.name, unit) for unit in np.ndindex(node.extents)]
    return np.stack(masks).reshape(*node.extents, *masks[0].shape)


def check(net: nn.Module, *size: int, pokes: Sequence[float] = (10.0, -10.0)) -> Graph:
    """Assert that prediction and poking agree for every unit of every output; give the graph."""
    graph = graph_of(net, size)
    noise = torch.Generator().manual_seed(1)
    base = torch.rand(1, *size, dtype=torch.float64, generator=noise) + 0.5
    tables = tables_by_poking(net, graph, size, base, pokes)
    for name, table in zip(graph.outputs, tables, strict=True):
        predicted = table_predicted(graph, graph[name])
        assert (predicted == table).all(), f"{name}: {np.argwhere(predicted != table)[:4]}"
    return graph
