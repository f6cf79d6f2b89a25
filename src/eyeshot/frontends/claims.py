"""What a file claims of the shapes in its program, held against the operators themselves.

Sizes decide how much is computed and held. A file says them for every value; here each operator is
called on tensors without memory, and what it gives must be what the file says it gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.export.graph_signature import InputSpec

_LARGEST_SIDE = 10_000_000
_MOST_PARTS = 1 << 16
"""Into how many parts a tensor may be taken apart."""
_MOST_MADE = 1 << 26
"""Numbers that a program may make of nothing, or of its weights alone."""


class Contradiction(Exception):
    """What is wrong with a program. Never leaves the front end."""


def check_values(
    graph: torch.fx.Graph, specs: Sequence[InputSpec], stored: Mapping[str, torch.Tensor]
) -> None:
    """Hold every value of a program against what gives it.

    Args:
        graph: its nodes have as ``val`` what the file says, on the meta device.
        specs: of its inputs.
        stored: its weights and constants.

    Raises:
        Contradiction: a value is not what is said, or a size beyond all bounds.
    """
    made: dict[torch.fx.Node, Any] = {}
    shown: set[torch.fx.Node] = set()
    places = {spec.arg.name: spec.target for spec in specs}
    budget = _MOST_MADE + sum(one.numel() for one in stored.values())
    for node in graph.nodes:
        if node.op == "placeholder":
            made[node] = _checked_input(node, places[node.name], stored)
            if places[node.name] is None:
                shown.add(node)
        elif node.op == "call_function":
            made[node] = _checked_call(node, made)
            if not shown.isdisjoint(node.all_input_nodes):
                shown.add(node)
            elif isinstance(made[node], torch.Tensor):
                budget -= made[node].numel()
        if budget < 0:
            raise _wrong(f"its constants have more than {_MOST_MADE:,} numbers in all")


def _checked_input(
    node: torch.fx.Node, target: str | None, stored: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    said: torch.Tensor = node.meta["val"]
    if target is not None:
        if target not in stored:
            raise _wrong(f"{target} is not among its weights")
        _check_same(target, said, stored[target])
    elif any(not 0 < side <= _LARGEST_SIDE for side in said.shape):
        raise _wrong(f"an input of {tuple(said.shape)}, beyond {_LARGEST_SIDE:,} along an axis")
    return said


def _checked_call(node: torch.fx.Node, made: Mapping[torch.fx.Node, Any]) -> Any:
    """What the operator gives, which is what is said of it."""
    said = node.meta.get("val")
    if not isinstance(node.target, OpOverload):  # an item of several
        return said
    args = torch.fx.node.map_arg(node.args, lambda one: made[one])
    kwargs = dict(torch.fx.node.map_arg(node.kwargs, lambda one: made[one]))
    arguments = {argument.name: argument for argument in node.target._schema.arguments}
    if "device" in arguments:  # of nothing but kinds and numbers, memory would be made
        kwargs["device"] = torch.device("meta")
    _check_parts(node.target, args)
    try:
        with torch.no_grad():
            given = node.target(*args, **kwargs)
    except NotImplementedError:  # an operator that cannot be asked without memory
        return said
    results = given if isinstance(given, (list, tuple)) else (given,)
    values = said if isinstance(said, (list, tuple)) else (said,)
    if said is not None and len(results) != len(values):
        raise _wrong(f"{node.name} gives {len(results)} values, said to be {len(values)}")
    for one, value in zip(results, values, strict=False):
        if isinstance(one, torch.Tensor) and isinstance(value, torch.Tensor):
            _check_same(node.name, value, one)
    return given if said is not None else None


def _check_parts(target: OpOverload[..., Any], args: Any) -> None:
    """Refuse to take a tensor apart into more tensors than any network does."""
    several = any(str(one.type) == "List[Tensor]" for one in target._schema.returns)
    sides = [max(one.shape, default=0) for one in args if isinstance(one, torch.Tensor)]
    if several and max(sides, default=0) > _MOST_PARTS:
        raise _wrong(f"{target._opname} over {max(sides):,} positions")


def _check_same(name: str, said: torch.Tensor, real: torch.Tensor) -> None:
    if (said.shape, said.dtype) != (real.shape, real.dtype):
        raise _wrong(
            f"{name} is said to be {_shape(said)} of {said.dtype}, and is {_shape(real)} "
            f"of {real.dtype}"
        )


def _shape(tensor: torch.Tensor) -> str:
    shown = " x ".join(map(str, tensor.shape[:6]))
    return shown or "one number" if math.prod(tensor.shape) else f"empty ({shown})"


def _wrong(fact: str) -> Contradiction:
    return Contradiction(f"its program contradicts itself: {fact}")
