"""Trained weights that do nothing, or the same as others.

What is claimed is exact for the weights as they are; fresh random weights never meet it, and a
layer whose every weight is nought is taken for one that was so initialised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import counted
from eyeshot.graph import Graph, Node

if TYPE_CHECKING:
    import torch

_NOUGHT = 1e-6  # beside the layer's largest weight
_SAME = 1e-2  # the length of two kernels' difference, beside that of either
_FEWEST_WEIGHTS = 8  # of fewer, two random kernels may agree by chance
_SKETCH = 16  # numbers by which kernels are compared before they are compared in full
_SHOWN = 6

FloatArray = NDArray[np.float32]


def dead_channels(graph: Graph) -> Iterator[Finding]:
    """Filters of nothing but noughts, and channels that a batch norm scales to nought."""
    consumers = graph.consumers()
    for node in graph:
        if node.operator == "batch_norm":
            yield from _scaled_away(graph, node, consumers[node.name])
        elif node.operator.startswith(("conv", "linear")):
            yield from _empty_filters(graph, node)


def _empty_filters(graph: Graph, node: Node) -> Iterator[Finding]:
    filters = _filters(graph, node)
    if filters is None:
        return
    largest = np.abs(filters).max(axis=1, initial=0.0)
    dead = np.flatnonzero(largest <= _NOUGHT * largest.max(initial=0.0))
    if len(dead) in (0, len(largest)):
        return
    cause = f"all weights of {_listed(dead, len(largest))} are nought: each gives its bias alone, "
    cause += "whatever the picture"
    cure = "leave them out, here and in what reads them, or train again with a lower rate"
    yield Finding(Severity.WARNING, node.name, "dead channels", cause, cure)


def _scaled_away(graph: Graph, node: Node, behind: list[Node]) -> Iterator[Finding]:
    scale, shift = _scale_and_shift(graph, node)
    if scale is None:
        return
    nought = np.abs(scale) <= _NOUGHT * np.abs(scale).max(initial=0.0)
    if nought.all() or not nought.any():
        return
    dead = np.flatnonzero(nought)
    cause = f"the scale of {_listed(dead, len(scale))} is nought: each is constant, whatever the "
    cause += "picture"
    if shift is not None and behind and all(one.operator == "relu" for one in behind):
        silent = int((shift[dead] <= 0).sum())
        cause += f", and {silent} of them 0 after ReLU" if silent else ""
    cure = "leave them out, here and in what reads them"
    yield Finding(Severity.WARNING, node.name, "dead channels", cause, cure)


def _scale_and_shift(graph: Graph, node: Node) -> tuple[FloatArray | None, FloatArray | None]:
    def trained(ending: str) -> FloatArray | None:
        names = [name for name in node.weights if name.endswith(ending)]
        return _array(graph.tensors[names[0]]) if names and names[0] in graph.parameters else None

    return trained("weight"), trained("bias")


def duplicate_kernels(graph: Graph) -> Iterator[Finding]:
    """Filters that are equal to another of the same layer, or its negative."""
    for node in graph:
        filters = _filters(graph, node)
        if filters is None or filters.shape[1] < _FEWEST_WEIGHTS:
            continue
        groups = int(node.attributes.get("groups", 1))
        share = len(filters) // groups
        pairs = [
            (group * share + i, group * share + j)
            for group in range(groups)
            for i, j in _same(filters[group * share : (group + 1) * share])
        ]
        if pairs:
            told = ", ".join(f"{i} and {j}" for i, j in pairs[:_SHOWN])
            more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
            cause = f"{counted(len(pairs), 'pair')} of {len(filters)} filters "
            cause += f"{'differ' if len(pairs) > 1 else 'differs'} by less than {_SAME:.0%}, but "
            cause += f"for the sign: {told}{more}"
            cure = "fewer filters would do as much; start from random weights, not from equal ones"
            yield Finding(Severity.WARNING, node.name, "duplicate kernels", cause, cure)


def _same(filters: FloatArray) -> list[tuple[int, int]]:
    """Pairs of rows that are equal but for the sign.

    A sketch of each row (its products with a few random directions) finds the candidates, so that
    a wide layer is not compared in full, row by row.
    """
    lengths = np.linalg.norm(filters, axis=1)
    directions = np.random.default_rng(0).standard_normal((filters.shape[1], _SKETCH))
    sketch = (filters @ directions.astype(np.float32)) / np.sqrt(_SKETCH)
    # A sketch of 16 keeps lengths to well within a factor of 3.
    allowed = (3 * _SAME * lengths) ** 2
    squares = (sketch**2).sum(axis=1)
    pairs: list[tuple[int, int]] = []
    for i in range(len(filters) - 1):
        products = np.abs(sketch[i + 1 :] @ sketch[i])
        apart = squares[i] + squares[i + 1 :] - 2 * products
        near = np.flatnonzero((apart <= allowed[i]) & (lengths[i] > 0)) + i + 1
        pairs += [(i, int(j)) for j in near if _equal(filters[i], filters[j])]
    return pairs


def _equal(one: FloatArray, other: FloatArray) -> bool:
    apart = min(np.linalg.norm(one - other), np.linalg.norm(one + other))
    return bool(apart <= _SAME * max(np.linalg.norm(one), np.linalg.norm(other)))


def _filters(graph: Graph, node: Node) -> FloatArray | None:
    """The trained weights of a layer, (filters, weights of each); None if it has none such."""
    if "mismatch" in node.attributes or not node.operator.startswith(("conv", "linear")):
        return None
    name = next((name for name in node.weights if name in graph.parameters), None)
    if name is None or graph.tensors[name].dim() < 2:
        return None
    weight = graph.tensors[name]
    if node.operator.startswith("conv_transpose"):  # (in, out / groups, …): filters lie along out
        if node.attributes["groups"] != 1:
            return None
        weight = weight.transpose(0, 1)
    return _array(weight.flatten(1))


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().float().cpu().numpy()
    return array


def _listed(channels: NDArray[np.intp], of: int) -> str:
    shown = ", ".join(str(one) for one in channels[:_SHOWN])
    more = " …" if len(channels) > _SHOWN else ""
    word = "filter" if len(channels) == 1 else "filters"
    return f"{word} {shown}{more} ({len(channels)} of {of})"
