"""An inspection as one self-contained HTML page, or as a piece of one for a notebook."""

from __future__ import annotations

from collections.abc import Iterator

from eyeshot.cost import Cost
from eyeshot.inspection import wording
from eyeshot.inspection.report import Inspection
from eyeshot.inspection.rows import Row
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
from eyeshot.pages import render_page, render_piece
from eyeshot.pages.parts import Cell, Fact, Lists, Section, Severities, Table, Text

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
    """The same without the frame of a page: its style is kept to itself."""
    return render_piece(_title(inspection), facts=_facts(inspection), sections=_all(inspection))


def _title(inspection: Inspection) -> str:
    sizes = ", ".join(wording.shape_words(size) for size in inspection.sizes)
    return tr("{network} on {sizes}", network=inspection.network, sizes=sizes)


def _facts(inspection: Inspection) -> list[Fact]:
    total = inspection.total
    return [
        Fact(f"{total.parameters:,}", tr("parameters")),
        Fact(f"{total.multiply_adds:,}", tr("multiply-adds")),
        Fact(f"{total.flops:,}", tr("FLOPs")),
        Fact(wording.byte_words(total.memory), tr("activations")),
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
        Cell(tr("shared")) if cost.shared else _number(cost.parameters),
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
