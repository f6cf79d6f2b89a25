"""What a run keeps of the rows it computes: line buffers, and running statistics.

In this file:

- line buffers: the rows of a node that a consumer still needs, and no others;
- global statistics that are updated band by band, so that no map is ever in memory as a whole.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from eyeshot.axes import AxisMap, Identity, Interval, Window
from eyeshot.engine.moments import First, Moments, NormMoments, PlaceOfExtreme, in_lines
from eyeshot.errors import Unsupported
from eyeshot.files import forget
from eyeshot.findings.shapes import remedy
from eyeshot.graph import Family, Graph, Node
from eyeshot.operators.pooling import pooled


class LineBuffer:
    """Rows of one node's value, appended at the end and released at the front.

    The rows are consecutive in one tensor, so that a window is a view and never a copy. When the
    end of the tensor is reached, the rows that are still needed move to its start. A value whose
    rows are all used at once is stored as it is, without a copy.

    Rows that a resumed run skips are tensors on torch's meta device: a shape without memory. So all
    other rows get the same place in memory as in the uninterrupted run. If a call reads skipped
    rows together with others, they are zero.

    Attributes:
        rows: the rows in the buffer, in the coordinates of the whole picture.
        most: the most rows that were in the buffer at any time.
    """

    def __init__(self, dim: int | None, first: int, empty: torch.Tensor, most: int = 0) -> None:
        """A buffer whose first row will be ``first``.

        Args:
            dim: the dimension of the rows; None if the value has none.
            first: the number of the first row that will be appended.
            empty: a value without rows.
            most: the number of rows to allocate at once; 0 to allocate as rows are appended.
        """
        self._all = most if dim is not None else 0
        self.rows = Interval(first, first)
        self.most = 0
        self._dim = dim
        self._empty = empty
        self._store = empty
        self._start = 0  # the place of the first row in the store
        self._borrowed = False  # the store's memory belongs to another value
        self._owned = False  # the store was allocated here and may have free room
        self._returned = 0  # rows at the start of the store whose memory the system has back

    def append(self, value: torch.Tensor, count: int, borrowed: bool = False) -> None:
        """Append ``count`` new rows.

        Args:
            value: the rows.
            count: the size of ``value`` along the rows' dimension.
            borrowed: ``value`` is a view of an input, whose memory may change later.
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
        """The memory for the next ``count`` rows; None if they are to be stored without a copy."""
        room = self._reserve(count, self._store)
        if room is not None and room.is_meta:
            self._materialise()
            room = self._next(count)
        return room

    def window(self, rows: Interval) -> torch.Tensor:
        """A view of some of the rows in the buffer."""
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
        if self._all and self._owned and self.rows:
            self._give_back()
        if self._dim is None:
            if not self.rows:  # nobody reads the value again
                self._store, self._borrowed = self._empty, False
            return
        if not self.rows or self._borrowed:
            # Copy the remaining rows (or an empty slice, for its shape), so that the rest is freed.
            remaining = self._store.narrow(
                self._dim, self._start if self.rows else 0, len(self.rows)
            )
            self._store, self._start = remaining.clone(), 0
            self._borrowed = self._owned = False

    def _reserve(self, count: int, like: torch.Tensor) -> torch.Tensor | None:
        """Memory for the next ``count`` rows; None to store them without a copy."""
        filled = len(self.rows)
        if self._dim is None or (filled == 0 and count >= self._all):
            return None
        # The place of rows depends only on the row numbers, so a store that was not allocated here
        # is never written to, even if it has room.
        size = self._store.shape[self._dim] if self._owned else 0
        if self._start + filled + count > size:
            old = self._store.narrow(self._dim, self._start, filled)
            if size < filled + count or self._start < filled:
                shape = list(self._store.shape)
                shape[self._dim] = max(self._all or 2 * (filled + count), size, filled + count)
                self._store = _rows_together(shape, self._dim, self._store if filled else like)
            self._store.narrow(self._dim, 0, filled).copy_(old)
            self._start, self._borrowed, self._owned, self._returned = 0, False, True, 0
        return self._next(count)

    def _give_back(self) -> None:
        """Return the memory of rows that are no longer needed, of a value that is kept whole.

        So it shrinks while the next such value grows, and there is never memory for two of them.
        """
        dim, store = self._dim or 0, self._store
        row = store.stride(dim) * store.element_size()
        together = store.stride(dim) * store.shape[dim] == store.numel()
        if not together or (self._start - self._returned) * row < _RETURNED:
            return
        first = store.data_ptr()
        forget(first + self._returned * row, first + self._start * row)
        self._returned = self._start

    def _next(self, count: int) -> torch.Tensor:
        return self._store.narrow(self._dim or 0, self._start + len(self.rows), count)

    def _materialise(self) -> None:
        """Allocate zeros for skipped rows, because other rows follow or a call reads them."""
        shape = list(self._store.shape)
        self._store = _rows_together(shape, self._dim or 0, self._empty).zero_()


_RETURNED = 4 << 20
"""The least bytes that are returned to the system at one time."""


def _rows_together(shape: list[int], dim: int, like: torch.Tensor) -> torch.Tensor:
    """An uninitialized tensor with contiguous rows; an image's channels are last in memory."""
    format_ = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape))
    if format_ is not None and dim == 2:
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=format_)
    return torch.empty(shape, dtype=like.dtype, device=like.device)


_OVER_POSITIONS = (
    *(Family.ADAPTIVE_MAX_POOL, Family.ADAPTIVE_AVERAGE_POOL),
    *(Family.BATCH_NORM, Family.INSTANCE_NORM, Family.GROUP_NORM),
)
"""Families that run over all positions although their call does not name dimensions."""


class Gatherer(Protocol):
    """Computes a node's value from bands of its input."""

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        """Add rows; each row is added once.

        Args:
            band: the rows.
            first: the position of the first one along each axis; a statistic of values ignores it.
        """

    def state(self) -> tuple[Any, ...]:
        """The statistics so far, as numbers and tensors."""

    def merge(self, state: tuple[Any, ...]) -> None:
        """Add the state of another gatherer, which was given other rows."""

    def result(self) -> torch.Tensor:
        """The node's whole value."""


def gatherer(node: Node, source: Node) -> Gatherer | None:
    """The running form of a global statistic, such as a mean or maximum; None for other nodes.

    Args:
        node: the node; its shape may be that of a part, if it keeps an axis.
        source: its input.
    """
    running = _gatherer(node, source, reduced_dims(node, source))
    if running is None or not node.is_adaptive:
        return running
    return _OverBands(node, running)


def _gatherer(node: Node, source: Node, reduced: tuple[int, ...]) -> Gatherer | None:
    dtype = getattr(torch, node.dtype)
    if node.params.measure:
        return _measuring(node, source, reduced, dtype)
    if node.family is Family.MOMENTS:
        return NormMoments(node, reduced)
    if node.family in (Family.VARIANCE, Family.DEVIATION, Family.MAGNITUDE):
        return _spread(node, reduced, dtype)
    if node.family in (Family.MEAN, Family.ADAPTIVE_AVERAGE_POOL):
        return _Sum(node.shape, reduced, dtype, mean=True, cast=_cast(node))
    if node.family is Family.LOG_SUM:
        return _LogSum(node.shape, reduced, dtype, _cast(node))
    if node.family is Family.SUM:
        return _Sum(node.shape, reduced, dtype, mean=False, cast=_cast(node))
    if node.family in (Family.LARGEST, Family.ADAPTIVE_MAX_POOL):
        return _Extreme(node.shape, reduced, largest=True)
    if node.family is Family.SMALLEST:
        return _Extreme(node.shape, reduced, largest=False)
    return None


def _measuring(
    node: Node, source: Node, reduced: tuple[int, ...], dtype: torch.dtype
) -> Gatherer | None:
    """The running form of what ``params.measure`` names."""
    match node.params.measure:
        case "largest" | "smallest":
            return _Extreme(node.shape, reduced, largest=node.params.measure == "largest")
        case "any" | "all":
            return _Truth(node.shape, reduced, dtype, node.params.measure == "any")
        case "count":
            return _Count(node.shape, reduced, dtype, mean=False)
        case "mean":
            return _Sum(node.shape, reduced, dtype, mean=True)
        case "place of largest" | "place of smallest":
            largest = node.params.measure == "place of largest"
            return PlaceOfExtreme(node.shape, source, reduced, largest)
        case "variance" | "deviation":
            root = node.params.measure == "deviation"
            return _Spread(node.shape, reduced, dtype, _correction(node), root)
    return None


def _cast(node: Node) -> torch.dtype | None:
    """The type that a call names (``dtype=``): torch converts each number to it, then reduces."""
    named = None if node.call is None else node.call.argument("dtype")
    return named if isinstance(named, torch.dtype) else None


def _spread(node: Node, reduced: tuple[int, ...], dtype: torch.dtype) -> Gatherer | None:
    """A variance, a standard deviation, or an L2 norm; None for another norm."""
    arguments = {} if node.call is None else node.call.arguments
    if node.family is Family.MAGNITUDE:
        order = arguments.get("ord", arguments.get("p", 2))
        return _Norm(node.shape, reduced, dtype, _cast(node)) if order in (2, None) else None
    return _Spread(
        node.shape, reduced, dtype, _correction(node), root=node.family is Family.DEVIATION
    )


def _correction(node: Node) -> float:
    """What a variance subtracts from the count."""
    arguments = {} if node.call is None else node.call.arguments
    unbiased, correction = arguments.get("unbiased", True), arguments.get("correction")
    return float(unbiased) if correction is None else float(correction)


def gathers(node: Node, graph: Graph) -> bool:
    """Whether the node's value can be gathered from bands of its only input.

    It is a number for all positions, or one for each position along the axes that it keeps: a mean
    over rows is a line of columns.
    """
    axes = node.edges[0].axes
    # A map with a single row, such as the input of the second of two means, is not streamed.
    return bool(axes) and axes[0].is_global and is_statistic(node, graph)


def is_statistic(node: Node, graph: Graph) -> bool:
    """Whether the node's value can be gathered from any parts of its only input.

    Along each axis it reduces all positions, or keeps them as they are.
    """
    (edge, *others) = node.edges
    source = graph.nodes[edge.source]
    fits = not gives_indices(node) and all(
        (axis.is_global and size == 1)
        or n == 1
        or (is_unchanged(axis) and node.family is not Family.MOMENTS)
        for axis, n, size in zip(edge.axes, source.extents, node.extents, strict=True)
    )
    return fits and not others and gatherer(node, source) is not None


def keeps_an_axis(node: Node, source: Node) -> bool:
    """Whether a node that gathers gives a line: a number for each position along some axis."""
    axes = zip(node.edges[0].axes, source.extents, strict=True)
    return any(n > 1 and not axis.is_global for axis, n in axes)


def is_unchanged(axis: AxisMap) -> bool:
    """Whether each position is that of the input."""
    return axis in (Identity(), Window(1, 1))


def reduced_dims(node: Node, source: Node) -> tuple[int, ...]:
    """The dimensions that a statistic reduces: positions of axes, and those that it names."""
    rank = len(source.shape)
    axes = zip(source.dims, node.edges[0].axes, source.extents, strict=True)
    positions = {d for d, axis, n in axes if d is not None and (axis.is_global or n == 1)}
    if node.call is None or node.family in (*_OVER_POSITIONS, Family.MOMENTS):
        return tuple(sorted(positions))
    named = node.call.argument("dim")
    listed = range(rank) if named in (None, []) else [named] if isinstance(named, int) else named
    return tuple(sorted(positions | {int(dim) % rank for dim in listed}))


def gives_indices(node: Node) -> bool:
    """Whether the node is the second result of a max pooling: the indices of the maxima."""
    item = getattr(node.call.target, "item", None) if node.call is not None else None
    return node.family in (Family.MAX_POOL, Family.ADAPTIVE_MAX_POOL) and item == 1


def refusal(node: Node, graph: Graph) -> Unsupported:
    """The error for a node that cannot be run: its name, the reason and the cure."""
    reason, cure = remedy(graph, node)
    where = f"{node.name} ({node.operator})" + (f", {node.line}" if node.line else "")
    return Unsupported(
        f"{where}: {reason}",
        cure=cure or "make them once in __init__ and keep them with register_buffer",
    )


class _OverBands:
    """Adaptive pooling over all positions that also pools windows along other dimensions."""

    def __init__(self, node: Node, running: Gatherer) -> None:
        (edge,) = node.edges
        self._beside = [(dim, axis, node.shape[dim]) for dim, axis in edge.beside]
        self._largest, self._running = node.family is Family.ADAPTIVE_MAX_POOL, running

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        for dim, axis, count in self._beside:
            windows = [
                axis.input_range_inside(Interval(i, i + 1), band.shape[dim]) for i in range(count)
            ]
            band = pooled(band, dim, windows, self._largest)
        self._running.take(band, first)

    def state(self) -> tuple[Any, ...]:
        return self._running.state()

    def merge(self, state: tuple[Any, ...]) -> None:
        self._running.merge(state)

    def result(self) -> torch.Tensor:
        return self._running.result()


class _Sum:
    def __init__(
        self,
        shape: tuple[int, ...],
        reduced: tuple[int, ...],
        dtype: torch.dtype,
        mean: bool,
        cast: torch.dtype | None = None,
    ) -> None:
        self._shape, self._reduced, self._mean, self._cast = shape, reduced, mean, cast
        self._total: torch.Tensor | None = None
        self._dtype = dtype
        self._exact = torch.float64 if dtype.is_floating_point else dtype
        self._count = 0

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        shape = [1 if dim in self._reduced else n for dim, n in enumerate(band.shape)]
        for part, dim in in_lines(band, self._reduced, self._cast):
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


class _Count(_Sum):
    """How many numbers are not zero."""

    def _sum(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        return (part != 0).sum(dim)


class _Norm(_Sum):
    """The L2 norm: the square root of the sum of squares."""

    def __init__(
        self,
        shape: tuple[int, ...],
        reduced: tuple[int, ...],
        dtype: torch.dtype,
        cast: torch.dtype | None,
    ) -> None:
        super().__init__(shape, reduced, torch.float64, mean=False, cast=cast)
        self._output_dtype = dtype

    def _sum(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        return (part * part).sum(dim)

    def result(self) -> torch.Tensor:
        return super().result().sqrt().to(self._output_dtype)


class _Spread:
    """The variance or the standard deviation."""

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

    def take(self, band: torch.Tensor, first: First = ()) -> None:
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
    """A statistic in its node's shape; an adaptive pool may repeat one value."""
    return value.reshape(shape) if value.numel() == math.prod(shape) else value.expand(shape)


class _LogSum:
    """The logarithm of a sum of exponentials: of each band, and then of these."""

    def __init__(
        self,
        shape: tuple[int, ...],
        reduced: tuple[int, ...],
        dtype: torch.dtype,
        cast: torch.dtype | None = None,
    ) -> None:
        self._shape, self._reduced, self._dtype, self._cast = shape, reduced, dtype, cast
        self._total: torch.Tensor | None = None

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        shape = [1 if dim in self._reduced else n for dim, n in enumerate(band.shape)]
        for part, dim in in_lines(band, self._reduced, self._cast):
            largest = part.amax(dim, keepdim=True)
            largest = largest.where(largest.isfinite() | largest.isnan(), torch.zeros_like(largest))
            total = (part - largest).exp_().sum(dim, keepdim=True)
            self.merge(((total.double().log() + largest.double()).reshape(shape),))

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

    def take(self, band: torch.Tensor, first: First = ()) -> None:
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


class _Truth(_Extreme):
    """Whether any number is not zero, or all of them."""

    def __init__(
        self, shape: tuple[int, ...], reduced: tuple[int, ...], dtype: torch.dtype, any_: bool
    ) -> None:
        super().__init__(shape, reduced, largest=any_)
        self._dtype = dtype

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        super().take(band != 0, first)

    def result(self) -> torch.Tensor:
        return super().result().to(self._dtype)
