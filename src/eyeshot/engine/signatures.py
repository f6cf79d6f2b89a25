"""Everything of a module that decides its graph, but for the numbers in its weights.

Anyone who keeps a graph must know when it has gone stale. A signature is plain data to be compared;
what it cannot look into is not guessed at: then there is no signature, and no graph is kept.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, slice, type, enum.Enum),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    *(types.BuiltinFunctionType, types.ModuleType),
)
_MODES = (torch.no_grad, torch.enable_grad, torch.inference_mode)
"""What decorates methods and has no part in what they compute."""
_ELSEWHERE = frozenset(
    {
        *("_parameters", "_buffers", "_modules"),
        *("_state_dict_hooks", "_state_dict_pre_hooks"),
        *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
        *("_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
    }
)
"""What a module holds that is looked at by itself, or has no part in a forward pass."""
_FAMILIES = frozenset({"abc", "builtins", "torch", "typing"})
"""The packages whose classes are taken to stay as they are."""
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks")


class Opaque(Exception):
    """A value whose inside cannot be seen. Never leaves the engine."""


def signature(net: nn.Module) -> tuple[Any, ...] | None:
    """All of it as plain data; None where something in it is opaque.

    Layers, modes, settings, hooks, classes, the shapes of weights, and which of the layers and
    weights are one and the same.
    """
    look = _Look(net)
    modules = dict(net.named_modules())
    try:
        return (
            look.sharing,
            tuple(look.into(getattr(nn.modules.module, hooks)) for hooks in _GLOBAL_HOOKS),
            tuple(look.into_class(one) for one in _classes(modules.values())),
            tuple((name, look.into_module(module)) for name, module in modules.items()),
        )
    except Opaque:
        return None


def _classes(modules: Iterable[nn.Module]) -> list[type]:
    """Every class that a module has its methods and settings of, but for torch's own."""
    found = dict.fromkeys(kind for module in modules for kind in type(module).__mro__)
    return [kind for kind in found if kind.__module__.partition(".")[0] not in _FAMILIES]


class _Look:
    """One look at a network.

    Attributes:
        sharing: every name of a layer or a weight, with the first name of the same object.
    """

    def __init__(self, net: nn.Module) -> None:
        members = (
            *net.named_modules(remove_duplicate=False),
            *net.named_parameters(remove_duplicate=False),
            *net.named_buffers(remove_duplicate=False),
        )
        self._names: dict[int, str] = {}
        self.sharing = tuple(
            (name, self._names.setdefault(id(member), name)) for name, member in members
        )
        self._within: list[int] = []

    def into_module(self, module: nn.Module) -> tuple[Any, ...]:
        """Its settings, and the shapes of its weights."""
        settings = {name: value for name, value in vars(module).items() if name not in _ELSEWHERE}
        weights = {**module._parameters, **module._buffers}
        return (
            type(module),
            type(module).forward,
            self.into(settings),
            tuple((name, _shape(weight)) for name, weight in weights.items()),
        )

    def into_class(self, kind: type) -> tuple[Any, ...]:
        """Its methods and settings, without what Python keeps in it."""
        kept = ("__", "_abc_impl")
        own = {name: value for name, value in vars(kind).items() if not name.startswith(kept)}
        return (kind, self.into(own))

    def into(self, value: Any) -> Any:
        """The value as plain data.

        Raises:
            Opaque: it is of a kind that may change without our seeing it.
        """
        if isinstance(value, _PLAIN):
            return (type(value), value)
        if isinstance(value, _MODES):
            return type(value)
        if id(value) in self._within:  # it holds itself: as many steps up
            return ("above", len(self._within) - self._within.index(id(value)))
        self._within.append(id(value))
        try:
            return self._inside(value)
        finally:
            self._within.pop()

    def _inside(self, value: Any) -> Any:
        name = self._names.get(id(value))
        if isinstance(value, nn.Module) and name is not None:
            return (nn.Module, name)  # a layer, which is looked at by itself
        if isinstance(value, torch.Tensor) and not value.is_inference():
            return (_Held(value, value._version), name)
        if isinstance(value, (list, tuple)):
            return (type(value), tuple(self.into(one) for one in value))
        if isinstance(value, Mapping):
            pairs = value.items()
            return (type(value), tuple((self.into(key), self.into(one)) for key, one in pairs))
        if isinstance(value, (set, frozenset)):
            return (type(value), frozenset(self.into(one) for one in value))
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            return (type(value), tuple(self.into(getattr(value, field.name)) for field in fields))
        return self._inside_callable(value)

    def _inside_callable(self, value: Any) -> Any:
        """A function is the same as long as what it closes over is the same, too."""
        if isinstance(value, types.FunctionType):
            cells = tuple(self._of_cell(cell) for cell in value.__closure__ or ())
            return (value, cells, self.into(value.__defaults__), self.into(value.__kwdefaults__))
        if isinstance(value, types.MethodType):
            return (type(value), self.into(value.__func__), self.into(value.__self__))
        if isinstance(value, (staticmethod, classmethod)):
            return (type(value), self.into(value.__func__))
        if isinstance(value, property):
            return (type(value), self.into(value.fget))
        raise Opaque

    def _of_cell(self, cell: types.CellType) -> Any:
        try:
            return self.into(cell.cell_contents)
        except ValueError:  # not filled yet
            return None


def _shape(weight: torch.Tensor | None) -> tuple[Any, ...] | None:
    return None if weight is None else (tuple(weight.shape), weight.dtype, weight.device)


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
