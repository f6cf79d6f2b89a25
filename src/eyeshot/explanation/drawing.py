"""Walks and traces drawn for a terminal with rich; they read as well without colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from eyeshot.explanation.notation import say_option, show
from eyeshot.explanation.traces import Part, TraceRule, UnitTrace
from eyeshot.explanation.walks import Place, Step, Walk
from eyeshot.language import mark, tr
from eyeshot.reference.windows import Array

SEEN, MADE, RESULT = "bold yellow", "dim", "bold green"
MOST_PARTS = 32
PART_NAMES: dict[TraceRule, str] = {
    "sum": mark("partial sum"),
    "max": mark("largest"),
    "min": mark("smallest"),
    "mean": mark("mean"),
    "product": mark("factor"),
    "value": mark("goes in"),
    "copy": mark("copied"),
}
MOST_SIDE = 12

Style = Callable[[Place], str]


def draw_walk(walk: Walk) -> Group:
    """The input, then for every step the window on it, the sum, and the output so far."""
    return Group(_head(walk), *(_draw_step(walk, n) for n in range(len(walk.steps))), _tail(walk))


def draw_trace(trace: UnitTrace) -> Group:
    """Patch, kernel and partial sum of every input channel, the bias, and the total."""
    unit = ", ".join(str(number) for number in trace.unit)
    shape = "×".join(str(n) for n in trace.shape)
    title = Text.assemble(
        (tr("layer "), ""),
        (trace.layer, "bold"),
        tr(
            "  {operator}  map {shape}  unit [{unit}]",
            operator=trace.operator,
            shape=shape,
            unit=unit,
        ),
    )
    shown, left = choose_parts(trace.parts)
    table = [_parts_table(trace, shown, left)] if trace.parts else []
    return Group(title, *table, *_sum_lines(trace))


def _head(walk: Walk) -> RenderableType:
    options = "  ".join(f"{name} {say_option(value)}" for name, value in walk.options.items())
    sides = Table.grid(padding=(0, 4))
    columns: list[RenderableType] = [_titled(tr("input"), _matrix(walk.input))]
    if walk.read.shape != walk.input.shape:
        name = tr("zeros inserted") if walk.operation == "transpose" else tr("padded")
        columns.append(_titled(name, _matrix(walk.read, _made_style(walk))))
    if walk.kernel is not None:
        turned = walk.operation == "transpose" or walk.options.get("flip")
        name = tr("kernel, turned") if turned else tr("kernel")
        columns.append(_titled(name, _matrix(walk.kernel)))
    sides.add_row(*columns)
    return Group(Text.assemble((walk.operation, "bold"), f"  {options}"), sides)


def _draw_step(walk: Walk, number: int) -> RenderableType:
    step = walk.steps[number]
    row, column = step.output
    sides = Table.grid(padding=(0, 4))
    so_far = {s.output: s.result for s in walk.steps[: number + 1]}
    sides.add_row(
        _matrix(walk.read, _made_style(walk), frozenset(term.at for term in step.terms)),
        _output(walk, so_far, step),
    )
    title = tr(
        "step {n} of {steps}: output [{row}, {column}]",
        n=number + 1,
        steps=len(walk.steps),
        row=row,
        column=column,
    )
    return Group(Text(f"\n{title}", style="bold"), sides, Text(step.formula))


def _tail(walk: Walk) -> RenderableType:
    return Group(Text("\n" + tr("output"), style="bold"), _matrix(walk.output, lambda _: RESULT))


def _output(walk: Walk, so_far: dict[Place, float], step: Step) -> Text:
    """The output as far as it has come, the newest cell in brackets."""
    known = np.full(walk.output.shape, np.nan)
    for place, value in so_far.items():
        known[place] = value
    width = max(len(show(s.result)) for s in walk.steps)
    newest = frozenset([step.output])
    return _matrix(known, lambda at: RESULT if at in newest else "", newest, width)


def _made_style(walk: Walk) -> Style:
    return lambda at: MADE if walk.made[at] else ""


def _matrix(
    values: Array,
    style: Style = lambda _: "",
    seen: frozenset[Place] = frozenset(),
    width: int = 1,
) -> Text:
    """Numbers in columns, with brackets around each run of seen cells.

    NaN means an empty cell, printed as a dot. ``width`` is the smallest width of a column.
    """
    words = [["·" if np.isnan(v) else show(v) for v in row] for row in values.tolist()]
    width = max(width, *(len(word) for row in words for word in row))
    text = Text()
    for row, line in enumerate(words):
        for column, word in enumerate(line):
            here, before = (row, column) in seen, (row, column - 1) in seen
            text.append(_mark(before, here))
            text.append(word.rjust(width), SEEN if here else style((row, column)))
        text.append("]" if (row, len(line) - 1) in seen else " ")
        if row + 1 < len(words):
            text.append("\n")
    return text


def _mark(before: bool, here: bool) -> str:
    """The text between two neighboring cells: ``[`` where a run begins, ``]`` where it ends."""
    if here == before:
        return " "
    return "[" if here else "]"


def _titled(title: str, body: RenderableType) -> Group:
    return Group(Text(title, style="italic"), body)


def choose_parts(parts: tuple[Part, ...], most: int = MOST_PARTS) -> tuple[list[Part], list[Part]]:
    """The parts to draw, the largest ones if they are many, and the rest."""
    if len(parts) <= most:
        return list(parts), []
    ranked = sorted(parts, key=lambda part: -abs(part.sum))
    shown = sorted(ranked[:most], key=lambda part: part.channel)
    return shown, ranked[most:]


def _parts_table(trace: UnitTrace, shown: list[Part], left: list[Part]) -> Table:
    windows = any(part.patch.ndim for part in trace.parts)
    weighed = any(part.kernel is not None for part in trace.parts)
    named = any(part.source for part in trace.parts)
    table = Table(show_lines=windows)
    if named:
        table.add_column(tr("from"))
    table.add_column(tr("channel"), justify="right")
    table.add_column(tr("patch") if windows else tr("number"))
    if weighed:
        table.add_column(tr("kernel") if windows else tr("weight"))
    table.add_column(tr(PART_NAMES[trace.rule]), justify="right")
    for part in shown:
        cells: list[RenderableType] = [_place(part)] if named else []
        cells += [str(part.channel), _block(part.patch, part.outside)]
        if weighed:
            cells.append("" if part.kernel is None else _block(part.kernel))
        table.add_row(*cells, Text(_exact(part.sum), style=RESULT))
    if left:
        rest = sum(part.sum for part in left)
        empty = [""] * (len(table.columns) - 3 - named)
        first = [""] if named else []
        table.add_row(*first, "…", tr("{n} smaller ones", n=len(left)), *empty, _exact(rest))
    return table


def _place(part: Part) -> str:
    return f"{part.source} [{', '.join(map(str, part.at))}]" if part.at else part.source


def _sum_lines(trace: UnitTrace) -> Iterator[Text]:
    if trace.bias is not None:
        yield Text(_named(tr("bias"), _exact(trace.bias)))
    yield Text(_named(tr("total"), _exact(trace.total)), style=RESULT)
    yield Text(_named(tr("network"), _exact(trace.network_value)))
    yield Text(_named(tr("difference"), f"{abs(trace.total - trace.network_value):.1e}"))


def _named(name: str, number: str) -> str:
    """The name, and the number at the right end of a column, by the widths on a terminal."""
    return f"{set_cell_size(name, 15)}{number:>14}"


def _block(array: Array, outside: Array | None = None) -> Text:
    """A window of any number of axes: rows of numbers, slice under slice, cut where long."""
    if array.ndim == 0:
        return Text(show(float(array)))
    if array.ndim > 2:
        blocks = [
            _block(part, None if outside is None else outside[n]) for n, part in enumerate(array)
        ]
        return Text("\n\n").join(blocks)
    rows = np.atleast_2d(array)
    mask = np.zeros(rows.shape, bool) if outside is None else np.atleast_2d(outside)
    hidden = mask[:MOST_SIDE, :MOST_SIDE]
    words = [
        ["·" if gone else f"{v:.3g}" for v, gone in zip(row, mask, strict=True)]
        for row, mask in zip(rows[:MOST_SIDE, :MOST_SIDE].tolist(), hidden.tolist(), strict=True)
    ]
    width = max(len(word) for row in words for word in row)
    lines = [" ".join(word.rjust(width) for word in row) for row in words]
    if max(rows.shape) > MOST_SIDE:
        lines.append(tr("… {size} in all", size=f"{rows.shape[0]}×{rows.shape[1]}"))
    return Text("\n".join(lines))


def _exact(number: float) -> str:
    return f"{number + 0.0:.6f}" if abs(number) < 1e6 else f"{number:.6e}"
