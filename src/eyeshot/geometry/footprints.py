"""The exact set of inputs that one unit depends on, including holes.

A receptive field is a box; the inputs that a unit reads in it may have gaps (dilation, strides
larger than kernels) or the shape of a cross (a 1x3 branch and a 3x1 branch). A set is stored as a
union of products: one set of positions for each axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import NO_INPUT, AxisMap
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.graph import Graph, Kind, Node

Product = tuple[NDArray[np.bool_], ...]


def footprint(
    graph: Graph, layer: str, unit: Sequence[int] | None = None, source: str | None = None
) -> NDArray[np.bool_]:
    """The positions of the input that one unit depends on, over all channels.

    Args:
        graph: the network at one size.
        layer: a node's name or a module's path.
        unit: its position along each spatial axis; None for the middle.
        source: which input of the network; None for the first.

    Returns:
        A mask over the input's positions, (H, W) for a picture.

    Raises:
        UnknownName: there is no such layer or input.
        BadValue: the unit is outside the layer's map.
        Unsupported: there is an operator without a rule before the unit.
    """
    source = graph.inputs[0] if source is None else source
    if source not in graph.inputs:
        raise UnknownName("input", source, graph.inputs)
    node = graph[layer]
    chosen = checked_unit(node, unit)
    wanted: dict[str, list[Product]] = {
        node.name: [tuple(np.arange(n) == i for n, i in zip(node.extents, chosen, strict=True))]
    }
    for name in reversed(list(graph.nodes)):
        if name in wanted and graph.nodes[name].kind is Kind.UNSUPPORTED:
            raise Unsupported(
                f"{name}: {graph.nodes[name].reason}", cure="ask about a layer before it"
            )
        for product in wanted.get(name, []):
            for edge in graph.nodes[name].edges:
                extents = graph.nodes[edge.source].extents
                needed = tuple(
                    _needed(axis, places, n)
                    for axis, places, n in zip(edge.axes, product, extents, strict=True)
                )
                _add(wanted.setdefault(edge.source, []), needed)
    shape = graph.nodes[source].extents
    mask = np.zeros(shape, dtype=bool)
    for product in wanted.get(source, []):
        mask[np.ix_(*product)] = True
    return mask


def _needed(axis: AxisMap, wanted: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    if axis.is_global:
        return np.full(n, wanted.any())
    needed = np.zeros(n, dtype=bool)
    taps = axis.inputs_of(np.nonzero(wanted)[0], n)
    needed[taps[taps != NO_INPUT]] = True
    return needed


def _add(products: list[Product], new: Product) -> None:
    """Add one product to a union, unless it is empty or inside another; drop those inside it."""
    if not all(places.any() for places in new):
        return
    if any(_inside(new, old) for old in products):
        return
    products[:] = [old for old in products if not _inside(old, new)] + [new]


def _inside(one: Product, other: Product) -> bool:
    return all(not (a & ~b).any() for a, b in zip(one, other, strict=True))


def checked_unit(node: Node, unit: Sequence[int] | None) -> tuple[int, ...]:
    """A unit's position along every axis, by default the middle; vanished axes may be omitted.

    Raises:
        BadValue: it is outside the node's map.
    """
    extents = node.extents
    if unit is None:
        return tuple(n // 2 for n in extents)
    chosen = tuple(int(i) for i in unit)
    live = [n for n, dim in zip(extents, node.dims, strict=True) if dim is not None]
    if len(chosen) == len(live) < len(extents):
        given = iter(chosen)
        chosen = tuple(next(given) if dim is not None else 0 for dim in node.dims)
    size = " x ".join(str(n) for n in extents)
    if len(chosen) != len(extents):
        raise BadValue(f"unit {chosen} of {node.name}", cure=f"give a place in its {size} map")
    if not all(0 <= i < n for i, n in zip(chosen, extents, strict=True)):
        raise BadValue(f"unit {chosen} lies outside {node.name}", cure=f"its map is {size}")
    return chosen
