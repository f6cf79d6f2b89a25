"""One unit of a network: what its operator reads and returns, and the data of its explanation.

In this file:

- the inputs and the output of one operator, for one batch. If the network has no graph,
  :func:`hear_operator` records one layer with hooks and then traces that layer alone;
- what an explanation of one unit holds: plain data, for the terminal, a page, or JSON;
- how numbers are written for people and for JSON;
- small matrices typed by hand: ``"1 1 1 / 0 1 0"``, or a text file with a row on every line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor, nn

from eyeshot import filters
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.features import (
    Recorder,
    compute_by_graph,
    full_precision,
    in_passing,
    listening,
    tensors_in,
)
from eyeshot.features.feature_maps import unknown_layer
from eyeshot.graph import Call, Graph, Node, Ref
from eyeshot.interpreter import sources_of, substituted
from eyeshot.reference.padding import Array


@dataclass(frozen=True, eq=False)
class Seen:
    """One call of one operator.

    Attributes:
        name: the requested name.
        node: the node of the network's graph.
        call: the node's call with values: whole batches, (N, C, *sizes) or (N, …, I). None for an
            input of the network.
        values: the values of the nodes that it reads.
        output: its output for the batch.
        batch: the number of pictures.
    """

    name: str
    node: Node
    call: Call | None
    values: Mapping[str, Tensor]
    output: Tensor
    batch: int

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name."""
        return {} if self.call is None else self.call.arguments

    @property
    def sources(self) -> dict[str, str]:
        """For each argument that another node computes, the name of that node."""
        arguments = {} if self.node.call is None else self.node.call.arguments
        return {name: one.node for name, one in arguments.items() if isinstance(one, Ref)}


def see_operator(net: nn.Module, x: Tensor, name: str, call: int = 0) -> tuple[Seen | None, str]:
    """One operator of a network's graph; and why the graph cannot be used, "" if it can.

    Args:
        net: any module.
        x: the input, (N, C, …).
        name: the name that ``inspect`` prints; the path of a module means its output.
        call: the index of the call, from 0.

    Raises:
        UnknownName: there is no such name.
        BadValue: the network refuses ``x``, or calls the layer fewer times.
    """
    looker = _Looker(net, name, call)
    reason = compute_by_graph(net, [x], looker.choose, looker.keep, full=True)
    return (None, reason) if reason else (looker.seen(len(x)), "")


def see_output(module: nn.Module, inputs: tuple[Tensor, ...], name: str) -> tuple[Seen | None, str]:
    """As :func:`see_operator`, of the operator that gives a module's own (first) output."""
    looker = _Looker(module, "", 0)
    reason = compute_by_graph(module, inputs, looker.choose, looker.keep, full=True)
    return (None, reason) if reason else (looker.seen(len(inputs[0]), name), "")


def seen_among(
    graph: Graph, net: nn.Module, values: Mapping[str, Tensor], name: str, call: int = 0
) -> Seen:
    """One operator of a graph whose values are known already.

    Args:
        graph: the network's, for inputs of this size.
        net: the network, for messages.
        values: by node, (N, C, …): of the operator and of all that it reads.
        name: as for :func:`see_operator`.
        call: likewise.

    Raises:
        UnknownName: nothing has that name.
        BadValue: the network does not call the layer that often.
    """
    looker = _Looker(net, name, call)
    for one in looker.choose(graph):
        looker.keep(graph.nodes[one], values[one])
    return looker.seen(len(values[graph.inputs[0]]) if graph.inputs[0] in values else 1)


class _Looker:
    """Chooses a node and its inputs, and keeps their values."""

    def __init__(self, net: nn.Module, name: str, call: int) -> None:
        self._net, self._name, self._call = net, name, call
        self._values: dict[str, Tensor] = {}

    def choose(self, graph: Graph) -> Collection[str]:
        self._graph = graph
        self._node = self._chosen(graph)
        return [self._node.name, *sources_of(self._node)]

    def keep(self, node: Node, value: Tensor) -> None:
        self._values[node.name] = value

    def seen(self, batch: int, name: str = "") -> Seen:
        node, output = self._node, self._values[self._node.name]
        values = {one: self._values[one] for one in sources_of(node)}
        call = node.call and node.call.substituted(
            lambda one: substituted(one, values, self._graph)
        )
        return Seen(name or self._label, node, call, values, output, batch)

    def _chosen(self, graph: Graph) -> Node:
        if not self._name:
            return graph.nodes[graph.outputs[0]]
        found = graph.named(self._name)
        if not found:
            raise unknown_layer(graph, self._net, self._name)
        if not 0 <= self._call < len(found):
            raise BadValue(
                f"layer {self._name!r} is called {len(found)} times for this input, and call "
                f"{self._call} is asked for",
                cure="count from 0",
            )
        self._label, node = list(found.items())[self._call]
        return node


def hear_operator(net: nn.Module, x: Tensor, name: str, call: int = 0) -> Seen:
    """The inputs and the output of a layer of ``net``, recorded by hooks, under the hooks' names.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the network refuses ``x``, or calls the layer fewer times.
        Unsupported: the layer itself has no graph either.
    """
    layers = {
        dotted or type(net).__name__: module
        for dotted, module in net.named_modules(remove_duplicate=False)
    }
    base, _, times = name.rpartition("#")
    if name not in layers and base in layers and times.isdigit():
        name, call = base, int(times) - 1
    if name in layers:
        module, inputs = layers[name], _inputs_of_call(net, x, name, layers[name], call)
    else:
        module, inputs = _function(net, x, name, list(layers))
    if not inputs:
        raise Unsupported(f"layer {name!r} takes no tensor", cure="name a layer that does")
    seen, reason = see_output(module, inputs, name)
    if seen is None:
        raise Unsupported(f"layer {name!r} has no graph: {reason}", cure="name a layer inside it")
    return seen


def _inputs_of_call(
    net: nn.Module, x: Tensor, name: str, layer: nn.Module, call: int
) -> tuple[Tensor, ...]:
    """Copies, since an activation in place after the layer would write over them."""
    calls: list[tuple[Tensor, ...]] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls.append(tuple(one.detach().clone() for _, one in tensors_in(inputs)))

    with full_precision(), in_passing(net, [x]):
        handle = layer.register_forward_hook(keep)
        try:
            net(x.clone())
        finally:
            handle.remove()
    if not 0 <= call < len(calls):
        raise BadValue(
            f"layer {name!r} is called {len(calls)} times for this input, and call {call} is asked "
            "for",
            cure="count from 0" if calls else "name a layer that the network uses",
        )
    return calls[call]


def _function(
    net: nn.Module, x: Tensor, name: str, layers: list[str]
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A function that ``forward`` calls, as a module, and its arguments."""
    ears = _Ears(len(x), name)
    with full_precision(), in_passing(net, [x]), listening(net, ears):
        net(x.clone())
    if ears.found is None:
        raise UnknownName("layer", name, dict.fromkeys([*layers, *ears.names]))
    return ears.found, ears.found.inputs


class _Ears(Recorder):
    """Observes every call under the name that ``see`` prints, and records one of them."""

    def __init__(self, batch: int, name: str) -> None:
        super().__init__(batch, frozenset())
        self.names: list[str] = []
        self.found: _Function | None = None
        self._name = name
        self._times: Counter[str] = Counter()

    def keep(
        self, base: str, kind: str, came_in: Any, output: Any, parameters: Iterable[Tensor]
    ) -> None:
        """Count the call; record its inputs if it is the requested call."""
        self._times[base] += 1
        name = base if self._times[base] == 1 else f"{base}#{self._times[base]}"
        self.names.append(name)
        if name == self._name and isinstance(came_in, list):
            self.found = _Function(self.function, *came_in)


class _Function(nn.Module):
    """One call of a function: parameters are its own, other tensors its inputs."""

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self._function = function
        self._inputs: list[Tensor] = []
        self._arguments = self._copied([list(args), dict(kwargs)])

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """A copy of its inputs."""
        return tuple(self._inputs)

    def forward(self, *inputs: Tensor) -> Any:
        """The call, on other inputs."""
        args, kwargs = self._put(self._arguments, inputs)
        return self._function(*args, **kwargs)

    def _copied(self, value: Any) -> Any:
        """The arguments with a place for each input."""
        if isinstance(value, nn.Parameter):
            self.register_parameter(f"weight{len(self._parameters)}", value)
            return value
        if isinstance(value, Tensor):
            self._inputs.append(value.detach().clone())
            return _Place(len(self._inputs) - 1)
        if isinstance(value, dict):
            return {key: self._copied(one) for key, one in value.items()}
        return [self._copied(one) for one in value] if isinstance(value, (list, tuple)) else value

    def _put(self, value: Any, inputs: tuple[Tensor, ...]) -> Any:
        if isinstance(value, _Place):
            return inputs[value]
        if isinstance(value, dict):
            return {key: self._put(one, inputs) for key, one in value.items()}
        return [self._put(one, inputs) for one in value] if isinstance(value, list) else value


class _Place(int):
    """Of one input among all."""


def show(number: float) -> str:
    """At most six significant digits, whole numbers without a point, no ``-0``."""
    return f"{number + 0.0:.6g}"


def show_factor(number: float) -> str:
    """As :func:`show`, a negative number in brackets, so that it can follow an operator."""
    return f"({show(number)})" if number < 0 else show(number)


def say_option(value: object) -> str:
    """An option in few letters: ``(2, 2)`` is 2, ``((1, 1), (1, 1))`` is 1."""
    if isinstance(value, tuple):
        words = [say_option(part) for part in value]
        return words[0] if len(set(words)) == 1 else ",".join(words)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return show(value) if isinstance(value, int | float) else str(value)


def as_rows(array: NDArray[Any]) -> Any:
    """Nested lists of numbers; numbers that are not finite become None, because JSON has none."""
    if array.ndim:
        return [as_rows(row) for row in array]
    return as_number(array.item())


def as_number(number: float) -> float | None:
    """``number``, or None where it is not finite."""
    return number if math.isfinite(number) else None


TraceRule = Literal["sum", "max", "min", "mean", "product", "value", "copy"]


@dataclass(frozen=True, eq=False)
class Part:
    """The contribution of one input channel, or of one number of a map, to the unit.

    Attributes:
        channel: its number in the layer's input.
        patch: the cells that are read, in the shape of the window; a number if there is no window.
        outside: a mask of cells that are padding or inserted zeros.
        kernel: the weight of each cell; None if there are no weights.
        sum: the partial sum, or a pool's result for the patch.
        source: the layer that it comes from, if there may be several.
        at: the start of the patch in that layer's map, if it is not the unit's own position; with
            the first dimension too where that is not the batch.
        cells: for a window, its positions in that layer's map along each axis; -1 for cells
            outside the map.
    """

    channel: int
    patch: Array
    outside: Array
    kernel: Array | None
    sum: float
    source: str = ""
    at: tuple[int, ...] = ()
    cells: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class UnitTrace:
    """The explanation of one number in a network.

    Attributes:
        layer: the dotted name of the layer.
        operator: the operator and its settings, as text.
        unit: (channel, row, column), or as many numbers as the layer's output has axes.
        shape: the shape of the layer's output, without the batch.
        rule: how the parts are combined: their ``sum`` (of products, if cells have weights), the
            ``max`` or ``min`` of cells, their ``mean``, a ``product``, the ``value`` that the
            operator gives for them, or a ``copy`` of one part.
        divisor: the divisor of a mean; 1 otherwise.
        parts: a part for every input channel that the unit sees, or for every operand.
        bias: added to the parts; None if there is no bias.
        total: the result of the parts and the bias, in float64.
        network_value: the network's own value, equal to ``total`` to 1e-5 of the largest part.
    """

    layer: str
    operator: str
    unit: tuple[int, ...]
    shape: tuple[int, ...]
    rule: TraceRule
    divisor: float
    parts: tuple[Part, ...]
    bias: float | None
    total: float
    network_value: float

    def __rich__(self) -> RenderableType:
        from eyeshot.explanation.drawing import draw_trace

        return draw_trace(self)

    def __repr__(self) -> str:
        unit = ", ".join(map(str, self.unit))
        return (
            f"UnitTrace({self.layer!r}, unit ({unit}), {len(self.parts)} parts, "
            f"total {self.total:.6g}, network {self.network_value:.6g})"
        )

    def _repr_html_(self) -> str:
        from eyeshot.explanation.drawing import trace_piece

        return trace_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; numbers that are not finite become None."""
        return {
            "layer": self.layer,
            "operator": self.operator,
            "unit": list(self.unit),
            "shape": list(self.shape),
            "rule": self.rule,
            "divisor": self.divisor,
            "parts": [
                {
                    "channel": part.channel,
                    "patch": as_rows(part.patch),
                    "outside": part.outside.tolist(),
                    "kernel": None if part.kernel is None else as_rows(part.kernel),
                    "sum": as_number(part.sum),
                    "source": part.source,
                    "at": list(part.at),
                    "cells": [list(axis) for axis in part.cells],
                }
                for part in self.parts
            ],
            "bias": None if self.bias is None else as_number(self.bias),
            "total": as_number(self.total),
            "network_value": as_number(self.network_value),
        }


def as_numbers(tensor: Tensor) -> Array:
    """A tensor's numbers, float64."""
    numbers: Array = tensor.detach().cpu().double().numpy()
    return numbers


def number_part(
    channel: int,
    value: Any,
    weight: float | None,
    source: str = "",
    at: tuple[int, ...] = (),
) -> Part:
    """A part that is one number, weighed or not."""
    made = float(value) * (1.0 if weight is None else weight)
    kernel = None if weight is None else np.asarray(weight, np.float64)
    outside = np.zeros((), bool)
    return Part(channel, np.asarray(value, np.float64), outside, kernel, made, source, at)


def described(
    seen: Seen,
    unit: tuple[int, ...],
    rule: TraceRule,
    parts: Sequence[Part],
    *,
    bias: float | None = None,
    divisor: float = 1.0,
    total: float | None = None,
) -> UnitTrace:
    """The complete explanation; if the total is not given, its rule computes it."""
    return UnitTrace(
        layer=seen.name,
        operator=_written(seen),
        unit=unit,
        shape=tuple(seen.output.shape[1:]),
        rule=rule,
        divisor=divisor,
        parts=tuple(parts),
        bias=bias,
        total=_total(rule, [part.sum for part in parts], bias) if total is None else total,
        network_value=float(seen.output[(0, *unit)]),
    )


def _total(rule: TraceRule, sums: list[float], bias: float | None) -> float:
    if rule == "product":
        return math.prod(sums)
    if rule in ("max", "min"):
        return float(np.max(sums) if rule == "max" else np.min(sums))  # NaN wins, as in torch
    return sum(sums) + (bias or 0.0)


def _written(seen: Seen) -> str:
    """``conv2d  kernel 3  stride 1``: the operator and its numbers."""
    options = seen.node.params.to_dict()
    words = [f"{key.replace('_', ' ')} {say_option(value)}" for key, value in options.items()]
    return "  ".join([seen.node.operator, *words])


Matrix = NDArray[np.float64]

LARGEST_SIDE = 64  # a matrix that a person reads number by number is not larger


def read_matrix(text: str) -> Matrix:
    """The matrix that ``text`` spells, or the one in the text file that it names.

    Rows are separated by ``/``, numbers by blanks or commas.

    Raises:
        BadValue: rows of different lengths, too many cells to read, or neither numbers nor a file.
        BadFile: a file that does not hold a table of numbers.
    """
    rows = _spelled(text)
    if rows is None:
        path = Path(text)
        if not path.is_file():
            raise _no_matrix(text, "is neither a matrix nor a file")
        return check_matrix(filters.read_kernel(path), text)
    return _checked(rows, text)


def parse_matrix(text: str) -> Matrix:
    """The matrix in ``text``; it never reads a file, so untrusted text is safe.

    Raises:
        BadValue: rows of different lengths, too many cells to read, or no numbers.
    """
    rows = _spelled(text)
    if rows is None:
        raise _no_matrix(text, "is no matrix")
    return _checked(rows, text)


def _spelled(text: str) -> list[list[float]] | None:
    try:
        return [[float(word) for word in row.replace(",", " ").split()] for row in text.split("/")]
    except ValueError:
        return None


def _no_matrix(text: str, fact: str) -> BadValue:
    cure = 'write rows separated by /, such as "1 0 1 / 0 1 0 / 1 0 1"'
    return BadValue(f"{text!r} {fact}", cure=cure)


def _checked(rows: list[list[float]], text: str) -> Matrix:
    if not any(rows):
        raise _no_matrix(text, "holds no numbers")
    if len({len(row) for row in rows}) != 1:
        raise BadValue(
            f"the matrix {text!r} has rows of {', '.join(str(len(row)) for row in rows)} numbers",
            cure="give every row as many",
        )
    return check_matrix(rows, repr(text))


def check_matrix(values: Sequence[Sequence[float]] | NDArray[np.generic], name: str) -> Matrix:
    """``values`` as a float64 matrix that a person can read.

    Raises:
        BadValue: not two axes, empty, not finite, or a side of more than 64.
    """
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise BadValue(f"{name} has shape {matrix.shape}", cure="give rows and columns")
    if not np.isfinite(matrix).all():
        raise BadValue(f"{name} holds NaN or infinity", cure="give finite numbers")
    if max(matrix.shape) > LARGEST_SIDE:
        rows, columns = matrix.shape
        raise BadValue(
            f"{name} is {rows}×{columns}", cure=f"at most {LARGEST_SIDE} on a side can be read"
        )
    return matrix
