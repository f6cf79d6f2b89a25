"""A depthwise convolution with the 1×1 convolutions around it, computed together as machine code.

In an inverted residual (1×1 to more channels, depthwise, 1×1 to fewer) the maps in between are the
largest of the network. Here a thread takes a tile of columns and goes down a few rows at a time:
it keeps the expanded rows that the next ones need too, so what lies in between never leaves its
cache, and Python runs once for the three layers. Each number is computed by the same machine code
as in :mod:`eyeshot.operators.compiled_layers`, in the same order, so it is the same to the bit.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
import torch.nn.functional as F

from eyeshot.axes import AxisMap, Interval
from eyeshot.axes import Window as WindowMap
from eyeshot.graph import BlockParams, Edge, Family, Graph, Node
from eyeshot.operators.call import Tensors
from eyeshot.operators.compiled_layers import (
    ACROSS,
    DEPTHWISE,
    NOWHERE,
    POINTWISE,
    Depthwise,
    Pointwise,
    Window,
    compiled_layer,
    is_depthwise,
    is_pointwise,
    is_window,
    load_layer,
    place_of,
    room_for,
    uses_it,
)
from eyeshot.operators.convolution_kernels import convolver
from eyeshot.operators.record import Effort, Operator, Shapes, Work, nothing
from eyeshot.operators.tile import Box, Computation, Tile, borders, cut, widened
from eyeshot.operators.winograd_compiled import (
    Fields,
    MachineCode,
    function,
    is_compiled,
    register_width,
)

NAME = "compiled_block"
_MOST_NUMBERS = 1 << 17
"""That a tile keeps in a processor's own cache: half a megabyte."""
_WIDEST, _MOST_ROWS = 96, 4
"""Columns of a tile, and rows that are computed together."""

_CALL = 32
"""64-bit numbers of a call, at most; a thread copies them, and puts others in their place."""

_BLOCK: Fields = (
    "next", "threads", "scratch", "scratch_size", "filtered_start", "expand", "filter", "project",
    "expand_call", "filter_call", "project_call", "source", "row", "pixel", "height", "width",
    "top", "left", "kernel", "stride", "inner", "high", "wide", "across", "tiles", "rows",
    "expand_tile", "added", "added_row", "added_pixel", "target", "target_row", "target_pixel",
)  # fmt: skip


def _put(call: str, names: Fields, at: str, **values: str) -> list[str]:
    """Set numbers of a call; ``at`` makes the names of the lines unique."""
    lines = []
    for name, value in values.items():
        place = f"%{call}_{at}_{name}"
        lines += [f"  {place} = getelementptr i64, ptr %{call}, i64 {names.index(name)}"]
        kind = "ptr" if name in ("source", "added", "target") else "i64"
        lines += [f"  store {kind} {value}, ptr {place}"]
    return lines


def _once() -> list[str]:
    """A thread takes a part of the scratch memory, and a copy of each layer's call."""
    lines = [
        "  %ticket = atomicrmw add ptr %threads_in, i64 1 monotonic",
        "  %mine_off = mul i64 %ticket, %scratch_size",
        "  %mine = getelementptr float, ptr %scratch, i64 %mine_off",
        "  %filtered = getelementptr float, ptr %mine, i64 %filtered_start",
    ]
    for name in ("expand", "filter", "project"):
        size = f"i64 {8 * _CALL}, i1 false"
        lines += [
            f"  %my_{name} = alloca [{_CALL} x i64]",
            f"  call void @llvm.memcpy.p0.p0.i64(ptr %my_{name}, ptr %{name}_call, {size})",
        ]
    return lines


def _columns() -> list[str]:
    """The columns of tile %i: %n of the source from %first_x on, of which %shift are padding."""
    return [
        "  %x_here = mul i64 %i, %wide",
        "  %x_most = sub i64 %across, %wide",
        "  %x = call i64 @llvm.smin.i64(i64 %x_here, i64 %x_most)",
        "  %x_s = mul i64 %x, %stride",
        "  %ix = sub i64 %x_s, %left",
        "  %first_x = call i64 @llvm.smax.i64(i64 %ix, i64 0)",
        "  %wide_less = sub i64 %wide, 1",
        "  %wide_s = mul i64 %wide_less, %stride",
        "  %reads_x = add i64 %wide_s, %kernel",
        "  %ix_end = add i64 %ix, %reads_x",
        "  %end_x = call i64 @llvm.smin.i64(i64 %ix_end, i64 %width)",
        "  %n = sub i64 %end_x, %first_x",
        "  %shift = sub i64 %first_x, %ix",
        "  %source_off = mul i64 %first_x, %pixel",
        "  %source_x = getelementptr float, ptr %source, i64 %source_off",
        "  %target_off = mul i64 %x, %target_pixel",
        "  %target_x = getelementptr float, ptr %target, i64 %target_off",
        "  %added_off = mul i64 %x, %added_pixel",
        "  %added_x = getelementptr float, ptr %added, i64 %added_off",
        "  %adds = icmp ne ptr %added, null",
        "  %expands = icmp ne ptr %expand, null",
        "  %line = mul i64 %n, %inner",
        "  %expand_more = add i64 %n, %expand_tile",
        "  %expand_last = sub i64 %expand_more, 1",
        "  %expand_tiles = udiv i64 %expand_last, %expand_tile",
        "  br label %down",
    ]


def _expanded_rows() -> list[str]:
    """Rows %lo to %hi of the source, expanded in %mine; those that are there are moved up."""
    return [
        "down:",
        "  %y = phi i64 [ 0, %one ], [ %y_next, %down_more ]",
        "  %have = phi i64 [ 0, %one ], [ %hi, %down_more ]",
        "  %base = phi i64 [ 0, %one ], [ %lo, %down_more ]",
        "  %y_left = sub i64 %high, %y",
        "  %some_rows = call i64 @llvm.smin.i64(i64 %rows, i64 %y_left)",
        "  %y_s = mul i64 %y, %stride",
        "  %iy = sub i64 %y_s, %top",
        "  %rows_less = sub i64 %some_rows, 1",
        "  %rows_s = mul i64 %rows_less, %stride",
        "  %reads_y = add i64 %rows_s, %kernel",
        "  %iy_end = add i64 %iy, %reads_y",
        "  %iy_low = call i64 @llvm.smax.i64(i64 %iy, i64 0)",
        "  %lo = call i64 @llvm.smin.i64(i64 %iy_low, i64 %height)",
        "  %iy_high = call i64 @llvm.smin.i64(i64 %iy_end, i64 %height)",
        "  %hi = call i64 @llvm.smax.i64(i64 %iy_high, i64 %lo)",
        "  %tall = sub i64 %hi, %lo",
        "  %padded_y = sub i64 %lo, %iy",
        "  br i1 %expands, label %move, label %filter_rows",
        "move:",
        "  %old = sub i64 %have, %lo",
        "  %keeps = icmp sgt i64 %old, 0",
        "  br i1 %keeps, label %moving, label %expand_rows",
        "moving:",
        "  %gone = sub i64 %lo, %base",
        "  %gone_off = mul i64 %gone, %line",
        "  %kept = getelementptr float, ptr %mine, i64 %gone_off",
        "  %kept_size = mul i64 %old, %line",
        "  %kept_bytes = mul i64 %kept_size, 4",
        "  call void @llvm.memmove.p0.p0.i64(ptr %mine, ptr %kept, i64 %kept_bytes, i1 false)",
        "  br label %expand_rows",
        "expand_rows:",
        "  %from = call i64 @llvm.smax.i64(i64 %have, i64 %lo)",
        "  br label %expand_test",
        "expand_test:",
        "  %r = phi i64 [ %from, %expand_rows ], [ %r_next, %expand_row ]",
        "  %r_more = icmp slt i64 %r, %hi",
        "  br i1 %r_more, label %expand_row, label %filter_rows",
        "expand_row:",
        "  %r_off = mul i64 %r, %row",
        "  %r_source = getelementptr float, ptr %source_x, i64 %r_off",
        "  %r_here = sub i64 %r, %lo",
        "  %r_to = mul i64 %r_here, %line",
        "  %r_target = getelementptr float, ptr %mine, i64 %r_to",
        *_put(
            "my_expand", POINTWISE, "r", next="0", source="%r_source", pixel="%pixel",
            pixels="%n", target="%r_target", row_tiles="%expand_tiles", tiles="%expand_tiles",
            piece_tiles="%expand_tiles",
        ),
        "  call void %expand(ptr %my_expand)",
        "  %r_next = add i64 %r, 1",
        "  br label %expand_test",
    ]  # fmt: skip


def _filtered_rows() -> list[str]:
    """%some_rows rows of the depthwise convolution in %filtered."""
    return [
        "filter_rows:",
        "  %source_lo = mul i64 %lo, %row",
        "  %plain = getelementptr float, ptr %source_x, i64 %source_lo",
        "  %f_source = select i1 %expands, ptr %mine, ptr %plain",
        "  %f_row = select i1 %expands, i64 %line, i64 %row",
        "  %f_pixel = select i1 %expands, i64 %inner, i64 %pixel",
        "  %wide_more = add i64 %wide, 3",
        f"  %groups = udiv i64 %wide_more, {ACROSS}",
        "  %all_groups = mul i64 %groups, %some_rows",
        *_put(
            "my_filter", DEPTHWISE, "y", next="0", source="%f_source", row="%f_row",
            pixel="%f_pixel", height="%tall", width="%n", top="%padded_y", left="%shift",
            target="%filtered", all_groups="%all_groups",
        ),
        "  call void %filter(ptr %my_filter)",
        "  %filtered_row = mul i64 %wide, %inner",
        "  br label %project_row",
    ]  # fmt: skip


def _projected_rows() -> list[str]:
    """The rows of %filtered as products, in the target."""
    return [
        "project_row:",
        "  %j = phi i64 [ 0, %filter_rows ], [ %j_next, %project_row ]",
        "  %j_off = mul i64 %j, %filtered_row",
        "  %j_source = getelementptr float, ptr %filtered, i64 %j_off",
        "  %y_here = add i64 %y, %j",
        "  %j_to = mul i64 %y_here, %target_row",
        "  %j_target = getelementptr float, ptr %target_x, i64 %j_to",
        "  %j_add = mul i64 %y_here, %added_row",
        "  %j_other = getelementptr float, ptr %added_x, i64 %j_add",
        "  %j_added = select i1 %adds, ptr %j_other, ptr null",
        *_put(
            "my_project", POINTWISE, "j", next="0", source="%j_source", added="%j_added",
            added_pixel="%added_pixel", target="%j_target",
        ),
        "  call void %project(ptr %my_project)",
        "  %j_next = add i64 %j, 1",
        "  %j_more = icmp slt i64 %j_next, %some_rows",
        "  br i1 %j_more, label %project_row, label %down_more",
        "down_more:",
        "  %y_next = add i64 %y, %some_rows",
        "  %y_more = icmp slt i64 %y_next, %high",
        "  br i1 %y_more, label %down, label %after",
    ]  # fmt: skip


@functools.cache
def _machine_code() -> MachineCode:
    """One function for all blocks: it calls the functions of their layers."""
    body = [*_columns(), *_expanded_rows(), *_filtered_rows(), *_projected_rows()]
    declared = [
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare i64 @llvm.smax.i64(i64, i64)",
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        "declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)",
    ]
    code = function("block", _BLOCK, "tiles", 1, (), body, once=_once())
    return MachineCode(lambda _: "\n".join([*declared, code]), ("block",))


def _template(numbers: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
    """A call of a layer, for a thread to copy."""
    return (ctypes.c_int64 * _CALL)(0, *numbers)


@dataclass(frozen=True)
class _Tiles:
    """How outputs are cut: columns of a tile, and rows that are computed together.

    Attributes:
        expanded, filtered: numbers that a tile keeps of either map.
    """

    wide: int
    rows: int
    expanded: int
    filtered: int


@dataclass(frozen=True)
class _Shape:
    """The sizes of a block: what decides its tiles.

    Attributes:
        kernel, stride: of the depthwise convolution.
        inner, outputs: channels.
        project_tile: pixels that the last layer computes at least.
        channels, expand_tile: the same of the first layer; 0 without one.
    """

    kernel: int
    stride: int
    inner: int
    outputs: int
    project_tile: int
    channels: int
    expand_tile: int

    def tiles(self, width: int, left: int, across: int) -> _Tiles | None:
        """The tiles of least work; None if the map has too few columns.

        Args:
            width: columns of the input.
            left: columns of padding before them.
            across: columns of outputs.
        """
        padding = left + max(0, self.span(across) - left - width)  # that a tile sees, at most
        threads, best, least = torch.get_num_threads(), None, 0.0
        for count in range(-(-across // _WIDEST), across + 1):
            wide = -(-across // count)
            if wide < self.project_tile or self.span(wide) - padding < self.expand_tile:
                break
            work = _up(count, threads) * self._work(wide)
            if best is None or work < least:
                best, least = self._tile(wide), work
        return best

    def span(self, outputs: int) -> int:
        """Inputs that outputs next to each other read."""
        return self.stride * (outputs - 1) + self.kernel

    def pieces(self, high: int, across: int) -> Iterator[tuple[int, int]]:
        """The first row and the rows of pieces that the cache holds, where there are no tiles."""
        step = max(1, _MOST_NUMBERS // (self.inner * (self.stride + 1) * self.span(across)))
        for y in range(0, high, step):
            yield y, min(step, high - y)

    def _tile(self, wide: int) -> _Tiles:
        """So many rows as the cache holds."""
        for rows in range(_MOST_ROWS, 0, -1):
            expanded = self.inner * self.span(rows) * self.span(wide) * (self.expand_tile > 0)
            filtered = self.inner * rows * wide
            if expanded + filtered <= _MOST_NUMBERS:
                break
        return _Tiles(wide, rows, expanded, filtered)

    def _work(self, wide: int) -> int:
        """Products for a row of outputs of a tile, with those that are dropped."""
        products = _up(wide, self.project_tile) * self.inner * self.outputs
        products += _up(wide, ACROSS) * self.kernel**2 * self.inner
        if self.expand_tile:
            span = _up(self.span(wide), self.expand_tile)
            products += self.stride * span * self.channels * self.inner
        return products


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


class Block:
    """A depthwise convolution, a 1×1 convolution after it, and perhaps one before it.

    Args:
        expand: the first, if there is one; it may be a convolution of few channels instead.
        filter_: the depthwise one.
        project: the last.
    """

    def __init__(
        self, expand: Pointwise | Window | None, filter_: Depthwise, project: Pointwise
    ) -> None:
        self._expand, self._filter, self._project = expand, filter_, project
        self._code = _machine_code()
        self._shape = _Shape(
            *(filter_.kernel, filter_.stride, filter_.channels, project.outputs, project.tile),
            *((0, 0) if expand is None else (expand.channels, expand.tile)),
        )

    def __call__(
        self,
        value: torch.Tensor,
        corner: tuple[int, int],
        size: tuple[int, int],
        room: torch.Tensor | None,
        added: torch.Tensor | None,
    ) -> torch.Tensor:
        """(N, O, *size) of (N, C, H, W).

        The first window of the depthwise convolution lies ``corner`` outside of what it reads. For
        a first layer that is no 1×1 convolution, the value is padded.
        """
        result = room_for(room, (len(value), self._project.outputs, *size))
        if isinstance(self._expand, Window):
            source, width = value, self._expand.source(value[0])[4]
        else:
            source, width = _channels_last(value), value.shape[3]
        tiles = self._shape.tiles(width, corner[1], size[1])
        if tiles is None:
            return self._one_by_one(source, corner, result, added)
        other = None if added is None else _channels_last(added)
        for i, one in enumerate(source):
            self._run(one, corner, result[i], None if other is None else other[i], tiles)
        return result

    def _one_by_one(
        self,
        value: torch.Tensor,
        corner: tuple[int, int],
        result: torch.Tensor,
        added: torch.Tensor | None,
    ) -> torch.Tensor:
        """A few rows at a time, layer by layer: a map without columns enough for a tile."""
        shape = self._shape
        if isinstance(self._expand, Window):
            value = self._expand(value)
        for y, rows in shape.pieces(*result.shape[2:]):
            above = y * shape.stride - corner[0]
            lo = min(max(above, 0), value.shape[2])
            hi = max(lo, min(above + shape.span(rows), value.shape[2]))
            part = value.narrow(2, lo, hi - lo)
            if isinstance(self._expand, Pointwise):
                part = self._expand(part, None, None)
            filtered = room_for(None, (len(value), shape.inner, rows, result.shape[3]))
            self._filter.filter(part, (lo - above, corner[1]), filtered)
            other = None if added is None else added.narrow(2, y, rows)
            result.narrow(2, y, rows).copy_(self._project(filtered, None, other))
        return result

    def _run(
        self,
        source: torch.Tensor,
        corner: tuple[int, int],
        result: torch.Tensor,
        added: torch.Tensor | None,
        tiles: _Tiles,
    ) -> None:
        """One image, (C, H, W), its channels last in memory."""
        expand, filter_, project = self._expand, self._filter, self._project
        high, across = result.shape[1:]
        inner, wide = filter_.channels, tiles.wide
        size = tiles.expanded + tiles.filtered
        scratch = torch.empty(torch.get_num_threads(), size)
        other = NOWHERE if added is None else place_of(added)
        place = (source.data_ptr(), *source.stride()[1:], *source.shape[1:])
        expands: tuple[int, ...] = ()
        if isinstance(expand, Pointwise):
            expands = expand.numbers(target=(0, 0, inner))
        elif isinstance(expand, Window):
            offsets = expand.offsets(source)
            expands, place = expand.numbers(offsets), expand.source(source)
        templates = (
            _template(expands),
            _template(filter_.numbers(target=(0, wide * inner, inner, 1, wide))),
            _template(
                project.numbers((0, 0, inner), other, (0, 0, result.stride(2)), size=(1, wide))
            ),
        )
        self._code.run(
            "block",
            *(0, scratch.data_ptr(), size, tiles.expanded),
            *(0 if layer is None else layer.code.address(layer.name)
              for layer in (expand, filter_, project)),
            *(ctypes.addressof(one) for one in templates),
            *(*place, *corner),
            *(filter_.kernel, filter_.stride, inner, high, wide, across, -(-across // wide)),
            *(tiles.rows, 1 if expand is None else expand.tile, *other),
            *(result.data_ptr(), *result.stride()[1:]),
        )  # fmt: skip


def _channels_last(value: torch.Tensor) -> torch.Tensor:
    """The value, or a copy of it, with the channels of a pixel next to each other."""
    if value.stride(1) == 1:
        return value
    return value.contiguous(memory_format=torch.channels_last)


def with_blocks(graph: Graph, width: int | None = None) -> Graph:
    """The graph in which compiled layers that are computed together are one node.

    ``width`` is that of :func:`eyeshot.operators.compiled_layers.with_compiled`.
    """
    readers = graph.consumers()
    nodes: dict[str, Node] = {}
    for node in graph:
        nodes[node.name] = node
        most = _layers_to(node, nodes, graph.tensors, width)
        fewer = (layers for layers in (most, most[-2:]) if layers)
        layers = next((one for one in fewer if _is_alone(one, graph, readers)), None)
        if layers is not None:
            for one in layers:
                del nodes[one.name]
            nodes[node.name] = _joined(layers)
    return graph if len(nodes) == len(graph) else replace(graph, nodes=nodes)


def _is_alone(layers: list[Node], graph: Graph, readers: Mapping[str, list[Node]]) -> bool:
    """Whether nobody else reads what lies between the layers."""
    *inner, last = layers
    names = {one.name for one in inner}
    added = {edge.source for edge in last.edges[1:]}
    read_once = all(len(readers[name]) == 1 for name in names)
    return read_once and not names & added and names.isdisjoint(graph.outputs)


def _layers_to(
    project: Node, nodes: Mapping[str, Node], tensors: Tensors, width: int | None
) -> list[Node]:
    """The layers of a block that ends in a node; none if there is no such block."""
    if not uses_it(project) or not is_pointwise(project) or project.after:
        return []
    filter_ = nodes[project.edges[0].source]
    if not uses_it(filter_) or not is_depthwise(filter_) or filter_.after:
        return []
    expand = nodes[filter_.edges[0].source]
    if expand.after:
        return [filter_, project]
    if uses_it(expand):
        first = is_pointwise(expand) and not expand.params.adds
    else:
        first = is_window(expand, tensors, width or register_width()) and _sees(filter_)
    return [expand, filter_, project] if first else [filter_, project]


def _sees(node: Node) -> bool:
    """Whether each of a convolution's windows reaches inside of its input."""
    windows = [axis for axis in node.edges[0].axes if isinstance(axis, WindowMap)]
    return all(max(axis.before, axis.after) < axis.kernel for axis in windows)


def _joined(layers: list[Node]) -> Node:
    """One node for the layers of a block, with the name of the last."""
    (first, *_), filter_, project = layers, layers[-2], layers[-1]
    axes, added = filter_.edges[0].axes, project.edges[1:]
    if first is not filter_:
        pairs = zip(first.edges[0].axes, axes, strict=True)
        axes = tuple(_one_after_another(inner, outer) for inner, outer in pairs)
    return replace(
        project,
        operator=NAME,
        family=Family.BLOCK,
        edges=(Edge(first.edges[0].source, axes), *added),
        params=BlockParams(layers=tuple(layers), adds=bool(added)),
        weights=tuple(name for layer in layers for name in layer.weights),
        call=None,
    )


def _one_after_another(inner: AxisMap, outer: AxisMap) -> WindowMap:
    """The window of the inputs that a window of another window's outputs reads."""
    assert isinstance(inner, WindowMap)
    assert isinstance(outer, WindowMap)
    return WindowMap(
        inner.span + (outer.span - 1) * inner.stride,
        inner.stride * outer.stride,
        inner.before + outer.before * inner.stride,
        inner.after + outer.after * inner.stride,
    )


def without_blocks(graph: Graph) -> Graph:
    """The graph in which each layer is a node."""
    if not uses_blocks(graph):
        return graph
    nodes = {one.name: one for node in graph for one in layers_of(node)}
    return replace(graph, nodes=nodes)


def uses_blocks(graph: Graph) -> bool:
    """Whether a node is a block."""
    return any(node.family is Family.BLOCK for node in graph)


def layers_of(node: Node) -> Iterator[Node]:
    """The layers of a block; of another node, itself."""
    yield from node.params.layers if isinstance(node.params, BlockParams) else (node,)


def load_blocks(graph: Graph) -> None:
    """Compile what a graph will call."""
    if uses_blocks(graph) and is_compiled():
        _machine_code()
        for node in graph:
            for layer in layers_of(node) if node.family is Family.BLOCK else ():
                load_layer(layer)


def block_on_tile(node: Node, tensors: Tensors) -> Computation:
    """The layers of a block, of a tile with padding where a layer has it."""
    compute = _compiled(node, tensors) if is_compiled() else _plain(node, tensors)
    *first, filter_, _ = _params(node).layers
    axes = filter_.edges[0].axes
    windows = first[0].edges[0].axes if first and not is_pointwise(first[0]) else None

    def on_tile(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile, added = inputs[0], inputs[1].value if _params(node).adds else None
        value, extents = tile.value, tile.extents
        if windows is not None:
            extents = tuple(axis.output_size(n) for axis, n in zip(windows, extents, strict=True))
        sides = list(zip(axes, box, extents, strict=True))
        if windows is not None:
            seen = [axis.input_range_inside(side, n) for axis, side, n in sides]
            value = _padded(tile, windows, seen)
        top, left = (borders(axis, side, n)[0] for axis, side, n in sides)
        return compute(value, (top, left), (len(box[0]), len(box[1])), room, added)

    return on_tile


def _padded(tile: Tile, axes: Sequence[AxisMap], outputs: Sequence[Interval]) -> torch.Tensor:
    """What windows of some outputs read of a tile, with zeros where they reach outside."""
    sides = zip(axes, outputs, tile.extents, strict=True)
    reads = [(axis.input_range(side, n), n) for axis, side, n in sides]
    inside = tuple(side.within(n) for side, n in reads)
    value = cut(tile.value, tile.dims, tile.box, inside)
    amounts = {
        dim: (own.lo - side.lo, side.hi - own.hi)
        for dim, (side, _), own in zip(tile.dims, reads, inside, strict=True)
        if dim is not None
    }
    return widened(value, amounts)


_Compute = Callable[
    [torch.Tensor, tuple[int, int], tuple[int, int], torch.Tensor | None, torch.Tensor | None],
    torch.Tensor,
]


def _weights_and_bias(
    node: Node, tensors: Tensors
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    bias = tensors[node.weights[1]] if node.params.bias else None
    return [tensors[node.weights[0]]], bias


def _params(node: Node) -> BlockParams:
    assert isinstance(node.params, BlockParams)
    return node.params


def _compiled(node: Node, tensors: Tensors) -> _Compute:
    *first, filter_, project = [compiled_layer(one, tensors) for one in _params(node).layers]
    expand = first[0] if first else None
    assert isinstance(filter_, Depthwise)
    assert isinstance(project, Pointwise)
    assert not isinstance(expand, Depthwise)
    return Block(expand, filter_, project)


def _plain(node: Node, tensors: Tensors) -> _Compute:
    """By torch: a graph may come from a machine that compiles to one that does not."""
    layers = _params(node).layers
    *first, filter_, project = [convolver(one, *_weights_and_bias(one, tensors)) for one in layers]
    (stride, *_), (kernel, *_) = layers[-2].params.stride, layers[-2].params.kernel

    def compute(
        value: torch.Tensor,
        corner: tuple[int, int],
        size: tuple[int, int],
        room: torch.Tensor | None,
        added: torch.Tensor | None,
    ) -> torch.Tensor:
        for expand in first:
            value = expand([(value, [0, 0])], None, None)
        sides = zip(size, corner, value.shape[2:], strict=True)
        down, right = (stride * (n - 1) + kernel - before - have for n, before, have in sides)
        value = F.pad(value, (corner[1], right, corner[0], down))
        return project([(filter_([(value, [0, 0])], None, None), [0, 0])], room, added)

    return compute


def block_effort(node: Node, shapes: Shapes) -> Effort:
    """That of the layers, for each number of the last one."""
    total = Fraction(0)
    area = 1
    for layer in reversed(_params(node).layers):
        params = layer.params
        each = math.prod(params.kernel) * params.in_channels // params.groups
        total += Fraction(each * params.out_channels * area, node.shape[1])
        area *= math.prod(params.stride)
    return Effort(per_output=total)


def block_scratch(work: Work) -> int:
    """The tiles of each thread; by torch, the maps in between and a copy with padding."""
    first, *_ = _params(work.node).layers
    copies = sum(
        nbytes
        for nbytes, source in zip(work.reads, work.sources, strict=False)
        if source.edges and not (source.slides or source.is_convolution)
    )
    if first.params.groups == 1 and not is_pointwise(first):  # padded, before its windows are read
        copies += 2 * work.reads[0]
    *_, filter_, project = (layer.params for layer in _params(work.node).layers)
    inner, kernel, stride = filter_.out_channels, filter_.kernel[0], filter_.stride[0]
    if is_compiled():
        widest = inner * (kernel * (stride * (_WIDEST - 1) + kernel) + _WIDEST)
        return copies + 4 * max(_MOST_NUMBERS, widest) * torch.get_num_threads()
    read = work.reads[0] * inner // _params(work.node).layers[0].params.in_channels
    return copies + 2 * read + work.gives * inner // project.out_channels


RECORD = Operator(
    NAME,
    Family.BLOCK,
    None,
    block_on_tile,
    effort=block_effort,
    other_operations=nothing,
    scratch=block_scratch,
    in_place=lambda work: True,
)
