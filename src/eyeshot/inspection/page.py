"""An inspection as one self-contained HTML page, or as a piece of one for a notebook."""

from __future__ import annotations

from collections.abc import Iterator

from eyeshot.cost import Cost
from eyeshot.inspection import wording
from eyeshot.inspection.report import Inspection
from eyeshot.inspection.rows import Row
from eyeshot.inspection.text import cost_notes, kind_lines, reach_words, size_lines, verdict
from eyeshot.pages import render_page, render_piece
from eyeshot.pages.parts import Cell, Fact, Lists, Section, Severities, Table, Text

_HEAD = (
    *("layer", "operator", "kernel,\noptions", "output", "field", "stride", "padding", "center"),
    *("parameters", "share", "multiply-\nadds", "bias\nadds", "other\noperations"),
    *("memory,\nbytes", "fully\nconnected"),
)
_STYLE = {"statistic": "warning", "nonlocal": "error", "unsupported": "error"}
_EXPLAINED = (
    "Field: the inputs that one unit sees; a range if units differ. Padding: how far unit 0 sees "
    "before the first input. Center: the middle of unit 0's field, in input positions. Fully "
    "connected: parameters of a layer that connects every input to every output. FLOPs are twice "
    "the multiply-adds; biases and other operations are not included. Point at a number to see all "
    "its digits."
)


def page(inspection: Inspection) -> str:
    """The whole page."""
    return render_page(
        _title(inspection), kicker="Eyeshot", facts=_facts(inspection), sections=_all(inspection)
    )


def fragment(inspection: Inspection) -> str:
    """The same without the frame of a page: its style is kept to itself."""
    return render_piece(_title(inspection), facts=_facts(inspection), sections=_all(inspection))


def _title(inspection: Inspection) -> str:
    sizes = ", ".join(wording.shape_words(size) for size in inspection.sizes)
    return f"{inspection.network} on {sizes}"


def _facts(inspection: Inspection) -> list[Fact]:
    total = inspection.total
    return [
        Fact(f"{total.parameters:,}", "parameters"),
        Fact(f"{total.multiply_adds:,}", "multiply-adds"),
        Fact(f"{total.flops:,}", "FLOPs"),
        Fact(wording.byte_words(total.memory), "activations"),
    ]


def _all(inspection: Inspection) -> list[Section]:
    return [
        Section("findings", "Findings", "", [Severities(list(_findings(inspection)))]),
        Section("sees", "What it sees, takes and needs", "", [Lists(list(_lists(inspection)))]),
        Section("layers", "Layers", "", [_table(inspection), Text(_EXPLAINED)]),
    ]


def _findings(inspection: Inspection) -> Iterator[tuple[str, str, list[str]]]:
    worst = str(inspection.findings[0].severity) if inspection.findings else "good"
    yield worst, verdict(inspection), []
    for one in inspection.findings:
        place = f" at {one.layer}" if one.layer else ""
        title = f"{one.severity}{place}: {one.title}"
        yield str(one.severity), title, [one.cause, f"→ {one.cure}"]


def _lists(inspection: Inspection) -> Iterator[tuple[str, list[str]]]:
    lists = (
        ("How far it sees", [reach_words(one) for one in inspection.reaches]),
        ("Sizes it accepts", list(size_lines(inspection))),
        ("How it can be run", list(kind_lines(inspection))),
        ("Notes on cost", list(cost_notes(inspection))),
    )
    return ((title, lines) for title, lines in lists if lines)


def _table(inspection: Inspection) -> Table:
    most = max((row.cost.multiply_adds for row in inspection.rows), default=0) or 1
    total = (Cell("total"), *[Cell("")] * 7, *_cost(inspection.total))
    rows = [_row(row, most) for row in inspection.rows]
    return Table(_HEAD, rows, total, words=3, dense=True)


def _row(row: Row, most: int) -> tuple[Cell, ...]:
    work = row.cost.multiply_adds / most
    return (
        Cell(row.name, hint=row.reason, style=_STYLE.get(row.kind, "")),
        Cell(row.operator, style="soft"),
        Cell(wording.options_words(row.options)),
        Cell(wording.shape_words(row.shape)),
        Cell(wording.field_words(row)),
        Cell(wording.stride_words(row)),
        Cell(wording.padding_words(row)),
        Cell(wording.center_words(row)),
        *_cost(row.cost, row.share, work),
    )


def _cost(cost: Cost, share: float = 0.0, work: float = 0.0) -> tuple[Cell, ...]:
    equal = f"{cost.linear_equal:.2e}" if cost.linear_equal else "·"
    return (
        Cell("shared") if cost.shared else _number(cost.parameters),
        Cell(f"{share:.1%}", bar=share) if share else Cell("·"),
        _number(cost.multiply_adds, work or None),
        _number(cost.bias_adds),
        _number(cost.other_operations),
        _number(cost.memory),
        Cell(equal),
    )


def _number(count: int, bar: float | None = None) -> Cell:
    """A count in few digits, with all of them as a hint."""
    if not count:
        return Cell("·")
    exact = f"{count:,}"
    for power, unit in enumerate(("", "k", "M", "G", "T")):
        short = f"{count / 1000**power:.3g}"
        if power and count >= 10_000 and float(short) < 1000:
            return Cell(f"{short} {unit}", exact, bar)
    return Cell(exact, bar=bar)
