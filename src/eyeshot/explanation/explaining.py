"""``eyeshot.explain``: the sum behind one unit of a network, or of a trained run on an image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot import runs
from eyeshot.errors import BadValue, Failure
from eyeshot.explanation.capture import Seen, hear_operator, see_operator
from eyeshot.explanation.traces import UnitTrace
from eyeshot.explanation.tracing import check_batch, trace
from eyeshot.features.seeing import NO_GRAPH, as_input
from eyeshot.frontends.refusals import check_module, refuse_autocast, refuse_unreadable
from eyeshot.frontends.trials import as_batch
from eyeshot.runs.inputs import prepare_input
from eyeshot.untouched import one_at_a_time

TOLERANCE = 1e-5
_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


@one_at_a_time
def explain_unit(
    net: nn.Module, x: Tensor, *, layer: str, unit: Sequence[int], call: int = 0
) -> UnitTrace:
    """Trace one output of ``layer`` for the input ``x`` of ``net``.

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
        BadValue: the unit is outside the map, the layer is not used, or ``torch.autocast`` is on.
        Unsupported: the operator has no such sum, or the network is scripted.
        Failure: the sum does not equal the network's own value.
    """
    refuse_autocast()
    refuse_unreadable(net)
    seen, reason = see_operator(net, x, layer, call)
    if seen is None:
        warnings.warn(f"{NO_GRAPH}: {reason}", stacklevel=3)
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
        shape = tuple(seen.output.shape[1:])
        traced = trace(seen, check_unit(seen.name, shape, unit))
    real = seen.output.is_floating_point()
    check_total(traced, torch.finfo(seen.output.dtype).eps if real else 0.0)
    return traced


def check_unit(layer: str, shape: tuple[int, ...], unit: Sequence[int]) -> tuple[int, ...]:
    """``unit`` as whole numbers inside a map of this shape, (C, …).

    Raises:
        BadValue: it is outside, or has another number of axes.
    """
    if len(unit) != len(shape):
        axes = ("channel", *_AXES[len(shape) - 1]) if 1 < len(shape) < 5 else ("feature",)
        raise BadValue(
            f"unit {','.join(map(str, unit))} has {len(unit)} of the {len(shape)} numbers that the "
            f"map of layer {layer!r} has, of shape {shape}",
            cure=f"give {','.join(axes)}" if len(axes) == len(shape) else "give one for each axis",
        )
    if not all(0 <= u < n for u, n in zip(unit, shape, strict=True)):
        raise BadValue(
            f"unit {','.join(map(str, unit))} is outside the map of layer {layer!r}, which "
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


@one_at_a_time
def explain(
    net: nn.Module | runs.Run | str | Path,
    image: Tensor | NDArray[Any] | str | Path,
    *,
    layer: str,
    unit: Sequence[int],
    call: int = 0,
) -> UnitTrace:
    """Explain one number inside a network: patch, kernel, partial sums, bias, total.

    Args:
        net: a network, a trained run, or the path of a run's folder.
        image: for a run, a picture: a file, or an array (H, W) or (H, W, C), prepared as in
            training; of any size if the network's output is a mask or a picture. For a network
            (or a run): the network's input, a float tensor (C, H, W), (C, L) or (C, D, H, W), or a
            batch of these; the first item is traced.
        layer: a name that ``inspect`` and ``see`` print: ``conv#2`` for a second call, ``conv2d``
            for a function. Weighted sums, pools, means, batch norms, resizes, activations, sums and
            products of maps, and operators that only move numbers can be explained.
        unit: (channel, row, column) in that layer's output, counted from 0.
        call: the index of the call, if the network uses the layer several times.

    Returns:
        Plain data: ``to_dict()`` for JSON; ``rich.print()`` draws it.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the unit is outside the map, or the input does not fit.
        BadFile: the file is not a run folder, or not a picture.
        Unsupported: the operator has no such sum, for example attention.
        Failure: the sum does not equal the network's own value.
    """
    _, network, batch = network_and_input(net, image)
    return explain_unit(network, batch, layer=layer, unit=unit, call=call)


def network_and_input(
    net: nn.Module | runs.Run | str | Path, image: Tensor | NDArray[Any] | str | Path
) -> tuple[runs.Run | None, nn.Module, Tensor]:
    """The run, if there is one, its network, and the image as the network's input (N, C, …).

    Args:
        net: as for :func:`explain`.
        image: as for :func:`explain`.

    Raises:
        BadValue: the input does not fit.
        BadFile: the file is not a run folder, or not a picture.
    """
    run = runs.load(net) if isinstance(net, str | Path) else net
    if not isinstance(run, runs.Run):
        check_module(run)
        batch = as_batch(run, _checked(image))
        return None, run, _placed(run, batch)
    batch = (
        as_batch(run.net, _checked(image)) if isinstance(image, Tensor) else prepare(run, image)[0]
    )
    return run, run.net, _placed(run.net, batch)


def _placed(net: nn.Module, batch: Tensor) -> Tensor:
    """The batch on the network's device, in the type of its weights."""
    return batch.to(next((one for one in net.parameters() if one.is_floating_point()), batch))


def prepare(run: runs.Run, image: NDArray[Any] | str | Path) -> tuple[Tensor, list[str]]:
    """A picture as the run's network input, float32 (1, C, H, W), and the steps of its preparation.

    Raises:
        BadFile: not a picture.
        BadValue: a picture that cannot be prepared.
    """
    ready = prepare_input(run, image)
    return ready.values, list(ready.notes)


def _checked(image: Any) -> Tensor:
    """A float tensor.

    Raises:
        BadValue: a file's name, or whole numbers.
    """
    x = as_input(image)
    if not x.is_floating_point():
        raise BadValue(
            f"an input of {x.dtype}", cure="give floating point, normalized as in training"
        )
    return x
