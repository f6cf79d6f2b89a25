"""The explanation of one unit inside a network: its input numbers, and their sum.

The trace is computed from the operator's inputs and weights in float64, and then compared with the
network's own value. If the two differ, the explanation is wrong and an error is raised.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, Failure
from eyeshot.explanation.capture import Seen, see_operator
from eyeshot.explanation.hooks import hear_operator
from eyeshot.explanation.traces import UnitTrace
from eyeshot.explanation.tracing import check_batch, trace
from eyeshot.features.seeing import NO_GRAPH

TOLERANCE = 1e-5
_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


def explain_unit(
    net: nn.Module, x: Tensor, *, layer: str, unit: Sequence[int], call: int = 0
) -> UnitTrace:
    """Trace one output of ``layer`` while ``net`` looks at ``x``.

    The network runs in eval mode without gradients, and does not change.

    Args:
        net: any module that takes one tensor.
        x: the network's input, with a batch axis; the first item of the batch is traced.
        layer: a name that ``inspect`` prints; a module's path means its output.
        unit: (channel, row, column) in that layer's output, counted from 0; (channel, position)
            for a signal.
        call: the index of the call, if the network uses the layer several times.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the unit is outside the map, or the layer is not used.
        Unsupported: the operator has no such sum.
        Failure: the sum does not equal the network's own value.
    """
    seen, reason = see_operator(net, x, layer, call)
    if seen is None:
        warnings.warn(f"{NO_GRAPH}: {reason}", stacklevel=2)
        seen = hear_operator(net, x, layer, call)
    return explain_seen(seen, unit)


def explain_seen(seen: Seen, unit: Sequence[int]) -> UnitTrace:
    """Trace one output of an operator from its recorded inputs and output.

    Raises:
        BadValue: the unit is outside the map.
        Unsupported: the operator has no such sum.
        Failure: the sum does not equal the network's own value.
    """
    with torch.no_grad():
        check_batch(seen)
        traced = trace(seen, _check_unit(seen, unit))
    real = seen.output.is_floating_point()
    check_total(traced, torch.finfo(seen.output.dtype).eps if real else 0.0)
    return traced


def _check_unit(seen: Seen, unit: Sequence[int]) -> tuple[int, ...]:
    """``unit`` as whole numbers inside the map."""
    shape = tuple(seen.output.shape[1:])
    if len(unit) != len(shape):
        axes = ("channel", *_AXES[len(shape) - 1]) if 1 < len(shape) < 5 else ("feature",)
        raise BadValue(
            f"unit {','.join(map(str, unit))} has {len(unit)} of the {len(shape)} numbers that the "
            f"map of layer {seen.name!r} has, of shape {shape}",
            cure=f"give {','.join(axes)}" if len(axes) == len(shape) else "give one for each axis",
        )
    if not all(0 <= u < n for u, n in zip(unit, shape, strict=True)):
        raise BadValue(
            f"unit {','.join(map(str, unit))} is outside the map of layer {seen.name!r}, which "
            f"has shape {shape}",
            cure=f"use at most {','.join(str(n - 1) for n in shape)}, counted from 0",
        )
    return tuple(int(u) for u in unit)


def check_total(found: UnitTrace, rounding: float) -> None:
    """Refuse an explanation that does not equal the network's own value.

    Rounding errors grow with the parts of the sum, so the tolerance depends on the largest part; a
    network in half precision rounds more coarsely than 1e-5.
    """
    largest = max([1.0, abs(found.network_value), *[abs(part.sum) for part in found.parts]])
    allowed = max(TOLERANCE, 4 * rounding) * largest
    if not np.isclose(found.total, found.network_value, rtol=0, atol=allowed, equal_nan=True):
        raise Failure(
            f"layer {found.layer!r}, unit {found.unit}: the sum comes to {found.total:.9g} and the "
            f"network has {found.network_value:.9g}",
            cure="please report this network",
        )
