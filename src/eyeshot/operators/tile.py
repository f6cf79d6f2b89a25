"""The inputs of an operator: a rectangle of each input, and its position in the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from eyeshot.axes import AxisMap, Interval, Window
from eyeshot.graph import Node

Box = tuple[Interval, ...]
Padded = tuple[torch.Tensor, list[int]]
"""A value, and the padding left to the operator along each axis that it slides over."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a node's value.

    Attributes:
        value: the tensor, with the node's own dimensions.
        box: the positions it holds along each spatial axis.
        extents: how many positions the whole has along each axis; far too many where the end
            has not been seen.
        dims: the dimension of each axis in ``value``; None where the axis has vanished.
        axes: the axis maps by which the computed node reads it.
    """

    value: torch.Tensor
    box: Box
    extents: tuple[int, ...]
    dims: tuple[int | None, ...]
    axes: tuple[AxisMap, ...]


class Computation(Protocol):
    """Computes the positions ``box`` of a node from what they read of each of its inputs."""

    def __call__(
        self, inputs: list[Tile], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The values of ``box``.

        ``room`` is a part of the buffer with the same shape. An operator that can write there does
        so, and returns ``room`` itself; other operators ignore it.
        """


def over_bands(node: Node, operator: Computation) -> Computation:
    """The operator with additional axes for dimensions without positions that it slides over.

    It treats them like other axes; their whole extent is available and requested.
    """
    beside = node.edges[0].beside
    if not beside:
        return operator
    whole = tuple(Interval(0, node.shape[dim]) for dim, _ in beside)

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        return operator([_with_bands(tile, beside, whole) for tile in inputs], box + whole, room)

    return compute


def _with_bands(tile: Tile, beside: tuple[tuple[int, AxisMap], ...], whole: Box) -> Tile:
    """The rectangle with additional axes in their whole extent."""
    value, box, extents, dims, axes = tile.value, tile.box, tile.extents, tile.dims, tile.axes
    for (dim, axis), side in zip(beside, whole, strict=True):
        n = value.shape[dim]
        reads = axis.input_range_inside(side, n)
        value = value.narrow(dim, reads.lo, len(reads))
        box, extents, dims, axes = (*box, reads), (*extents, n), (*dims, dim), (*axes, axis)
    return Tile(value, box, extents, dims, axes)


def local_shape(node: Node, box: Box) -> tuple[int, ...]:
    """The node's shape with the extents of the box."""
    shape = list(node.shape)
    for dim, side in zip(node.dims, box, strict=True):
        if dim is not None:
            shape[dim] = len(side)
    return tuple(shape)


def cut(value: torch.Tensor, dims: tuple[int | None, ...], have: Box, want: Box) -> torch.Tensor:
    """The part ``want`` of a value that holds ``have``: a view."""
    for dim, available, side in zip(dims, have, want, strict=True):
        if dim is not None and available != side:
            value = value.narrow(dim, side.lo - available.lo, len(side))
    return value


def borders(axis: AxisMap, outputs: Interval, n: int) -> tuple[int, int]:
    """How many positions ``outputs`` needs before the first input, and after the last."""
    needs = axis.input_range(outputs, n)
    before = max(0, min(0, needs.hi) - needs.lo)
    after = max(0, needs.hi - max(n, needs.lo))
    return before, after


def widened(
    value: torch.Tensor, amounts: dict[int, tuple[int, int]], fill: float = 0.0
) -> torch.Tensor:
    """Constant padding by tensor dimension; the unchanged value if there is no padding."""
    if not any(before or after for before, after in amounts.values()):
        return value
    flat: list[int] = []
    for dim in range(value.ndim - 1, min(amounts) - 1, -1):
        flat += amounts.get(dim, (0, 0))
    return F.pad(value, flat, value=fill)


def padded(tile: Tile, box: Box, count: int, fill: float, native: bool = True) -> Padded:
    """The rectangle with padding at the image's border, for an operator over the last dimensions.

    Padding that is equal on both sides is left to the operator itself, which needs no copy.

    Args:
        tile: the operator's input.
        box: the requested outputs.
        count: the number of last dimensions that the operator slides over.
        fill: the value of the padding.
        native: whether the operator itself can pad with ``fill``.

    Returns:
        The value, and the padding left to the operator along each of its dimensions.
    """
    first = tile.value.ndim - count
    left: list[int] = [0] * count
    amounts: dict[int, tuple[int, int]] = {}
    for dim, axis, side, n in zip(tile.dims, tile.axes, box, tile.extents, strict=True):
        if dim is None or dim < first:
            continue
        before, after = borders(axis, side, n)
        most = axis.before if isinstance(axis, Window) and native else 0
        if isinstance(axis, Window) and after < before < after + axis.stride:
            after = before  # as much again, which no window reaches
        common = min(before, after, max(0, most))
        left[dim - first] = common
        amounts[dim] = (before - common, after - common)
    return widened(tile.value, amounts, fill), left


def reached(axis: AxisMap, available: Interval) -> Interval:
    """The outputs that whole inputs give: blocks of a period."""
    if axis.period is None:
        return available
    outputs, inputs = axis.period
    return Interval(available.lo * outputs // inputs, available.hi * outputs // inputs)
