"""Operators that move positions or dimensions about, on a rectangle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from eyeshot.axes import AxisMap, Broadcast, Interval, Pad
from eyeshot.engine.operators.calling import argument, calling
from eyeshot.engine.operators.sliding import Tensors
from eyeshot.engine.operators.windows import (
    Box,
    Operator,
    Rectangle,
    borders,
    cut,
    local_shape,
    widened,
)
from eyeshot.errors import Unsupported
from eyeshot.graph import Call, Family, Node, Ref, Weight


def padding(node: Node, tensors: Tensors) -> Operator:
    """The four ways to pad, at the true border alone; inside, the value itself."""
    fill = float(node.attributes.get("value", 0.0))
    zero = node.attributes["mode"] == "zero"

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        value = given.value
        amounts: dict[int, tuple[int, int]] = {}
        for place, axis in enumerate(given.axes):
            dim = given.dims[place]
            if dim is None or not isinstance(axis, Pad):
                continue
            if zero:
                amounts[dim] = borders(axis, box[place], given.extents[place])
            else:
                value = _repeated(value, dim, axis, box[place], given, place)
        return widened(value, amounts, fill) if amounts else value

    return compute


def _repeated(
    value: torch.Tensor, dim: int, axis: Pad, wanted: Interval, given: Rectangle, place: int
) -> torch.Tensor:
    held, n = given.box[place], given.extents[place]
    if borders(axis, wanted, n) == (0, 0):
        start = axis.needs(wanted, n).lo - held.lo
        return value.narrow(dim, start, len(wanted))
    inputs = axis.taps(np.arange(wanted.lo, wanted.hi, dtype=np.int64), n)[:, 0] - held.lo
    return value.index_select(dim, torch.from_numpy(inputs).to(value.device))


def cropping(node: Node, tensors: Tensors) -> Operator:
    """Slices along spatial axes take their step; along any other dimension they are called."""
    dim = int(node.attributes["dim"])
    if dim not in node.dims:
        return calling(node, tensors)
    step = int(node.attributes.get("step", 1))

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        value = inputs[0].value
        if step == 1:
            return value
        index = [slice(None)] * value.ndim
        index[dim] = slice(0, None, step)
        return value[tuple(index)]

    return compute


def selecting(node: Node, tensors: Tensors) -> Operator:
    """One place of a dimension; of a spatial axis, that place is all that was read."""
    target = None if node.call is None else node.call.args[0]
    if not isinstance(target, Ref):
        raise Unsupported(f"{node.name}: selects from a weight", cure="compute it in the network")
    rank_dim = int(argument(node, 1))

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        dim = rank_dim % given.value.ndim
        if dim in given.dims:
            return given.value.select(dim, 0)
        return given.value.select(dim, int(argument(node, 2)))

    return compute


def concatenation(node: Node, tensors: Tensors) -> Operator:
    """Over channels all parts; along a spatial axis those that reach into the rectangle."""
    dim = int(node.attributes["dim"])
    if dim not in node.dims:
        return calling(node, tensors)
    if node.weights:
        raise Unsupported(
            f"{node.name}: joins a constant along a spatial axis", cure="pad in place of cat"
        )

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        parts = [given.value for given in inputs if given.value.shape[dim]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)

    return compute


def scattering(node: Node, tensors: Tensors) -> Operator:
    """A slice exchanged: what was there is written first, then what is put in its place."""
    dim = int(node.attributes["dim"])
    if dim not in node.dims:
        return calling(node, tensors)
    axis = node.dims.index(dim)
    start, step, count = (int(node.attributes[name]) for name in ("start", "step", "length"))
    whole, part = argument(node, 0), argument(node, 1)
    order = {edge.source: place for place, edge in enumerate(node.edges)}

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        side = box[axis]
        first = max(0, -((start - side.lo) // step))
        last = min(count, -((start - side.hi) // step))
        inner = tuple(Interval(first, last) if a == axis else s for a, s in enumerate(box))
        below = _operand(whole, box, inputs, order, node, tensors)
        value = below.new_zeros(local_shape(node, box))
        held = inputs[order[whole.node]].box[axis] if isinstance(whole, Ref) else side
        if held:
            value.narrow(dim, held.lo - side.lo, len(held)).copy_(below)
        if first < last:
            index = [slice(None)] * value.ndim
            begin = start + first * step - side.lo
            index[dim] = slice(begin, begin + (last - first - 1) * step + 1, step)
            value[tuple(index)] = _operand(part, inner, inputs, order, node, tensors)
        return value

    return compute


def _operand(
    value: Ref | Weight,
    box: Box,
    inputs: list[Rectangle],
    order: dict[str, int],
    node: Node,
    tensors: Tensors,
) -> torch.Tensor:
    """What an operand has at a box: what was read of a node, or a part of a weight."""
    if isinstance(value, Ref):
        return inputs[order[value.node]].value
    weight = tensors[value.name]
    for dim, side in zip(node.dims, box, strict=True):
        if dim is not None:
            weight = weight.narrow(dim, side.lo, max(0, side.hi - side.lo))
    return weight


def reshaping(node: Node, tensors: Tensors) -> Operator:
    """``view`` and its kin, with the rectangle's own sizes."""
    expands = node.family is Family.EXPAND

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        if expands:
            return given.value.expand(local_shape(node, box))
        reached = tuple(
            _reached(axis, side) for axis, side in zip(given.axes, given.box, strict=True)
        )
        return cut(given.value.reshape(local_shape(node, reached)), node.dims, reached, box)

    return compute


def repeating(node: Node, tensors: Tensors) -> Operator:
    """``repeat``: along an axis of one position, as often as the rectangle asks."""
    times = [int(count) for count in argument(node, 1)]

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        counts = list(times)
        for axis, dim, side in zip(inputs[0].axes, node.dims, box, strict=True):
            if dim is not None and isinstance(axis, Broadcast):
                counts[dim] = len(side)
        return inputs[0].value.repeat(counts)

    return compute


def repeating_each(node: Node, tensors: Tensors) -> Operator:
    """``repeat_interleave``: each position so many times, cut to what is wanted."""
    times, dim = int(node.attributes["repeats"]), int(node.attributes["dim"])
    call = Call(torch.repeat_interleave, (argument(node, 0), times, dim))
    return shuffling(replace(node, call=call), tensors)


def shuffling(node: Node, tensors: Tensors) -> Operator:
    """Depth to space and back: whole blocks, cut to what is wanted."""
    call = calling(node, tensors)

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        reached = tuple(
            _reached(axis, side) for axis, side in zip(given.axes, given.box, strict=True)
        )
        return cut(call(inputs, box), node.dims, reached, box)

    return compute


def _reached(axis: AxisMap, held: Interval) -> Interval:
    """The outputs that whole inputs give: blocks of a period."""
    if axis.period is None:
        return held
    outputs, inputs = axis.period
    return Interval(held.lo * outputs // inputs, held.hi * outputs // inputs)
