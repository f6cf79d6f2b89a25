"""An inspection as text tables, for a terminal of at least 100 columns.

The ``..._words`` functions write shapes, options, fields and counts in few characters.
"""

from __future__ import annotations

import functools
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from eyeshot.axes import Interval
from eyeshot.cost import Cost, total
from eyeshot.geometry import LayerField
from eyeshot.inspection import Inspection, Reach, Row, status_words
from eyeshot.language import counted, joined, mark, ntr, tr
from eyeshot.terminal import PlainConsole

WIDTH = 118
_NAME_WIDTH = 30
COST_HEADINGS = (
    mark("parameters"),
    mark("share"),
    mark("multiply-\nadds"),
    mark("FLOPs"),
    mark("bias\nadds"),
    mark("other\noperations"),
    mark("memory,\nbytes"),
    mark("fully\nconnected"),
)
GEOMETRY_HEADINGS = (
    mark("output"),
    mark("field"),
    mark("stride"),
    mark("padding"),
    mark("center"),
)
_KIND_STYLE = {
    mark("statistic"): "yellow",
    mark("nonlocal"): "red",
    mark("unsupported"): "bold red",
    mark("held"): "",
}
_SEVERITY_STYLE = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def plain_text(inspection: Inspection, width: int = WIDTH) -> str:
    """The tables without colors."""
    out = io.StringIO()
    console = PlainConsole(file=out, width=width, color_system=None, force_terminal=False)
    console.print(render(inspection))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def render(inspection: Inspection) -> RenderableType:
    """The verdict, then the tables of geometry and cost, then the rest as text."""
    return Group(
        _headline(inspection),
        _findings(inspection),
        _titled(tr("Layers"), geometry_table(inspection)),
        _titled(tr("Cost"), cost_table(inspection)),
        *_paragraphs(inspection),
    )


def _headline(inspection: Inspection) -> Text:
    sizes = ", ".join(shape_words(size) for size in inspection.sizes)
    spent = inspection.total
    line = Text.assemble((f"{inspection.network}", "bold"), tr(" on {sizes} ", sizes=sizes))
    failed = any(str(one.severity) == "error" for one in inspection.findings)
    line.append(f"{verdict(inspection)}\n", style="bold red" if failed else "bold")
    line.append(
        tr(
            "{parameters:,} parameters, {multiply_adds:,} multiply-adds, {memory} of activations",
            parameters=spent.parameters,
            multiply_adds=spent.multiply_adds,
            memory=byte_words(spent.memory),
        )
    )
    return line


def _titled(title: str, table: RenderableType) -> RenderableType:
    return Padding(Group(Text(title, style="bold"), table), (1, 0, 0, 0))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def geometry_table(inspection: Inspection) -> Table:
    """Shapes and fields, a row for every layer."""
    table = _table()
    table.add_column(tr("layer"), no_wrap=True)
    table.add_column(tr("operator"), no_wrap=True, style="dim")
    table.add_column(tr("kernel and options"), overflow="fold")
    for heading in GEOMETRY_HEADINGS:
        table.add_column(tr(heading), justify="right", no_wrap=True)
    for row in inspection.rows:
        table.add_row(
            Text(elided(row.name, _NAME_WIDTH), style=_KIND_STYLE.get(row.kind, "")),
            elided(row.operator, 18),
            options_words(row.options),
            shape_words(row.shape),
            field_words(row),
            stride_words(row),
            padding_words(row),
            center_words(row),
        )
    return table


def cost_table(inspection: Inspection) -> Table:
    """Parameters, operations and memory; layers that only pass numbers on share one row."""
    table = _table()
    table.padding = (0, 1, 0, 0)
    table.caption = tr(
        "FLOPs are twice the multiply-adds; biases and other operations are counted separately."
    )
    table.caption_justify = "left"
    table.add_column(tr("layer"), no_wrap=True)
    for heading in COST_HEADINGS:
        table.add_column(tr(heading), justify="right", no_wrap=True)
    costly = [row for row in inspection.rows if row.cost.parameters or row.cost.multiply_adds]
    shared = [row for row in inspection.rows if row.cost.shared and row not in costly]
    rest = [row for row in inspection.rows if row not in costly and row not in shared]
    room = _room_for_names(inspection.total)
    for row in inspection.rows:
        if row not in rest:
            table.add_row(*_cost_cells(elided(row.name, room), row.cost, row.share))
    if rest:
        name = tr("{n} others", n=len(rest))
        table.add_row(*_cost_cells(name, total(row.cost for row in rest), 0.0))
    table.add_section()
    share = 1.0 if inspection.total.parameters else 0.0
    table.add_row(*_cost_cells(tr("total"), inspection.total, share), style="bold")
    return table


def _room_for_names(total_cost: Cost) -> int:
    """Columns left for a name beside numbers as wide as the totals."""
    numbers = _cost_cells("", total_cost, 1.0)[1:]
    headings = [max(map(cell_len, tr(heading).split("\n"))) for heading in COST_HEADINGS]
    widths = [max(len(n), least) for n, least in zip(numbers, headings, strict=True)]
    return max(16, WIDTH - 2 - sum(widths) - len(widths))


def _cost_cells(name: str, cost: Cost, share: float) -> list[str]:
    return [
        name,
        tr("shared") if cost.shared and not cost.parameters else count_words(cost.parameters),
        f"{share:.1%}" if share else "·",
        count_words(cost.multiply_adds),
        count_words(cost.flops),
        count_words(cost.bias_adds),
        count_words(cost.other_operations),
        count_words(cost.memory),
        f"{cost.linear_equal:.2e}" if cost.linear_equal else "·",
    ]


def _paragraphs(inspection: Inspection) -> Iterator[RenderableType]:
    yield _section(tr("How far it sees"), [reach_words(one) for one in inspection.reaches])
    yield _section(tr("Sizes it accepts"), list(size_lines(inspection)))
    yield _section(tr("How it can be run"), list(kind_lines(inspection)))
    notes = list(cost_notes(inspection))
    if notes:
        yield _section(tr("Notes on cost"), notes)


def verdict(inspection: Inspection) -> str:
    """Whether the network runs at this size, and how many findings of each kind there are."""
    counts = Counter(str(one.severity) for one in inspection.findings)
    counts_by_kind = [counted(n, kind) for kind, n in counts.items()]
    words = joined(counts_by_kind) if counts_by_kind else tr("no findings")
    if counts["error"]:
        return tr("does not run at this size: {findings}", findings=words)
    return tr("runs at this size: {findings}", findings=words)


def _findings(inspection: Inspection) -> RenderableType:
    findings = [
        Text.assemble((severity, _SEVERITY_STYLE.get(str(one.severity), "")), rest)
        for one in inspection.findings
        if (severity := tr(str(one.severity)))
        and (rest := str(one).removeprefix(severity)) is not None
    ]
    return _section(tr("Findings"), findings or [tr("none")])


def _section(title: str, lines: list[str] | list[Text]) -> RenderableType:
    shown = [
        Padding(Text(f"{one}") if isinstance(one, str) else one, (0, 0, 0, 2)) for one in lines
    ]
    return Padding(Group(Text(title, style="bold"), *shown), (1, 0, 0, 0))


def reach_words(reach: Reach) -> str:
    """One layer's halo and alignment in a sentence."""
    if not reach.axes:
        return tr("{layer}: {status}", layer=reach.layer, status=status_words(reach.status))
    halos = per_axis([_sides(axis.unit_halo) for axis in reach.axes])
    blocks = per_axis([_sides(axis.block_halo) for axis in reach.axes])
    align = per_axis([str(axis.alignment) for axis in reach.axes])
    return tr(
        "{layer}: beside its own pixels a unit needs up to {halos}; a block that starts and ends "
        "on multiples of {align} needs {blocks}",
        layer=reach.layer,
        halos=halos,
        align=align,
        blocks=blocks,
    )


def _sides(halo: tuple[int, int]) -> str:
    before, after = halo
    if before == after:
        return tr("{n} on each side", n=before)
    return tr("{before} before and {after} after", before=before, after=after)


def size_lines(inspection: Inspection) -> Iterator[str]:
    """A line for the accepted sizes of each axis; equal axes share a line."""
    if not inspection.accepted:
        if any(str(one.severity) == "error" for one in inspection.findings):
            yield tr("unknown: the network does not run at this size; see the findings")
        else:
            yield tr("unknown: the network has several inputs, or cannot be run on shapes alone")
    names = _axis_names(inspection)
    for (words, how), group in groupby(inspection.accepted, key=lambda one: (one.words, one.how)):
        alike = list(group)
        near = {
            tr("to {n}: {sizes}", n=one.requested, sizes=_all(map(str, _known(one.nearest)))): None
            for one in alike
            if _known(one.nearest)
        }
        yield tr(
            "{axes}: {accepted}{nearest} ({tried} sizes tried: {how})",
            axes=_all(tr(names[one.axis]) for one in alike),
            accepted=words,
            nearest=tr("; nearest {sizes}", sizes=tr(", ").join(near)) if near else "",
            tried=max(one.tried for one in alike),
            how=how,
        )


def _known(sizes: tuple[int | None, ...]) -> list[int]:
    return [n for n in sizes if n is not None]


def _all(words: Iterable[str]) -> str:
    """``a and b and c``."""
    return functools.reduce(
        lambda front, last: tr("{front} and {last}", front=front, last=last), words
    )


def _axis_names(inspection: Inspection) -> list[str]:
    """In English."""
    count = inspection.graph.spatial_axes
    plane = [mark("height"), mark("width")]
    return {1: [mark("length")], 2: plane}.get(count, [mark("depth"), *plane])


def kind_lines(inspection: Inspection) -> Iterator[str]:
    """A line for each kind of operator; for those that do not stream, with the reason."""
    for kind, group in groupby(inspection.operators, key=lambda one: one.kind):
        counts = list(group)
        number = sum(len(one.layers) for one in counts)
        if kind == "local":
            yield ntr(
                "local: {n} operator, of a bounded patch",
                "local: {n} operators, every one of a bounded patch",
                number,
            )
            continue
        for one in counts:
            yield tr(
                "{kind}: {n} × {operator} at {layers}: {reason}",
                kind=tr(kind),
                n=len(one.layers),
                operator=one.operator,
                layers=tr(", ").join(one.layers[:3]) + (" …" if len(one.layers) > 3 else ""),
                reason=one.reason,
            )
    if any(one.kind in ("nonlocal", "unsupported") for one in inspection.operators):
        yield tr(
            "a run holds the inputs of nonlocal and unsupported operators whole; the rest streams"
        )


def cost_notes(inspection: Inspection) -> Iterator[str]:
    """Lines that say what the totals do not include, and what is counted once."""
    if inspection.total.uncounted:
        listed = tr(", ").join(inspection.total.uncounted)
        yield tr("operations not counted, because they have no rule: {operators}", operators=listed)
    for row in inspection.rows:
        if row.cost.shared:
            names = tr(", ").join(row.cost.shared)
            yield tr("{layer} uses {names}, counted where first used", layer=row.name, names=names)
    for name, count in inspection.unused.items():
        yield tr(
            "{name}: {n:,} parameters that no operator uses; not in the totals",
            name=name,
            n=count,
        )


# A fraction of numbers with no end is cut here.
_DIGITS = 2


def shape_words(shape: Sequence[int]) -> str:
    """``64×112×112``."""
    return "×".join(str(n) for n in shape)


def count_words(count: int) -> str:
    """A count with thousands separated; a dot for 0."""
    return f"{count:,}" if count else "·"


def number_words(value: Fraction | float) -> str:
    """An integer as it is; any other number with two digits."""
    return str(int(value)) if value == int(value) else f"{float(value):.{_DIGITS}f}"


def byte_words(count: int) -> str:
    """Bytes in the largest unit that leaves at least one."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def per_axis(values: Sequence[str]) -> str:
    """One value if all axes agree, else the value of each axis."""
    unlike = list(dict.fromkeys(values))
    return unlike[0] if len(unlike) == 1 else "×".join(values)


def options_words(options: Mapping[str, Any]) -> str:
    """The kernel, and settings that differ from the default: ``7×7 /2 pad 3``."""
    words: list[str] = []
    kernel = options.get("kernel")
    if kernel:
        words.append(shape_words(kernel))
    stride = options.get("stride")
    if stride and set(stride) != {1}:
        words.append(f"/{_same(stride)}")
    padding = options.get("padding")
    if padding and any(_flat(padding)):
        words.append(f"pad {_padding(padding)}")
    for name, default in (("dilation", 1), ("output_padding", 0)):
        value = options.get(name)
        if value and set(value) != {default}:
            words.append(f"{name.replace('_', ' ')} {_same(value)}")
    if options.get("groups", 1) != 1:
        words.append(f"groups {options['groups']}")
    if options.get("ceil_mode"):
        words.append("ceil")
    return " ".join(words + _other_words(options))


def _other_words(options: Mapping[str, Any]) -> list[str]:
    words = []
    if options.get("output_size"):
        words.append(f"to {shape_words(options['output_size'])}")
    if isinstance(options.get("mode"), str):
        words.append(str(options["mode"]))
    factor = options.get("factor")
    if factor:
        listed = factor if isinstance(factor, tuple) else (factor,)
        words.append(f"by {per_axis([number_words(one) for one in listed])}")
    elif options.get("size"):
        words.append(f"to {shape_words(options['size'])}")
    if options.get("align_corners"):
        words.append("corners aligned")
    return words


def _same(values: Sequence[int]) -> str:
    return per_axis([str(one) for one in values])


def _flat(padding: Sequence[Any]) -> list[int]:
    return [n for one in padding for n in (one if isinstance(one, (tuple, list)) else [one])]


def _padding(padding: Sequence[Any]) -> str:
    """Before and after for each axis; ``pad`` lists bare numbers, from the last axis back."""
    if not isinstance(padding[0], (tuple, list)):
        return ",".join(str(one) for one in padding)
    return per_axis([str(a) if a == b else f"{a}+{b}" for a, b in padding])


def field_words(row: Row) -> str:
    """``427``, ``188–204`` where phases differ, ``whole image``, or ``?``."""
    if not row.fields:
        return "?"
    if row.status != "exact":
        return status_words(row.status)
    return per_axis([_range(field) for field in row.fields])


def _range(field: LayerField) -> str:
    if field.smallest == field.largest:
        return str(field.largest)
    return f"{field.smallest}–{field.largest}"


def stride_words(row: Row) -> str:
    """The stride: input positions from one unit to the next."""
    if row.status != "exact":
        return ""
    strides = [field.stride for field in row.fields]
    return per_axis(["?" if stride is None else number_words(stride) for stride in strides])


def center_words(row: Row) -> str:
    """The center of unit 0's field, in input positions."""
    if row.status != "exact":
        return ""
    return per_axis([number_words(field.center) for field in row.fields])


def padding_words(row: Row) -> str:
    """How far unit 0 sees before the first input."""
    if row.status != "exact":
        return ""
    return per_axis([str(field.padding) for field in row.fields])


def box_words(box: Sequence[Interval]) -> str:
    """``[-3, 4) × [-3, 4)``."""
    return " × ".join(str(side) for side in box)


def elided(name: str, width: int) -> str:
    """A dotted name cut in its middle to at most ``width`` characters."""
    if len(name) <= width:
        return name
    tail = (width - 1) * 2 // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"
