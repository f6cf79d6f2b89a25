"""How the convolutions of a run are computed: by fewer products, by machine code, or plainly."""

from __future__ import annotations

from dataclasses import replace

from eyeshot.graph import ConvolutionParams, Graph
from eyeshot.operators import compiled_blocks, compiled_layers, compiled_signals, winograd
from eyeshot.operators.compiled_blocks import with_blocks, without_blocks
from eyeshot.operators.transposed_phases import with_phases


def with_methods(graph: Graph, width: int | None = None) -> Graph:
    """The graph in which each convolution that is faster by another method uses it.

    Args:
        graph: a lowered graph.
        width: :func:`~eyeshot.operators.winograd_compiled.compiled_width` of the processes that
            will compute; None for this process.
    """
    compiled = None if width is None else width > 0
    graph = with_phases(compiled_signals.with_signals(graph, width))
    graph = compiled_layers.with_compiled(winograd.with_winograd(graph, compiled), width)
    return with_blocks(graph, width)


def without_methods(graph: Graph) -> Graph:
    """The graph in which every convolution is computed by torch's own libraries."""
    apart, chosen = without_blocks(graph), methods_of(graph)
    nodes = {
        name: replace(node, params=node.params.but(method=None)) if name in chosen else node
        for name, node in apart.nodes.items()
    }
    return replace(apart, nodes=nodes)


def uses_methods(graph: Graph) -> bool:
    """Whether a convolution is computed by another method."""
    return bool(methods_of(graph))


def depends_on_compiler(graph: Graph) -> bool:
    """Whether a method rounds otherwise where llvmlite is not installed, or needs it."""
    graph = without_blocks(graph)
    compiled = compiled_layers.uses_compiled(graph) or compiled_signals.uses_signals(graph)
    return winograd.uses_winograd(graph) or compiled


def methods_of(graph: Graph) -> dict[str, str]:
    """The method of each convolution that is computed by one, by the node's name."""
    return {
        node.name: str(node.params.method)
        for node in without_blocks(graph)
        if isinstance(node.params, ConvolutionParams) and node.params.method
    }


def rounding(graph: Graph, width: int | None = None) -> str:
    """What else decides how a graph's sums are rounded; ``width`` as for :func:`with_methods`."""
    compiled, graph = None if width is None else width > 0, without_blocks(graph)
    found = winograd.rounding(graph, compiled) + compiled_layers.rounding(graph)
    return found + compiled_signals.rounding(graph)


def load_methods(graph: Graph) -> None:
    """Compile what a graph will call, so that a plan of the memory counts it."""
    compiled_blocks.load_blocks(graph)
    graph = without_blocks(graph)
    winograd.load_transforms(graph)
    compiled_layers.load_compiled(graph)
    compiled_signals.load_compiled(graph)


def added_bytes(graph: Graph, width: int | None = None) -> int:
    """The bytes that the methods take beside the weights and rows of a call.

    Args:
        graph: with its methods.
        width: as for :func:`with_methods`; such a process has compiled nothing yet.
    """
    graph = without_blocks(graph)
    found = winograd.added_bytes(graph, None if width is None else width > 0)
    kinds = [
        (compiled_layers.uses_compiled(graph), compiled_layers.is_loaded()),
        (compiled_signals.uses_signals(graph), compiled_signals.is_loaded()),
    ]
    loads = any(used and (width is not None or not loaded) for used, loaded in kinds)
    return found + (winograd.COMPILER if loads and not winograd.uses_winograd(graph) else 0)
