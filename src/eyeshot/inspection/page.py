"""An inspection as one self-contained HTML page, or as a piece of HTML for a notebook.

:func:`view_field` draws the receptive field of one unit on an image, and the gradient beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyeshot.cost import Cost
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.inspection import Inspection, Row, UnitField, effective_field, text, unit_field
from eyeshot.inspection.text import (
    COST_HEADINGS,
    GEOMETRY_HEADINGS,
    cost_notes,
    kind_lines,
    reach_words,
    size_lines,
    verdict,
)
from eyeshot.language import mark, spoken, tr
from eyeshot.pages import (
    Cell,
    Fact,
    Lists,
    Section,
    Severities,
    Table,
    Text,
    render_page,
    render_piece,
)
from eyeshot.pictures import Box, Panel, draw_field, draw_gradient, sheet

_HEAD = (
    mark("layer"),
    mark("operator"),
    mark("kernel,\noptions"),
    *GEOMETRY_HEADINGS,
    *(heading for heading in COST_HEADINGS if heading != "FLOPs"),
)
_STYLE = {"statistic": "warning", "nonlocal": "error", "unsupported": "error"}
_EXPLAINED = mark(
    "Field: the inputs that one unit sees; a range if units differ. Padding: how far unit 0 sees "
    "before the first input. Center: the middle of unit 0's field, in input positions. Fully "
    "connected: parameters of a layer that connects every input to every output. FLOPs are twice "
    "the multiply-adds; biases and other operations are not included. Point at a number to see all "
    "its digits."
)


def page(inspection: Inspection) -> str:
    """The whole page."""
    return render_page(
        _title(inspection),
        kicker="Eyeshot",
        facts=_facts(inspection),
        sections=_all(inspection),
        language=spoken(),
    )


def fragment(inspection: Inspection) -> str:
    """The same as a piece of HTML, whose style does not affect the rest of a notebook."""
    return render_piece(_title(inspection), facts=_facts(inspection), sections=_all(inspection))


def _title(inspection: Inspection) -> str:
    sizes = ", ".join(text.shape_words(size) for size in inspection.sizes)
    return tr("{network} on {sizes}", network=inspection.network, sizes=sizes)


def _facts(inspection: Inspection) -> list[Fact]:
    total = inspection.total
    return [
        Fact(f"{total.parameters:,}", tr("parameters")),
        Fact(f"{total.multiply_adds:,}", tr("multiply-adds")),
        Fact(f"{total.flops:,}", tr("FLOPs")),
        Fact(text.byte_words(total.memory), tr("activations")),
    ]


def _all(inspection: Inspection) -> list[Section]:
    sees = tr("What it sees, takes and needs")
    return [
        Section("findings", tr("Findings"), "", [Severities(list(_findings(inspection)))]),
        Section("sees", sees, "", [Lists(list(_lists(inspection)))]),
        Section("layers", tr("Layers"), "", [_table(inspection), Text(tr(_EXPLAINED))]),
    ]


def _findings(inspection: Inspection) -> Iterator[tuple[str, str, list[str]]]:
    worst = str(inspection.findings[0].severity) if inspection.findings else "good"
    yield worst, verdict(inspection), []
    for one in inspection.findings:
        severity, title = tr(str(one.severity)), tr(one.title)
        if one.layer:
            text = mark("{severity} at {layer}: {title}")
            title = tr(text, severity=severity, layer=one.layer, title=title)
        else:
            title = tr("{severity}: {title}", severity=severity, title=title)
        yield str(one.severity), title, [one.cause, f"→ {one.cure}"]


def _lists(inspection: Inspection) -> Iterator[tuple[str, list[str]]]:
    lists = (
        (tr("How far it sees"), [reach_words(one) for one in inspection.reaches]),
        (tr("Sizes it accepts"), list(size_lines(inspection))),
        (tr("How it can be run"), list(kind_lines(inspection))),
        (tr("Notes on cost"), list(cost_notes(inspection))),
    )
    return ((title, lines) for title, lines in lists if lines)


def _table(inspection: Inspection) -> Table:
    most = max((row.cost.multiply_adds for row in inspection.rows), default=0) or 1
    total = (Cell(tr("total")), *[Cell("")] * 7, *_cost(inspection.total))
    rows = [_row(row, most) for row in inspection.rows]
    return Table(tuple(map(tr, _HEAD)), rows, total, words=3, dense=True)


def _row(row: Row, most: int) -> tuple[Cell, ...]:
    work = row.cost.multiply_adds / most
    return (
        Cell(row.name, hint=row.reason, style=_STYLE.get(row.kind, "")),
        Cell(row.operator, style="soft"),
        Cell(text.options_words(row.options)),
        Cell(text.shape_words(row.shape)),
        Cell(text.field_words(row)),
        Cell(text.stride_words(row)),
        Cell(text.padding_words(row)),
        Cell(text.center_words(row)),
        *_cost(row.cost, row.share, work),
    )


def _cost(cost: Cost, share: float = 0.0, work: float = 0.0) -> tuple[Cell, ...]:
    equal = f"{cost.linear_equal:.2e}" if cost.linear_equal else "·"
    return (
        Cell(tr("shared")) if cost.shared else _number(cost.parameters),
        Cell(f"{share:.1%}", bar=share) if share else Cell("·"),
        _number(cost.multiply_adds, work or None),
        _number(cost.bias_adds),
        _number(cost.other_operations),
        _number(cost.memory),
        Cell(equal),
    )


def _number(count: int, bar: float | None = None) -> Cell:
    """A cell with a count in few digits, and all digits as a hint."""
    if not count:
        return Cell("·")
    exact = f"{count:,}"
    for power, unit in enumerate(("", "k", "M", "G", "T")):
        short = f"{count / 1000**power:.3g}"
        if power and count >= 10_000 and float(short) < 1000:
            return Cell(f"{short} {unit}", exact, bar)
    return Cell(exact, bar=bar)


_GAP = 16
_VOLUME = 3  # axes of space


def parse_place(text: str) -> tuple[str, tuple[int, ...] | None]:
    """``LAYER:y,x`` as the layer and the unit; ``LAYER`` alone means its middle unit.

    Raises:
        BadValue: the part after the colon is not a list of integers.
    """
    layer, colon, place = text.rpartition(":")
    if not colon:
        return text, None
    try:
        return layer, tuple(int(part) for part in place.split(","))
    except ValueError:
        raise BadValue(f"field {text}", cure="give LAYER:y,x, such as conv2:5,7") from None


def find_field(
    net: nn.Module, x: torch.Tensor, layer: str, unit: Sequence[int] | None = None
) -> UnitField:
    """What one unit of a layer sees of a batch ``x`` of one input, as data.

    Raises:
        UnknownName: no such layer.
        BadValue: the unit is outside the layer's map.
    """
    return unit_field(Fields(graph_of(net, x.shape[1:])), layer, unit)


def view_field(
    net: nn.Module,
    x: torch.Tensor,
    picture: NDArray[Any],
    layer: str,
    unit: Sequence[int] | None = None,
) -> tuple[NDArray[np.uint8], UnitField]:
    """Draw what one unit of a layer sees of an image; of a volume, in one slice.

    Args:
        net: a network over images or volumes.
        x: the image as the network takes it, (C, H, W) or (1, C, H, W); a volume (C, D, H, W) or
            (1, C, D, H, W).
        picture: the same image for display, (H, W), (H, W, 1) or (H, W, 3) uint8, as large as x;
            of a volume (D, H, W, 1) or (D, H, W, 3).
        layer: dotted name of the layer.
        unit: its row and column, of a volume its slice first; None for the middle one.

    Returns:
        The drawing (h, w, 3) uint8, with the box on the left and the gradient on the right; and the
        field as data. Of a volume, the slice in the middle of the field is drawn.

    Raises:
        UnknownName: no such layer.
        BadValue: the unit is outside the layer's map, or the sizes differ.
        Unsupported: the field of this layer is not known.
    """
    space = _VOLUME if picture.ndim == _VOLUME + 1 else 2
    size = x.shape[-space - 1 :]
    if picture.shape[:space] != tuple(size[1:]):
        shape = tuple(picture.shape[:space])
        raise BadValue(f"a picture of {shape}", cure=f"give one of {tuple(size[1:])}")
    graph = graph_of(net, size)
    field = unit_field(Fields(graph), layer, unit)
    if field.box is None or field.inside is None or len(field.box) != space:
        raise Unsupported(f"{field.layer}: {field.status}", cure="choose a layer before it")
    *depth, rows, columns = field.box
    box: Box = ((rows.lo, rows.hi), (columns.lo, columns.hi))
    strength = effective_field(graph, x, field.layer, field.unit)
    drawn_strength, which = strength, ""
    heading = f"{len(rows)} × {len(columns)} pixels: rows {rows}, columns {columns}"
    if depth:
        middle = (field.inside[0].lo + field.inside[0].hi) // 2
        middle = min(max(middle, 0), len(picture) - 1)
        picture, drawn_strength = picture[middle], strength[middle]
        which = f", in slice {middle}"
        heading = f"{len(depth[0])} × {heading.replace(':', f': slices {depth[0]},', 1)}"
    left, right = draw_field(picture, box), draw_gradient(picture, drawn_strength, box)
    gap = np.full((len(left), _GAP, 3), 255, dtype=np.uint8)
    drawn = np.concatenate([left, gap, right], axis=1)
    title = f"What unit {field.unit} of {field.layer} sees{which}"
    return sheet(title, [Panel(heading, drawn, _note(field, strength))]), field


def _note(field: UnitField, strength: NDArray[np.float32]) -> str:
    """A caption with the share of the box's pixels that have half of the gradient."""
    values = np.sort(strength[strength > 0], axis=None)[::-1]
    if not len(values):
        return "Left: what it can see (striped: padding). Right: no pixel changes it here."
    half = int(np.searchsorted(np.cumsum(values), values.sum() / 2)) + 1
    inside = int(np.prod([len(side) for side in field.inside or ()]))
    share = f"{half / max(1, inside):.1%}"
    return (
        "Left: what it can see (striped: padding). Right: where its gradient comes from; "
        f"half of it from {share} of the pixels seen."
    )
