"""A :class:`~eyeshot.graph.Graph` computed node by node, each operator called as the graph says.

The plain way to a network's numbers: no tiles, no kernels of our own, no weights folded. What a
layer shows, what a gradient flows through and what a traced graph is checked by come from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from eyeshot.errors import Failure
from eyeshot.graph import Call, Graph, Node, Ref, Weight


def values(
    graph: Graph, inputs: Sequence[torch.Tensor], names: Iterable[str] | None = None
) -> Iterator[tuple[Node, torch.Tensor]]:
    """The value of each node, in execution order; the inputs come first.

    A value is let go as soon as no later node reads it. Whether gradients are recorded, and in
    which precision kernels work, is up to the caller; weights never get one. Without gradients the
    numbers are those of ``net(x)`` under ``torch.no_grad()``, bit for bit.

    Args:
        graph: the network, with its weights, for inputs of these shapes, types and devices.
        inputs: one for each of the graph's.
        names: names of nodes; only they and what they are computed from are computed. All nodes
            by default.
    """
    needed = set(graph.nodes) if names is None else needed_for(graph, names)
    known = dict(zip(graph.inputs, inputs, strict=True))
    for node, ending in with_last_uses(graph, needed):
        if node.call is not None:
            known[node.name] = _called(node.call, known, graph)
        result = known[node.name]
        for name in ending:
            known.pop(name, None)
        yield node, result
        del result


def _called(call: Call, known: Mapping[str, torch.Tensor], graph: Graph) -> torch.Tensor:
    result: torch.Tensor = call.substituted(lambda one: substituted(one, known, graph))()
    return result


def value(graph: Graph, inputs: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    """The value of one node; only what leads to it is computed."""
    for node, result in values(graph, inputs, [name]):
        if node.name == name:
            return result
    raise Failure(f"the graph has no node {name}", cure="please report it")


def needed_for(graph: Graph, names: Iterable[str]) -> set[str]:
    """These nodes and all that they are computed from."""
    needed = set(names)
    for node in reversed(list(graph)):
        if node.name in needed:
            needed.update(sources_of(node))
    return needed


def sources_of(node: Node) -> list[str]:
    """The nodes whose values a call takes, each once, in the order of its arguments."""
    return [] if node.call is None else list(dict.fromkeys(node.call.refs))


def with_last_uses(
    graph: Graph, needed: set[str] | None = None
) -> Iterator[tuple[Node, list[str]]]:
    """Every node (of those needed) with the values that nothing reads after it."""
    nodes = [node for node in graph if needed is None or node.name in needed]
    reader = {node.name: node.name for node in nodes}
    reader.update({source: node.name for node in nodes for source in sources_of(node)})
    ending: dict[str, list[str]] = {node.name: [] for node in nodes}
    for name, last in reader.items():
        ending[last].append(name)
    for node in nodes:
        yield node, ending[node.name]


def substituted(argument: Any, known: Mapping[str, torch.Tensor], graph: Graph) -> Any:
    """A node's value, or a tensor of the network, in place of what names it in a call."""
    if isinstance(argument, Ref):
        return known[argument.node]
    if isinstance(argument, Weight):
        # Kernels round otherwise for weights that could get a gradient: they stay as they are.
        tensor = graph.tensors[argument.name]
        return tensor.detach() if torch.is_grad_enabled() else tensor
    return argument
