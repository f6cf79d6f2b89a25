"""One unit's field on a picture: the box that it can see, and beside it what really moves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.inspection.effective import effective_field
from eyeshot.inspection.units import UnitField, unit_field
from eyeshot.pictures import Panel, sheet
from eyeshot.pictures.fields import Box, draw_field, draw_gradient

_GAP = 16


def parse_place(text: str) -> tuple[str, tuple[int, ...] | None]:
    """``LAYER:y,x`` as the layer and the unit; ``LAYER`` alone means its middle unit.

    Raises:
        BadValue: what stands behind the colon is not a list of whole numbers.
    """
    layer, colon, place = text.rpartition(":")
    if not colon:
        return text, None
    try:
        return layer, tuple(int(part) for part in place.split(","))
    except ValueError:
        raise BadValue(f"field {text}", cure="give LAYER:y,x, such as conv2:5,7") from None


def view_field(
    net: nn.Module,
    x: torch.Tensor,
    picture: NDArray[Any],
    layer: str,
    unit: Sequence[int] | None = None,
) -> tuple[NDArray[np.uint8], UnitField]:
    """Draw what one unit of a layer sees of a picture.

    Args:
        net: a network over pictures.
        x: the picture as the network takes it, (C, H, W) or (1, C, H, W).
        picture: the same picture to look at, (H, W), (H, W, 1) or (H, W, 3) uint8, as large as x.
        layer: dotted name.
        unit: its row and column; None for the middle one.

    Returns:
        The drawing (h, w, 3) uint8, the box on the left and the gradient on the right; and the
        field in numbers.

    Raises:
        UnknownName: no such layer.
        BadValue: the unit lies outside the layer, or the sizes do not fit.
        Unsupported: nothing can be said of this layer's field.
    """
    size = x.shape[-3:]
    if picture.shape[:2] != tuple(size[1:]):
        raise BadValue(f"a picture of {picture.shape[:2]}", cure=f"give one of {tuple(size[1:])}")
    graph = graph_of(net, size)
    seen = unit_field(Fields(graph), layer, unit)
    if seen.box is None or seen.inside is None or len(seen.box) != 2:
        raise Unsupported(f"{seen.layer}: {seen.status}", cure="choose a layer before it")
    rows, columns = seen.box
    box: Box = ((rows.lo, rows.hi), (columns.lo, columns.hi))
    strength = effective_field(graph, x, seen.layer, seen.unit)
    left, right = draw_field(picture, box), draw_gradient(picture, strength, box)
    gap = np.full((len(left), _GAP, 3), 255, dtype=np.uint8)
    heading = f"{len(rows)} × {len(columns)} pixels: rows {rows}, columns {columns}"
    drawn = np.concatenate([left, gap, right], axis=1)
    title = f"What unit {seen.unit} of {seen.layer} sees"
    return sheet(title, [Panel(heading, drawn, _note(seen, strength))]), seen


def _note(seen: UnitField, strength: NDArray[np.float32]) -> str:
    """How much of the box matters: the share of its pixels that hold half of the gradient."""
    values = np.sort(strength[strength > 0], axis=None)[::-1]
    if not len(values):
        return "Left: what it can see (striped: padding). Right: no pixel changes it here."
    half = int(np.searchsorted(np.cumsum(values), values.sum() / 2)) + 1
    inside = int(np.prod([len(side) for side in seen.inside or ()]))
    share = f"{half / max(1, inside):.1%}"
    return (
        "Left: what it can see (striped: padding). Right: where its gradient comes from; "
        f"half of it from {share} of the pixels seen."
    )
