"""The maps of a network's operators, computed by its graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn

from eyeshot.features.computation import compute_by_graph
from eyeshot.features.layer_names import nodes_named, unknown_layer
from eyeshot.features.maps import LayerMaps, first_maps
from eyeshot.features.steps import Call
from eyeshot.graph import Graph, Node


def calls_by_graph(
    net: nn.Module, batch: Tensor, layers: Sequence[str] | None
) -> tuple[list[Call], str]:
    """The calls of a network, and the reason if its graph cannot be used, else "".

    Args:
        net: any module.
        batch: (N, C, …) as it takes it.
        layers: names of those whose maps are kept; all when None.

    Raises:
        UnknownName: a name that nothing has.
        BadValue: the network refuses the batch, or a module computes nothing.
    """
    seen = _Seen(net, len(batch), layers)
    reason = compute_by_graph(net, [batch], seen.choose, seen.keep)
    return ([], reason) if reason else (seen.calls(), "")


class _Seen:
    """The requested nodes, and their maps when they are computed."""

    def __init__(self, net: nn.Module, batch: int, layers: Sequence[str] | None) -> None:
        self._net, self._batch, self._layers = net, batch, layers
        self._labels: dict[str, list[str]] = {}  # for each node, the names of its maps
        self._maps: dict[str, list[LayerMaps]] = {}
        self._graph: Graph | None = None

    def choose(self, graph: Graph) -> Collection[str]:
        """The nodes to keep."""
        self._graph = graph
        labels: dict[str, dict[str, None]] = {}
        for layer in self._layers or ():
            found = nodes_named(graph, layer)
            if not found:
                raise unknown_layer(graph, self._net, layer)
            for label, node in found.items():
                labels.setdefault(node.name, {})[label] = None
        if self._layers is None:
            labels = {node.name: {node.name: None} for node in graph if not node.is_input}
        self._labels = {name: list(found) for name, found in labels.items()}
        return self._labels

    def keep(self, node: Node, value: Tensor) -> None:
        """Copy a node's maps."""
        maps, dead = first_maps(value, self._batch)
        self._maps[node.name] = [
            LayerMaps(
                name=label,
                kind=self._kind(node, label),
                maps=maps,
                dead=dead,
                input_shape=self._input_shape(node),
                parameters=self._parameters(node) if label == node.name else 0,
            )
            for label in self._labels[node.name]
        ]

    def calls(self) -> list[Call]:
        """Every operator in execution order, the requested ones with their maps."""
        calls: list[Call] = []
        before = ""
        for node in self._graph or ():
            kept = {layer.name: layer for layer in self._maps.get(node.name, ())}
            if not node.is_input or node.name in kept:
                chained = bool(node.edges) and node.edges[0].source == before
                own = kept.pop(node.name, None)
                calls.append(Call(node.name, node.name, node.operator, chained, own))
            before = node.name
            calls += [Call(name, name, layer.kind, False, layer) for name, layer in kept.items()]
        return calls

    def _kind(self, node: Node, label: str) -> str:
        if label == node.name:
            return node.operator
        return type(self._net.get_submodule(label.partition("#")[0])).__name__

    def _input_shape(self, node: Node) -> tuple[int, ...]:
        """Of the first tensor that went in, without the batch."""
        assert self._graph is not None
        sources = self._graph.sources(node)
        return sources[0].shape[1:] if sources else ()

    def _parameters(self, node: Node) -> int:
        """Numbers that are learned, of those that an operator takes or that these are made of."""
        graph = self._graph
        assert graph is not None
        own = {name for w in node.weights for name in graph.made_of.get(w, (w,))}
        return sum(graph.tensors[name].numel() for name in own if name in graph.parameters)
