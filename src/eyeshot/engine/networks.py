"""A network in the form that the engine takes: a module, a trained run, or one with cached traces.

This file also compares the parts of a module that determine its graph: all but the values of its
weights.

Outputs may be chosen by name: of a dict, a named tuple or a dataclass that ``forward`` returns. The
network is then wrapped in a module that returns only these, so what the others alone need is not
computed.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from eyeshot.engine.memory import available
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.frontends.agreement import compared_with_network
from eyeshot.frontends.module_calls import ModuleCalls
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry
from eyeshot.frontends.pt2 import Program
from eyeshot.frontends.refusals import check_module, refuse_autocast, refuse_unreadable
from eyeshot.frontends.torch import checked_sizes, export, from_exported, training_layers
from eyeshot.frontends.trials import accepted_axes, with_batches
from eyeshot.graph import Graph
from eyeshot.runs import Run
from eyeshot.untouched import one_at_a_time

_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, slice, type, enum.Enum),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    *(types.BuiltinFunctionType, types.ModuleType),
)
_MODES = (torch.no_grad, torch.enable_grad, torch.inference_mode)
"""Decorators of methods that do not change the computed values."""
_ELSEWHERE = frozenset(
    {
        *("_parameters", "_buffers", "_modules"),
        *("_state_dict_hooks", "_state_dict_pre_hooks"),
        *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
        *("_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
    }
)
"""Attributes of a module that are examined separately, or play no part in a forward pass."""
_FAMILIES = frozenset({"abc", "builtins", "torch", "typing"})
"""The packages whose classes are assumed not to change."""
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks")


class Opaque(Exception):
    """A value that cannot be examined. It is always caught in this file."""


def signature(net: nn.Module) -> tuple[Any, ...] | None:
    """A network as comparable data; None if a part of it cannot be examined.

    The data are its layers, modes, settings, hooks, classes, the shapes of its weights, and which
    layers and weights are the same object.
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
    """Every class from which a module inherits, except torch's own."""
    found = dict.fromkeys(kind for module in modules for kind in type(module).__mro__)
    return [kind for kind in found if kind.__module__.partition(".")[0] not in _FAMILIES]


class _Look:
    """One examination of a network.

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
        """A module's settings, and the shapes of its weights.

        Raises:
            Opaque: it is TorchScript, or has a setting that may change unnoticed.
        """
        if isinstance(module, torch.jit.ScriptModule):
            raise Opaque
        settings = {name: value for name, value in vars(module).items() if name not in _ELSEWHERE}
        weights = {**module._parameters, **module._buffers}
        return (
            type(module),
            type(module).forward,
            self.into(settings),
            tuple((name, _shape(weight)) for name, weight in weights.items()),
        )

    def into_class(self, kind: type) -> tuple[Any, ...]:
        """A class's methods and settings, without those of Python itself."""
        internal = ("__", "_abc_impl")
        own = {name: value for name, value in vars(kind).items() if not name.startswith(internal)}
        return (kind, self.into(own))

    def into(self, value: Any) -> Any:
        """The value as comparable data.

        Raises:
            Opaque: the value is of a type that may change unnoticed.
        """
        if isinstance(value, _PLAIN):
            return (type(value), value)
        if isinstance(value, _MODES):
            return type(value)
        if id(value) in self._within:  # it contains itself: the number of levels up
            return ("above", len(self._within) - self._within.index(id(value)))
        self._within.append(id(value))
        try:
            return self._inside(value)
        finally:
            self._within.pop()

    def _inside(self, value: Any) -> Any:
        name = self._names.get(id(value))
        if isinstance(value, nn.Module) and name is not None:
            return (nn.Module, name)  # a layer, which is examined separately
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
        """A function is unchanged only if its closure and defaults are unchanged too."""
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
        except ValueError:  # an empty cell
            return None


def _shape(weight: torch.Tensor | None) -> tuple[Any, ...] | None:
    return None if weight is None else (tuple(weight.shape), weight.dtype, weight.device)


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    """A tensor that is not a registered weight; equal if it is the same object and unchanged.

    The reference keeps the tensor alive, so that no other tensor can get the same ``id``.
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
"""The default number of sizes whose graph is kept; the least recently used is dropped."""


@dataclass(frozen=True)
class _Kept:
    """A traced program without its network's weights, whose values may change.

    Attributes:
        program: the program, with only those tensors that are not weights of the network.
        names: the names of the network's weights that it needs.
    """

    program: Program
    names: tuple[str, ...]

    def with_weights(self, weights: Mapping[str, torch.Tensor]) -> Program:
        """The program with the current weights."""
        return replace(self.program, state_dict={name: weights[name] for name in self.names})


Sizes = tuple[tuple[int, ...], ...]


class Traced:
    """A network whose graph is kept for each size of picture; its weights are read at each call.

    Made by :func:`trace`. It can be used wherever a network can.

    Attributes:
        module: the network itself.
        mean: subtracted from samples, per channel; empty for none.
        std: by which samples are then divided, per channel.
        keep: the number of sizes whose graph is kept; 0 traces the network at every call.
        unit: whether it was trained on samples in 0 … 1; False if on floats of a scale of their
            own; None if unknown.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        keep: int = KEPT,
        unit: bool | None = None,
    ) -> None:
        self.module, self.mean, self.std, self.unit = module, mean, std, unit
        self.keep = keep
        self._programs: dict[tuple[Sizes, torch.dtype], _Kept] = {}
        self._signature: Any = None
        self._warned = False
        self._calls = ModuleCalls(module, available())

    @one_at_a_time
    def graph(self, *sizes: Sequence[int], dtype: torch.dtype = torch.float32) -> Graph:
        """The network's graph for inputs of these sizes, with its current weights.

        Args:
            sizes: for each input, its size without the batch, such as (C, H, W).
            dtype: the type of the inputs, used only if the network has no parameters.

        Raises:
            BadValue: the network is in training mode, a size has no positions, or
                ``torch.autocast`` is on.
            Unsupported: the network cannot be traced.
        """
        refuse_autocast()
        if not isinstance(self.module, torch.jit.ScriptModule):
            refuse_unreadable(self.module)
        for name, child in self.module.named_modules():
            if child.training:
                which = f"layer {name}" if name else "the network"
                raise BadValue(f"{which} is in training mode", cure="call net.eval() first")
        checked_sizes(sizes)
        asked = tuple(tuple(int(n) for n in size) for size in sizes)
        graph = self._followed(asked, dtype)
        if not self._warned:
            for note in self._notes(graph, sizes):
                self._warned = True
                warnings.warn(note, stacklevel=3)
        return graph

    def _followed(self, sizes: Sizes, dtype: torch.dtype) -> Graph:
        """The graph; modules that cannot be traced are called whole."""
        first: Unsupported | None = None
        while True:
            try:
                return self._compared(sizes, dtype)
            except Unsupported as refusal:
                first = first or refusal
                if not self._calls.choose(refusal):
                    self._calls = ModuleCalls(self.module, available())
                    raise first from first.__cause__
                self._programs.clear()
            except BadValue:
                raise
            except TimeoutError:  # a caller's alarm says nothing of the network
                raise
            except Exception as error:  # somebody's forward may raise anything
                if first is None:
                    raise
                self._calls = ModuleCalls(self.module, available())
                raise first from (first.__cause__ or error)

    def _compared(self, sizes: Sizes, dtype: torch.dtype) -> Graph:
        if not self._calls.whole:
            refuse_unreadable(self.module)
        cached = self._looked_up(sizes, dtype)
        # Tensors computed only from weights are not kept in a program, so they are computed again.
        current = cached.with_weights(self._weights())
        graph = from_exported(current, training_layers(self.module), held=True)
        if self._calls.whole:  # it is the network
            return graph
        graph = with_batches(self.module, graph)
        return compared_with_network(
            self.module, graph, lambda smaller: from_exported(self._program(smaller, dtype))
        )

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
        yield from self._calls.notes()
        made_for: Sequence[Sequence[int]] | None = getattr(self.module, "one_size", None)
        if made_for is not None and [list(one) for one in made_for] != [list(n) for n in sizes]:
            size = " and ".join("x".join(map(str, one)) for one in made_for)
            yield (
                f"the network was exported for {size} alone: numbers that it computed from that "
                "size, if there are any, stay as they were; export it with open sizes to be sure"
            )

    @cached_property
    def space(self) -> int | None:
        """The number of spatial axes of its input; None if that is unknown."""
        return accepted_axes(self.module)

    @cached_property
    def sizes(self) -> InputSizes:
        """The heights and widths that it takes, for a network over images."""
        return self.geometry.sizes

    @cached_property
    def geometry(self) -> NetGeometry:
        """The fields and the grids of its outputs, for a network over images."""
        return NetGeometry(self.module)

    def _weights(self) -> dict[str, torch.Tensor]:
        """The network's current parameters and buffers, under all their names."""
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
        cached = self._programs.pop(key, None) or self._exported(sizes, dtype)
        self._programs[key] = cached  # the most recently used is last in the order
        while len(self._programs) > self.keep:
            del self._programs[next(iter(self._programs))]
        return cached

    def _program(self, sizes: Sizes, dtype: torch.dtype) -> Program:
        given = next((one for one in self.module.parameters() if one.is_floating_point()), None)
        kind = dtype if given is None else given.dtype
        return self._calls.traced(
            lambda shown: export(self.module, *sizes, dtype=kind, guarded=shown)
        )

    def _exported(self, sizes: Sizes, dtype: torch.dtype) -> _Kept:
        program = self._program(sizes, dtype)
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
    """A network that is traced only once for each size of picture; its weights may change.

    ``eyeshot.run(net, image)`` traces the network at every call, so it sees every change.
    ``eyeshot.run(traced, image)`` traces it only for a new size. Weights are read again at each
    call, and so is everything computed from them (batch norm folded into convolutions): if you
    validate after each epoch, the results are those of that epoch. The network is also traced again
    if a layer was added or removed, if layers or weights are shared differently, if a setting, a
    mode, a hook or a method changed, or if a change cannot be ruled out.

    It cannot see that ``forward`` depends on something outside of its modules, their classes and
    the closures of their functions, such as a global variable that has changed.

    Args:
        net: a network, which must be in eval mode whenever it is run; or a trained run, which has
            its own mean and deviation.
        mean: subtracted from the samples, per channel, after whole numbers were scaled to 0 … 1.
        std: by which the samples are then divided, per channel.
        keep: the number of sizes whose trace is kept. If you cycle through more sizes than this,
            nothing is reused.

    Raises:
        BadValue: ``mean`` and ``std`` have different lengths or a number that is not finite, a
            ``std`` is not above 0, ``net`` is a run, which has its own, or ``keep`` is below 1.
    """
    if keep < 1:
        raise BadValue(f"keep is {keep}", cure="use 1 or more")
    if isinstance(net, Run):
        if mean or std:
            raise BadValue("mean and std for a run, which brings its own", cure="leave them out")
        return Traced(net.net, net.config.mean, net.config.std, keep, unit=net.config.in_unit)
    check_module(net)
    if len(mean) != len(std):
        raise BadValue(
            f"{len(mean)} means and {len(std)} deviations", cure="give one of each a channel"
        )
    if not all(math.isfinite(one) for one in mean):
        raise BadValue(f"mean is {list(mean)}", cure="use finite numbers")
    if not all(math.isfinite(one) and one > 0 for one in std):
        raise BadValue(f"std is {list(std)}", cure="use finite numbers above 0")
    return Traced(net, tuple(map(float, mean)), tuple(map(float, std)), keep)


def as_traced(net: Network) -> Traced:
    """Any network as a :class:`Traced`; a plain network is traced at each call."""
    if isinstance(net, Traced):
        return net
    once = trace(net)
    once.keep = 0
    return once


class NamedOutputs(nn.Module):
    """A network that returns only some of its outputs.

    Args:
        net: the network; it is not changed.
        names: of the outputs, in the order in which to return them.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self._names = tuple(names)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inputs (N, C, …) -> the chosen outputs.

        Raises:
            UnknownName: the network returns nothing of that name.
            BadValue: two outputs have one name.
        """
        listed = list(_named(self.net(*inputs), ""))
        found = dict(listed)
        twice = next((name for name in found if [n for n, _ in listed].count(name) > 1), None)
        if twice is not None:
            raise BadValue(
                f"two outputs of the network have the name {twice}", cure="rename one of its keys"
            )
        unknown = next((name for name in self._names if name not in found), None)
        if unknown is not None:
            raise UnknownName("output", unknown, tuple(found))
        return tuple(found[name] for name in self._names)


def _named(value: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor with its name: keys, fields and places, joined by dots."""
    if isinstance(value, torch.Tensor):
        yield prefix or "0", value
        return
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [(str(key), one) for key, one in value.items()]
    elif is_dataclass(value):
        parts = [(one.name, getattr(value, one.name)) for one in fields(value)]
    elif isinstance(value, list | tuple):
        names = getattr(value, "_fields", None) or map(str, range(len(value)))
        parts = list(zip(names, value, strict=True))
    for name, one in parts:
        yield from _named(one, f"{prefix}.{name}" if prefix else name)


def only_outputs(traced: Traced, names: str | Sequence[str] | None) -> Traced:
    """The network with some of its outputs.

    Args:
        traced: the network.
        names: as in what ``forward`` returns: the key of a dict, the field of a named tuple or a
            dataclass, the place in a list (``"0"``), joined by dots (``"aux.mask"``); None for all.

    Raises:
        BadValue: no name, or one name twice.
    """
    if names is None:
        return traced
    listed = [names] if isinstance(names, str) else [str(name) for name in names]
    twice = next((name for name in listed if listed.count(name) > 1), None)
    if not listed or twice is not None:
        fact = "no name" if twice is None else f"{twice!r} twice"
        raise BadValue(f"outputs: {fact}", cure="give the name of each output once")
    return traced.around(NamedOutputs(traced.module, listed), "outputs")
