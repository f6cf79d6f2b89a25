"""The inputs and the output of one operator of a network, for one batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eyeshot.errors import BadValue
from eyeshot.features.computation import compute_by_graph
from eyeshot.features.layer_names import nodes_named, unknown_layer
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
        """Of those arguments that another node computes, the name of that node."""
        given = {} if self.node.call is None else self.node.call.arguments
        return {name: one.node for name, one in given.items() if isinstance(one, Ref)}


def see_operator(net: nn.Module, x: Tensor, name: str, call: int = 0) -> tuple[Seen | None, str]:
    """One operator of a network's graph, and the reason if the graph cannot be used, else "".

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
        found = nodes_named(graph, self._name)
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
