"""The meaning of a layer's name: a node as ``inspect`` prints it, or the output of a module."""

from __future__ import annotations

import re

from torch import nn

from eyeshot.errors import BadValue, EyeshotError, UnknownName
from eyeshot.graph import Graph, Node


def nodes_named(graph: Graph, name: str) -> dict[str, Node]:
    """The nodes that a name means, each with the name of that call.

    ``conv`` means every call of it, ``conv`` and ``conv#2``; ``conv#2`` means only that call. The
    path of a module with layers inside means its outputs: a node for each output that is read
    outside the module, named ``block``, ``block#2`` and so on. Other names give an empty result.
    """
    calls = re.compile(re.escape(name) + r"(#\d+)?")
    found = {node.name: node for node in graph if calls.fullmatch(node.name)}
    return found or _leaving(graph, name)


def _leaving(graph: Graph, path: str) -> dict[str, Node]:
    inside = {n.name for n in graph if n.layer == path or n.layer.startswith(f"{path}.")}
    readers = graph.consumers() if inside else {}
    leaving = [
        graph.nodes[name]
        for name in graph.nodes
        if name in inside
        and (name in graph.outputs or any(one.name not in inside for one in readers[name]))
    ]
    return {path if i == 0 else f"{path}#{i + 1}": node for i, node in enumerate(leaving)}


def unknown_layer(graph: Graph, net: nn.Module, name: str) -> EyeshotError:
    """The error for a name without nodes: it is misspelled, or its module computes nothing."""
    if name in dict(net.named_modules()):
        return BadValue(
            f"layer {name!r} exists but computes nothing for this input",
            cure="name a layer that the network uses",
        )
    return UnknownName("layer", name, graph.nodes)
