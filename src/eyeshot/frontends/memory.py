"""Which traced values share memory: in-place operators change every name of what they write to."""

from __future__ import annotations

import operator as python_operator
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


_LISTS = frozenset({"chunk", "split", "split_with_sizes", "unbind", "tensor_split"})
_GIVE_BACK = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})
"""Operators that give their very input back in eval mode, which their schema does not say."""


def source_of(fx_node: torch.fx.Node) -> torch.fx.Node | None:
    """The value that this one looks at, or writes into; None where its memory is its own."""
    origin: Any = fx_node
    if fx_node.target is python_operator.getitem:
        origin = fx_node.args[0]
        if getattr(origin.target, "_opname", "") not in _LISTS:
            return None
    elif not (writes_in_place(fx_node) or _gives_view(fx_node)):
        return None
    source = origin.args[0]
    return source if isinstance(source, torch.fx.Node) else None


def _gives_view(fx_node: torch.fx.Node) -> bool:
    """Whether the operator gives a view of its first argument, or that argument itself."""
    if getattr(fx_node.target, "_opname", "") in _GIVE_BACK:
        return not fx_node.args[2]
    one = isinstance(fx_node.meta.get("val"), torch.Tensor)
    return one and is_view(fx_node) and not _copies(fx_node)


def _copies(fx_node: torch.fx.Node) -> bool:
    """Whether an operator that may give a view (``reshape``, ``contiguous``) had to copy here."""
    source: Any = fx_node.args[0]
    value = source.meta.get("val") if isinstance(source, torch.fx.Node) else None
    if not isinstance(value, torch.Tensor) or not callable(fx_node.target):
        return False
    if any(isinstance(one, torch.fx.Node) for one in fx_node.args[1:]):
        return False  # expand_as, view_as
    like = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    args, kwargs = torch.utils._pytree.tree_map(_without_memory, (fx_node.args[1:], fx_node.kwargs))
    given = fx_node.target(like, *args, **kwargs)
    return bool(given.untyped_storage()._cdata != like.untyped_storage()._cdata)


def _without_memory(argument: Any) -> Any:
    """A device stands for the meta device, where all is asked without memory."""
    return torch.device("meta") if isinstance(argument, torch.device) else argument


def family(fx_node: torch.fx.Node) -> list[torch.fx.Node]:
    """All values that share memory with this one, the first of them first."""
    root = fx_node
    while (source := source_of(root)) is not None:
        root = source
    found, waiting = [root], [root]
    while waiting:
        users = [one for user in waiting.pop().users for one in (user, *user.users)]
        for user in users:
            if user not in found and source_of(user) in found:
                found.append(user)
                waiting.append(user)
    return found


def links(fx_node: torch.fx.Node) -> tuple[Any, ...]:
    """By which views a value looks at its memory: two with the same links are the same part."""
    found: list[Any] = []
    while (source := source_of(fx_node)) is not None:
        if not writes_in_place(fx_node):
            item = fx_node.target is python_operator.getitem
            origin: Any = fx_node.args[0] if item else fx_node
            key = fx_node.args[1] if item else None
            found.append((origin.target, origin.args[1:], tuple(origin.kwargs.items()), key))
        fx_node = source
    return (fx_node, *found)
