"""Why a network does not take an image, in its own words, and the sizes that it does take."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, EyeshotError
from eyeshot.findings.mismatches import Mismatch, Problem
from eyeshot.findings.shapes import built_for, of_mismatch
from eyeshot.findings.wording import branches
from eyeshot.frontends.repair import trace
from eyeshot.geometry.sizes import nearest_sizes
from eyeshot.graph import Graph
from eyeshot.inspection.trials import runs_on_shapes

_MOST_GROWTH = 64


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
        taken = _grown(traced, shape)
        told += f": {error.fact}"
        cure = "give a larger image"
    else:
        finding = of_mismatch(graph, mismatches[0])
        taken = [size for size in nearest_sizes(graph) if takes(traced, (shape[0], *size))]
        told += f": {finding.title}: {finding.cause}"
        cure = finding.cure
    if taken:
        cure = f"the nearest it takes: {' or '.join(map(_by, taken))}"
    return BadValue(told, cure=cure)


def channels_to_try(module: nn.Module) -> tuple[int, ...]:
    """What its convolutions take, each number once, in the order in which they were declared."""
    kinds = nn.modules.conv._ConvNd
    counts = (child.in_channels for child in module.modules() if isinstance(child, kinds))
    return tuple(dict.fromkeys(counts))


def _channels_wanted(graph: Graph, mismatch: Mismatch) -> int | None:
    """What a layer takes that reads the input itself, where other channels are what is wrong."""
    if mismatch.problem is not Problem.CHANNELS:
        return None
    parts = branches(graph, graph.nodes[mismatch.node])
    return built_for(mismatch) if [part.name for part in parts] == [*graph.inputs] else None


def takes(traced: Traced, shape: Sequence[int]) -> bool:
    """Whether it can be traced at a shape (C, H, W) that its maps or its run on shapes allow."""
    try:
        traced.graph(shape)
    except EyeshotError:
        return False
    return True


def _grown(traced: Traced, shape: Sequence[int]) -> list[tuple[int, ...]]:
    """A size grown along one axis, or else along all of them, as little as the network asks."""
    channels, *size = shape
    runs = runs_on_shapes(traced.module)
    for axes in (*((axis,) for axis in range(len(size))), tuple(range(len(size)))):
        for more in range(1, _MOST_GROWTH):
            larger = tuple(n + more * (axis in axes) for axis, n in enumerate(size))
            if runs((1, channels, *larger)):
                return [larger]
    return []


def _by(size: Sequence[int]) -> str:
    return "x".join(str(n) for n in size)
