"""What a run keeps of rows that pass: line buffers, and statistics over all of them.

In this file:

- line buffers: the rows of a node that a consumer still needs, and no others;
- global statistics over rows that pass by: a classifier on a picture that is never held whole.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from eyeshot.axes import AxisMap, Identity, Interval, Window
from eyeshot.engine.moments import Moments, NormMoments, in_lines
from eyeshot.errors import Unsupported
from eyeshot.findings.shapes import remedy
from eyeshot.graph import Family, Graph, Node
from eyeshot.operators.pooling import pooled


class LineBuffer:
    """Rows of one node's value, appended at the end and released at the front.

    The rows lie one behind another in one tensor, so that a window on them is a view and never a
    copy. When the end of the tensor is reached the rows still needed move to its start. A node
    whose rows are all used at once is handed over as it is, with no copy at all.

    Rows that a resumed run passes over come as tensors on torch's meta device, which have a shape
    and no memory. So all other rows come to lie where they lay in the uninterrupted run. Where
    one of its calls reads rows passed over beside others, they are zero.

    Attributes:
        rows: the rows held, in the coordinates of the whole picture.
        most: the most rows held at any time so far.
    """

    def __init__(self, dim: int | None, first: int, empty: torch.Tensor, most: int = 0) -> None:
        """A buffer whose first row will be ``first``.

        Args:
            dim: along which the rows lie; None where the value has none.
            first: the first row that will come.
            empty: a value of no rows.
            most: as many rows will be held: room for all of them is made at once. 0 to make room
                as they come.
        """
        self._all = most if dim is not None else 0
        self.rows = Interval(first, first)
        self.most = 0
        self._dim = dim
        self._empty = empty
        self._store = empty
        self._start = 0  # where in the store the first held row lies
        self._borrowed = False
        self._owned = False  # the store was made here, with room to spare

    def append(self, value: torch.Tensor, count: int, borrowed: bool = False) -> None:
        """Take ``count`` new rows.

        Args:
            value: the rows.
            count: how many; the extent of ``value`` along the rows' dimension.
            borrowed: the memory is another's (a view of an input), which may change it later.
        """
        room = self._reserve(count, value) if value.is_meta else self.room(count)
        if room is None:
            self._store, self._start = value, 0
            self._borrowed, self._owned = borrowed, False
        elif not value.is_meta and room.data_ptr() != value.data_ptr():
            room.copy_(value)
        self.rows = Interval(self.rows.lo, self.rows.hi + count)
        self.most = max(self.most, len(self.rows))

    def room(self, count: int) -> torch.Tensor | None:
        """Where the next ``count`` rows belong; None where they are taken over as they come."""
        room = self._reserve(count, self._store)
        if room is not None and room.is_meta:
            self._materialise()
            room = self._next(count)
        return room

    def window(self, rows: Interval) -> torch.Tensor:
        """A view of some of the rows held."""
        if self._store.is_meta:
            self._materialise()
        if self._dim is None:
            return self._store
        if not rows:
            return self._store.narrow(self._dim, 0, 0)
        if not self.rows.covers(rows):
            raise IndexError(f"rows {rows} of a buffer that holds {self.rows}")
        return self._store.narrow(self._dim, self._start + rows.lo - self.rows.lo, len(rows))

    def release(self, below: int) -> None:
        """Forget the rows before ``below``."""
        lo = min(max(below, self.rows.lo), self.rows.hi)
        if lo == self.rows.lo and not self._borrowed:
            return
        self._start += lo - self.rows.lo
        self.rows = Interval(lo, self.rows.hi)
        if self._dim is None:
            return
        if not self.rows or self._borrowed:
            # What is left (an empty slice still tells the shape) must not hold on to the rest.
            kept = self._store.narrow(self._dim, self._start if self.rows else 0, len(self.rows))
            self._store, self._start = kept.clone(), 0
            self._borrowed = self._owned = False

    def _reserve(self, count: int, like: torch.Tensor) -> torch.Tensor | None:
        """Room for ``count`` rows behind the ones held; None where they are taken as they come."""
        held = len(self.rows)
        if self._dim is None or (held == 0 and count >= self._all):
            return None
        # Where rows come to lie follows from their numbers alone: a store that was handed over
        # is never written to, whatever room it has.
        size = self._store.shape[self._dim] if self._owned else 0
        if self._start + held + count > size:
            kept = self._store.narrow(self._dim, self._start, held)
            if size < held + count or self._start < held:
                shape = list(self._store.shape)
                shape[self._dim] = max(self._all or 2 * (held + count), size, held + count)
                self._store = _rows_together(shape, self._dim, self._store if held else like)
            self._store.narrow(self._dim, 0, held).copy_(kept)
            self._start, self._borrowed, self._owned = 0, False, True
        return self._next(count)

    def _next(self, count: int) -> torch.Tensor:
        return self._store.narrow(self._dim or 0, self._start + len(self.rows), count)

    def _materialise(self) -> None:
        """Give rows passed over a memory: the first others follow, or a call reads them."""
        shape = list(self._store.shape)
        self._store = _rows_together(shape, self._dim or 0, self._empty).zero_()


def _rows_together(shape: list[int], dim: int, like: torch.Tensor) -> torch.Tensor:
    """An empty tensor; for a picture with channels last in memory, so that rows lie together."""
    if len(shape) == 4 and dim == 2:
        return torch.empty(
            shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
        )
    return torch.empty(shape, dtype=like.dtype, device=like.device)


_OVER_POSITIONS = (
    *(Family.ADAPTIVE_MAX_POOL, Family.ADAPTIVE_AVERAGE_POOL),
    *(Family.BATCH_NORM, Family.INSTANCE_NORM, Family.GROUP_NORM),
)
"""They run over all positions without naming them."""


class Gatherer(Protocol):
    """Takes a node's input band by band, and gives its value at the end."""

    def take(self, band: torch.Tensor) -> None:
        """Rows that have not been taken before."""

    def state(self) -> tuple[Any, ...]:
        """What has been taken, in numbers and tensors."""

    def merge(self, state: tuple[Any, ...]) -> None:
        """Take in the state of another that has taken other rows."""

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
    if node.family is Family.LOG_SUM:
        return _LogSum(node.shape, reduced, dtype)
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
    """Whether its value is gathered while all rows of its one input pass.

    It is a number for all positions, or one for each position along the axes that it keeps: a mean
    over rows is a line of columns.
    """
    (edge, *others) = node.edges
    source = graph.nodes[edge.source]
    # A single row that keeps its place, as in the second of two means, does not pass as rows do.
    rows_pass = bool(edge.axes) and edge.axes[0].is_global
    fits = all(
        axis.is_global or n == 1 or (_is_kept(axis) and node.family is not Family.MOMENTS)
        for axis, n in zip(edge.axes, source.extents, strict=True)
    )
    return (
        rows_pass and fits and not others and gatherer(node, reduced_dims(node, source)) is not None
    )


def keeps_an_axis(node: Node, source: Node) -> bool:
    """Whether a node that gathers gives a line: a number for each position along some axis."""
    axes = zip(node.edges[0].axes, source.extents, strict=True)
    return any(n > 1 and not axis.is_global for axis, n in axes)


def _is_kept(axis: AxisMap) -> bool:
    return axis in (Identity(), Window(1, 1))


def reduced_dims(node: Node, source: Node) -> tuple[int, ...]:
    """The dimensions that a statistic runs over: positions of axes, and channels if it says."""
    rank = len(source.shape)
    axes = zip(source.dims, node.edges[0].axes, source.extents, strict=True)
    positions = {d for d, axis, n in axes if d is not None and (axis.is_global or n == 1)}
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

    def state(self) -> tuple[Any, ...]:
        return self._running.state()

    def merge(self, state: tuple[Any, ...]) -> None:
        self._running.merge(state)

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

    def state(self) -> tuple[Any, ...]:
        return self._count, self._total

    def merge(self, state: tuple[Any, ...]) -> None:
        count, some = state
        if some is not None:
            self._total = some if self._total is None else self._total + some
        self._count += count

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

    def state(self) -> tuple[Any, ...]:
        return self._moments.state()

    def merge(self, state: tuple[Any, ...]) -> None:
        self._moments.merge(state)

    def result(self) -> torch.Tensor:
        _, squares, count = self._moments.over(())
        variance = squares / max(0.0, count - self._less)
        return _shaped((variance.sqrt() if self._root else variance).to(self._dtype), self._shape)


def _shaped(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A statistic in its node's shape; one position may stand for several (adaptive pools)."""
    return value.reshape(shape) if value.numel() == math.prod(shape) else value.expand(shape)


class _LogSum:
    """The logarithm of a sum of exponentials: of each band, and then of these."""

    def __init__(
        self, shape: tuple[int, ...], reduced: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self._shape, self._reduced, self._dtype = shape, reduced, dtype
        self._total: torch.Tensor | None = None

    def take(self, band: torch.Tensor) -> None:
        self.merge((torch.logsumexp(band, self._reduced, keepdim=True).double(),))

    def state(self) -> tuple[Any, ...]:
        return (self._total,)

    def merge(self, state: tuple[Any, ...]) -> None:
        (some,) = state
        if some is not None:
            self._total = some if self._total is None else torch.logaddexp(self._total, some)

    def result(self) -> torch.Tensor:
        if self._total is None:
            raise ValueError("no row has been taken")
        return _shaped(self._total.to(self._dtype), self._shape)


class _Extreme:
    def __init__(self, shape: tuple[int, ...], reduced: tuple[int, ...], largest: bool) -> None:
        self._shape, self._reduced, self._largest = shape, reduced, largest
        self._best: torch.Tensor | None = None

    def take(self, band: torch.Tensor) -> None:
        reduce = torch.amax if self._largest else torch.amin
        combine = torch.maximum if self._largest else torch.minimum
        part = reduce(band, self._reduced, keepdim=True)
        self._best = part if self._best is None else combine(self._best, part)

    def state(self) -> tuple[Any, ...]:
        return (self._best,)

    def merge(self, state: tuple[Any, ...]) -> None:
        combine = torch.maximum if self._largest else torch.minimum
        if state[0] is not None:
            self._best = state[0] if self._best is None else combine(self._best, state[0])

    def result(self) -> torch.Tensor:
        if self._best is None:
            raise ValueError("no row has been taken")
        return _shaped(self._best, self._shape)
