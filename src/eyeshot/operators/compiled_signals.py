"""Convolutions along one axis as machine code, where llvmlite is installed: ``eyeshot[fast]``.

A register holds successive positions of one channel, as they lie in memory. So dilated samples are
read where they are in a line buffer, and outputs are written where the next ones are kept: nothing
is copied. The gate of WaveNet, the sum with a residual branch and the activation are computed
before the outputs leave the registers. Each output is its bias, then one product after another in a
fixed order, each rounded once; so it depends neither on the band nor on the threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from eyeshot.graph import ConvolutionParams, Family, Graph, Kind, Node
from eyeshot.operators.compiled_layers import bounds_of
from eyeshot.operators.pointwise import GATE
from eyeshot.operators.tile import Padded
from eyeshot.operators.winograd_compiled import (
    Code,
    Fields,
    MachineCode,
    compiled_width,
    function,
    register_width,
)

_TILES = {
    16: {False: {8: 3, 4: 6, 2: 8, 1: 8}, True: {4: 3, 2: 6, 1: 8}},
    8: {False: {4: 3, 2: 5, 1: 6}, True: {2: 3, 1: 5}},
}
"""By the numbers that a register holds, and whether there is a gate: how many outputs are computed
together, with the registers that one output then fills."""
_PIECE = 16
"""The most tiles that a thread takes at a time."""
_MOST_CHANNELS = 64
"""Of the input. With more, a product of matrices is faster."""
METHOD = "compiled signal"
LEAST_MULTIPLY_ADDS = 1 << 30
"""Of all such convolutions of a run: with fewer, compiling takes as long as they do."""

_SIGNAL: Fields = (
    "next", "source", "row", "channels", "taps", "far", "weights", "bias", "outputs", "added",
    "added_row", "bounds", "target", "target_row", "blocks", "positions", "tiles", "piece_tiles",
    "pieces",
)  # fmt: skip


def _exponential(code: Code, y: str) -> tuple[str, str]:
    """p and s of exp(y) = s·p + s, where s is a power of two and p = exp(r) − 1 of a small r.

    For −88 < y ≤ 0. The polynomial is Taylor's, to r⁷ with |r| ≤ ln 2 / 2.
    """
    whole = f"<{code.width} x i32>"
    turns = code.fma(y, code.number(1 / math.log(2)), code.number(_ROUNDING))
    count = code.add(turns, code.number(_ROUNDING), -1)
    rest = code.fma(count, code.number(-_LN2_HIGH), y)
    rest = code.fma(count, code.number(_LN2_HIGH - math.log(2)), rest)
    series = code.number(1 / math.factorial(7))
    for power in (6, 5, 4, 3, 2):
        series = code.fma(series, rest, code.number(1 / math.factorial(power)))
    part = code.fma(code.let(f"fmul {code.type} {rest}, {rest}"), series, rest)
    bits = code.let(f"bitcast {code.type} {turns} to {whole}")
    bits = code.let(f"shl {whole} {bits}, {_same(code, 23)}")
    bits = code.let(f"add {whole} {bits}, {_same(code, 127 << 23)}")
    return part, code.let(f"bitcast {whole} {bits} to {code.type}")


_ROUNDING = 1.5 * 2**23
"""Added to a number of less than 2²², it leaves its nearest whole number in the lowest bits."""
_LN2_HIGH = round(math.log(2) * 2**14) / 2**14
"""The first digits of ln 2, so that its product with a small whole number is exact."""


def _same(code: Code, number: int) -> str:
    """A whole number in every place of a register."""
    return "<" + ", ".join([f"i32 {number}"] * code.width) + ">"


def _least(code: Code, value: str, least: float) -> str:
    """The number, or ``least`` if it is smaller; NaN stays NaN."""
    bound = code.number(least)
    under = code.let(f"fcmp olt {code.type} {value}, {bound}")
    return code.select(under, bound, value)


def _gate(code: Code, a: str, b: str) -> str:
    """tanh(a)·sigmoid(b): exact to a few roundings, for small and for large numbers too.

    With e = exp(−2|a|) − 1 and s = exp(−|b|), it is ±(−e)·(1 or s) / ((2 + e)·(1 + s)).
    """
    kind, whole = code.type, f"<{code.width} x i32>"
    one, zero = code.number(1), code.number(0)
    magnitudes = [code.let(f"call {kind} @llvm.fabs.v{code.width}f32({kind} {x})") for x in (a, b)]
    part, scale = _exponential(code, _least(code, code.times(magnitudes[0], -2), -40))
    e = code.fma(scale, part, code.add(scale, one, -1))
    y = _least(code, code.times(magnitudes[1], -1), -87)
    part, scale = _exponential(code, y)
    s = code.fma(scale, part, scale)
    s = code.select(code.let(f"fcmp ole {kind} {y}, {code.number(-87)}"), zero, s)
    above = code.select(code.let(f"fcmp olt {kind} {b}, {zero}"), s, one)
    over = code.let(f"fmul {kind} {e}, {above}")
    under = code.let(f"fmul {kind} {code.add(e, code.number(2))}, {code.add(s, one)}")
    ratio = code.let(f"bitcast {kind} {code.let(f'fdiv {kind} {over}, {under}')} to {whole}")
    # e is negative, so that the ratio takes the sign opposite to that of a.
    sign = code.let(f"bitcast {kind} {a} to {whole}")
    sign = code.let(f"and {whole} {sign}, {_same(code, -(1 << 31))}")
    ratio = code.let(f"and {whole} {ratio}, {_same(code, (1 << 31) - 1)}")
    return code.let(f"bitcast {whole} {code.let(f'or {whole} {ratio}, {sign}')} to {kind}")


def _signal(width: int, gated: bool, outputs: int) -> str:
    """Blocks of ``outputs`` over tiles of positions; weights: (block, tap, channel, sum)."""
    vectors = _TILES[width][gated][outputs]
    sums, tile, kind = outputs * (1 + gated), vectors * width, f"<{width} x float>"
    cells = [(o, v) for o in range(sums) for v in range(vectors)]
    before = Code(width)
    low, high = before.spread("%bounds"), before.spread(before.at("%bounds", "1"))
    lines = [
        *before.lines,
        "  %first_tile = mul i64 %i, %piece_tiles",
        "  %end_tile = add i64 %first_tile, %piece_tiles",
        "  %last_tile = call i64 @llvm.smin.i64(i64 %end_tile, i64 %tiles)",
        f"  %last_position = sub i64 %positions, {tile}",
        f"  %last_output = sub i64 %outputs, {outputs}",
        f"  %tap_size = mul i64 %channels, {sums}",
        "  %block_size = mul i64 %tap_size, %taps",
        "  br label %block_one",
        "block_one:",
        "  %p = phi i64 [ 0, %one ], [ %p_next, %block_after ]",
        f"  %n_here = mul i64 %p, {outputs}",
        "  %n = call i64 @llvm.smin.i64(i64 %n_here, i64 %last_output)",
        "  %w_off = mul i64 %p, %block_size",
        "  %w_start = getelementptr float, ptr %weights, i64 %w_off",
        f"  %b_off = mul i64 %p, {sums}",
        "  %b_start = getelementptr float, ptr %bias, i64 %b_off",
        "  %y_row = mul i64 %n, %target_row",
        "  %z_row = mul i64 %n, %added_row",
        "  br label %tile_one",
        "tile_one:",
        "  %t = phi i64 [ %first_tile, %block_one ], [ %t_next, %tile_after ]",
        f"  %m_here = mul i64 %t, {tile}",
        "  %m = call i64 @llvm.smin.i64(i64 %m_here, i64 %last_position)",
        "  %x_start = getelementptr float, ptr %source, i64 %m",
    ]
    begin = Code(width)
    begin._count = 10_000
    begun = [begin.spread(begin.at("%b_start", str(o))) for o in range(sums)]
    step = Code(width)
    step._count = 20_000
    values = [step.load(step.at("%x", str(v * width))) for v in range(vectors)]
    for o in range(sums):
        weight = step.spread(step.at("%w", str(o)))
        for v in range(vectors):
            operands = f"{kind} {values[v]}, {kind} {weight}, {kind} %c_{o}_{v}"
            step.do(f"%s_{o}_{v} = call {kind} @llvm.fma.v{width}f32({operands})")
    lines += [
        *begin.lines,
        "  br label %tap_one",
        "tap_one:",
        "  %k = phi i64 [ 0, %tile_one ], [ %k_next, %tap_after ]",
        "  %w_tap = phi ptr [ %w_start, %tile_one ], [ %w_next, %tap_after ]",
        "  %x_tap = phi ptr [ %x_start, %tile_one ], [ %x_tap_next, %tap_after ]",
        *(
            f"  %a_{o}_{v} = phi {kind} [ {begun[o]}, %tile_one ], [ %s_{o}_{v}, %tap_after ]"
            for o, v in cells
        ),
        "  br label %product",
        "product:",
        "  %c = phi i64 [ 0, %tap_one ], [ %c_next, %product ]",
        "  %w = phi ptr [ %w_tap, %tap_one ], [ %w_next, %product ]",
        "  %x = phi ptr [ %x_tap, %tap_one ], [ %x_next, %product ]",
        *(
            f"  %c_{o}_{v} = phi {kind} [ %a_{o}_{v}, %tap_one ], [ %s_{o}_{v}, %product ]"
            for o, v in cells
        ),
        *step.lines,
        "  %c_next = add i64 %c, 1",
        f"  %w_next = getelementptr float, ptr %w, i64 {sums}",
        "  %x_next = getelementptr float, ptr %x, i64 %row",
        "  %c_more = icmp slt i64 %c_next, %channels",
        "  br i1 %c_more, label %product, label %tap_after",
        "tap_after:",
        "  %k_next = add i64 %k, 1",
        "  %x_tap_next = getelementptr float, ptr %x_tap, i64 %far",
        "  %k_more = icmp slt i64 %k_next, %taps",
        "  br i1 %k_more, label %tap_one, label %summed",
        "summed:",
        "  %y_far = add i64 %y_row, %m",
        "  %y = getelementptr float, ptr %target, i64 %y_far",
        "  %adds = icmp ne ptr %added, null",
        "  br i1 %adds, label %add, label %write",
        "add:",
        "  %z_far = add i64 %z_row, %m",
        "  %z = getelementptr float, ptr %added, i64 %z_far",
    ]
    more, last = Code(width), Code(width)
    more._count, last._count = 30_000, 40_000
    for o in range(sums):
        place = more.at("%z", more.let(f"mul i64 %added_row, {o % outputs}"))
        for v in range(vectors):
            if gated:  # nothing is ever added to it
                more.do(f"%z_{o}_{v} = fadd {kind} %s_{o}_{v}, {more.number(0)}")
                continue
            other = more.load(more.at(place, str(v * width)))
            more.do(f"%z_{o}_{v} = fadd {kind} %s_{o}_{v}, {other}")
    for o in range(outputs):
        place = last.at("%y", last.let(f"mul i64 %target_row, {o}"))
        for v in range(vectors):
            if gated:
                value = _gate(last, f"%y_{o}_{v}", f"%y_{outputs + o}_{v}")
            else:
                value = last.within(f"%y_{o}_{v}", low, high)
            last.store(value, last.at(place, str(v * width)))
    lines += [
        *more.lines,
        "  br label %write",
        "write:",
        *(
            f"  %y_{o}_{v} = phi {kind} [ %s_{o}_{v}, %summed ], [ %z_{o}_{v}, %add ]"
            for o, v in cells
        ),
        *last.lines,
        "  br label %tile_after",
        "tile_after:",
        "  %t_next = add i64 %t, 1",
        "  %t_more = icmp slt i64 %t_next, %last_tile",
        "  br i1 %t_more, label %tile_one, label %block_after",
        "block_after:",
        "  %p_next = add i64 %p, 1",
        "  %p_more = icmp slt i64 %p_next, %blocks",
        "  br i1 %p_more, label %block_one, label %after",
    ]
    return function(_name(gated, outputs), _SIGNAL, "pieces", 1, (), lines)


def _name(gated: bool, outputs: int) -> str:
    return f"{'gate' if gated else 'signal'}_{outputs}"


@functools.cache
def _machine_code(gated: bool, outputs: int) -> MachineCode:
    def assembly(width: int) -> str:
        vector = f"<{width} x float>"
        return "\n".join(
            [
                "declare i64 @llvm.smin.i64(i64, i64)",
                f"declare {vector} @llvm.fabs.v{width}f32({vector})",
                f"declare {vector} @llvm.fma.v{width}f32({vector}, {vector}, {vector})",
                _signal(width, gated, outputs),
            ]
        )

    return MachineCode(assembly, (_name(gated, outputs),))


def _together(gated: bool, outputs: int) -> int:
    """How many outputs are computed together: as many as there are, if registers suffice."""
    return max(n for n in _TILES[register_width()][gated] if n <= outputs)


class SignalConvolution:
    """A convolution along one axis without a stride, with what is added to it, and its activation.

    Args:
        weight: (O, C, k); with a gate, O is twice the number of its outputs.
        bias: (O,), or None.
        dilation: of the kernel.
        activation: None, ``relu``, ``hardtanh`` or ``gate``.
        scalars: the bounds of ``hardtanh``.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        dilation: int,
        activation: str | None,
        scalars: Sequence[float],
    ) -> None:
        count, self._channels, self._taps = weight.shape
        self._dilation, self._gated = dilation, activation == GATE
        self._outputs = count // 2 if self._gated else count
        self._bounds = bounds_of(activation, scalars)
        block = _together(self._gated, self._outputs)
        self._name, self._code = _name(self._gated, block), _machine_code(self._gated, block)
        self._tile = _TILES[register_width()][self._gated][block] * register_width()
        self._blocks = -(-self._outputs // block)
        starts = [min(p * block, self._outputs - block) for p in range(self._blocks)]
        rows = torch.tensor([list(range(n, n + block)) for n in starts])
        if self._gated:
            rows = torch.cat([rows, rows + self._outputs], 1)
        shift = torch.zeros(count) if bias is None else bias.detach()
        self._bias = shift[rows].contiguous()
        self._weights = weight.detach()[rows].permute(0, 3, 2, 1).contiguous()

    def __call__(
        self, value: torch.Tensor, room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        """(N, O, T') of (N, C, T), in ``room`` if its positions lie one after another."""
        value, added = _in_order(value), None if added is None else _in_order(added)
        count = value.shape[2] - self._dilation * (self._taps - 1)
        shape = (len(value), self._outputs, count)
        if count < self._tile:  # more positions are computed, and dropped
            missing = self._tile - count
            more = None if added is None else F.pad(added, (0, missing))
            made = self(F.pad(value, (0, missing)), None, more)[..., :count]
            return made.contiguous() if room is None else room.copy_(made)
        fits = room is not None and room.stride(2) == 1
        result = room if room is not None and fits else torch.empty(shape)
        for place, (one, target) in enumerate(zip(value, result, strict=True)):
            self._run(one, None if added is None else added[place], target, count)
        return result

    def _run(
        self, source: torch.Tensor, added: torch.Tensor | None, target: torch.Tensor, count: int
    ) -> None:
        tiles = -(-count // self._tile)
        piece = max(1, min(_PIECE, -(-tiles // (4 * torch.get_num_threads()))))
        self._code.run(
            self._name,
            *(source.data_ptr(), source.stride(0), self._channels, self._taps, self._dilation),
            *(self._weights.data_ptr(), self._bias.data_ptr(), self._outputs),
            *((0, 0) if added is None else (added.data_ptr(), added.stride(0))),
            *(self._bounds.data_ptr(), target.data_ptr(), target.stride(0)),
            *(self._blocks, count, tiles, piece, -(-tiles // piece)),
        )


def _in_order(value: torch.Tensor) -> torch.Tensor:
    """The value with the positions of a channel one after another in memory."""
    return value if value.stride(2) == 1 else value.contiguous()


def with_signals(graph: Graph, width: int | None = None) -> Graph:
    """The graph in which the convolutions of this file are computed by it, if there are enough.

    Args:
        graph: a lowered graph.
        width: the float32 numbers of a register of the processes that will compute, 0 if they
            compile nothing; None for this process.
    """
    if not (compiled_width() if width is None else width):
        return graph
    chosen = [node for node in graph if suits(node, graph.tensors)]
    if sum(map(_multiply_adds, chosen)) < LEAST_MULTIPLY_ADDS:
        return graph
    made = {node.name: replace(node, params=node.params.but(method=METHOD)) for node in chosen}
    return replace(graph, nodes={name: made.get(name, node) for name, node in graph.nodes.items()})


def uses_signals(graph: Graph) -> bool:
    """Whether a convolution is computed by this file."""
    return any(map(uses_it, graph))


def rounding(graph: Graph) -> str:
    """What decides how a graph's sums are rounded."""
    return ", compiled signals" if uses_signals(graph) else ""


def load_compiled(graph: Graph) -> None:
    """Compile what a graph will call."""
    for key in dict.fromkeys(_function_of(node) for node in graph if uses_it(node)):
        _machine_code(*key)


def is_loaded() -> bool:
    """Whether something of this file has been compiled in this process."""
    return bool(_machine_code.cache_info().currsize)


def _function_of(node: Node) -> tuple[bool, int]:
    gated = node.params.activation == GATE
    return gated, _together(gated, node.shape[1])


def uses_it(node: Node) -> bool:
    """Whether a node is a convolution that is computed by this file."""
    return isinstance(node.params, ConvolutionParams) and node.params.method == METHOD


def suits(node: Node, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a node is a convolution along one axis that this file can compute, and fast."""
    params = node.params
    if not isinstance(params, ConvolutionParams) or node.family is not Family.CONVOLUTION:
        return False
    if node.kind is not Kind.LOCAL or params.method or (params.parts or 1) > 1:
        return False
    if node.dims != (2,) or len(node.shape) != 3 or node.edges[0].beside:
        return False
    if len(params.kernel) != 1 or params.activation not in (None, "relu", "hardtanh", GATE):
        return False
    tensor = tensors[node.weights[0]]
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
        return False
    plain = params.groups == 1 and params.stride == (1,)
    return plain and params.in_channels <= _MOST_CHANNELS


def _multiply_adds(node: Node) -> int:
    params = node.params
    each = math.prod(params.kernel) * params.in_channels
    return math.prod(node.extents) * params.out_channels * each


def signal_convolver(
    node: Node, weight: torch.Tensor, bias: torch.Tensor | None
) -> Callable[[Sequence[Padded], torch.Tensor | None, torch.Tensor | None], torch.Tensor]:
    """The convolution of one padded value, with what is added to it, and its activation."""
    params = node.params
    scalars = params.scalars or ()
    convolve = SignalConvolution(weight, bias, params.dilation[0], params.activation, scalars)

    def compute(
        values: Sequence[Padded], room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        ((value, (padding,)),) = values
        return convolve(F.pad(value, (padding, padding)) if padding else value, room, added)

    return compute
