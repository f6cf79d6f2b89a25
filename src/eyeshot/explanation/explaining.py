"""``eyeshot.explain``: one unit of a network, or of a trained run looking at a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot import runs
from eyeshot.errors import BadValue
from eyeshot.explanation.traces import UnitTrace
from eyeshot.explanation.units import explain_unit
from eyeshot.frontends.trials import as_batch
from eyeshot.runs.inputs import prepare_input


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
            batch, of which the first item is traced.
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
    run = runs.load(net) if isinstance(net, str | Path) else net
    if isinstance(run, nn.Module):
        network, batch = run, as_batch(run, _checked(image))
    else:
        network = run.net
        batch = (
            as_batch(network, _checked(image))
            if isinstance(image, Tensor)
            else prepare(run, image)[0]
        )
    place = next(iter(network.parameters()), batch)
    return explain_unit(network, batch.to(place.device), layer=layer, unit=unit, call=call)


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
    if isinstance(image, str | Path):
        raise BadValue(
            f"a network alone cannot read the picture {image}",
            cure="give a trained run, which knows how its pictures are prepared, or a tensor",
        )
    x = torch.as_tensor(image)
    if not x.is_floating_point():
        raise BadValue(
            f"an input of {x.dtype}", cure="give floating point, normalised as in training"
        )
    return x
