"""Walks and traces as pieces of HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eyeshot.explanation.drawing import PART_NAMES, choose_parts
from eyeshot.explanation.notation import say_option, show
from eyeshot.explanation.traces import Part, UnitTrace
from eyeshot.explanation.walks import Walk
from eyeshot.pages import render_piece
from eyeshot.pages.parts import Fact, GridCell, Grids, Lines, Section, Text
from eyeshot.reference.windows import Array

_MOST_PARTS, _MOST_SIDE = 16, 12

Named = tuple[str, list[list[GridCell]] | str]


def trace_piece(trace: UnitTrace) -> str:
    """A number inside a network: its patches, kernels, partial sums and total."""
    unit = ", ".join(map(str, trace.unit))
    facts = [
        Fact(show(trace.total), "the sum, worked out here"),
        Fact(show(trace.network_value), "the network's own value"),
        Fact(f"{abs(trace.total - trace.network_value):.1e}", "between the two"),
    ]
    if trace.bias is not None:
        facts.append(Fact(show(trace.bias), "bias"))
    says = f"{trace.operator}, map {'×'.join(map(str, trace.shape))}"
    section = Section("parts", "", says, list(_trace_parts(trace)))
    return render_piece(f"Layer {trace.layer}, unit [{unit}]", facts=facts, sections=[section])


def _trace_parts(trace: UnitTrace) -> Iterator[Grids | Text]:
    shown, left = choose_parts(trace.parts, _MOST_PARTS)
    for part in shown:
        where = f"{part.source}, " if part.source else ""
        yield Grids(list(_part_grids(trace, part)), f"{where}channel {part.channel}")
    if left:
        rest = show(sum(part.sum for part in left))
        yield Text(f"{len(left)} smaller parts add up to {rest}")


def _part_grids(trace: UnitTrace, part: Part) -> Iterator[Named]:
    yield "patch", _grid(part.patch, part.outside)
    if part.kernel is not None:
        yield "", "×"
        yield "kernel", _grid(part.kernel)
    yield "", "→"
    yield PART_NAMES[trace.rule], [[(show(part.sum), 0.0, "seen")]]


def walk_piece(walk: Walk) -> str:
    """A window over a small matrix: its input, its output, and every sum."""
    grids: list[Named] = [("input", _grid(walk.input))]
    if walk.read.shape != walk.input.shape:
        name = "zeros inserted" if walk.operation == "transpose" else "padded"
        grids.append((name, _grid(walk.read, made=walk.made)))
    if walk.kernel is not None:
        grids += [("", "∗"), ("kernel", _grid(walk.kernel))]
    grids += [("", "→"), ("output", _grid(walk.output))]
    options = ", ".join(f"{name} {say_option(value)}" for name, value in walk.options.items())
    sums = [f"[{step.output[0]}, {step.output[1]}]: {step.formula}" for step in walk.steps]
    title = "One step" if len(sums) == 1 else f"All {len(sums)} steps"
    parts: list[Grids | Lines] = [Grids(grids), Lines(title, sums, folded=len(sums) > 16)]
    return render_piece(walk.operation, sections=[Section("walk", "", options, parts)])


def _grid(
    values: Array, outside: Array | None = None, made: NDArray[np.bool_] | None = None
) -> list[list[GridCell]]:
    """Numbers as cells, toned by their share of the largest; a volume slice under slice."""
    flat = np.atleast_2d(values)
    flat = flat.reshape(-1, flat.shape[-1])
    hidden = None if outside is None else np.atleast_2d(outside).reshape(flat.shape)
    added = None if made is None else np.atleast_2d(made).reshape(flat.shape)
    finite = flat[np.isfinite(flat)]
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0

    def cell(row: int, column: int) -> GridCell:
        value = float(flat[row, column])
        if np.isnan(value) or (hidden is not None and hidden[row, column]):
            return ("·", 0.0, "made")
        tone = float(np.clip(value / largest, -1, 1))
        return (f"{value:.3g}", tone, "made" if added is not None and added[row, column] else "")

    rows, columns = (min(n, _MOST_SIDE) for n in flat.shape)
    cells = [[cell(row, column) for column in range(columns)] for row in range(rows)]
    if (rows, columns) != flat.shape:
        cells.append([(f"… {flat.shape[0]}×{flat.shape[1]} in all", 0.0, "made")])
    return cells
