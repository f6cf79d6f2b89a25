"""A network in the form that the engine takes: a module, a trained run, or one with cached traces.

The parts of a module that determine its graph, all but the values of its weights, are compared
here.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.agreement import held_against
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry
from eyeshot.frontends.pt2 import Program
from eyeshot.frontends.refusals import check_module, refuse_unreadable
from eyeshot.frontends.torch import (
    checked_sizes,
    export,
    from_exported,
    traced,
    training_layers,
)
from eyeshot.frontends.trials import axes_taken, with_batches
from eyeshot.graph import Graph
from eyeshot.runs import Run

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


_NOT_COMPARED = "the traced network was not compared with the network itself"
KEPT = 16
"""Sizes whose graph is kept unless told; the one that was asked for longest ago makes room."""


@dataclass(frozen=True)
class _Kept:
    """A program without the numbers in its network's weights, which may be others by now.

    Attributes:
        program: what was traced, with the tensors that the network's members do not hold.
        names: the weights that it takes besides.
    """

    program: Program
    names: tuple[str, ...]

    def with_weights(self, weights: Mapping[str, torch.Tensor]) -> Program:
        """The program with its weights as they are now."""
        return replace(self.program, state_dict={name: weights[name] for name in self.names})


Sizes = tuple[tuple[int, ...], ...]


class Traced:
    """A network whose graph is kept for each size of picture, and whose weights are not.

    Made by :func:`trace`. It goes wherever a network goes.

    Attributes:
        module: the network itself.
        mean: taken away from samples, per channel; empty for none.
        std: by which they are then divided.
        keep: for how many sizes its graph is kept; 0 traces it at every call, with no look at what
            has changed.
        unit: it learned from samples in 0 … 1.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        keep: int = KEPT,
        unit: bool = False,
    ) -> None:
        self.module, self.mean, self.std, self.unit = module, mean, std, unit
        self.keep = keep
        self._programs: dict[tuple[Sizes, torch.dtype], _Kept] = {}
        self._signature: Any = None
        self._warned = False

    def graph(self, *sizes: Sequence[int], dtype: torch.dtype = torch.float32) -> Graph:
        """The network's graph for inputs of these sizes, with its weights as they are now.

        Args:
            sizes: for each input, its size without the batch, such as (C, H, W).
            dtype: of the inputs of a network without parameters; any other takes that of its own.

        Raises:
            BadValue: the network is in training mode, or a size has no positions.
            Unsupported: the network cannot be traced.
        """
        refuse_unreadable(self.module)
        if any(child.training for child in self.module.modules()):
            raise BadValue("the network is in training mode", cure="call net.eval() first")
        checked_sizes(sizes)
        kept = self._looked_up(tuple(tuple(int(n) for n in size) for size in sizes), dtype)
        # What is computed of weights alone is computed again: it is part of no program.
        current = kept.with_weights(self._weights())
        graph = from_exported(current, training_layers(self.module), held=True)
        graph = with_batches(self.module, graph)
        graph = held_against(
            self.module, graph, lambda smaller: traced(self.module, smaller, dtype)
        )
        if not self._warned:
            for note in self._notes(graph, sizes):
                self._warned = True
                warnings.warn(note, stacklevel=2)
        return graph

    def around(self, module: nn.Module, option: str) -> Traced:
        """The same with another module, which calls this one or is a copy of it.

        Args:
            module: the other one.
            option: of a run that asks for it, for the message.

        Raises:
            BadValue: what is run is more than the module.
        """
        return Traced(module, self.mean, self.std, self.keep, self.unit)

    def _notes(self, graph: Graph, sizes: Sequence[Sequence[int]]) -> Iterator[str]:
        """What the user should know of the graph, a sentence each."""
        if graph.unchecked:
            yield f"{_NOT_COMPARED}: {graph.unchecked}"
        made_for: Sequence[Sequence[int]] | None = getattr(self.module, "one_size", None)
        if made_for is not None and [list(one) for one in made_for] != [list(n) for n in sizes]:
            size = " and ".join("x".join(map(str, one)) for one in made_for)
            yield (
                f"the network was exported for {size} alone: numbers that it computed from that "
                "size, if there are any, stay as they were; export it with open sizes to be sure"
            )

    @cached_property
    def space(self) -> int | None:
        """How many axes of space its input has; None where that cannot be told."""
        return axes_taken(self.module)

    @cached_property
    def sizes(self) -> InputSizes:
        """Which heights and widths it takes, as a network over images."""
        return self.geometry.sizes

    @cached_property
    def geometry(self) -> NetGeometry:
        """What its outputs see and on which grid, as a network over images."""
        return NetGeometry(self.module)

    def _weights(self) -> dict[str, torch.Tensor]:
        """The tensors that the network's members hold now, under every name."""
        return {
            **dict(self.module.named_parameters(remove_duplicate=False)),
            **dict(self.module.named_buffers(remove_duplicate=False)),
        }

    def _looked_up(self, sizes: Sizes, dtype: torch.dtype) -> _Kept:
        if not self.keep:
            return self._exported(sizes, dtype)
        now = signature(self.module)
        if now is None or now != self._signature:
            self._programs.clear()
            self._signature = now
        key = (sizes, dtype)
        kept = self._programs.pop(key, None) or self._exported(sizes, dtype)
        self._programs[key] = kept  # the last asked for is the last to go
        while len(self._programs) > self.keep:
            del self._programs[next(iter(self._programs))]
        return kept

    def _exported(self, sizes: Sizes, dtype: torch.dtype) -> _Kept:
        program = export(self.module, *sizes, dtype=dtype)
        stored = {**program.state_dict, **program.constants}
        weights = self._weights()
        names = tuple(name for name in stored if name in weights)
        loose = {name: tensor for name, tensor in stored.items() if name not in weights}
        return _Kept(replace(program, state_dict={}, constants=loose), names)


def refuse_left_out(graph: Graph, *, constants: bool = True) -> None:
    """Refuse what ``forward`` returns and does not depend on its input.

    Args:
        graph: of the network.
        constants: refuse those, too, that are the same at each call.

    Raises:
        Unsupported: there is some; its place among the returned tensors is named.
    """
    lost = [n for n in graph.left_out if constants or n not in graph.constants]
    if lost:
        places = " and ".join(str(place + 1) for place in lost)
        raise Unsupported(
            f"of what forward returns, tensor {places} does not depend on its input",
            cure="leave that out of what forward returns",
        )


Network = nn.Module | Run | Traced
"""What may be run."""


def trace(
    net: nn.Module | Run,
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    keep: int = KEPT,
) -> Traced:
    """A network traced once for each size of picture, for running many while its weights change.

    ``eyeshot.run(net, image)`` traces the network at every call, so that whatever has changed in
    it is seen. ``eyeshot.run(traced, image)`` traces it when it meets a size for the first time.
    Weights are read again at each call, and all that is computed of them (batch norm folded into
    convolutions) is computed again: a training that validates after each epoch gets the answers
    of that epoch. It traces again, too, when a layer was put in or taken out, when layers or
    weights begin or cease to be shared, when a setting, a mode, a hook or a method changed, or when
    it cannot tell.

    What it cannot see is a ``forward`` that decides by something outside of its modules, their
    classes and what their functions close over, such as a global variable that has changed since.

    Args:
        net: a network, which is to be in eval mode whenever it is run; or a trained run, which
            brings its mean and deviation along.
        mean: to be taken away from the samples, per channel, after whole numbers became 0 … 1.
        std: by which they are then divided.
        keep: for how many sizes of picture what was traced is kept. Who cycles through more sizes
            than this reuses nothing.

    Raises:
        BadValue: one of ``mean`` and ``std`` without the other, a run that has its own, or ``keep``
            is below 1.
    """
    if keep < 1:
        raise BadValue(f"keep is {keep}", cure="use 1 or more")
    if isinstance(net, Run):
        if mean or std:
            raise BadValue("mean and std for a run, which brings its own", cure="leave them out")
        return Traced(net.net, net.config.mean, net.config.std, keep, unit=True)
    check_module(net)
    if len(mean) != len(std):
        raise BadValue(
            f"{len(mean)} means and {len(std)} deviations", cure="give one of each a channel"
        )
    return Traced(net, tuple(map(float, mean)), tuple(map(float, std)), keep)


def as_traced(net: Network) -> Traced:
    """Whatever may be run, as what the engine asks; a plain network is traced for this once."""
    if isinstance(net, Traced):
        return net
    once = trace(net)
    once.keep = 0
    return once
