"""One unit inside a network, explained: the numbers that went in, and the sum that came out.

The trace is worked out from what the layer received and from its weights, in float64, and then
held against what the network itself computed. If the two differ, the explanation is wrong and is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, Failure
from eyeshot.explanation.capture import Call, record
from eyeshot.explanation.traces import UnitTrace
from eyeshot.explanation.tracing import trace

TOLERANCE = 1e-5
_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


def explain_unit(
    net: nn.Module, x: Tensor, *, layer: str, unit: Sequence[int], call: int = 0
) -> UnitTrace:
    """Trace one output of ``layer`` while ``net`` looks at ``x``.

    The network runs once in eval mode without gradients, and is left as it was found.

    Args:
        net: any module that takes one tensor.
        x: the input as the network takes it, with a batch axis; the first of the batch is traced.
        layer: a dotted name: a convolution, transposed convolution, pool or linear layer.
        unit: (channel, row, column) in that layer's output, counted from 0; (channel, position)
            of a signal.
        call: which of its calls, where the network uses the layer several times.

    Raises:
        UnknownName: no such layer.
        BadValue: the unit is outside the map, or the layer is not used.
        Unsupported: a layer of another kind.
        Failure: the sum does not equal the network's own value.
    """
    heard = record(net, x, layer, call)
    traced = trace(heard, _check_unit(heard, unit))
    _check_total(traced, torch.finfo(heard.output.dtype).eps)
    return traced


def _check_unit(heard: Call, unit: Sequence[int]) -> tuple[int, ...]:
    """``unit`` as whole numbers that lie inside the map."""
    shape = tuple(heard.output.shape[1:])
    if len(unit) != len(shape):
        axes = ("channel", *_AXES[len(shape) - 1]) if 1 < len(shape) < 5 else ("feature",)
        raise BadValue(
            f"unit {','.join(map(str, unit))} has {len(unit)} of the {len(shape)} numbers that the "
            f"map of layer {heard.name!r} has, of shape {shape}",
            cure=f"give {','.join(axes)}" if len(axes) == len(shape) else "give one for each axis",
        )
    if not all(0 <= u < n for u, n in zip(unit, shape, strict=True)):
        raise BadValue(
            f"unit {','.join(map(str, unit))} is outside the map of layer {heard.name!r}, which "
            f"has shape {shape}",
            cure=f"use at most {','.join(str(n - 1) for n in shape)}, counted from 0",
        )
    return tuple(int(u) for u in unit)


def _check_total(found: UnitTrace, rounding: float) -> None:
    """Refuse an explanation that does not come to the network's own value.

    Rounding grows with what is added up, so large parts that cancel are allowed their share; a
    network in half precision rounds more coarsely than 1e-5.
    """
    largest = max([1.0, abs(found.network_value), *[abs(part.sum) for part in found.parts]])
    allowed = max(TOLERANCE, 4 * rounding) * largest
    if not np.isclose(found.total, found.network_value, rtol=0, atol=allowed, equal_nan=True):
        raise Failure(
            f"layer {found.layer!r}, unit {found.unit}: the sum comes to {found.total:.9g} and the "
            f"network has {found.network_value:.9g}",
            cure="does the layer compute something of its own in forward or in a hook?",
        )
