"""Global statistics over rows that pass by: a classifier on a picture that is never held whole.

A global pool at the end of a network needs no map in memory: each band adds to a running sum (in
float64) or a running maximum, and the answer is there when the last band has passed.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch

from eyeshot.axes import Interval
from eyeshot.engine.moments import Moments, NormMoments, in_lines
from eyeshot.errors import Unsupported
from eyeshot.findings.remedies import remedy
from eyeshot.graph import Family, Graph, Node
from eyeshot.operators.pooling import pooled

_OVER_POSITIONS = (
    *(Family.ADAPTIVE_MAX_POOL, Family.ADAPTIVE_AVERAGE_POOL),
    *(Family.BATCH_NORM, Family.INSTANCE_NORM, Family.GROUP_NORM),
)
"""They run over all positions without naming them."""


class Gatherer(Protocol):
    """Takes a node's input band by band, and gives its value at the end."""

    def take(self, band: torch.Tensor) -> None:
        """Rows that have not been taken before."""

    def result(self) -> torch.Tensor:
        """The node's whole value."""


def gatherer(node: Node, reduced: tuple[int, ...]) -> Gatherer | None:
    """The running form of a global mean, sum, maximum or minimum; None for another node.

    Args:
        node: the node.
        reduced: the dimensions of its input over which it runs.
    """
    running = _gatherer(node, reduced)
    if running is None or not node.is_adaptive:
        return running
    return _OverBands(node, running)


def _gatherer(node: Node, reduced: tuple[int, ...]) -> Gatherer | None:
    dtype = getattr(torch, node.dtype)
    if node.family is Family.MOMENTS:
        return NormMoments(node, reduced)
    if node.family in (Family.VARIANCE, Family.DEVIATION, Family.MAGNITUDE):
        return _spread(node, reduced, dtype)
    if node.family in (Family.MEAN, Family.ADAPTIVE_AVERAGE_POOL):
        return _Sum(node.shape, reduced, dtype, mean=True)
    if node.family is Family.SUM:
        return _Sum(node.shape, reduced, dtype, mean=False)
    if node.family in (Family.LARGEST, Family.ADAPTIVE_MAX_POOL):
        return _Extreme(node.shape, reduced, largest=True)
    if node.family is Family.SMALLEST:
        return _Extreme(node.shape, reduced, largest=False)
    return None


def _spread(node: Node, reduced: tuple[int, ...], dtype: torch.dtype) -> Gatherer | None:
    """A variance, its root, or a root of squares; None for another norm."""
    told = {} if node.call is None else node.call.arguments
    if node.family is Family.MAGNITUDE:
        order = told.get("ord", told.get("p", 2))
        return _Norm(node.shape, reduced, dtype) if order in (2, None) else None
    unbiased, correction = told.get("unbiased", True), told.get("correction")
    less = float(unbiased) if correction is None else float(correction)
    return _Spread(node.shape, reduced, dtype, less, root=node.family is Family.DEVIATION)


def gathers(node: Node, graph: Graph) -> bool:
    """Whether its value is gathered while all positions of its one input pass."""
    (edge, *others) = node.edges
    source = graph.nodes[edge.source]
    over_all = all(
        axis.is_global or n == 1 for axis, n in zip(edge.axes, source.extents, strict=True)
    )
    return over_all and not others and gatherer(node, reduced_dims(node, source)) is not None


def reduced_dims(node: Node, source: Node) -> tuple[int, ...]:
    """The dimensions that a global statistic runs over: all positions, and channels if it says."""
    rank = len(source.shape)
    positions = {dim for dim in source.dims if dim is not None}
    if node.call is None or node.family in (*_OVER_POSITIONS, Family.MOMENTS):
        return tuple(sorted(positions))
    named = node.call.argument("dim")
    listed = range(rank) if named in (None, []) else [named] if isinstance(named, int) else named
    return tuple(sorted(positions | {int(dim) % rank for dim in listed}))


def gives_indices(node: Node) -> bool:
    """Whether it is the second answer of a max pooling: the places of its maxima."""
    item = getattr(node.call.target, "item", None) if node.call is not None else None
    return node.family in (Family.MAX_POOL, Family.ADAPTIVE_MAX_POOL) and item == 1


def refusal(node: Node, graph: Graph) -> Unsupported:
    """Why a node cannot be run, by its name, and the cure."""
    reason, cure = remedy(graph, node)
    where = f"{node.name} ({node.operator})" + (f", {node.line}" if node.line else "")
    return Unsupported(
        f"{where}: {reason}",
        cure=cure or "make them once in __init__ and keep them with register_buffer",
    )


class _OverBands:
    """Adaptive pooling of all positions, and of windows of the bands beside them."""

    def __init__(self, node: Node, running: Gatherer) -> None:
        (edge,) = node.edges
        self._beside = [(dim, axis, node.shape[dim]) for dim, axis in edge.beside]
        self._largest, self._running = node.family is Family.ADAPTIVE_MAX_POOL, running

    def take(self, band: torch.Tensor) -> None:
        for dim, axis, count in self._beside:
            windows = [
                axis.input_range_inside(Interval(i, i + 1), band.shape[dim]) for i in range(count)
            ]
            band = pooled(band, dim, windows, self._largest)
        self._running.take(band)

    def result(self) -> torch.Tensor:
        return self._running.result()


class _Sum:
    def __init__(
        self, shape: tuple[int, ...], reduced: tuple[int, ...], dtype: torch.dtype, mean: bool
    ) -> None:
        self._shape, self._reduced, self._mean = shape, reduced, mean
        self._total: torch.Tensor | None = None
        self._dtype = dtype
        self._exact = torch.float64 if dtype.is_floating_point else dtype
        self._count = 0

    def take(self, band: torch.Tensor) -> None:
        shape = [1 if dim in self._reduced else n for dim, n in enumerate(band.shape)]
        for part, dim in in_lines(band, self._reduced):
            some = self._sum(part, dim).to(self._exact).reshape(shape)
            self._total = some if self._total is None else self._total + some
        self._count += math.prod(band.shape[dim] for dim in self._reduced)

    def _sum(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        return part.sum(dim)

    def result(self) -> torch.Tensor:
        if self._total is None:
            raise ValueError("no row has been taken")
        total = self._total / self._count if self._mean else self._total
        return _shaped(total.to(self._dtype), self._shape)


class _Norm(_Sum):
    """The root of the sum of squares."""

    def __init__(
        self, shape: tuple[int, ...], reduced: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        super().__init__(shape, reduced, torch.float64, mean=False)
        self._given = dtype

    def _sum(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        return (part * part).sum(dim)

    def result(self) -> torch.Tensor:
        return super().result().sqrt().to(self._given)


class _Spread:
    """The variance, or its root."""

    def __init__(
        self,
        shape: tuple[int, ...],
        reduced: tuple[int, ...],
        dtype: torch.dtype,
        less: float,
        root: bool,
    ) -> None:
        self._shape, self._dtype, self._less, self._root = shape, dtype, less, root
        self._moments = Moments(reduced)

    def take(self, band: torch.Tensor) -> None:
        self._moments.take(band)

    def result(self) -> torch.Tensor:
        _, squares, count = self._moments.over(())
        variance = squares / max(0.0, count - self._less)
        return _shaped((variance.sqrt() if self._root else variance).to(self._dtype), self._shape)


def _shaped(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A statistic in its node's shape; one position may stand for several (adaptive pools)."""
    return value.reshape(shape) if value.numel() == math.prod(shape) else value.expand(shape)


class _Extreme:
    def __init__(self, shape: tuple[int, ...], reduced: tuple[int, ...], largest: bool) -> None:
        self._shape, self._reduced, self._largest = shape, reduced, largest
        self._best: torch.Tensor | None = None

    def take(self, band: torch.Tensor) -> None:
        reduce = torch.amax if self._largest else torch.amin
        combine = torch.maximum if self._largest else torch.minimum
        part = reduce(band, self._reduced, keepdim=True)
        self._best = part if self._best is None else combine(self._best, part)

    def result(self) -> torch.Tensor:
        if self._best is None:
            raise ValueError("no row has been taken")
        return _shaped(self._best, self._shape)
