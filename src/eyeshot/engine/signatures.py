"""Everything of a module that decides its graph, but for the numbers in its weights.

Whoever keeps a graph must know when it has gone stale. A signature is plain data to be compared;
what it cannot look into is not guessed at: then there is no signature, and no graph is kept.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, slice, type, enum.Enum),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
)
_ELSEWHERE = frozenset(
    {
        *("_parameters", "_buffers", "_modules"),
        *("_state_dict_hooks", "_state_dict_pre_hooks"),
        *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
        *("_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
    }
)
"""What a module holds that is looked at by itself, or has no part in a forward pass."""


class Opaque(Exception):
    """A value whose inside cannot be seen. Never leaves the engine."""


def signature(net: nn.Module) -> tuple[Any, ...] | None:
    """Layers, modes, settings, hooks, and the shapes of weights; None where one is opaque."""
    try:
        return tuple(
            (name, _of_module(child)) for name, child in net.named_modules(remove_duplicate=False)
        )
    except Opaque:
        return None


def _of_module(module: nn.Module) -> tuple[Any, ...]:
    settings = {name: value for name, value in vars(module).items() if name not in _ELSEWHERE}
    weights = {**module._parameters, **module._buffers}
    return (
        type(module),
        type(module).forward,
        _seen(settings),
        tuple((name, _shape(weight)) for name, weight in weights.items()),
    )


def _shape(weight: torch.Tensor | None) -> tuple[Any, ...] | None:
    return None if weight is None else (tuple(weight.shape), weight.dtype, weight.device)


def _seen(value: Any) -> Any:
    """The value as plain data.

    Raises:
        Opaque: it is of a kind that may change without our seeing it.
    """
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(_seen(one) for one in value))
    if isinstance(value, Mapping):
        return (type(value), tuple((_seen(key), _seen(one)) for key, one in value.items()))
    if isinstance(value, (set, frozenset)):
        return (type(value), frozenset(_seen(one) for one in value))
    if isinstance(value, torch.Tensor) and not value.is_inference():
        return _Held(value, value._version)
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return (type(value), tuple(_seen(getattr(value, field.name)) for field in fields))
    raise Opaque


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    """A tensor that is no registered weight: the very same one, not written to since.

    It is held, so that no later tensor can take its place in memory and pass for it.
    """

    tensor: torch.Tensor
    version: int

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Held) and other.tensor is self.tensor
        return same and isinstance(other, _Held) and other.version == self.version

    def __hash__(self) -> int:
        return id(self.tensor)
