"""Interpolation on a rectangle, by the whole picture's coordinates."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from eyeshot.axes import Interval, Resize
from eyeshot.engine.operators.sliding import Tensors
from eyeshot.engine.operators.windows import Box, Operator, Rectangle, cut
from eyeshot.graph import Node

_TORCH_MODES = {
    ("nearest", 1): "nearest",
    ("nearest", 2): "nearest",
    ("nearest", 3): "nearest",
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
}


def resizing(node: Node, tensors: Tensors) -> Operator:
    """The ``upsample_*`` family."""

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        factor = _shared_factor(given)
        if factor is not None:
            return _by_torch(given, box, factor)
        value = given.value
        for place, axis in enumerate(given.axes):
            dim = given.dims[place]
            if dim is not None and isinstance(axis, Resize):
                held, n = given.box[place], given.extents[place]
                value = _along(value, dim, axis, box[place], held, n)
        return value

    return compute


def _shared_factor(given: Rectangle) -> int | None:
    """A whole factor for which torch's own kernel gives the same numbers on a part of the picture.

    Its inverse must be exact in binary, so that a shift by whole inputs changes no coordinate.
    """
    factors = set()
    for axis, dim in zip(given.axes, given.dims, strict=True):
        if not isinstance(axis, Resize) or axis.factor is None or axis.align_corners:
            return None
        if dim is None or (axis.mode, len(given.axes)) not in _TORCH_MODES:
            return None
        factors.add(axis.factor)
    factor = int(factors.pop()) if len(factors) == 1 else 0
    if factor < 1 or any(axis.factor != factor for axis in given.axes if isinstance(axis, Resize)):
        return None
    exact = factor & (factor - 1) == 0
    return factor if exact and given.value.numel() else None


def _by_torch(given: Rectangle, box: Box, factor: int) -> torch.Tensor:
    axis = given.axes[0]
    mode = _TORCH_MODES[(axis.mode, len(given.axes))] if isinstance(axis, Resize) else "nearest"
    options = {} if mode == "nearest" else {"align_corners": False}
    value = F.interpolate(given.value, scale_factor=factor, mode=mode, **options)
    reached = tuple(Interval(side.lo * factor, side.hi * factor) for side in given.box)
    return cut(value, given.dims, reached, box)


def _along(
    value: torch.Tensor, dim: int, axis: Resize, wanted: Interval, held: Interval, n: int
) -> torch.Tensor:
    """One axis: a weighted sum of one, two or four inputs for each output."""
    outputs = np.arange(wanted.lo, wanted.hi, dtype=np.int64)
    inputs, weights = axis.weights(outputs, n)
    places = torch.from_numpy(inputs - held.lo).to(value.device)
    if inputs.shape[1] == 1:
        return value.index_select(dim, places[:, 0])
    shape = [1] * value.ndim
    shape[dim] = len(outputs)
    scales = torch.from_numpy(weights).to(value.device, value.dtype)

    def part(tap: int) -> torch.Tensor:
        scale = scales[:, tap].reshape(shape)
        return value.index_select(dim, places[:, tap]).mul_(scale)

    total = part(0)
    for tap in range(1, inputs.shape[1]):
        total += part(tap)  # one at a time: each is as large as what is given
    return total
