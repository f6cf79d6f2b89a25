"""Why a network does not take an image, in its own words, and the sizes that it does take."""

from __future__ import annotations

from collections.abc import Sequence

from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, EyeshotError
from eyeshot.findings.shapes import built_for, of_mismatch
from eyeshot.findings.wording import branches
from eyeshot.frontends.repair import trace
from eyeshot.geometry.sizes import nearest_sizes
from eyeshot.graph import Graph
from eyeshot.operators.mismatches import Mismatch, Problem


def misfit(
    traced: Traced, name: str, shape: Sequence[int], error: EyeshotError, layout: str = ""
) -> EyeshotError:
    """What to say of an image at whose size the network could not be traced.

    Args:
        traced: the network, of one input.
        name: of the image.
        shape: (C, H, W) of it.
        error: what tracing it said; it is given back where neither size nor channels are the
            cause.
        layout: how the image's axes were understood, where that was a question.
    """
    try:
        graph, mismatches = trace(traced.module, shape)
    except EyeshotError:
        return error
    if not mismatches:
        return error
    wanted = _channels_wanted(graph, mismatches[0])
    if wanted is not None:
        read = f" ({layout})" if layout else ""
        cure = "give another image" + (", or say how its axes lie with --layout" if layout else "")
        return BadValue(
            f"{name} has {shape[0]} channels{read} and the network's first layer takes {wanted}",
            cure=cure,
        )
    told = f"{name} is {_by(shape[1:])}"
    if mismatches[0].problem is Problem.STOPPED:  # nothing is known of what lies behind
        near = mismatches[0].options.get("takes", ())
        taken = [size for size in near if takes(traced, (shape[0], *size))]
        if not taken:
            return error
        told += f": {error.fact}"
        cure = ""
    else:
        finding = of_mismatch(graph, mismatches[0])
        taken = [size for size in nearest_sizes(graph) if takes(traced, (shape[0], *size))]
        told += f": {finding.title}: {finding.cause}"
        cure = finding.cure
    if taken:
        cure = f"the nearest it takes: {' or '.join(map(_by, taken))}"
    return BadValue(told, cure=cure)


def _channels_wanted(graph: Graph, mismatch: Mismatch) -> int | None:
    """What a layer takes that reads the input itself, where other channels are what is wrong."""
    if mismatch.problem is not Problem.CHANNELS:
        return None
    node = graph.nodes[mismatch.node]
    parts = branches(graph, node)
    return built_for(node, mismatch) if [part.name for part in parts] == [*graph.inputs] else None


def takes(traced: Traced, shape: Sequence[int]) -> bool:
    """Whether it can be traced at a shape (C, H, W) that its maps or its run on shapes allow."""
    try:
        traced.graph(shape)
    except EyeshotError:
        return False
    return True


def _by(size: Sequence[int]) -> str:
    return "x".join(str(n) for n in size)
