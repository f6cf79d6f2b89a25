"""Calls and names of traced operators.

In this file:

- :func:`call_of`: the call that the engine makes later, on the operator's inputs;
- :func:`folded`: an operator on weights alone, computed during the trace;
- :class:`Namer`: a node's name, the module's dotted path, with a number if a module is used again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from eyeshot.errors import Unsupported
from eyeshot.graph import Call, Weight, substitute

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
