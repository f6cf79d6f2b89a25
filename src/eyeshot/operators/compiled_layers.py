"""1×1 and depthwise convolutions as machine code, where llvmlite is installed: ``eyeshot[fast]``.

They read rows where they lie in a line buffer and write where the next rows are kept, with the sum
of a residual branch and the activation in the same pass, so that nothing is copied. Each output is
its bias, then one product after another in a fixed order, each rounded once; so it depends neither
on the band nor on the threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from eyeshot.graph import ConvolutionParams, Family, Graph, Kind, Node
from eyeshot.operators.tile import Padded
from eyeshot.operators.winograd_compiled import (
    Code,
    Fields,
    MachineCode,
    function,
    is_compiled,
    register_width,
)

_ROWS = {1: 18, 2: 8, 3: 8}
"""Pixels of a tile, by the registers that its outputs for one pixel fill."""
_NEAR = 3
"""Pixels that are reached from one address."""
ACROSS = 4
"""Outputs of a depthwise convolution that are computed together."""
_AHEAD = 2
"""How many such groups ahead inputs are fetched into the cache."""
_GROUPS = 8
"""Of such outputs that a thread takes at a time."""
_TILES = 16
"""The most tiles of pixels that a thread takes at a time."""
_MOST_TAPS = 192
"""Numbers of a window, of a convolution that is computed by products of windows."""
_KERNELS = ((3, 1), (3, 2), (5, 1), (5, 2))
"""Kernel and stride of the depthwise convolutions that are compiled."""

POINTWISE: Fields = (
    "next", "source", "row", "pixel", "pixels", "channels", "weights", "bias", "outputs", "added",
    "added_row", "added_pixel", "bounds", "target", "target_row", "target_pixel", "panels",
    "row_tiles", "tiles", "piece_tiles", "piece_panels", "tile_pieces", "pieces",
)  # fmt: skip
WINDOW: Fields = (*POINTWISE, "offsets")
DEPTHWISE: Fields = (
    "next", "source", "row", "pixel", "height", "width", "top", "left", "channels", "weights",
    "bias", "bounds", "target", "target_row", "target_pixel", "wide", "groups", "all_groups",
    "zeros", "trash",
)  # fmt: skip


_LAST = torch.channels_last


def _bounds(code: Code) -> tuple[str, str]:
    return code.spread("%bounds"), code.spread(code.at("%bounds", "1"))


def _place(name: str, start: str, row: str, pixel: str) -> list[str]:
    """The address of pixel %m of row %h."""
    return [
        f"  %{name}_down = mul i64 %h, %{row}",
        f"  %{name}_right = mul i64 %m, %{pixel}",
        f"  %{name}_off = add i64 %{name}_down, %{name}_right",
        f"  %{name} = getelementptr float, ptr %{start}, i64 %{name}_off",
    ]


def _pointwise(width: int, vectors: int, scattered: bool = False) -> str:
    """Products of tiles of pixels with panels of weights: (panel, channel, output) in memory.

    ``scattered``: a pixel's inputs do not lie one after another, but at offsets from its address.
    """
    rows, panel = _ROWS[vectors], vectors * width
    kind, bases = f"<{width} x float>", range(0, _ROWS[vectors], _NEAR)
    cells = [(r, v) for r in range(rows) for v in range(vectors)]
    before = Code(width)
    low, high = _bounds(before)
    lines = [
        *before.lines,
        "  %tile_piece = urem i64 %i, %tile_pieces",
        "  %panel_piece = udiv i64 %i, %tile_pieces",
        "  %first_panel = mul i64 %panel_piece, %piece_panels",
        "  %more_panels = add i64 %first_panel, %piece_panels",
        "  %end_panel = call i64 @llvm.smin.i64(i64 %more_panels, i64 %panels)",
        "  %first_tile = mul i64 %tile_piece, %piece_tiles",
        "  %first_h = udiv i64 %first_tile, %row_tiles",
        "  %first_x = urem i64 %first_tile, %row_tiles",
        "  %end_tile = add i64 %first_tile, %piece_tiles",
        "  %last_tile = call i64 @llvm.smin.i64(i64 %end_tile, i64 %tiles)",
        f"  %last_panel = sub i64 %outputs, {panel}",
        f"  %last_pixel = sub i64 %pixels, {rows}",
        "  %pixel2 = mul i64 %pixel, 2",
        "  br label %panel_one",
        "panel_one:",
        "  %p = phi i64 [ %first_panel, %one ], [ %p_next, %panel_after ]",
        f"  %n_here = mul i64 %p, {panel}",
        "  %n = call i64 @llvm.smin.i64(i64 %n_here, i64 %last_panel)",
        "  %w_size = mul i64 %n_here, %channels",
        "  %w_start = getelementptr float, ptr %weights, i64 %w_size",
        "  %b_start = getelementptr float, ptr %bias, i64 %n",
        "  br label %tile_one",
        "tile_one:",
        "  %t = phi i64 [ %first_tile, %panel_one ], [ %t_next, %tile_after ]",
        "  %h = phi i64 [ %first_h, %panel_one ], [ %h_next, %tile_after ]",
        "  %t_x = phi i64 [ %first_x, %panel_one ], [ %x_next, %tile_after ]",
        f"  %m_here = mul i64 %t_x, {rows}",
        "  %m = call i64 @llvm.smin.i64(i64 %m_here, i64 %last_pixel)",
        *_place("x_start", "source", "row", "pixel"),
    ]
    start = Code(width)
    start._count = 10_000
    begun = [start.load(start.at("%b_start", str(v * width))) for v in range(vectors)]
    lines += start.lines
    for r in bases:
        lines += [
            f"  %x_far_{r} = mul i64 %pixel, {r}",
            f"  %x_start_{r} = getelementptr float, ptr %x_start, i64 %x_far_{r}",
        ]
    lines += [
        "  br label %product",
        "product:",
        "  %k = phi i64 [ 0, %tile_one ], [ %k_next, %product ]",
        "  %w = phi ptr [ %w_start, %tile_one ], [ %w_next, %product ]",
        *(
            f"  %x_{r} = phi ptr [ %x_start_{r}, %tile_one ], [ %xn_{r}, %product ]"
            for r in bases
            if not scattered
        ),
        *(
            f"  %a_{r}_{v} = phi {kind} [ {begun[v]}, %tile_one ], [ %s_{r}_{v}, %product ]"
            for r, v in cells
        ),
    ]
    if scattered:
        lines += [
            "  %offset_at = getelementptr i64, ptr %offsets, i64 %k",
            "  %offset = load i64, ptr %offset_at",
            *(f"  %x_{r} = getelementptr float, ptr %x_start_{r}, i64 %offset" for r in bases),
        ]
    step = Code(width)
    step._count = 20_000
    weights = [step.load(step.at("%w", str(v * width))) for v in range(vectors)]
    for r in range(rows):
        base, far = f"%x_{r - r % _NEAR}", ("", "%pixel", "%pixel2")[r % _NEAR]
        value = step.spread(step.at(base, far) if far else base)
        for v in range(vectors):
            operands = f"{kind} {value}, {kind} {weights[v]}, {kind} %a_{r}_{v}"
            step.do(f"%s_{r}_{v} = call {kind} @llvm.fma.v{width}f32({operands})")
    lines += [
        *step.lines,
        "  %k_next = add i64 %k, 1",
        f"  %w_next = getelementptr float, ptr %w, i64 {panel}",
        *(f"  %xn_{r} = getelementptr float, ptr %x_{r}, i64 1" for r in bases if not scattered),
        "  %k_more = icmp slt i64 %k_next, %channels",
        "  br i1 %k_more, label %product, label %summed",
        "summed:",
        *_place("y_pixel", "target", "target_row", "target_pixel"),
        "  %y_start = getelementptr float, ptr %y_pixel, i64 %n",
        "  %adds = icmp ne ptr %added, null",
        "  br i1 %adds, label %add, label %write",
        "add:",
        *_place("z_pixel", "added", "added_row", "added_pixel"),
        "  %z_start = getelementptr float, ptr %z_pixel, i64 %n",
    ]
    more = Code(width)
    more._count = 30_000
    for r in range(rows):
        place = more.at("%z_start", more.let(f"mul i64 %added_pixel, {r}"))
        for v in range(vectors):
            other = more.load(more.at(place, str(v * width)))
            more.do(f"%z_{r}_{v} = fadd {kind} %s_{r}_{v}, {other}")
    lines += [*more.lines, "  br label %write", "write:"]
    lines += [
        f"  %y_{r}_{v} = phi {kind} [ %s_{r}_{v}, %summed ], [ %z_{r}_{v}, %add ]" for r, v in cells
    ]
    last = Code(width)
    last._count = 40_000
    for r in range(rows):
        place = last.at("%y_start", last.let(f"mul i64 %target_pixel, {r}"))
        for v in range(vectors):
            value = last.within(f"%y_{r}_{v}", low, high)
            last.store(value, last.at(place, str(v * width)))
    lines += [
        *last.lines,
        "  br label %tile_after",
        "tile_after:",
        "  %t_next = add i64 %t, 1",
        "  %x_more = add i64 %t_x, 1",
        "  %x_ends = icmp eq i64 %x_more, %row_tiles",
        "  %x_next = select i1 %x_ends, i64 0, i64 %x_more",
        "  %h_more = add i64 %h, 1",
        "  %h_next = select i1 %x_ends, i64 %h_more, i64 %h",
        "  %t_more = icmp slt i64 %t_next, %last_tile",
        "  br i1 %t_more, label %tile_one, label %panel_after",
        "panel_after:",
        "  %p_next = add i64 %p, 1",
        "  %p_more = icmp slt i64 %p_next, %end_panel",
        "  br i1 %p_more, label %panel_one, label %after",
    ]
    name, fields = ("window", WINDOW) if scattered else ("pointwise", POINTWISE)
    return function(f"{name}_{vectors}", fields, "pieces", 1, (), lines)


def _depthwise(width: int, kernel: int, stride: int) -> str:
    """Groups of outputs that lie beside one another, a register of channels after another."""
    across = (ACROSS - 1) * stride + kernel
    before = Code(width)
    low, high = _bounds(before)
    lines = [
        *before.lines,
        "  %y = udiv i64 %i, %groups",
        "  %g = urem i64 %i, %groups",
        f"  %x_here = mul i64 %g, {ACROSS}",
        f"  %x_most = sub i64 %wide, {ACROSS}",
        "  %x_last = call i64 @llvm.smax.i64(i64 %x_most, i64 0)",
        "  %x = call i64 @llvm.smin.i64(i64 %x_here, i64 %x_last)",
        f"  %iy_s = mul i64 %y, {stride}",
        "  %iy = sub i64 %iy_s, %top",
        f"  %ix_s = mul i64 %x, {stride}",
        "  %ix = sub i64 %ix_s, %left",
        "  %oy = mul i64 %y, %target_row",
        "  %ox = mul i64 %x, %target_pixel",
        "  %o_off = add i64 %oy, %ox",
        "  %o = getelementptr float, ptr %target, i64 %o_off",
        f"  %last_c = sub i64 %channels, {width}",
        f"  %ahead = mul i64 %pixel, {_AHEAD * ACROSS}",
    ]
    tests = []
    for name, first, count, most in (
        ("iy", "%iy", kernel, "%height"),
        ("ix", "%ix", across, "%width"),
    ):
        lines += [
            f"  %{name}_end = add i64 {first}, {count}",
            f"  %{name}_low = icmp sge i64 {first}, 0",
            f"  %{name}_high = icmp sle i64 %{name}_end, {most}",
        ]
        tests += [f"%{name}_low", f"%{name}_high"]
    lines += [
        "  %fits = icmp sge i64 %x_most, 0",
        f"  %in_0 = and i1 {tests[0]}, {tests[1]}",
        f"  %in_1 = and i1 {tests[2]}, {tests[3]}",
        "  %in_2 = and i1 %in_0, %in_1",
        "  %inside = and i1 %in_2, %fits",
    ]
    for i in range(kernel):
        lines += [f"  %r_{i} = add i64 %iy, {i}", f"  %r_off_{i} = mul i64 %r_{i}, %row"]
    for j in range(across):
        lines += [f"  %q_{j} = add i64 %ix, {j}", f"  %q_off_{j} = mul i64 %q_{j}, %pixel"]
    lines += ["  br i1 %inside, label %inner, label %edge"]

    def computed(
        name: str, code: Code, read: Sequence[Sequence[str]], out: Sequence[str]
    ) -> list[str]:
        """A loop over channels, with the address of each input and output of channel 0."""
        code.do(f"%far_{name} = add i64 %cc_{name}, %ahead")
        # Rows above the last were read for the outputs above. With a stride it does not pay.
        for place in read[-1][:ACROSS] if stride == 1 else ():
            ahead = code.let(f"getelementptr float, ptr {place}, i64 %far_{name}")
            code.do(f"call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")
        start = code.load(code.at("%bias", f"%cc_{name}"))
        sums = [start] * ACROSS
        for i in range(kernel):
            row = [code.load(code.at(place, f"%cc_{name}")) for place in read[i]]
            for t in range(kernel):
                far = code.let(f"mul i64 %channels, {i * kernel + t}")
                weight = code.load(code.at(code.at("%weights", far), f"%cc_{name}"))
                sums = [code.fma(row[x * stride + t], weight, one) for x, one in enumerate(sums)]
        for one, place in zip(sums, out, strict=True):
            code.store(code.within(one, low, high), code.at(place, f"%cc_{name}"))
        return [
            f"  br label %{name}_c",
            f"{name}_c:",
            f"  %c_{name} = phi i64 [ 0, %{name} ], [ %cn_{name}, %{name}_c ]",
            f"  %cc_{name} = call i64 @llvm.smin.i64(i64 %c_{name}, i64 %last_c)",
            *code.lines,
            f"  %cn_{name} = add i64 %c_{name}, {width}",
            f"  %cm_{name} = icmp slt i64 %cn_{name}, %channels",
            f"  br i1 %cm_{name}, label %{name}_c, label %after",
        ]

    places = Code(width)
    places._count = 10_000
    read = [
        [places.at(places.at("%source", f"%r_off_{i}"), f"%q_off_{j}") for j in range(across)]
        for i in range(kernel)
    ]
    out = [places.at("%o", places.let(f"mul i64 %target_pixel, {x}")) for x in range(ACROSS)]
    loop = Code(width)
    loop._count = 20_000
    lines += ["inner:", *places.lines, *computed("inner", loop, read, out)]

    edge = Code(width)
    edge._count = 30_000
    fine_rows = [edge.let(f"icmp ult i64 %r_{i}, %height") for i in range(kernel)]
    fine_columns = [edge.let(f"icmp ult i64 %q_{j}, %width") for j in range(across)]
    seen: list[list[str]] = []
    for i, down in enumerate(fine_rows):
        seen.append([])
        for j, right in enumerate(fine_columns):
            place = edge.let(f"getelementptr float, ptr %source, i64 %r_off_{i}")
            place = edge.let(f"getelementptr float, ptr {place}, i64 %q_off_{j}")
            fine = edge.let(f"and i1 {down}, {right}")
            seen[-1].append(edge.let(f"select i1 {fine}, ptr {place}, ptr %zeros"))
    kept = []
    for x in range(ACROSS):
        place = edge.let(
            f"getelementptr float, ptr %o, i64 {edge.let(f'mul i64 %target_pixel, {x}')}"
        )
        column = edge.let(f"add i64 %x, {x}")
        fine = edge.let(f"icmp slt i64 {column}, %wide")
        kept.append(edge.let(f"select i1 {fine}, ptr {place}, ptr %trash"))
    loop = Code(width)
    loop._count = 40_000
    lines += ["edge:", *edge.lines, *computed("edge", loop, seen, kept)]
    return function(f"depthwise_{kernel}_{stride}", DEPTHWISE, "all_groups", _GROUPS, (), lines)


_FUNCTIONS: Mapping[str, Callable[..., str]] = {
    "pointwise": _pointwise,
    "window": functools.partial(_pointwise, scattered=True),
    "depthwise": _depthwise,
}


@functools.cache
def _machine_code(name: str) -> MachineCode:
    """One function, of the name of its kind and its numbers."""
    kind, *digits = name.split("_")
    numbers = [int(one) for one in digits]

    def assembly(width: int) -> str:
        vector = f"<{width} x float>"
        return "\n".join(
            [
                "declare i64 @llvm.smin.i64(i64, i64)",
                "declare i64 @llvm.smax.i64(i64, i64)",
                "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
                f"declare {vector} @llvm.fma.v{width}f32({vector}, {vector}, {vector})",
                _FUNCTIONS[kind](width, *numbers),
            ]
        )

    return MachineCode(assembly, (name,))


def bounds_of(activation: str | None, scalars: Sequence[float]) -> torch.Tensor:
    """The smallest and the largest number that an activation lets pass."""
    if activation == "hardtanh":
        return torch.tensor(scalars or (-1.0, 1.0), dtype=torch.float32)
    return torch.tensor((0.0 if activation == "relu" else -math.inf, math.inf))


Place = tuple[int, int, int]
"""An address, and the distances of its rows and of its pixels in numbers."""
NOWHERE: Place = (0, 0, 0)


def place_of(value: torch.Tensor) -> Place:
    """Of (C, H, W)."""
    _, row, pixel = value.stride()
    return value.data_ptr(), row, pixel


class Pointwise:
    """A 1×1 convolution, with what is added to it, and its activation.

    Args:
        weight: (O, C, 1, 1).
        bias: (O,), or None.
        activation: None, ``relu`` or ``hardtanh``.
        scalars: the bounds of the latter.
        stride: along both sides.

    Attributes:
        channels: C.
        outputs: O.
        tile: pixels that a call computes at least.
        code, name: the machine code, and its function.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        activation: str | None,
        scalars: Sequence[float],
        stride: int = 1,
    ) -> None:
        self.outputs, self.channels = weight.shape[:2]
        self._stride = stride
        self._bounds = bounds_of(activation, scalars)
        self._bias = _bias_of(weight, bias)
        vectors = _vectors(self.outputs)
        self.name = f"pointwise_{vectors}"
        self.code, self.tile = _machine_code(self.name), _ROWS[vectors]
        panel = vectors * register_width()
        self._panels = -(-self.outputs // panel)
        starts = [min(p * panel, self.outputs - panel) for p in range(self._panels)]
        rows = weight.detach()[:, :, 0, 0]
        self._weights = torch.stack([rows[n : n + panel].T for n in starts]).contiguous()

    def __call__(
        self, value: torch.Tensor, room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        """(N, O, H', W') of (N, C, H, W), in ``room`` if its channels are last."""
        seen = value[:, :, :: self._stride, :: self._stride] if self._stride > 1 else value
        if self._stride == 1 or seen.shape[3] < self.tile or value.stride(1) != 1:
            return self._in_a_row(seen, room, added)
        result = room_for(room, (len(value), self.outputs, *seen.shape[2:]))
        other = None if added is None else added.contiguous(memory_format=_LAST)
        for i, (one, made) in enumerate(zip(seen, result, strict=True)):
            more = NOWHERE if other is None else place_of(other[i])
            self._run(place_of(one), more, place_of(made), (made.shape[1], made.shape[2]))
        return result

    def _in_a_row(
        self, value: torch.Tensor, room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        """All pixels as those of one row."""
        number, _, height, width = value.shape
        source = value.contiguous(memory_format=_LAST)
        other = None if added is None else added.contiguous(memory_format=_LAST)
        result = room_for(room, (number, self.outputs, height, width))
        count = number * height * width
        if count < self.tile:  # which needs more pixels; those that are added are dropped
            missing = (0, 0, 0, self.tile - count)
            made = torch.empty(self.tile, self.outputs)
            source = F.pad(_flat(source), missing)
            other = None if other is None else F.pad(_flat(other), missing)
        else:
            made = result
        more = NOWHERE if other is None else (other.data_ptr(), 0, self.outputs)
        here, there = (source.data_ptr(), 0, self.channels), (made.data_ptr(), 0, self.outputs)
        self._run(here, more, there, (1, max(count, self.tile)))
        if made is not result:
            _flat(result).copy_(made[:count])
        return result

    def _run(self, source: Place, added: Place, target: Place, size: tuple[int, int]) -> None:
        """So many rows and columns of pixels."""
        high, wide = size
        count, tiles, threads = high * wide, high * -(-wide // self.tile), torch.get_num_threads()
        pieces = (max(1, min(_TILES, -(-tiles // (2 * threads)))), self._panels)
        if threads > 1 and count < self.outputs:  # the weights are more than the pixels
            pieces = (tiles, -(-self._panels // (2 * threads)))
        numbers = self.numbers(source, added, target, size=size, pieces=pieces)
        self.code.run(self.name, *numbers)

    def numbers(
        self,
        source: Place = NOWHERE,
        added: Place = NOWHERE,
        target: Place = NOWHERE,
        *,
        size: tuple[int, int] = (1, 1),
        pieces: tuple[int, int] | None = None,
    ) -> tuple[int, ...]:
        """Those of a call, in the order of ``POINTWISE``; without the first.

        Args:
            source, added, target: where the pixels lie.
            size: rows and columns of pixels.
            pieces: tiles of pixels, and panels of outputs, that a thread takes at a time; None for
                all.
        """
        high, wide = size
        row_tiles = -(-wide // self.tile)
        tiles = high * row_tiles
        some_tiles, some_panels = pieces or (tiles, self._panels)
        tile_pieces, panel_pieces = -(-tiles // some_tiles), -(-self._panels // some_panels)
        return (
            *(*source, wide, self.channels, self._weights.data_ptr(), self._bias.data_ptr()),
            *(self.outputs, *added, self._bounds.data_ptr(), *target),
            *(self._panels, row_tiles, tiles, some_tiles, some_panels),
            *(tile_pieces, tile_pieces * panel_pieces),
        )


def _vectors(outputs: int) -> int:
    """The registers for the outputs of a pixel that waste least; of equals, the most."""
    width = register_width()
    fitting = [n for n in _ROWS if n * width <= outputs]
    return min(fitting, key=lambda n: (-(-outputs // (n * width)) * n, -n))


def _flat(value: torch.Tensor) -> torch.Tensor:
    """(pixels, C) of (N, C, H, W) with the channels last in memory."""
    return value.permute(0, 2, 3, 1).reshape(-1, value.shape[1])


def _bias_of(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros(weight.shape[0]) if bias is None else bias.detach().contiguous()


def room_for(room: torch.Tensor | None, shape: tuple[int, ...]) -> torch.Tensor:
    """Memory for a result: ``room`` if its channels are last, else new memory."""
    fits = room is not None and room.is_contiguous(memory_format=_LAST)
    return room if room is not None and fits else torch.empty(shape, memory_format=_LAST)


class Depthwise:
    """A convolution of each channel by itself, and its activation.

    Args:
        weight: (C, 1, k, k).
        bias: (C,), or None.
        stride: 1 or 2.
        activation: None, ``relu`` or ``hardtanh``.
        scalars: the bounds of the latter.

    Attributes:
        channels: C.
        kernel, stride: of each side.
        code, name: the machine code, and its function.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: int,
        activation: str | None,
        scalars: Sequence[float],
    ) -> None:
        self.channels, self.kernel, self.stride = weight.shape[0], weight.shape[2], stride
        self.name = f"depthwise_{self.kernel}_{stride}"
        self.code = _machine_code(self.name)
        self._bounds = bounds_of(activation, scalars)
        self._bias = _bias_of(weight, bias)
        self._weights = weight.detach()[:, 0].permute(1, 2, 0).contiguous()
        self._zeros, self._trash = torch.zeros(2, self.channels)

    def __call__(
        self, value: torch.Tensor, padding: Sequence[int], room: torch.Tensor | None
    ) -> torch.Tensor:
        """(N, C, H', W') of (N, C, H, W), in ``room`` if its channels are last."""
        sides = zip(value.shape[2:], padding, strict=True)
        high, wide = ((n + 2 * p - self.kernel) // self.stride + 1 for n, p in sides)
        result = room_for(room, (len(value), self.channels, high, wide))
        self.filter(value, padding, result)
        return result

    def filter(self, value: torch.Tensor, corner: Sequence[int], result: torch.Tensor) -> None:
        """As a call, to all rows and columns of the result; the first lie ``corner`` outside."""
        source = value if value.stride(1) == 1 else value.contiguous(memory_format=_LAST)
        for one, made in zip(source, result, strict=True):
            places = (one.data_ptr(), *one.stride()[1:], *one.shape[1:], *corner)
            to = (made.data_ptr(), *made.stride()[1:], *made.shape[1:])
            self.code.run(self.name, *self.numbers(places, to))

    def numbers(
        self,
        source: Sequence[int] = (0,) * 7,
        target: Sequence[int] = (0,) * 5,
    ) -> tuple[int, ...]:
        """Those of a call, in the order of ``DEPTHWISE``; without the first.

        Args:
            source: the address, its row and pixel in numbers, its height and width, and its corner.
            target: the address, its row and pixel, its height and width.
        """
        place, row, pixel, high, wide = target
        groups = -(-wide // ACROSS)
        return (
            *(*source, self.channels),
            *(self._weights.data_ptr(), self._bias.data_ptr(), self._bounds.data_ptr()),
            *(place, row, pixel, wide, groups, high * groups),
            *(self._zeros.data_ptr(), self._trash.data_ptr()),
        )


class Window:
    """A convolution of few channels, and its activation: each pixel is a product with its window.

    Args:
        weight: (O, C, kh, kw).
        bias: (O,), or None.
        stride, dilation: along both sides.
        activation: None, ``relu`` or ``hardtanh``.
        scalars: the bounds of the latter.

    Attributes:
        channels: the numbers of a window.
        outputs: O.
        tile: pixels of a row that a call computes at least.
        code, name: the machine code, and its function.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: Sequence[int],
        dilation: Sequence[int],
        activation: str | None,
        scalars: Sequence[float],
    ) -> None:
        taps = weight.detach().flatten(1)[:, :, None, None]
        self._products = Pointwise(taps, bias, activation, scalars)
        self.outputs, self.channels = self._products.outputs, self._products.channels
        self.tile = self._products.tile
        self.name = self._products.name.replace("pointwise", "window")
        self.code = _machine_code(self.name)
        self._kernel, self._stride, self._dilation = weight.shape[1:], stride, dilation

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        """(N, O, H', W') of a padded (N, C, H, W), by a copy of each window."""
        image, *steps = value.stride()
        shape, steps = self._shape_and_steps(value, steps)
        seen = value.as_strided((len(value), *shape, *self._kernel), (image, *steps))
        return self._products(seen.flatten(3).permute(0, 3, 1, 2), None, None)

    def source(self, value: torch.Tensor) -> tuple[int, ...]:
        """What a block reads of a padded (C, H, W).

        Returns:
            The address, the distance of its rows and pixels in numbers, their height and width.
        """
        shape, steps = self._shape_and_steps(value, value.stride())
        return value.data_ptr(), *steps[:2], *shape

    def offsets(self, value: torch.Tensor) -> torch.Tensor:
        """Where the numbers of a window of (C, H, W) lie, from the first one on."""
        _, (_, _, *steps) = self._shape_and_steps(value, value.stride())
        ranges = (torch.arange(n) * step for n, step in zip(self._kernel, steps, strict=True))
        channel, row, pixel = ranges
        return (channel[:, None, None] + row[:, None] + pixel).flatten()

    def numbers(self, offsets: torch.Tensor) -> tuple[int, ...]:
        """Those of a call, in the order of ``WINDOW``; without the first."""
        return (*self._products.numbers(target=(0, 0, self.outputs)), offsets.data_ptr())

    def _shape_and_steps(
        self, value: torch.Tensor, steps: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """(H', W'), and the steps in memory of a pixel's row and column, and of its window."""
        channel, *far = steps
        spans = [d * (k - 1) + 1 for k, d in zip(self._kernel[1:], self._dilation, strict=True)]
        sides = zip(value.shape[-2:], spans, self._stride, strict=True)
        shape = [(n - span) // s + 1 for n, span, s in sides]
        strides = [step * s for step, s in zip(far, self._stride, strict=True)]
        taps = [step * d for step, d in zip(far, self._dilation, strict=True)]
        return shape, [*strides, channel, *taps]


METHOD = "compiled"
LEAST_MULTIPLY_ADDS = 4 << 30
"""Of all such convolutions of a run: with fewer, compiling takes as long as they do."""


def with_compiled(graph: Graph, width: int | None = None) -> Graph:
    """The graph in which the convolutions of this file are computed by it, if there are enough.

    Args:
        graph: a lowered graph.
        width: the float32 numbers of a register of the processes that will compute, 0 if they
            compile nothing; None for this process.
    """
    if width is None:
        width = register_width() if is_compiled() else 0
    if not width:
        return graph
    chosen = [node for node in graph if suits(node, graph.tensors, width)]
    if sum(map(_multiply_adds, chosen)) < LEAST_MULTIPLY_ADDS:
        return graph
    made = {node.name: replace(node, params=node.params.but(method=METHOD)) for node in chosen}
    return replace(graph, nodes={name: made.get(name, node) for name, node in graph.nodes.items()})


def uses_compiled(graph: Graph) -> bool:
    """Whether a convolution is computed by this file."""
    return any(map(uses_it, graph))


def rounding(graph: Graph) -> str:
    """What decides how a graph's sums are rounded."""
    return ", compiled layers" if uses_compiled(graph) else ""


def load_compiled(graph: Graph) -> None:
    """Compile what a graph will call."""
    for node in graph:
        if uses_it(node):
            load_layer(node)


def load_layer(node: Node) -> None:
    """Compile what a node will call."""
    _machine_code(_function_of(node))


def is_loaded() -> bool:
    """Whether something of this file has been compiled in this process."""
    return bool(_machine_code.cache_info().currsize)


def _params(node: Node) -> ConvolutionParams:
    assert isinstance(node.params, ConvolutionParams)  # as ``suits`` has seen
    return node.params


def _function_of(node: Node) -> str:
    params = _params(node)
    if _is_pointwise(params):
        return f"pointwise_{_vectors(params.out_channels)}"
    if _is_depthwise(params):
        return f"depthwise_{params.kernel[0]}_{params.stride[0]}"
    return f"window_{_vectors(params.out_channels)}"


def is_pointwise(node: Node) -> bool:
    """Whether a convolution is a 1×1 one without a stride."""
    return _is_pointwise(_params(node)) and set(node.params.stride) == {1}


def is_depthwise(node: Node) -> bool:
    """Whether a convolution is a depthwise one that this file computes."""
    return _is_depthwise(_params(node))


def uses_it(node: Node) -> bool:
    """Whether a node is a convolution that is computed by this file."""
    return isinstance(node.params, ConvolutionParams) and node.params.method == METHOD


def suits(node: Node, tensors: Mapping[str, torch.Tensor], width: int) -> bool:
    """Whether a node is a 1×1 or a depthwise convolution that this file can compute.

    Args:
        node: of a lowered graph.
        tensors: of the graph.
        width: the float32 numbers of a register.
    """
    if not _is_plain(node, tensors, width):
        return False
    params = _params(node)
    return _is_pointwise(params) or (_is_depthwise(params) and not params.adds)


def is_window(node: Node, tensors: Mapping[str, torch.Tensor], width: int) -> bool:
    """Whether a node is a convolution that :class:`Window` can compute; as for :func:`suits`."""
    if not _is_plain(node, tensors, width):
        return False
    params = _params(node)
    numbers = params.in_channels * math.prod(params.kernel)
    return params.groups == 1 and not params.adds and numbers <= _MOST_TAPS


def _is_plain(node: Node, tensors: Mapping[str, torch.Tensor], width: int) -> bool:
    """Whether a node is a convolution of two axes in float32, with nothing out of the ordinary."""
    params = node.params
    if not isinstance(params, ConvolutionParams) or node.family is not Family.CONVOLUTION:
        return False
    if node.kind is not Kind.LOCAL or params.method or params.out_channels < width:
        return False
    if None in node.dims or node.edges[0].beside or (params.parts or 1) > 1:
        return False
    if len(params.kernel) != 2 or params.activation not in (None, "relu", "hardtanh"):
        return False
    tensor = tensors[node.weights[0]]
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _is_pointwise(params: ConvolutionParams) -> bool:
    even = set(params.kernel) == {1} and len(set(params.stride)) == 1
    plain = even and params.groups == 1
    return plain and not any(map(any, params.padding))


def _is_depthwise(params: ConvolutionParams) -> bool:
    apart = params.groups == params.in_channels == params.out_channels
    square = len(set(params.kernel)) == len(set(params.stride)) == 1
    compiled = square and (params.kernel[0], params.stride[0]) in _KERNELS
    return apart and compiled and set(params.dilation) == {1}


def _multiply_adds(node: Node) -> int:
    params = _params(node)
    each = math.prod(params.kernel) * params.in_channels // params.groups
    return math.prod(node.extents) * params.out_channels * each


def compiled_layer(
    node: Node, tensors: Mapping[str, torch.Tensor]
) -> Pointwise | Depthwise | Window:
    """The machine code of a node that is computed by this file, if only in a block."""
    params = _params(node)
    weight, bias = tensors[node.weights[0]], tensors[node.weights[1]] if params.bias else None
    last = params.activation, params.scalars or ()
    if _is_pointwise(params):
        return Pointwise(weight, bias, *last, params.stride[0])
    if _is_depthwise(params):
        return Depthwise(weight, bias, params.stride[0], *last)
    return Window(weight, bias, params.stride, params.dilation, *last)


def compiled_convolver(
    node: Node, weight: torch.Tensor, bias: torch.Tensor | None
) -> Callable[[Sequence[Padded], torch.Tensor | None, torch.Tensor | None], torch.Tensor]:
    """The convolution of one padded value, with what is added to it, and its activation."""
    tensors = {node.weights[0]: weight, **({} if bias is None else {node.weights[1]: bias})}
    layer = compiled_layer(node, tensors)
    if isinstance(layer, Pointwise):
        return lambda values, room, added: layer(values[0][0], room, added)
    assert isinstance(layer, Depthwise)
    return lambda values, room, added: layer(*values[0], room)
