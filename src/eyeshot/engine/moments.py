"""Norms and softmax over positions in two parts: statistics of all rows, then local arithmetic.

An instance norm needs the mean and the deviation of each channel before it returns its first row.
Both are gathered band by band in the order of the rows, and merged in float64, so that the size of
bands changes only the last bits. After that the norm is a multiplication and an addition.

A softmax over rows needs the logarithm of the sum of exponentials, gathered in the same way: it is
exp(x − logsumexp(x)).

The place of the largest or smallest number is gathered in the same way. torch counts places over
the reduced dimensions in their order, and returns the first of equals, so each band needs to know
where it lies in the map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from eyeshot.axes import Broadcast, Global, Identity
from eyeshot.errors import Failure
from eyeshot.graph import (
    NO_PARAMS,
    Call,
    Edge,
    Family,
    Graph,
    Kind,
    MomentsParams,
    Node,
    Ref,
    Weight,
    check,
)

_OVER_LAST = (Family.LAYER_NORM, Family.RMS_NORM)
_NORMS = (Family.INSTANCE_NORM, Family.GROUP_NORM, Family.BATCH_NORM, *_OVER_LAST)
_SHORT = (torch.float16, torch.bfloat16)
_AT_ONCE = 1 << 17
"""How many numbers are reduced together, so that they stay in the processor's cache."""

_CLOSE, _TINY = 1e-8, 1e-32
"""A variance in float32 is too inexact below this, as a part of the squared mean, and at all."""


def in_lines(
    band: torch.Tensor, positions: tuple[int, ...], dtype: torch.dtype | None = None
) -> Iterator[tuple[torch.Tensor, int]]:
    """Small parts of a band as matrices, each with the matrix dimension of the positions.

    Types of 16 bits become float32.

    Args:
        band: some rows of a map.
        positions: the band's dimensions of positions; all others are the matrix's other dimension.
        dtype: the type to convert the numbers to; None for their own.
    """
    others = [dim for dim in range(band.ndim) if dim not in positions]
    features = math.prod(band.shape[dim] for dim in others)
    if others and band.stride(others[-1]) == 1 and features > 1:
        lines, dim = band.permute(*positions, *others).reshape(-1, features), 0
    else:
        lines, dim = band.permute(*others, *positions).reshape(features, -1), 1
    step = _AT_ONCE if dim else max(1, _AT_ONCE // features)
    for part in torch.split(lines, step, dim):
        part = part if dtype is None else part.to(dtype)
        # The sum of a few hundred numbers can exceed the range of float16.
        yield part.float() if part.dtype in _SHORT else part, dim


class Moments:
    """The mean of each feature over all positions, and the sum of squared deviations from it."""

    def __init__(self, positions: tuple[int, ...]) -> None:
        """``positions`` are the dimensions of positions."""
        self._positions = positions
        self._count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def take(self, band: torch.Tensor) -> None:
        """Add rows; each row is added once."""
        shape = [1 if dim in self._positions else n for dim, n in enumerate(band.shape)]
        for part, dim in in_lines(band, self._positions):
            mean = part.mean(dim, keepdim=True)
            squares = (part - mean).square_().sum(dim)
            if part.dtype is torch.float32:
                mean, squares = _widened(part, dim, mean.double(), squares.double())
            self._merge(part.shape[dim], mean.reshape(shape), squares.reshape(shape))

    def _merge(self, count: int, mean: torch.Tensor, squares: torch.Tensor) -> None:
        total = self._count + count
        apart = mean.double() - self._mean
        self._squares = self._squares + squares.double()
        self._squares = self._squares + apart * apart * (self._count * count / total)
        self._mean = self._mean + apart * (count / total)
        self._count = total

    def state(self) -> tuple[Any, ...]:
        """The count of positions, the means, and the sums of squared deviations so far."""
        return self._count, self._mean, self._squares

    def merge(self, state: tuple[Any, ...]) -> None:
        """Add the state of moments of other rows."""
        if state[0]:
            self._merge(*state)

    def over(
        self, dims: tuple[int, ...], groups: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The mean, the sum of squared deviations from it, and the count of numbers.

        Args:
            dims: dimensions of features to reduce too.
            groups: the number of groups of channels that are reduced together; 0 for none.
        """
        if not self._count:
            raise Failure("no row has been taken", cure="please report this network")
        mean, squares = self._mean, self._squares
        if groups:
            mean, squares = (one.unflatten(1, (groups, -1)) for one in (mean, squares))
            dims = (2, *(dim + 1 for dim in dims if dim > 1))
        if not dims:
            return mean, squares, self._count
        middle = mean.mean(dims, keepdim=True)
        spread = squares + (mean - middle).square() * self._count
        count = self._count * math.prod(mean.shape[dim] for dim in dims)
        found = (middle, spread.sum(dims, keepdim=True))
        if groups:
            each = mean.shape[2]
            found = tuple(one.repeat_interleave(each, 2).flatten(1, 2) for one in found)
        return (*found, count)


def _widened(
    part: torch.Tensor, dim: int, mean: torch.Tensor, squares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moments of float32 numbers, taken again in float64 where float32 cannot hold them.

    The squares of 1e20 exceed its range, those of 1e-22 are zero in it, and the rounding of the
    mean hides deviations much smaller than the mean.
    """
    least = mean.reshape(-1).square() * _CLOSE + _TINY
    inexact = ~squares.isfinite() | (squares <= least * part.shape[dim])
    if inexact.any():
        wide = part.movedim(dim, -1)[inexact].double()
        means = wide.mean(-1, keepdim=True)
        mean.view(-1)[inexact] = means.view(-1)
        squares[inexact] = (wide - means).square_().sum(-1)
    return mean, squares


class NormMoments:
    """The mean that a norm subtracts and its scale, gathered band by band."""

    def __init__(self, node: Node, positions: tuple[int, ...]) -> None:
        if not isinstance(node.params, MomentsParams):
            raise Failure(f"{node.name} takes no moments", cure="please report this network")
        self._params, self._moments = node.params, Moments(positions)

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        """Add rows; each row is added once. Where they lie changes nothing."""
        self._moments.take(band)

    def state(self) -> tuple[Any, ...]:
        """The statistics so far."""
        return self._moments.state()

    def merge(self, state: tuple[Any, ...]) -> None:
        """Add the state of other rows."""
        self._moments.merge(state)

    def result(self) -> torch.Tensor:
        """(2, …): the mean of each feature, and 1 / its deviation."""
        mean, squares, count = self._moments.over(self._params.over, self._params.groups)
        if not self._params.centered:
            squares, mean = squares + mean * mean * count, torch.zeros_like(mean)
        variance = squares / count
        if self._params.rounded:
            variance = variance.to(getattr(torch, self._params.rounded)).double()
        scale = (variance + self._params.eps).rsqrt()
        if self._params.rounded:
            scale = scale.where(variance != 0, torch.zeros_like(scale))
        return torch.stack([mean, scale])


def split_statistics(graph: Graph) -> Graph:
    """The graph with each norm or softmax over rows as two nodes: statistics, and a scaling."""
    nodes: dict[str, Node] = {}
    tensors = dict(graph.tensors)
    for node in graph:
        parts: tuple[Node, ...] = (node,)
        if _is_over_all(node, graph):
            parts = _apart(node, tensors)
        elif _is_over_rows(node):
            parts = _softmax_apart(node)
        nodes.update((part.name, part) for part in parts)
    if len(nodes) == len(graph):
        return graph
    found = replace(graph, nodes=nodes, tensors=tensors)
    check(found)
    return found


def _is_over_all(node: Node, graph: Graph) -> bool:
    """Whether the node normalizes over every position of its only input."""
    if node.family not in _NORMS or node.kind is not Kind.GLOBAL_STATISTIC or len(node.edges) > 1:
        return False
    (edge,) = node.edges
    extents = graph.nodes[edge.source].extents
    return all(axis.is_global or n == 1 for axis, n in zip(edge.axes, extents, strict=True))


def _apart(node: Node, tensors: dict[str, torch.Tensor]) -> tuple[Node, Node]:
    (edge,) = node.edges
    over = _dims(node)
    value, name = Ref(edge.source), f"{node.name}.moments"
    eps = _argument(node, "eps")
    params = MomentsParams(
        over=tuple(dim for dim in over if dim not in node.dims),
        groups=node.params.groups if node.family is Family.GROUP_NORM else 0,
        eps=torch.finfo(getattr(torch, node.dtype)).eps if eps is None else float(eps),
        centered=node.family is not Family.RMS_NORM,
        rounded=_rounded_variance(node, eps),
    )
    moments = replace(
        node,
        name=name,
        edges=(Edge(edge.source, tuple(Global(1) for _ in node.dims)),),
        shape=(2, *(1 if dim in over else n for dim, n in enumerate(node.shape))),
        dims=(None,) * len(node.dims),
        params=params,
        weights=(),
        call=Call(moments_of, (value,), names=("self",)),
        dtype="float64",
        family=Family.MOMENTS,
    )
    affine = [_shaped(node, part, tensors) for part in ("weight", "bias")]
    scaled = replace(
        node,
        kind=Kind.LOCAL,
        edges=(
            Edge(edge.source, tuple(Identity() for _ in node.dims)),
            Edge(name, tuple(Broadcast(n) for n in node.extents)),
        ),
        weights=tuple(one.name for one in affine if one is not None),
        params=NO_PARAMS,
        call=Call(normalized, (value, Ref(name), *affine)),
        family=Family.POINTWISE,
    )
    return moments, scaled


def _rounded_variance(node: Node, eps: Any) -> str:
    """The type of the variance of torch's batch norm and instance norm, if its eps is 0."""
    if eps != 0 or node.family not in (Family.BATCH_NORM, Family.INSTANCE_NORM):
        return ""
    return node.dtype if node.dtype == "float64" else "float32"


def split_softmax(graph: Graph) -> Graph:
    """The graph with each softmax over some axis as two nodes, also where it mixes no rows.

    Workers see parts of rows only.
    """
    nodes: dict[str, Node] = {}
    for node in graph:
        alone = node.family is Family.SOFTMAX and len(node.edges) == 1
        mixes = alone and any(axis.is_global for axis in node.edges[0].axes)
        parts = _softmax_apart(node) if mixes else (node,)
        nodes.update((part.name, part) for part in parts)
    if len(nodes) == len(graph):
        return graph
    found = replace(graph, nodes=nodes)
    check(found)
    return found


def _is_over_rows(node: Node) -> bool:
    """Whether it is a softmax whose sums are those of the columns, gathered while rows pass."""
    over_rows = node.family is Family.SOFTMAX and node.kind is Kind.GLOBAL_STATISTIC
    return over_rows and len(node.edges) == 1 and node.edges[0].axes[0].is_global


def _softmax_apart(node: Node) -> tuple[Node, Node]:
    (edge,) = node.edges
    value, name = Ref(edge.source), f"{node.name}.sum"
    dim = int(_argument(node, "dim")) % len(node.shape)
    cast = _argument(node, "dtype")
    typed = cast if isinstance(cast, torch.dtype) else None
    axes = tuple(Global(1) if axis.is_global else axis for axis in edge.axes)
    sums = replace(
        node,
        name=name,
        edges=(replace(edge, axes=axes),),
        shape=tuple(1 if place == dim else n for place, n in enumerate(node.shape)),
        params=NO_PARAMS,
        call=Call(
            log_sum_of, (value, [dim], True, typed), names=("self", "dim", "keepdim", "dtype")
        ),
        dtype="float64",
        operator="logsumexp",
        family=Family.LOG_SUM,
    )
    back = (
        Broadcast(n) if a.is_global else Identity() for a, n in zip(axes, node.extents, strict=True)
    )
    function = log_softmax_from if node.params.measure == "logarithm" else softmax_from
    scaled = replace(
        node,
        kind=Kind.LOCAL,
        edges=(
            Edge(edge.source, tuple(Identity() for _ in node.dims)),
            Edge(name, tuple(back)),
        ),
        params=NO_PARAMS,
        call=Call(function, (value, Ref(name), getattr(torch, node.dtype))),
        family=Family.POINTWISE,
    )
    return sums, scaled


def _argument(node: Node, name: str) -> Any:
    return node.call.argument(name) if node.call is not None else None


def _dims(node: Node) -> tuple[int, ...]:
    """The dimensions of positions that a norm reduces; channels of a group are merged later."""
    rank = len(node.shape)
    if node.family in _OVER_LAST:
        return tuple(range(rank - len(_argument(node, "normalized_shape")), rank))
    first = (0,) if node.family is Family.BATCH_NORM else ()
    return (*first, *range(2, rank))


def _shaped(node: Node, part: str, tensors: dict[str, torch.Tensor]) -> Weight | None:
    """A norm's weight, reshaped to the dimensions of the scaled map so that both are cut alike."""
    weight = _argument(node, part)
    if not isinstance(weight, Weight) or node.family in _OVER_LAST:
        return weight if isinstance(weight, Weight) else None
    name = f"{node.name}.shaped_{part}"
    tensors[name] = tensors[weight.name].detach().reshape(-1, *(1 for _ in node.shape[2:]))
    return Weight(name)


def moments_of(value: torch.Tensor) -> torch.Tensor:
    """The target of a moments node, which is never called: a gatherer computes its value."""
    raise Failure("moments are gathered, not called", cure="please report this network")


def normalized(
    value: torch.Tensor,
    moments: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Some rows, normalized with the moments of all rows.

    Args:
        value: the rows.
        moments: (2, …) float64, from :class:`NormMoments`.
        weight: the factor; None for 1.
        bias: the offset; None for 0.
    """
    mean, scale = moments
    if weight is None or weight.numel() <= mean.numel():
        factor = scale if weight is None else scale * weight
        shift = -mean * factor if bias is None else bias - mean * factor
        return torch.addcmul(shift.to(value.dtype), value, factor.to(value.dtype))
    plain = torch.addcmul((-mean * scale).to(value.dtype), value, scale.to(value.dtype))
    return plain.mul_(weight) if bias is None else torch.addcmul(bias, plain, weight)


def log_sum_of(
    value: torch.Tensor, dim: list[int], keepdim: bool, dtype: torch.dtype | None
) -> torch.Tensor:
    """The target of a softmax's sum, which is never called: a gatherer computes its value."""
    raise Failure("sums are gathered, not called", cure="please report this network")


def softmax_from(value: torch.Tensor, sums: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Some rows of a softmax.

    Args:
        value: the rows.
        sums: the logarithm of the sum of exponentials, float64.
        dtype: of the result.
    """
    return _less(value, sums, dtype).exp_().to(dtype)


def log_softmax_from(value: torch.Tensor, sums: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Some rows of the logarithm of a softmax; arguments as for :func:`softmax_from`."""
    return _less(value, sums, dtype).to(dtype)


def _less(value: torch.Tensor, sums: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``value - sums``, without rounding the sums to the type of the values.

    If a column holds infinity, or nothing but -infinity, the result is NaN, as torch's.
    """
    wide = torch.promote_types(torch.promote_types(value.dtype, dtype), torch.float32)
    rounded = sums.to(wide)
    rest = (sums - rounded.double()).to(wide)
    return (value.to(wide) - rounded).sub_(rest)


First = tuple[int, ...]
"""The position of a band's first number along each axis."""


class PlaceOfExtreme:
    """What ``argmax`` and ``argmin`` return, and the second result of ``max`` and ``min``.

    A place is two numbers: over the dimensions before the rows, and over the rows and the
    dimensions after them. How many rows there are is known at the end: a camera's have none.
    """

    def __init__(
        self, shape: tuple[int, ...], source: Node, reduced: tuple[int, ...], largest: bool
    ) -> None:
        """Start without any rows.

        Args:
            shape: of the result.
            source: the map.
            reduced: its dimensions over which places are counted.
            largest: False for the smallest number.
        """
        self._shape, self._axes, self._reduced = shape, source.dims, reduced
        rows = source.dims[0]
        cut = len([dim for dim in reduced if rows is not None and dim < rows])
        self._before, self._after = reduced[:cut], reduced[cut:]
        self._sizes = source.shape
        self._largest = largest
        self._rows = 0
        self._best: torch.Tensor | None = None
        self._place: torch.Tensor | None = None

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        """Add rows.

        Args:
            band: the rows.
            first: the position of the first one along each axis; empty for the map's first.
        """
        others = [dim for dim in range(band.ndim) if dim not in self._reduced]
        lines = band.permute(*others, *self._reduced).flatten(len(others))
        if not lines.shape[-1]:
            return
        best, place = (lines.max if self._largest else lines.min)(-1)
        starts = dict(zip(self._axes, first, strict=False))
        inside = math.prod(band.shape[dim] for dim in self._after)
        places = torch.stack(
            [
                self._within_map(place // inside, self._before, band, starts),
                self._within_map(place % inside, self._after, band, starts),
            ]
        )
        rows = self._axes[0]
        self.merge((best, places, 0 if rows is None else starts.get(rows, 0) + band.shape[rows]))

    def _within_map(
        self,
        place: torch.Tensor,
        dims: tuple[int, ...],
        band: torch.Tensor,
        starts: dict[int | None, int],
    ) -> torch.Tensor:
        """Places within a band as places within the map."""
        found = torch.zeros_like(place)
        factor = 1
        for dim in reversed(dims):
            found += (place % band.shape[dim] + starts.get(dim, 0)) * factor
            place = place // band.shape[dim]
            factor *= self._sizes[dim]
        return found

    def state(self) -> tuple[Any, ...]:
        """The best numbers so far, their places, and the rows of the map as far as is known."""
        return self._best, self._place, self._rows

    def merge(self, state: tuple[Any, ...]) -> None:
        """Add what was found in other rows."""
        best, place, rows = state
        if best is None:
            return
        self._rows = max(self._rows, rows)
        if self._best is None or self._place is None:
            self._best, self._place = best, place
            return
        better = best > self._best if self._largest else best < self._best
        better |= best.isnan() & ~self._best.isnan()
        equal = (best == self._best) | (best.isnan() & self._best.isnan())
        (before, after), (known_before, known_after) = place, self._place
        sooner = (before < known_before) | ((before == known_before) & (after < known_after))
        chosen = better | (equal & sooner)
        self._best = torch.where(chosen, best, self._best)
        self._place = torch.where(chosen, place, self._place)

    def result(self) -> torch.Tensor:
        """The places, as the operator returns them."""
        if self._place is None:
            raise ValueError("no row has been taken")
        before, after = self._place
        rows = self._axes[0]
        sizes = [self._rows if dim == rows else self._sizes[dim] for dim in self._after]
        places: torch.Tensor = before * math.prod(sizes) + after
        return places.reshape(self._shape)
