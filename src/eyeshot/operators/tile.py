"""What an operator is given: a rectangle of each input, and where in the whole it lies."""

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
        axes: the axis maps by which the asking node reads it.
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

        ``room`` is memory of just their shape, where they will be kept. An operator that can
        write there does so, and returns ``room`` itself; any other pays no attention to it.
        """


def over_bands(node: Node, operator: Computation) -> Computation:
    """The operator where it slides over dimensions that hold no positions, too.

    To it they are axes as any, of which the whole is at hand and the whole is asked for.
    """
    beside = node.edges[0].beside
    if not beside:
        return operator
    whole = tuple(Interval(0, node.shape[dim]) for dim, _ in beside)

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        return operator([_with_bands(given, beside, whole) for given in inputs], box + whole, room)

    return compute


def _with_bands(given: Tile, beside: tuple[tuple[int, AxisMap], ...], whole: Box) -> Tile:
    """The rectangle with further axes, of which it holds what is read."""
    value, box, extents, dims, axes = given.value, given.box, given.extents, given.dims, given.axes
    for (dim, axis), side in zip(beside, whole, strict=True):
        n = value.shape[dim]
        reads = axis.input_range_inside(side, n)
        value = value.narrow(dim, reads.lo, len(reads))
        box, extents, dims, axes = (*box, reads), (*extents, n), (*dims, dim), (*axes, axis)
    return Tile(value, box, extents, dims, axes)


def local_shape(node: Node, box: Box) -> tuple[int, ...]:
    """The node's shape with the box's extents in place of the whole's."""
    shape = list(node.shape)
    for dim, side in zip(node.dims, box, strict=True):
        if dim is not None:
            shape[dim] = len(side)
    return tuple(shape)


def cut(value: torch.Tensor, dims: tuple[int | None, ...], have: Box, want: Box) -> torch.Tensor:
    """The part ``want`` of a value that holds ``have``: a view."""
    for dim, held, side in zip(dims, have, want, strict=True):
        if dim is not None and held != side:
            value = value.narrow(dim, side.lo - held.lo, len(side))
    return value


def borders(axis: AxisMap, wanted: Interval, n: int) -> tuple[int, int]:
    """How much of what ``wanted`` needs lies before the first input, and after the last."""
    needs = axis.input_range(wanted, n)
    before = max(0, min(0, needs.hi) - needs.lo)
    after = max(0, needs.hi - max(n, needs.lo))
    return before, after


def widened(
    value: torch.Tensor, amounts: dict[int, tuple[int, int]], fill: float = 0.0
) -> torch.Tensor:
    """Constant padding by tensor dimension; the value itself where there is none to add."""
    if not any(before or after for before, after in amounts.values()):
        return value
    flat: list[int] = []
    for dim in range(value.ndim - 1, min(amounts) - 1, -1):
        flat += amounts.get(dim, (0, 0))
    return F.pad(value, flat, value=fill)


def padded(given: Tile, box: Box, count: int, fill: float, native: bool = True) -> Padded:
    """The rectangle with padding at the true border, for an operator over the last dimensions.

    What is the same on both sides is left to the operator's own padding, which costs no copy.

    Args:
        given: what the operator reads.
        box: the outputs wanted.
        count: how many last dimensions the operator slides over.
        fill: what stands in the padding.
        native: whether the operator pads with ``fill`` itself.

    Returns:
        The value, and the padding left to the operator along each of its dimensions.
    """
    first = given.value.ndim - count
    left: list[int] = [0] * count
    amounts: dict[int, tuple[int, int]] = {}
    for dim, axis, side, n in zip(given.dims, given.axes, box, given.extents, strict=True):
        if dim is None or dim < first:
            continue
        before, after = borders(axis, side, n)
        most = axis.before if isinstance(axis, Window) and native else 0
        common = min(before, after, max(0, most))
        left[dim - first] = common
        amounts[dim] = (before - common, after - common)
    return widened(given.value, amounts, fill), left


def reached(axis: AxisMap, held: Interval) -> Interval:
    """The outputs that whole inputs give: blocks of a period."""
    if axis.period is None:
        return held
    outputs, inputs = axis.period
    return Interval(held.lo * outputs // inputs, held.hi * outputs // inputs)
