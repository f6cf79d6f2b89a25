"""The inputs and the output of one operator of a network, for one batch.

If the network has no graph, :func:`hear_operator` records one layer with hooks and then traces
that layer alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.features.feature_maps import unknown_layer
from eyeshot.features.seeing import (
    Recorder,
    compute_by_graph,
    full_precision,
    in_passing,
    listening,
    tensors_in,
)
from eyeshot.graph import Call, Graph, Node, Ref
from eyeshot.interpreter import sources_of, substituted


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

    def keep(self, base: str, kind: str, came_in: Any, output: Any, parameters: int) -> None:
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
