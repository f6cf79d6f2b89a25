"""Padding in its four modes; a tile is padded only where it touches the image's border."""

from __future__ import annotations

import numpy as np
import torch

from eyeshot.axes import (
    AxisMap,
    Interval,
    Pad,
)
from eyeshot.axes.maps import PadMode
from eyeshot.graph import Family, Node, PadParams
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
)
from eyeshot.operators.record import Operator, copied, nothing
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
    borders,
    widened,
)

_PAD_MODES: dict[str, PadMode] = {
    "constant": "zero",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


def pad_geometry(site: Site) -> Described:
    """``aten.pad`` in its four modes; negative amounts crop."""
    source = site.node("self")
    amounts = [int(one) for one in site.arguments["pad"]]
    mode = _PAD_MODES[str(site.arguments.get("mode", "constant"))]
    if mode == "circular" and min(amounts, default=0) < 0 < max(amounts, default=0):
        raise NoRule("it wraps round a picture that it also crops")
    maps: dict[int, AxisMap] = {}
    for i in range(len(amounts) // 2):
        maps[len(source.shape) - 1 - i] = Pad(amounts[2 * i], amounts[2 * i + 1], mode)
    value = float(site.arguments.get("value") or 0.0) if mode == "zero" else None
    params = PadParams(padding=tuple(amounts), mode=mode, value=value)
    return Described((along(source, maps),), source.dims, params=params)


def pad_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Pad the tile where it touches the image's border; inside the image, return it unchanged."""
    fill = node.params.value or 0.0
    zero = node.params.mode == "zero"

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        value = tile.value
        amounts: dict[int, tuple[int, int]] = {}
        for place, axis in enumerate(tile.axes):
            dim = tile.dims[place]
            if dim is None or not isinstance(axis, Pad):
                continue
            if zero:
                amounts[dim] = borders(axis, box[place], tile.extents[place])
            else:
                value = _repeated(value, dim, axis, box[place], tile, place)
        return widened(value, amounts, fill) if amounts else value

    return compute


def _repeated(
    value: torch.Tensor, dim: int, axis: Pad, outputs: Interval, tile: Tile, place: int
) -> torch.Tensor:
    available, n = tile.box[place], tile.extents[place]
    if borders(axis, outputs, n) == (0, 0):
        start = axis.input_range(outputs, n).lo - available.lo
        return value.narrow(dim, start, len(outputs))
    inputs = (
        axis.inputs_of(np.arange(outputs.lo, outputs.hi, dtype=np.int64), n)[:, 0] - available.lo
    )
    return value.index_select(dim, torch.from_numpy(inputs).to(value.device))


OPERATORS = (
    Operator(
        "pad constant_pad_nd",
        Family.PAD,
        pad_geometry,
        pad_on_tile,
        slides=True,
        other_operations=nothing,
        scratch=copied,
    ),
)
