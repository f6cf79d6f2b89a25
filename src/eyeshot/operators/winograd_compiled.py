"""Winograd's transforms as machine code, where llvmlite is installed: ``eyeshot[fast]``.

In torch a transform is some 20 sums of whole rows, each of which reads and writes all of its
numbers. Here the numbers of a block stay in registers from the first sum to the last. The sums are
the same, in the same order, so they round to the same numbers. Blocks are shared among the threads
of torch's own pool, and no number depends on which thread computes it.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import torch

_WIDTHS = {"AVX2": 8, "AVX512": 16}
"""Numbers that a register holds, by what torch calls the processor."""
_BLOCKS, _PIXELS = 8, 128
"""That a thread takes at a time."""

Fields = tuple[str, ...]
"""The 64-bit numbers of a call, in their order; "next" is the next piece that a thread takes."""
_ADDRESSES = frozenset(
    (
        *("source", "target", "zeros", "trash", "scale", "flag", "weights", "bias", "added"),
        *("bounds", "scratch", "expand", "filter", "project", "offsets"),
        *("expand_call", "filter_call", "project_call"),
    )
)
_GATHER: Fields = (
    "next", "source", "row", "pixel", "height", "width", "top", "left", "wide", "blocks",
    "channels", "spread", "target", "zeros",
)  # fmt: skip
_SCATTER: Fields = (
    "next", "source", "row", "pixel", "height", "width", "top", "left", "wide", "blocks",
    "channels", "relu", "target", "trash",
)  # fmt: skip
_WEIGH: Fields = (
    "next", "source", "row", "pixel", "wide", "pixels",
    "channels", "scale", "target", "target_row", "flag",
)  # fmt: skip
_COMPARE: Fields = ("next", "source", "row", "height", "width", "wide", "blocks", "flag")


@functools.cache
def is_compiled() -> bool:
    """Whether the transforms are compiled: llvmlite is there, and a processor that was tried."""
    return torch.backends.cpu.get_cpu_capability() in _WIDTHS and find_spec("llvmlite") is not None


def register_width() -> int:
    """The float32 numbers that a register of this processor holds."""
    return _WIDTHS[torch.backends.cpu.get_cpu_capability()]


def compiled_width() -> int:
    """The float32 numbers of a register, if this process compiles code; 0 if it does not."""
    return register_width() if is_compiled() else 0


class Code:
    """Lines of LLVM's assembly for vectors of ``width`` float32; a value is the name of one."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.type = f"<{width} x float>" if width > 1 else "float"
        self.lines: list[str] = []
        self._count = 0

    def let(self, text: str) -> str:
        """A new value."""
        self._count += 1
        name = f"%v{self.width}_{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """A line without a value."""
        self.lines.append(f"  {text}")

    def load(self, place: str) -> str:
        """The numbers at an address."""
        return self.let(f"load {self.type}, ptr {place}, align 4")

    def store(self, value: str, place: str) -> None:
        """Write numbers to an address."""
        self.do(f"store {self.type} {value}, ptr {place}, align 4")

    def at(self, place: str, index: str) -> str:
        """The address of the float32 with an index."""
        return self.let(f"getelementptr inbounds float, ptr {place}, i64 {index}")

    def number(self, value: float) -> str:
        """A constant, rounded to float32."""
        (rounded,) = struct.unpack("f", struct.pack("f", value))
        bits = f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
        if self.width == 1:
            return bits
        return "<" + ", ".join([f"float {bits}"] * self.width) + ">"

    def add(self, one: str, other: str, factor: float = 1) -> str:
        """``one + factor·other``, rounded once as in torch."""
        if factor == 1:
            return self.let(f"fadd {self.type} {one}, {other}")
        if factor == -1:
            return self.let(f"fsub {self.type} {one}, {other}")
        kind = f"v{self.width}f32" if self.width > 1 else "f32"
        operands = f"{self.type} {other}, {self.type} {self.number(factor)}, {self.type} {one}"
        return self.let(f"call {self.type} @llvm.fma.{kind}({operands})")

    def times(self, one: str, factor: float) -> str:
        """``factor·one``."""
        return self.let(f"fmul {self.type} {one}, {self.number(factor)}")

    def spread(self, place: str) -> str:
        """The number at an address, in every place of a register."""
        number = self.let(f"load float, ptr {place}, align 4")
        one = self.let(f"insertelement {self.type} poison, float {number}, i64 0")
        lanes = f"<{self.width} x i32> zeroinitializer"
        return self.let(f"shufflevector {self.type} {one}, {self.type} poison, {lanes}")

    def fma(self, one: str, other: str, total: str) -> str:
        """``one·other + total``, rounded once."""
        operands = f"{self.type} {one}, {self.type} {other}, {self.type} {total}"
        return self.let(f"call {self.type} @llvm.fma.v{self.width}f32({operands})")

    def select(self, test: str, yes: str, no: str) -> str:
        """In each place of a register, one of two numbers."""
        bits = f"<{self.width} x i1>"
        return self.let(f"select {bits} {test}, {self.type} {yes}, {self.type} {no}")

    def within(self, value: str, low: str, high: str) -> str:
        """The number, or the bound that it passes; NaN stays NaN."""
        value = self.select(self.let(f"fcmp olt {self.type} {value}, {low}"), low, value)
        return self.select(self.let(f"fcmp ogt {self.type} {value}, {high}"), high, value)


FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Step = Callable[[Code, str], None]


def _fields(names: Fields) -> list[str]:
    """The numbers of a call, each as %name; addresses as %name_at."""
    lines = []
    for i, name in enumerate(names):
        lines += [f"  %{name}_in = getelementptr i64, ptr %call, i64 {i}"]
        if name in _ADDRESSES:
            lines += [f"  %{name} = load ptr, ptr %{name}_in"]
        elif name != "next":
            lines += [f"  %{name} = load i64, ptr %{name}_in"]
    return lines


def function(
    name: str,
    names: Fields,
    count: str,
    piece: int,
    before: Sequence[str],
    body: Sequence[str],
    *,
    once: Sequence[str] = (),
) -> str:
    """A function that takes pieces until none is left, so that threads may share a call.

    ``body`` ends by a jump to ``%after``. ``once`` comes before the first piece of a thread.
    """
    return "\n".join(
        [
            f"define void @{name}(ptr %call) {{",
            "entry:",
            *_fields(names),
            *once,
            "  br label %take",
            "take:",
            "  %piece = atomicrmw add ptr %next_in, i64 1 monotonic",
            f"  %first = mul i64 %piece, {piece}",
            f"  %some = icmp slt i64 %first, %{count}",
            "  br i1 %some, label %begin, label %exit",
            "begin:",
            f"  %end = add i64 %first, {piece}",
            f"  %last = call i64 @llvm.smin.i64(i64 %end, i64 %{count})",
            "  br label %one",
            "one:",
            "  %i = phi i64 [ %first, %begin ], [ %i_next, %after ]",
            *before,
            *body,
            "after:",
            "  %i_next = add i64 %i, 1",
            "  %more = icmp slt i64 %i_next, %last",
            "  br i1 %more, label %one, label %take",
            "exit:",
            "  ret void",
            "}",
        ]
    )


def _over_channels(width: int, step: Step) -> list[str]:
    """A step for each vector of channels, and then for each channel that is left."""
    lines = ["  br label %to1"] if width == 1 else [f"  br label %to{width}"]
    came = "%one"
    for size in dict.fromkeys((width, 1)):
        code = Code(size)
        step(code, f"%c{size}")
        after = "%after" if size == 1 else "%to1"
        lines += [
            f"to{size}:",
            f"  %c{size} = phi i64 [ {'0' if came == '%one' else f'%c{width}'}, {came} ],"
            f" [ %e{size}, %do{size} ]",
            f"  %e{size} = add i64 %c{size}, {size}",
            f"  %f{size} = icmp sle i64 %e{size}, %channels",
            f"  br i1 %f{size}, label %do{size}, label {after}",
            f"do{size}:",
            *code.lines,
            f"  br label %to{size}",
        ]
        came = f"%to{size}"
    return lines


def _block_places(
    tall: int, wide: int, down: int, across: int, outside: str = "", image: str = "source"
) -> list[str]:
    """%p_i_j: the address of each pixel of a block; that of ``outside`` beyond the image."""
    lines = [
        "  %by = udiv i64 %i, %wide",
        "  %bx = urem i64 %i, %wide",
        f"  %yb = mul i64 %by, {down}",
        f"  %xb = mul i64 %bx, {across}",
        f"  %ya = add i64 %yb, {'%top' if outside else '0'}",
        f"  %xa = add i64 %xb, {'%left' if outside else '0'}",
    ]
    sides = (("y", "height", tall, "%row"), ("x", "width", wide, "%pixel" if outside else "1"))
    for axis, most, n, step in sides:
        for k in range(n):
            lines += [
                f"  %{axis}_{k} = add i64 %{axis}a, {k}",
                f"  %{axis}_ok_{k} = icmp ult i64 %{axis}_{k}, %{most}",
                f"  %{axis}_off_{k} = mul i64 %{axis}_{k}, {step}",
            ]
    for i, j in itertools.product(range(tall), range(wide)):
        place = f"%g_{i}_{j}" if outside else f"%p_{i}_{j}"
        lines += [
            f"  %o_{i}_{j} = add i64 %y_off_{i}, %x_off_{j}",
            f"  {place} = getelementptr float, ptr %{image}, i64 %o_{i}_{j}",
        ]
        if outside:
            lines += [
                f"  %ok_{i}_{j} = and i1 %y_ok_{i}, %x_ok_{j}",
                f"  %p_{i}_{j} = select i1 %ok_{i}_{j}, ptr {place}, ptr %{outside}",
            ]
    return lines


def _six(code: Code, d: Sequence[str], near: float, far: float) -> list[str]:
    """Bᵀ along the rows, as ``winograd._six``."""
    out = [""] * 6
    for one, other, first in ((near, far, 1), (far, near, 3)):
        even, odd = code.add(d[4], d[2], -(other**2)), code.add(d[3], d[1], -(other**2))
        out[first], out[first + 1] = code.add(even, odd, one), code.add(even, odd, -one)
    middle = near**2 + far**2
    out[0] = code.add(code.add(d[4], d[0]), d[2], -middle)
    out[5] = code.add(code.add(d[5], d[1]), d[3], -middle)
    return out


def _four(code: Code, d: Sequence[str]) -> list[str]:
    """Bᵀ along the columns, as ``winograd._four``."""
    return [
        code.add(d[2], d[0], -1),
        code.add(d[1], d[2]),
        code.add(d[2], d[1], -1),
        code.add(d[3], d[1], -1),
    ]


def _four_back(code: Code, m: Sequence[str], near: float, far: float) -> list[str]:
    """Aᵀ along the rows, as ``winograd._four_back``."""
    odd_near, odd_far = code.add(m[1], m[2], -1), code.add(m[3], m[4], -1)
    even_near, even_far = code.add(m[1], m[2]), code.add(m[3], m[4])
    return [
        code.add(code.add(m[0], even_near, 1 / near), even_far, 1 / far),
        code.add(odd_near, odd_far),
        code.times(code.add(even_near, even_far, far / near), near),
        code.add(code.add(m[5], odd_near, near**2), odd_far, far**2),
    ]


def _two_back(code: Code, m: Sequence[str]) -> list[str]:
    """Aᵀ along the columns, as ``winograd._two_back``."""
    return [
        code.add(code.add(m[0], m[1]), m[2]),
        code.add(code.add(m[1], m[2], -1), m[3]),
    ]


def _gather(width: int, near: float, far: float) -> str:
    def step(code: Code, c: str) -> None:
        read = [[code.load(code.at(f"%p_{i}_{j}", c)) for i in range(6)] for j in range(4)]
        columns = [_six(code, one, near, far) for one in read]
        place = code.at("%to", c)
        for i in range(6):
            for j, value in enumerate(_four(code, [one[i] for one in columns])):
                offset = code.let(f"mul i64 %spread, {4 * i + j}")
                code.store(value, code.at(place, offset))

    before = [
        *_block_places(6, 4, 4, 2, "zeros"),
        "  %size = mul i64 %spread, 24",
        "  %to_off = mul i64 %size, %i",
        "  %to = getelementptr float, ptr %target, i64 %to_off",
    ]
    return function("gather", _GATHER, "blocks", _BLOCKS, before, _over_channels(width, step))


def _scatter(width: int, near: float, far: float) -> str:
    def step(code: Code, c: str) -> None:
        place = code.at("%from", c)

        def product(i: int, j: int) -> str:
            return code.load(code.at(place, code.let(f"mul i64 %channels, {4 * i + j}")))

        columns = [_four_back(code, [product(i, j) for i in range(6)], near, far) for j in range(4)]
        for i in range(4):
            for j, value in enumerate(_two_back(code, [one[i] for one in columns])):
                zero = "zeroinitializer" if code.width > 1 else "0.0"
                test = code.let(f"fcmp olt {code.type} {value}, {zero}")
                bits = "i1" if code.width == 1 else f"<{code.width} x i1>"
                used = code.let(f"and {bits} {test}, %relu{code.width}")
                number = code.let(f"select {bits} {used}, {code.type} {zero}, {code.type} {value}")
                code.store(number, code.at(f"%p_{i}_{j}", c))

    before = [
        *_block_places(4, 2, 4, 2, "trash", "target"),
        "  %size = mul i64 %channels, 24",
        "  %from_off = mul i64 %size, %i",
        "  %from = getelementptr float, ptr %source, i64 %from_off",
        "  %relu1 = icmp ne i64 %relu, 0",
    ]
    if width > 1:
        bits = f"<{width} x i1>"
        before += [
            f"  %relu_one = insertelement {bits} poison, i1 %relu1, i64 0",
            f"  %relu{width} = shufflevector {bits} %relu_one, {bits} poison,"
            f" <{width} x i32> zeroinitializer",
        ]
    return function("scatter", _SCATTER, "blocks", _BLOCKS, before, _over_channels(width, step))


def _weigh(width: int, largest: float) -> str:
    """Add the magnitudes of a pixel's channels, each times its scale, to what is there.

    Each lane adds up every ``width``-th channel, and then the lanes are added in their order. The
    flag is set if a sum is larger than ``largest``, or no number.
    """
    kind = f"<{width} x float>"
    before = [
        "  %y = udiv i64 %i, %wide",
        "  %x = urem i64 %i, %wide",
        "  %y_off = mul i64 %y, %row",
        "  %x_off = mul i64 %x, %pixel",
        "  %off = add i64 %y_off, %x_off",
        "  %from = getelementptr float, ptr %source, i64 %off",
        "  %to_y = mul i64 %y, %target_row",
        "  %to_off = add i64 %to_y, %x",
        "  %to = getelementptr float, ptr %target, i64 %to_off",
        "  br label %lanes",
    ]
    body = []
    for size, name, came, start in (
        (width, "lanes", "one", "zeroinitializer"),
        (1, "rest", "joined", "%joined_sum"),
    ):
        code = Code(size)
        value = code.load(code.at("%from", f"%c{size}"))
        suffix = f"v{size}f32" if size > 1 else "f32"
        size_of = code.let(f"call {code.type} @llvm.fabs.{suffix}({code.type} {value})")
        scale = code.load(code.at("%scale", f"%c{size}"))
        operands = f"{code.type} {size_of}, {code.type} {scale}, {code.type} %s{size}"
        code.do(f"%n{size} = call {code.type} @llvm.fma.{suffix}({operands})")
        first = "0" if size > 1 else f"%c{width}"
        body += [
            f"{name}:",
            f"  %c{size} = phi i64 [ {first}, %{came} ], [ %e{size}, %{name}_do ]",
            f"  %s{size} = phi {code.type} [ {start}, %{came} ], [ %n{size}, %{name}_do ]",
            f"  %e{size} = add i64 %c{size}, {size}",
            f"  %f{size} = icmp sle i64 %e{size}, %channels",
            f"  br i1 %f{size}, label %{name}_do, label %{'joined' if size > 1 else 'write'}",
            f"{name}_do:",
            *code.lines,
            f"  br label %{name}",
        ]
        if size > 1:
            body += [
                "joined:",
                f"  %joined_sum = call float @llvm.vector.reduce.fadd.v{size}f32("
                f"float 0.0, {kind} %s{size})",
                "  br label %rest",
            ]
    body += [
        "write:",
        "  %old = load float, ptr %to, align 4",
        "  %sum = fadd float %old, %s1",
        "  store float %sum, ptr %to, align 4",
        f"  %fine = fcmp ole float %sum, {Code(1).number(largest)}",
        *_else_flag("fine"),
    ]
    return function("weigh", _WEIGH, "pixels", _PIXELS, before, body)


def _else_flag(condition: str) -> list[str]:
    """Set the flag unless a condition holds."""
    return [
        f"  br i1 %{condition}, label %after, label %set",
        "set:",
        "  store atomic i64 1, ptr %flag monotonic, align 8",
        "  br label %after",
    ]


def _compare(contrast: float) -> str:
    """Set the flag if a block weighs more than ``contrast`` times what one of its outputs sees."""
    code = Code(1)

    def most(one: str, other: str) -> str:
        test = code.let(f"fcmp ogt float {one}, {other}")
        return code.let(f"select i1 {test}, float {one}, float {other}")

    def of_three(read: Sequence[str]) -> list[str]:
        """The largest of each three in a row, of four or six."""
        pairs = [most(*pair) for pair in pairwise(read)]
        return [most(pair, one) for pair, one in zip(pairs, read[2:], strict=False)]

    rows = [of_three([code.load(f"%p_{i}_{j}") for j in range(4)]) for i in range(6)]
    seen = [of_three([row[j] for row in rows]) for j in range(2)]
    block = most(most(seen[0][0], seen[0][3]), most(seen[1][0], seen[1][3]))
    least = code.number(math.inf)
    for j, column in enumerate(seen):
        for i, value in enumerate(column):
            shown = code.let(f"and i1 %y_ok_{i}, %x_ok_{j}")
            test = code.let(f"fcmp olt float {value}, {least}")
            smaller = code.let(f"and i1 {shown}, {test}")
            least = code.let(f"select i1 {smaller}, float {value}, float {least}")
    bound = code.times(least, contrast)
    body = [*code.lines, f"  %fine = fcmp ole float {block}, {bound}", *_else_flag("fine")]
    before = _block_places(6, 4, 4, 2)
    return function("compare", _COMPARE, "blocks", _BLOCKS, before, body)


def _assembly(width: int, near: float, far: float, largest: float, contrast: float) -> str:
    kinds = {f"v{width}f32": f"<{width} x float>", "f32": "float"}
    declared = [
        f"declare {kind} @llvm.fma.{name}({kind}, {kind}, {kind})" for name, kind in kinds.items()
    ]
    declared += [f"declare {kind} @llvm.fabs.{name}({kind})" for name, kind in kinds.items()]
    return "\n".join(
        [
            "declare i64 @llvm.smin.i64(i64, i64)",
            *declared,
            f"declare float @llvm.vector.reduce.fadd.v{width}f32(float, <{width} x float>)",
            _weigh(width, largest),
            _compare(contrast),
            _gather(width, near, far),
            _scatter(width, near, far),
        ]
    )


class MachineCode:
    """Functions in LLVM's assembly as machine code for this processor.

    Args:
        assembly: the functions, of the number of float32 that a register holds.
        names: those that are called.
    """

    def __init__(self, assembly: Callable[[int], str], names: Sequence[str]) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
        )
        module = llvm.parse_assembly(assembly(register_width()))
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        self.functions = {name: FUNCTION(self._engine.get_function_address(name)) for name in names}
        self._library = _openmp()

    def run(self, name: str, *numbers: int) -> None:
        """Call a function on torch's threads."""
        call = (ctypes.c_int64 * (len(numbers) + 1))(0, *numbers)
        threads = torch.get_num_threads()
        if self._library is None or threads == 1:
            self.functions[name](call)
        else:
            self._parallel(self.functions[name], call, threads)

    def address(self, name: str) -> int:
        """Where a function lies, for other functions that call it."""
        return int(ctypes.cast(self.functions[name], ctypes.c_void_p).value or 0)

    def share(self, work: Callable[[Iterator[Any]], None], pieces: Sequence[Any]) -> None:
        """Call a function on each of torch's threads, with an iterator of which each takes pieces.

        In it, each thread computes alone: what torch calls uses one thread.
        """
        left, errors = _Shared(pieces), []
        threads = min(torch.get_num_threads(), len(pieces))
        if self._library is None or threads == 1:
            work(left)
            return

        mode = torch.is_inference_mode_enabled()

        def on_thread(_: int) -> None:
            try:
                torch.get_num_threads()  # which prepares a new thread, and so comes first
                self._library.omp_set_num_threads(1)  # until this parallel region ends
                with torch.inference_mode(mode), torch.no_grad():
                    work(left)
            except BaseException as error:  # raised by the caller's thread
                left.stop()
                errors.append(error)

        self._parallel(FUNCTION(on_thread), None, threads)
        if errors:
            raise errors[0]

    def _parallel(self, function: Any, call: Any, threads: int) -> None:
        self._library.GOMP_parallel(function, call, threads, 0)


class Compiled(MachineCode):
    """The machine code of the transforms for this processor."""

    def __init__(self, near: float, far: float, largest: float, contrast: float) -> None:
        super().__init__(
            lambda width: _assembly(width, near, far, largest, contrast),
            ("gather", "scatter", "weigh", "compare"),
        )

    def weigh(self, pixels: torch.Tensor, scale: torch.Tensor, target: torch.Tensor) -> bool:
        """Add Σ |x|·scale over the channels of pixels (H, W, C) to an array (H, W).

        Return whether all sums are numbers, and not too large.
        """
        height, width, channels = pixels.shape
        numbers = (width, height * width, channels, scale.data_ptr())
        to = (target.data_ptr(), target.stride(0))
        return self._holds("weigh", pixels.data_ptr(), *pixels.stride()[:2], *numbers, *to)

    def is_even(self, weights: torch.Tensor, height: int, width: int) -> bool:
        """Whether all inputs of a block weigh about as much as those of each of its outputs.

        ``weights`` are those of the inputs (4·n + 2, 2·m + 2) of n×m blocks, which may have more
        outputs than ``height`` and ``width``.
        """
        down, across = (weights.shape[0] - 2) // 4, (weights.shape[1] - 2) // 2
        numbers = (weights.stride(0), height, width, across, down * across)
        return self._holds("compare", weights.data_ptr(), *numbers)

    def _holds(self, name: str, *numbers: int) -> bool:
        flag = ctypes.c_int64(0)
        self.run(name, *numbers, ctypes.addressof(flag))
        return not flag.value

    def transform(
        self,
        pixels: torch.Tensor,
        corner: tuple[int, int],
        blocks: torch.Tensor,
        zeros: torch.Tensor,
    ) -> None:
        """Bᵀ d B of blocks, the first of which begins at a corner of pixels (H, W, C).

        What lies outside of them is zero. Writes to (high, wide, 6, 4, C), which may be a part of
        the channels of such an array; ``zeros`` is memory for C numbers at least.
        """
        height, width, channels = pixels.shape
        high, wide = blocks.shape[:2]
        zeros[:channels].zero_()
        numbers = (height, width, *corner, wide, high * wide, channels, blocks.stride(3))
        places = (blocks.data_ptr(), zeros.data_ptr())
        self.run("gather", pixels.data_ptr(), *pixels.stride()[:2], *numbers, *places)

    def scatter(
        self,
        products: torch.Tensor,
        room: torch.Tensor,
        corner: tuple[int, int],
        relu: bool,
        trash: torch.Tensor,
    ) -> None:
        """Aᵀ M A of products (high, wide, 6, 4, C), to pixels (H, W, C) from a corner on.

        What lies outside of them is written to ``trash``, memory for C numbers at least.
        """
        height, width, channels = room.shape
        high, wide = products.shape[:2]
        numbers = (height, width, *corner, wide, high * wide, channels, int(relu))
        places = (room.data_ptr(), trash.data_ptr())
        self.run("scatter", products.data_ptr(), *room.stride()[:2], *numbers, *places)


class _Shared:
    """An iterator for several threads."""

    def __init__(self, pieces: Sequence[Any]) -> None:
        self._pieces, self._lock = iter(pieces), Lock()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._pieces)

    def stop(self) -> None:
        """Nothing is left."""
        with self._lock:
            self._pieces = iter(())


def _openmp() -> Any:
    """The GNU OpenMP library whose threads torch uses; None where it uses another."""
    folder = Path(torch.__file__).parent
    found = [*folder.glob("lib/libgomp*"), *folder.parent.glob("torch.libs/libgomp*")]
    already = getattr(os, "RTLD_NOLOAD", None)
    if not found or already is None:
        return None
    try:
        library = ctypes.CDLL(str(found[0]), mode=already | os.RTLD_NOW)
    except OSError:  # not what this torch has loaded
        return None
    library.GOMP_parallel.restype = None
    unsigned = ctypes.c_uint
    library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, unsigned, unsigned]
    library.omp_set_num_threads.restype = None
    return library
