"""Every axis map against the operator itself: each input is poked, and the outputs that move are
those whose taps name it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eyeshot.axes import (
    NO_INPUT,
    Adaptive,
    AxisMap,
    Broadcast,
    Global,
    Identity,
    Interval,
    Pad,
    Resize,
    Transpose,
    Window,
)
from eyeshot.axes.maps import PadMode
from eyeshot.axes.resize import ResizeMode

Operator = Callable[[torch.Tensor], torch.Tensor]
Case = tuple[AxisMap, Operator]


def dependency(operator: Operator, n: int) -> NDArray[np.bool_]:
    """(outputs, inputs): which outputs move when one input is poked, by the Jacobian at noise.

    The operators here are linear, so that the Jacobian is the same everywhere.
    """
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(1, 1, n, dtype=torch.float64, generator=generator)
    jacobian = torch.autograd.functional.jacobian(operator, x)  # type: ignore[no-untyped-call]
    assert isinstance(jacobian, torch.Tensor)
    return jacobian.reshape(-1, n).abs().numpy() > 1e-14


def predicted(axis: AxisMap, n: int) -> NDArray[np.bool_]:
    outputs = np.arange(axis.output_size(n), dtype=np.int64)
    taps = axis.inputs_of(outputs, n)
    table = np.zeros((len(outputs), n), dtype=bool)
    rows, columns = np.nonzero(taps != NO_INPUT)
    table[rows, taps[rows, columns]] = True
    return table


def ones(kernel: int) -> torch.Tensor:
    return torch.linspace(1, 2, kernel, dtype=torch.float64).reshape(1, 1, kernel)


@st.composite
def windows(draw: st.DrawFn) -> Case:
    k, s, d = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    p = draw(st.integers(0, 6))
    axis = Window(kernel=k, stride=s, before=p, after=p, dilation=d)
    return axis, lambda x: F.conv1d(x, ones(k), stride=s, padding=p, dilation=d)


@st.composite
def poolings(draw: st.DrawFn) -> Case:
    k, s, ceil = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.booleans())
    p = draw(st.integers(0, k // 2))
    axis = Window(kernel=k, stride=s, before=p, after=p, ceil_mode=ceil)
    return axis, lambda x: F.avg_pool1d(x, k, s, p, ceil_mode=ceil)


@st.composite
def transposes(draw: st.DrawFn) -> Case:
    k, s, d = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    p = draw(st.integers(0, d * (k - 1)))
    extra = draw(st.integers(0, max(s, d) - 1))
    axis = Transpose(kernel=k, stride=s, padding=p, dilation=d, output_padding=extra)
    return axis, lambda x: F.conv_transpose1d(
        x, ones(k), stride=s, padding=p, dilation=d, output_padding=extra
    )


@st.composite
def paddings(draw: st.DrawFn) -> Case:
    modes: list[PadMode] = ["zero", "reflect", "replicate", "circular"]
    mode = draw(st.sampled_from(modes))
    lowest = -2 if mode == "zero" else 0
    before, after = draw(st.integers(lowest, 3)), draw(st.integers(lowest, 3))
    torch_mode = "constant" if mode == "zero" else mode
    return Pad(before, after, mode), lambda x: F.pad(x, (before, after), mode=torch_mode)


@st.composite
def resizes(draw: st.DrawFn) -> Case:
    modes: list[ResizeMode] = ["nearest", "nearest-exact", "linear", "cubic"]
    mode = draw(st.sampled_from(modes))
    align = draw(st.booleans()) if mode in ("linear", "cubic") else False
    by_size = draw(st.booleans())
    size = draw(st.integers(1, 40)) if by_size else None
    factor = None if by_size else draw(st.sampled_from([0.5, 1.5, 2.0, 3.0, 4.0, 0.75, 1.3]))
    axis = Resize(mode, factor=factor, size=size, align_corners=align)

    def resize(x: torch.Tensor) -> torch.Tensor:
        options = {"align_corners": align} if mode in ("linear", "cubic") else {}
        if mode != "cubic":
            return F.interpolate(x, size=size, scale_factor=factor, mode=mode, **options)
        # torch has no cubic in 1-D: a row of a picture one row high
        x2 = x[:, :, None]
        if factor is not None:
            scale = (1.0, factor)
            return F.interpolate(x2, scale_factor=scale, mode="bicubic", **options)[:, :, 0]
        return F.interpolate(x2, size=(1, int(size or 0)), mode="bicubic", **options)[:, :, 0]

    return axis, resize


@st.composite
def statistics(draw: st.DrawFn) -> Case:
    size = draw(st.integers(1, 9))
    choices: list[Case] = [
        (Adaptive(size), lambda x: F.adaptive_avg_pool1d(x, size)),
        (Global(1), lambda x: x.mean(-1, keepdim=True)),
        (Global(), lambda x: x - 3 * x.mean(-1, keepdim=True) / x.shape[-1]),
        (Identity(), lambda x: 2 * x),
    ]
    return draw(st.sampled_from(choices))


CASES = st.one_of(windows(), poolings(), transposes(), paddings(), resizes(), statistics())


def possible(axis: AxisMap, n: int) -> bool:
    """Sizes that torch itself accepts."""
    if isinstance(axis, Pad) and axis.mode == "reflect":
        return max(axis.before, axis.after) < n
    if isinstance(axis, Pad) and axis.mode == "circular":
        return max(axis.before, axis.after) <= n
    if isinstance(axis, Pad) and max(-axis.before, -axis.after) > n:
        return False
    return axis.output_size(n) > 0


@given(CASES, st.integers(1, 23))
def test_taps_are_the_inputs_that_move_the_output(case: Case, n: int) -> None:
    axis, operator = case
    assume(possible(axis, n))
    truth = dependency(operator, n)
    assert axis.output_size(n) == len(truth)
    np.testing.assert_array_equal(predicted(axis, n), truth)


@given(CASES, st.integers(1, 23), st.data())
def test_reads_is_the_hull_of_taps(case: Case, n: int, data: st.DataObject) -> None:
    axis, _ = case
    assume(possible(axis, n))
    lo = data.draw(st.integers(0, axis.output_size(n) - 1))
    outputs = Interval(lo, data.draw(st.integers(lo + 1, axis.output_size(n))))
    columns = np.nonzero(predicted(axis, n)[outputs.lo : outputs.hi].any(0))[0]
    reads = axis.input_range_inside(outputs, n)
    assert Interval(0, n).covers(reads)
    assert axis.input_range(outputs, n).within(n).hull(reads) == reads
    hull = Interval(int(columns[0]), int(columns[-1]) + 1) if len(columns) else Interval(0, 0)
    assert reads.covers(hull)
    gaps = isinstance(axis, Window) and (axis.dilation > 1 or axis.stride > axis.kernel)
    if not gaps and not isinstance(axis, (Resize, Transpose)):
        # A resize reads some neighbors at weight zero; a window with gaps may end in one.
        assert reads == hull


@given(CASES, st.integers(1, 23), st.data())
def test_ready_counts_the_outputs_that_wait_for_nothing(
    case: Case, n: int, data: st.DataObject
) -> None:
    axis, _ = case
    assume(possible(axis, n))
    known = data.draw(st.integers(0, n))
    count = axis.ready(known, n)
    table = predicted(axis, n)
    assert 0 <= count <= axis.output_size(n)
    assert not table[:count, known:].any()
    if known == n:
        assert count == axis.output_size(n)
    elif count < axis.output_size(n) and isinstance(axis, (Window, Identity, Adaptive)):
        # nothing is held back without a reason: the next output reaches past what is known
        next_needs = axis.input_range(Interval(count, count + 1), n)
        assert next_needs.hi > known


@given(CASES, st.integers(1, 15), st.integers(1, 12))
def test_rows_ready_while_the_end_is_unknown_are_ready_for_every_end(
    case: Case, known: int, more: int
) -> None:
    axis, _ = case
    if isinstance(axis, (Resize, Broadcast, Adaptive)) and axis.period is None:
        return
    count = axis.ready(known, None)
    for n in (known, known + more):
        if not possible(axis, n):
            continue
        outputs = np.arange(min(count, axis.output_size(n)), dtype=np.int64)
        assert count <= axis.output_size(n)
        taps = axis.inputs_of(outputs, n)
        assert taps.max(initial=NO_INPUT) < known
        if axis.period is not None and isinstance(axis, (Window, Transpose, Resize)):
            inside = axis.inputs_of(outputs, known + more)
            np.testing.assert_array_equal(np.sort(taps), np.sort(inside))


@given(st.one_of(windows(), transposes(), resizes()), st.integers(-7, 7))
def test_reach_repeats_with_the_period(case: Case, block: int) -> None:
    axis, _ = case
    if axis.period is None:
        return
    q, t = axis.period
    first = np.arange(q, dtype=np.int64)
    here, there = axis.inputs_of_unbounded(first), axis.inputs_of_unbounded(first + block * q)
    np.testing.assert_array_equal(np.where(here == NO_INPUT, NO_INPUT, here + block * t), there)


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        (Window(3, before=1, after=1).ready(4, None), 3),
        (Resize("linear", factor=3.0).ready(1, None), 0),  # the next input at weight zero
        (Resize("linear", factor=3.0).ready(2, None), 4),
        (Window(3, before=1, after=1).ready(4, 4), 4),
        (Pad(2, 2, "reflect").ready(2, 9), 0),
        (Pad(2, 2, "reflect").ready(3, 9), 5),
        (Pad(1, 1, "circular").ready(8, 9), 0),
        (Transpose(2, 2).ready(3, None), 6),
        (Resize("linear", factor=2.0).ready(3, None), 5),
        (Resize("nearest", factor=2.0).ready(3, None), 6),
        (Global(1).ready(5, None), 0),
    ],
)
def test_ready_by_hand(ready: int, expected: int) -> None:
    assert ready == expected


def test_intervals() -> None:
    a, b = Interval(0, 4), Interval(6, 9)
    assert a.intersect(b) == Interval(0, 0)
    assert not a.intersect(b)
    assert a.hull(b) == Interval(0, 9)
    assert a.hull(Interval(3, 1)) == a
    assert Interval(-2, 3).within(2) == Interval(0, 2)
    assert a.covers(Interval(1, 4))
    assert not a.covers(Interval(1, 5))
    assert 3 in a
    assert 4 not in a
    assert len(Interval(3, 1)) == 0
    assert str(a) == "[0, 4)"
