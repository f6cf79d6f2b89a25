"""Which traced values share memory: in-place operators change every name of what they write to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def writes_in_place(fx_node: torch.fx.Node) -> bool:
    """Whether the operator writes into its first argument (``relu_``, ``add_``)."""
    schema = getattr(fx_node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and bool(alias.is_write)


def is_view(fx_node: torch.fx.Node) -> bool:
    """Whether the operator's output may be another look at its first argument's memory."""
    schema = getattr(fx_node.target, "_schema", None)
    if schema is None or not schema.returns or not fx_node.args:
        return False
    alias = schema.returns[0].alias_info
    return alias is not None and not alias.is_write


def aliases(fx_node: torch.fx.Node) -> list[torch.fx.Node]:
    """All earlier values that share memory with what ``fx_node`` writes to."""
    root = base_of(fx_node)
    found, waiting = [root], [root]
    while waiting:
        for user in waiting.pop().users:
            same = is_view(user) or writes_in_place(user)
            if same and user not in found and user.args[0] in found:
                found.append(user)
                waiting.append(user)
    return [one for one in found if one < fx_node]


def same_tensor(one: torch.fx.Node, other: torch.fx.Node) -> bool:
    """Whether two values are one tensor before and after writes, not two views of one memory."""
    return _written(one) is _written(other)


_SAME = frozenset({"alias", "detach", "detach_", "lift_fresh"})
"""Operators that give another name to the whole of what they are given."""


def _written(fx_node: torch.fx.Node) -> torch.fx.Node:
    while writes_in_place(fx_node) or getattr(fx_node.target, "_opname", "") in _SAME:
        if not isinstance(fx_node.args[0], torch.fx.Node):
            break
        fx_node = fx_node.args[0]
    return fx_node


def base_of(fx_node: torch.fx.Node) -> torch.fx.Node:
    """The value whose memory this one is, or looks at."""
    while (is_view(fx_node) or writes_in_place(fx_node)) and fx_node.args:
        source = fx_node.args[0]
        if not isinstance(source, torch.fx.Node):
            break
        fx_node = source
    return fx_node


def after_write(
    fx_node: torch.fx.Node, memory: torch.Tensor, value: torch.Tensor
) -> Iterator[tuple[torch.fx.Node, torch.Tensor]]:
    """Every name of a constant memory after a write into some part of it, and its new values.

    The memory may be the network's own and stays as it is: a copy is written to, of which the
    views are taken again.

    Args:
        fx_node: the operator that writes.
        memory: what the memory holds before.
        value: what the part holds that is written to, afterwards.
    """
    first, *others = aliases(fx_node)
    now: dict[Any, torch.Tensor] = {first: memory.detach().clone()}
    for one in others:
        source, call = now[one.args[0]], one.target
        fixed = writes_in_place(one) or not callable(call)
        now[one] = source if fixed else call(source, *one.args[1:], **one.kwargs)  # type: ignore[operator]
    now[fx_node] = now[fx_node.args[0]].copy_(value)
    yield from now.items()
