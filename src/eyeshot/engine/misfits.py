"""Why a network does not take an image, in its own words, and the sizes that it does take."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, EyeshotError
from eyeshot.findings.mismatches import Problem
from eyeshot.findings.shapes import of_mismatch
from eyeshot.frontends.repair import trace
from eyeshot.geometry.sizes import nearest_sizes
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
    wanted = channels_of(traced.module)
    if wanted is not None and shape[0] != wanted:
        read = f" ({layout})" if layout else ""
        cure = "give another image" + (", or say how its axes lie with --layout" if layout else "")
        return BadValue(
            f"{name} has {shape[0]} channels{read} and the network's first layer takes {wanted}",
            cure=cure,
        )
    try:
        graph, mismatches = trace(traced.module, shape)
    except EyeshotError:
        return error
    if not mismatches:
        return error
    told = f"{name} is {_by(shape[1:])}"
    if mismatches[0].problem is Problem.STOPPED:  # nothing is known of what lies behind
        taken = _grown(traced, shape)
        told += f": {error.fact}"
        cure = "give a larger image"
    else:
        finding = of_mismatch(graph, mismatches[0])
        taken = [size for size in nearest_sizes(graph) if _takes(traced, shape[0], size)]
        told += f": {finding.title}: {finding.cause}"
        cure = finding.cure
    if taken:
        cure = f"the nearest it takes: {' or '.join(map(_by, taken))}"
    return BadValue(told, cure=cure)


def channels_of(module: nn.Module) -> int | None:
    """What the first convolution takes, where the network begins with one."""
    for child in module.modules():
        if isinstance(child, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return child.in_channels
        if isinstance(child, nn.Linear):
            return None
    return None


def _takes(traced: Traced, channels: int, size: Sequence[int]) -> bool:
    """Whether it can be traced at a size that its maps say it takes."""
    try:
        traced.graph((channels, *size))
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
