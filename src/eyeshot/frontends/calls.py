"""Calls and names of traced operators, and in-place writes made into calls.

In this file:

- :func:`call_of`: the call that the engine makes later, on the operator's inputs;
- :func:`folded`: an operator on weights alone, computed during the trace;
- :class:`Namer`: a node's name, the module's dotted path, with a number if a module is used again;
- writes into a part of a tensor: ``y[:, :4] = v`` changes memory that other values share. In our
  graph no value ever changes, so a write makes a new value of the whole tensor, with the written
  part replaced.
"""

from __future__ import annotations

import operator as python_operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch._ops import OpOverload

from eyeshot.errors import Unsupported
from eyeshot.frontends.aliasing import links, source_of
from eyeshot.frontends.refusals import where
from eyeshot.graph import Call, Node, Weight, substitute

_LARGEST_CONSTANT = 1 << 28
"""The most numbers in a tensor that is computed from weights alone."""


@dataclass(frozen=True, slots=True)
class TupleItem:
    """Calls an operator with several outputs and returns one of them."""

    target: Callable[..., Any]
    item: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The ``item``-th output."""
        return self.target(*args, **kwargs)[self.item]


def strided(x: torch.Tensor, size: list[int], stride: list[int], offset: int) -> torch.Tensor:
    """``as_strided`` of the contiguous form of ``x``, whatever the memory layout of ``x`` is."""
    laid = x.contiguous()
    return laid.as_strided(size, stride, laid.storage_offset() + offset)


def plain_name(target: Any) -> str:
    """``aten.relu_.default`` -> ``relu``: without library, overload, or in-place underscore."""
    name = str(getattr(target, "_opname", "") or getattr(target, "__name__", target))
    return name if name.startswith("__") else name.rstrip("_")


def operator_name(target: Any) -> str:
    """The plain name of one of torch's own operators; ``library::name`` of any other."""
    library = getattr(target, "namespace", "aten")
    return plain_name(target) if library == "aten" else f"{library}::{target._opname}"


def call_of(target: Any, arguments: Mapping[str, Any]) -> Call:
    """The call, out of place: an in-place operator is replaced by its plain form."""
    functional = _out_of_place(target)
    names = tuple(a.name for a in target._schema.arguments if not a.kwarg_only)
    kwargs = {a.name: arguments[a.name] for a in target._schema.arguments if a.kwarg_only}
    return Call(functional, tuple(arguments[name] for name in names), kwargs, names)


def _out_of_place(target: Any) -> Any:
    name = target._opname
    if name.startswith("__") or not name.endswith("_"):
        return target
    packet = getattr(getattr(torch.ops, target.namespace), name.rstrip("_"))
    overload: Any = getattr(packet, target._overloadname)
    return overload


@dataclass(frozen=True, slots=True)
class Chance:
    """A random tensor that depends on no input. It is refused where something reads it."""

    name: str


def is_random(fx_node: torch.fx.Node) -> bool:
    """Whether an operator draws random numbers."""
    tags: Any = getattr(fx_node.target, "tags", ())
    plain = plain_name(fx_node.target)
    idle = "dropout" in plain and False in fx_node.args[2:3]
    if plain == "rrelu":
        idle = not fx_node.kwargs.get("training", True in fx_node.args[3:4])
    return torch.Tag.nondeterministic_seeded in tags and not idle


def folded(
    fx_node: torch.fx.Node,
    arguments: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    item: int | None,
) -> torch.Tensor:
    """The value of an operator whose inputs are all weights or numbers.

    Raises:
        Unsupported: it is too large to hold (a grid of positions over a huge picture).
    """
    target: Any = fx_node.target
    shape = fx_node.meta["val"]
    if isinstance(shape, torch.Tensor) and shape.numel() > _LARGEST_CONSTANT:
        raise Unsupported(
            f"{plain_name(target)} makes a constant of shape {tuple(shape.shape)}, too large to "
            "hold",
            cure="compute positions from the input, or use a smaller size",
        )

    def put(value: Any) -> Any:
        return tensors[value.name] if isinstance(value, Weight) else value

    def put_copy(value: Any) -> Any:
        return tensors[value.name].clone() if isinstance(value, Weight) else value

    # A call with ``out=`` (spectral_norm in training mode) writes into the network's own tensor.
    written = {
        one.name: substitute(arguments[one.name], put_copy)
        for one in target._schema.arguments
        if one.alias_info is not None and one.alias_info.is_write
    }
    with torch.no_grad():
        result: Any = call_of(target, {**arguments, **written}).substituted(put)()
    value: torch.Tensor = result if item is None else result[item]
    return value


_LAYERS = ("torch.nn.modules", "eyeshot.frontends.onnx")
"""Packages whose module classes are single layers."""


class Namer:
    """Gives each traced operator a unique, readable name.

    The last operator of a torch.nn module, or of an ONNX node, gets the module's path
    (``stem.conv``). If that operator has several outputs, only the first gets it, not the indices
    of a pool or the state of an LSTM. Any other operator gets the path followed by its own name
    (``stem.conv.pad``, ``block1.relu``), and a second use gets a number (``block1.relu#2``). An
    operator whose name would be a module's path is named ``function.add``.
    """

    def __init__(self, fx_nodes: Iterable[torch.fx.Node]) -> None:
        last_of_call: dict[str, torch.fx.Node] = {}
        self._layers: set[str] = set()
        for fx_node in fx_nodes:
            self._layers.update(path for path, _ in self.calls(fx_node))
            if fx_node.op == "call_function" and isinstance(fx_node.meta.get("val"), torch.Tensor):
                key, _, kind = _innermost(fx_node)
                if kind.startswith(_LAYERS) and not _is_beside(fx_node):
                    last_of_call[key] = fx_node
        self._main = set(last_of_call.values())
        self._used: Counter[str] = Counter()
        self._names: set[str] = set()

    def of_input(self, fx_node: torch.fx.Node) -> str:
        """The name of an argument of ``forward``; with a prefix if a layer has the same name."""
        name = f"input.{fx_node.name}" if fx_node.name in self._layers else fx_node.name
        return self._unique(name)

    def calls(self, fx_node: torch.fx.Node) -> tuple[tuple[str, str], ...]:
        """The module calls around an operator, outermost first: (dotted path, key of the call)."""
        return tuple((str(path), str(key)) for key, (path, _) in _stack(fx_node).items() if path)

    def layer(self, fx_node: torch.fx.Node) -> str:
        """The dotted path of the module that calls the operator; "" for the network itself."""
        return _innermost(fx_node)[1]

    def of(self, fx_node: torch.fx.Node) -> str:
        """A unique name for the operator's node; call it once for each operator."""
        path = self.layer(fx_node)
        if fx_node in self._main and path:
            return self._unique(path)
        name = f"{path}.{_word(fx_node)}" if path else _word(fx_node)
        if name in self._layers:  # such as a sum in a network that has a module called "add"
            name = f"{path}.function.{_word(fx_node)}" if path else f"function.{_word(fx_node)}"
        return self._unique(name)

    def _unique(self, base: str) -> str:
        """``base``, with the next free number if it is used already."""
        name = base
        while name in self._names or (name != base and name in self._layers):
            self._used[base] += 1
            name = f"{base}#{self._used[base] + 1}"
        self._names.add(name)
        return name


def _word(fx_node: torch.fx.Node) -> str:
    origin = fx_node.args[0] if fx_node.op == "call_function" and _is_item(fx_node) else fx_node
    return plain_name(origin.target) if isinstance(origin, torch.fx.Node) else fx_node.name


def _is_item(fx_node: torch.fx.Node) -> bool:
    return getattr(fx_node.target, "__name__", "") == "getitem"


def _is_beside(fx_node: torch.fx.Node) -> bool:
    """Whether it is an output of a tuple other than the first one."""
    return _is_item(fx_node) and int(fx_node.args[1]) != 0  # type: ignore[arg-type]


def _innermost(fx_node: torch.fx.Node) -> tuple[str, str, str]:
    """The innermost module call around an operator: its key, dotted path and class."""
    stack = _stack(fx_node)
    if not stack:
        return "", "", ""
    key, (path, kind) = list(stack.items())[-1]
    return str(key), str(path), kind if isinstance(kind, str) else kind.__module__


def _stack(fx_node: torch.fx.Node) -> dict[Any, tuple[Any, Any]]:
    """The module calls around an operator, outermost first: key of the call -> (path, class)."""
    stack = fx_node.meta.get("nn_module_stack")
    if not stack and _is_item(fx_node) and isinstance(fx_node.args[0], torch.fx.Node):
        stack = fx_node.args[0].meta.get("nn_module_stack")
    return stack or {}


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
