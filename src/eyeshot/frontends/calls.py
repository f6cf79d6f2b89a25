"""How a traced operator is called again: by the engine on its inputs, or now on weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from eyeshot.errors import Unsupported
from eyeshot.graph import Call, Weight

_LARGEST_CONSTANT = 1 << 28
"""Numbers in a tensor that a network computes from nothing but its weights."""


@dataclass(frozen=True, slots=True)
class TupleItem:
    """Calls an operator that gives several tensors, and keeps one."""

    target: Callable[..., Any]
    item: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The ``item``-th output."""
        return self.target(*args, **kwargs)[self.item]


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
    idle = "dropout" in plain_name(fx_node.target) and False in fx_node.args[2:3]
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
            f"{plain_name(target)} makes a constant of {tuple(shape.shape)}",
            cure="compute positions from the input, or use a smaller size",
        )

    def put(value: Any) -> Any:
        return tensors[value.name] if isinstance(value, Weight) else value

    with torch.no_grad():
        result: Any = call_of(target, arguments).substituted(put)()
    value: torch.Tensor = result if item is None else result[item]
    return value
