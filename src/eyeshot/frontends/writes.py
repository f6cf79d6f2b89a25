"""Writes into a part of a tensor, said without writing: the whole with that part exchanged.

``y[:, :4] = v`` changes memory that others name. To us every value stays as it is, so a write makes
a new value of the whole: what was there, with the new part put back in its place.
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch._ops import OpOverload

from eyeshot.errors import Unsupported
from eyeshot.frontends.calls import plain_name
from eyeshot.frontends.memory import links, source_of
from eyeshot.frontends.refusals import where
from eyeshot.graph import Node, Weight

Value = Node | Weight
_LARGEST = 1 << 28
"""Numbers in a part that is filled with one number."""
_aten: Any = torch.ops.aten


class Walker(Protocol):
    """What a walk over a program offers to anyone who adds to it."""

    def emit(self, fx_node: torch.fx.Node, target: OpOverload, *args: Any) -> Value:
        """Add a call of an operator."""

    def constant(self, fx_node: torch.fx.Node, value: torch.Tensor, *made_of: Weight) -> Weight:
        """Add a tensor."""

    def current(self, fx_node: torch.fx.Node) -> Value:
        """What a value of the program is now."""

    def tensor_of(self, value: Weight) -> torch.Tensor:
        """The numbers of a constant."""

    def shape_of(self, value: Value) -> tuple[int, ...]:
        """Its shape."""

    def dtype_of(self, value: Value) -> torch.dtype:
        """Its type."""


def overwritten(walk: Walker, fx_node: torch.fx.Node, arguments: Mapping[str, Any]) -> Value | None:
    """What ``copy_``, ``fill_`` and ``zero_`` leave, which do not look at what was there.

    None for any other operator.
    """
    name, target = plain_name(fx_node.target), fx_node.args[0]
    if not isinstance(target, torch.fx.Node) or name not in ("copy", "fill", "zero"):
        return None
    now = walk.current(target)
    shape, dtype = walk.shape_of(now), walk.dtype_of(now)
    source: Any = arguments.get("src", arguments.get("value", 0))
    if name == "copy" and _same_place(target, fx_node.args[1]):
        return now
    if not isinstance(source, Node | Weight):
        source = walk.constant(fx_node, torch.full((), source, dtype=dtype))
    if isinstance(source, Weight) and torch.Size(shape).numel() > _LARGEST:
        raise Unsupported(
            f"{where(fx_node)}fills {shape} with a constant",
            cure="multiply by a mask, or use a smaller size",
        )
    if walk.dtype_of(source) != dtype:
        source = walk.emit(fx_node, _aten.to.dtype, source, dtype)
    if walk.shape_of(source) != shape:
        source = walk.emit(fx_node, _aten.expand.default, source, list(shape))
    made: Value = source
    return made


def filled_with(fx_node: torch.fx.Node, arguments: Mapping[str, Any]) -> float | None:
    """The one number of a new tensor (``y.new_zeros(...)``), which is all that it depends on.

    None for any other operator. What ``new_empty`` holds is anything, until it is written to.
    """
    name = plain_name(fx_node.target)
    if name in ("new_zeros", "new_empty"):
        return 0.0
    if name == "new_ones":
        return 1.0
    value = arguments.get("fill_value")
    return value if name == "new_full" and isinstance(value, int | float) else None


def _same_place(target: torch.fx.Node, source: Any) -> bool:
    """Whether a part is copied onto itself, as Python does after ``y[:, :4] += v``."""
    return isinstance(source, torch.fx.Node) and links(target) == links(source)


def put_back(walk: Walker, fx_node: torch.fx.Node, view: torch.fx.Node, part: Value) -> Value:
    """A value of which a view has been written to.

    Args:
        walk: the walk over the program.
        fx_node: the operator that writes.
        view: the view of the value.
        part: what the view holds now.

    Raises:
        Unsupported: a view whose parts cannot be put back.
    """
    source = source_of(view)
    if source is None:
        raise TypeError(f"{view} is no view")
    whole = walk.current(source)
    item: Any = view.args[1] if view.target is python_operator.getitem else None
    origin: Any = view.args[0] if item is not None else view
    if isinstance(whole, Weight) and isinstance(part, Weight):
        return walk.constant(fx_node, _rewritten(walk, view, (whole, part)), whole, part)
    name, args = plain_name(origin.target), _arguments(origin)
    shape = walk.shape_of(whole)
    if name in ("slice", "narrow", "chunk", "split", "split_with_sizes", "tensor_split"):
        dim = int(args.get("dim", 0)) % len(shape)
        start, step = _start(name, args, item, shape[dim], view), int(args.get("step", 1))
        return _scattered(walk, fx_node, whole, part, (dim, start, step))
    if name in ("select", "unbind"):
        dim = int(args.get("dim", 0)) % len(shape)
        index = int(args["index"] if item is None else item) % shape[dim]
        part = walk.emit(fx_node, _aten.unsqueeze.default, part, dim)
        return _scattered(walk, fx_node, whole, part, (dim, index, 1))
    if name in ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "mT"):
        order = _order(origin, len(shape))
        back = sorted(range(len(order)), key=lambda dim: order[dim])
        return walk.emit(fx_node, _aten.permute.default, part, back)
    if name == "squeeze":
        return walk.emit(fx_node, _aten.reshape.default, part, list(shape))
    if torch.Size(shape).numel() == torch.Size(walk.shape_of(part)).numel():
        if walk.shape_of(part) == shape:
            return part
        return walk.emit(fx_node, _aten.reshape.default, part, list(shape))
    raise Unsupported(
        f"{where(fx_node)}writes in place through {name}",
        cure="write out of place there (x = x + y in place of x += y)",
    )


def _rewritten(walk: Walker, view: torch.fx.Node, values: tuple[Weight, Weight]) -> torch.Tensor:
    """A constant of which a view has been written to; what it was made of stays as it is."""
    whole, part = (walk.tensor_of(one) for one in values)
    item: Any = view.args[1] if view.target is python_operator.getitem else None
    origin: Any = view.args[0] if item is not None else view
    with torch.no_grad():
        now = whole.detach().clone()
        seen = origin.target(now, *origin.args[1:], **origin.kwargs)
        (seen if item is None else seen[item]).copy_(part)
    return now


def _arguments(fx_node: Any) -> dict[str, Any]:
    """The arguments of a view by name; those that are tensors are of no interest."""
    schema = fx_node.target._schema.arguments
    given = {one.name: one.default_value for one in schema}
    given.update(zip((one.name for one in schema), fx_node.args, strict=False))
    return {**given, **fx_node.kwargs}


def _start(name: str, args: Mapping[str, Any], item: Any, n: int, view: torch.fx.Node) -> int:
    """Where the part of a view begins along its dimension."""
    if name in ("slice", "narrow"):
        start = int(args["start"] or 0)
        return min(max(start + n if start < 0 else start, 0), n)
    if name == "split_with_sizes":
        return sum(int(one) for one in args["split_sizes"][:item])
    if name == "split":
        return int(item) * int(args["split_size"])
    if name == "chunk":
        return int(item) * -(-n // int(args["chunks"]))
    raise Unsupported(
        f"{where(view)}writes in place through {name}", cure="use chunk or split there"
    )


def _scattered(
    walk: Walker, fx_node: torch.fx.Node, whole: Value, part: Value, place: tuple[int, int, int]
) -> Value:
    """The whole with a slice exchanged; the part alone where it is all there is."""
    if walk.shape_of(whole) == walk.shape_of(part):
        return part
    dim, start, step = place
    count = walk.shape_of(part)[dim]
    end = start + (count - 1) * step + 1
    return walk.emit(fx_node, _aten.slice_scatter.default, whole, part, dim, start, end, step)


def _order(origin: Any, rank: int) -> list[int]:
    """The order of dimensions that a view has, asked of torch itself."""
    like = torch.empty(tuple(range(2, rank + 2)), device="meta")
    given = origin.target(like, *origin.args[1:], **origin.kwargs)
    return [int(n) - 2 for n in given.shape]
