"""How the convolutions of a run are computed: by fewer products, by machine code, or plainly."""

from __future__ import annotations

from eyeshot.graph import Graph
from eyeshot.operators import compiled_layers, winograd


def with_methods(graph: Graph) -> Graph:
    """The graph in which each convolution that is faster by another method uses it."""
    return compiled_layers.with_compiled(winograd.with_winograd(graph))


def without_methods(graph: Graph) -> Graph:
    """The graph in which every convolution is computed by torch's own libraries."""
    return compiled_layers.without_compiled(winograd.without_winograd(graph))


def uses_methods(graph: Graph) -> bool:
    """Whether a convolution is computed by another method."""
    return winograd.uses_winograd(graph) or compiled_layers.uses_compiled(graph)


def rounding(graph: Graph) -> str:
    """What else decides how a graph's sums are rounded, and which are computed by a method."""
    return winograd.rounding(graph) + compiled_layers.rounding(graph)


def load_methods(graph: Graph) -> None:
    """Compile what a graph will call, so that a plan of the memory counts it."""
    winograd.load_transforms(graph)
    compiled_layers.load_compiled(graph)


def added_bytes(graph: Graph) -> int:
    """The bytes that the methods take beside the weights and rows of a call."""
    found = winograd.added_bytes(graph)
    loads = compiled_layers.uses_compiled(graph) and not compiled_layers.is_loaded()
    return found + (winograd.COMPILER if loads and not winograd.uses_winograd(graph) else 0)
