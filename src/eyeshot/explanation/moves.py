"""Operators that move numbers or mix neighbors: the cells that a unit is a copy or a mean of.

There is no table for each operator. An operator that moves numbers is applied to the indices of the
cells; for a resize, which is linear, the gradient of the unit gives the weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eyeshot.errors import Unsupported
from eyeshot.explanation.capture import Seen
from eyeshot.explanation.traces import Part, UnitTrace, as_numbers, described, number_part
from eyeshot.graph import Ref

Unit = tuple[int, ...]


def trace_move(seen: Seen, unit: Unit) -> UnitTrace:
    """The cell that the unit is a copy of, or the constant at this position."""
    sources = seen.node.call.refs if seen.node.call is not None else ()
    tensors = [seen.values[name] for name in sources]
    count = sum(one.numel() for one in tensors)
    place = (0, *unit)
    near, far = (float(_moved(seen, tensors, start)[place]) for start in (1, 1 + count))
    if near == far:
        return described(seen, unit, "copy", [], bias=near)
    if far - near != count:
        raise Unsupported(
            f"layer {seen.name!r} is {seen.node.operator}, and this unit is no copy of one number",
            cure="name another layer",
        )
    cell = int(near) - 1
    for tensor, source in zip(tensors, sources, strict=True):
        if cell < tensor.numel():
            at = tuple(int(i) for i in np.unravel_index(cell, tensor.shape))
            value = float(as_numbers(tensor[at]))
            if at[0] != 0 and len(tensor) == seen.batch:
                break
            part = number_part(at[1] if len(at) > 1 else 0, value, None, source, at[1:])
            return described(seen, unit, "copy", [part])
        cell -= tensor.numel()
    raise Unsupported(
        f"layer {seen.name!r} mixes the pictures of a batch",
        cure="name a layer that keeps one entry for each picture",
    )


def trace_join(seen: Seen, unit: Unit) -> UnitTrace:
    """The one number that a concatenation, beyond the batch, puts at the unit."""
    given = seen.node.call.argument("tensors") if seen.node.call is not None else None
    dim = int(seen.node.params.dim) % max(1, seen.output.ndim)
    if not isinstance(given, list | tuple) or dim == 0:
        return trace_move(seen, unit)
    at = list(unit)
    for tensor, source in zip(seen.arguments["tensors"], given, strict=True):
        if at[dim - 1] >= tensor.shape[dim]:
            at[dim - 1] -= tensor.shape[dim]
            continue
        value = float(as_numbers(tensor[(0, *at)]))
        if not isinstance(source, Ref):
            return described(seen, unit, "copy", [], bias=value)
        part = number_part(at[0], value, None, source.node, tuple(at))
        return described(seen, unit, "copy", [part])
    return trace_move(seen, unit)


def _moved(seen: Seen, tensors: list[Tensor], start: int) -> Tensor:
    """The operator on maps whose cells hold their own numbers, counted from ``start``."""
    stand_ins: dict[int, list[Tensor]] = {}
    for one in tensors:
        cells = torch.arange(start, start + one.numel(), dtype=torch.float64)
        stand_ins.setdefault(id(one), []).append(cells.reshape(one.shape))
        start += one.numel()

    def put(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        left = stand_ins.get(id(value))
        if left is not None:
            return left.pop(0)
        return value.detach().cpu().to(torch.float64 if value.is_floating_point() else value.dtype)

    assert seen.call is not None
    moved: Tensor = seen.call.substituted(put)()
    return moved


def trace_resize(seen: Seen, unit: Unit) -> UnitTrace:
    """The cells of the unit's channel that it is a weighted sum of."""
    assert seen.call is not None
    (name,) = seen.values
    source = seen.values[name]
    given = source[:1, unit[0] : unit[0] + 1].detach().cpu().double().requires_grad_(True)
    with torch.enable_grad():
        made = seen.call.substituted(lambda one: given if one is source else one)()
        (weights,) = torch.autograd.grad(made[(0, 0, *unit[1:])], given)
    image, kernel = as_numbers(given[0, 0]), as_numbers(weights[0, 0])
    touched = np.nonzero(kernel)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in touched)
    patch, kernel = image[box], kernel[box]
    inside = np.zeros(patch.shape, bool)
    at = (unit[0], *(one.start for one in box))
    total = math.fsum((patch * kernel).ravel())
    part = Part(unit[0], patch, inside, kernel, total, name, at)
    return described(seen, unit, "sum", [part])
