"""Walks and traces drawn for a terminal with rich, and as pieces of HTML for notebooks.

The drawings are also readable without color.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from eyeshot.explanation.attribution import COLUMNS, Attribution
from eyeshot.explanation.traces import Part, TraceRule, UnitTrace, say_option, show
from eyeshot.explanation.walks import Place, Step, Walk
from eyeshot.language import mark, tr
from eyeshot.pages import Fact, GridCell, Grids, Lines, Section, render_piece
from eyeshot.pages import Text as Paragraph
from eyeshot.reference.padding import Array

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


def draw_attribution(found: Attribution) -> Group:
    """The number, what the thirds of the picture add to it, their sum, the rest, and the total."""
    unit = ", ".join(str(number) for number in found.unit)
    lines = [
        Text.assemble((tr("layer "), ""), (found.layer, "bold"), tr("  unit [{unit}]", unit=unit)),
        Text(headline(found)),
    ]
    pieces: list[RenderableType] = [*lines, Text()]
    if found.pixels.ndim == 3:
        thirds = list(found.regions().values())
        width = max(len(f"{share:+.3g}") for share in thirds)
        for first in range(0, len(thirds), len(COLUMNS)):
            row = thirds[first : first + len(COLUMNS)]
            pieces.append(Text("   ".join(f"{share:+.3g}".rjust(width) for share in row)))
        pieces += [Text(tr("added by the nine thirds of the picture"), style=MADE), Text()]
    for name, number in (
        (tr("pixels"), found.pixels.sum()),
        (tr("rest"), found.rest),
        (tr("total"), found.margin),
    ):
        pieces.append(Text(_named(name, f"{number:+.6g}")))
    pieces.append(Text(exactness(found), style=MADE))
    return Group(*pieces)


def headline(found: Attribution) -> str:
    """The number and its name, or both numbers and how far they are apart."""
    name, other = found.names
    score, subtracted = f"{found.score:.4g}", f"{found.other:.4g}"
    if found.against is None:
        return tr("{name}: {score}", name=name, score=score)
    text = mark("{name} leads {other} by {margin} ({score} against {subtracted})")
    if found.margin < 0:
        text = mark("{name} is behind {other} by {margin} ({score} against {subtracted})")
    margin = f"{abs(found.margin):.4g}"
    return tr(text, name=name, other=other, margin=margin, score=score, subtracted=subtracted)


def exactness(found: Attribution) -> str:
    """Whether the shares are exact, in a sentence."""
    if found.linear:
        return tr(
            "exact: near this picture the number is a weighted sum of its pixels; the rest is what "
            "the biases and an empty picture give"
        )
    if found.linear is None:
        return tr(
            "gradient times input; an operator has no second derivative, so it is not known "
            "whether the rest holds more than biases"
        )
    return tr(
        "gradient times input: the number is not a weighted sum of the pixels here, so the rest "
        "also holds what is curved"
    )


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


def _trace_parts(trace: UnitTrace) -> Iterator[Grids | Paragraph]:
    shown, left = choose_parts(trace.parts, _MOST_PARTS)
    for part in shown:
        where = f"{part.source}, " if part.source else ""
        yield Grids(list(_part_grids(trace, part)), f"{where}channel {part.channel}")
    if left:
        rest = show(sum(part.sum for part in left))
        yield Paragraph(f"{len(left)} smaller parts add up to {rest}")


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
