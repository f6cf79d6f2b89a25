"""In-place writes into a part of a tensor, replaced by operators that make a new tensor.

``y[:, :4] = v`` changes memory that other values share. In our graph no value ever changes, so a
write makes a new value of the whole tensor, with the written part replaced.
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
"""The most numbers in a part that is filled with a constant."""
_aten: Any = torch.ops.aten


class Walker(Protocol):
    """The methods of :class:`eyeshot.frontends.torch.Walk` that this file uses."""

    def emit(self, fx_node: torch.fx.Node, target: OpOverload, *args: Any) -> Value:
        """Add a call of an operator; the new value."""

    def constant(self, fx_node: torch.fx.Node, value: torch.Tensor, *made_of: Weight) -> Weight:
        """Add a tensor that was made from the weights ``made_of``."""

    def current(self, fx_node: torch.fx.Node) -> Value:
        """The present value of a node of the program, after all writes so far."""

    def tensor_of(self, value: Weight) -> torch.Tensor:
        """The tensor of a weight or constant."""

    def shape_of(self, value: Value) -> tuple[int, ...]:
        """The shape of a value, with the batch."""

    def dtype_of(self, value: Value) -> torch.dtype:
        """The type of a value."""


def overwritten(walk: Walker, fx_node: torch.fx.Node, arguments: Mapping[str, Any]) -> Value | None:
    """The new value of a tensor after ``copy_``, ``fill_`` or ``zero_``, which ignore the old one.

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
            f"{where(fx_node)}fills a tensor of shape {shape} with a constant, too large to hold",
            cure="multiply by a mask, or use a smaller size",
        )
    if walk.dtype_of(source) != dtype:
        source = walk.emit(fx_node, _aten.to.dtype, source, dtype)
    if walk.shape_of(source) != shape:
        source = walk.emit(fx_node, _aten.expand.default, source, list(shape))
    made: Value = source
    return made


def filled_with(fx_node: torch.fx.Node, arguments: Mapping[str, Any]) -> float | None:
    """The number that fills a new tensor, such as 0 for ``y.new_zeros(...)``.

    None for any other operator. ``new_empty`` has no defined values, so zeros are used.
    """
    name = plain_name(fx_node.target)
    if name in ("new_zeros", "new_empty"):
        return 0.0
    if name == "new_ones":
        return 1.0
    value = arguments.get("fill_value")
    return value if name == "new_full" and isinstance(value, int | float) else None


def _same_place(target: torch.fx.Node, source: Any) -> bool:
    """Whether a view is copied onto itself, as Python does after ``y[:, :4] += v``."""
    return isinstance(source, torch.fx.Node) and links(target) == links(source)


def put_back(walk: Walker, fx_node: torch.fx.Node, view: torch.fx.Node, part: Value) -> Value:
    """The new value of a tensor after a write into one of its views.

    Args:
        walk: the walk over the program.
        fx_node: the operator that writes.
        view: the view of the tensor.
        part: the view's new value.

    Raises:
        Unsupported: there is no operator that writes through this kind of view.
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
    """A copy of a constant, with ``part`` written into one of its views."""
    whole, part = (walk.tensor_of(one) for one in values)
    item: Any = view.args[1] if view.target is python_operator.getitem else None
    origin: Any = view.args[0] if item is not None else view
    with torch.no_grad():
        now = whole.detach().clone()
        seen = origin.target(now, *origin.args[1:], **origin.kwargs)
        (seen if item is None else seen[item]).copy_(part)
    return now


def _arguments(fx_node: Any) -> dict[str, Any]:
    """The arguments of a view operator by name, with defaults."""
    schema = fx_node.target._schema.arguments
    arguments = {one.name: one.default_value for one in schema}
    arguments.update(zip((one.name for one in schema), fx_node.args, strict=False))
    return {**arguments, **fx_node.kwargs}


def _start(name: str, args: Mapping[str, Any], item: Any, n: int, view: torch.fx.Node) -> int:
    """The first position of a view along the dimension that it cuts."""
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
    """``whole`` with a slice (dim, start, step) replaced by ``part``; ``part`` if it is all."""
    if walk.shape_of(whole) == walk.shape_of(part):
        return part
    dim, start, step = place
    count = walk.shape_of(part)[dim]
    end = start + (count - 1) * step + 1
    return walk.emit(fx_node, _aten.slice_scatter.default, whole, part, dim, start, end, step)


def _order(origin: Any, rank: int) -> list[int]:
    """The order of dimensions in a permuted view, found by running the view on a meta tensor."""
    like = torch.empty(tuple(range(2, rank + 2)), device="meta")
    result = origin.target(like, *origin.args[1:], **origin.kwargs)
    return [int(n) - 2 for n in result.shape]
