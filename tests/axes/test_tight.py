"""Every answer of an axis map is as tight as it can be, by counting over all small cases.

What is asked for too much costs memory and time, and no number shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import get_args

import numpy as np
import pytest
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
    Placed,
    Resize,
    Spared,
    Transpose,
    Window,
)
from eyeshot.axes.maps import PadMode
from eyeshot.axes.resize import ResizeMode

SIZES = range(1, 10)


def _windows() -> Iterator[AxisMap]:
    for kernel, stride, before, dilation in product((1, 2, 3), (1, 2, 3), (-1, 0, 2), (1, 2)):
        yield Window(kernel, stride, before, before, dilation)


def _transposes() -> Iterator[AxisMap]:
    for kernel, stride, padding, dilation in product((1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        yield Transpose(kernel, stride, padding, dilation)


def _pads() -> Iterator[AxisMap]:
    for mode, before, after in product(get_args(PadMode), (-1, 0, 1, 3), (-1, 0, 2)):
        if mode != "circular" or min(before, after) >= 0:  # torch would wrap what it crops
            yield Pad(before, after, mode)


MAPS: dict[str, list[AxisMap]] = {
    "identity": [Identity()],
    "window": list(_windows()),
    "transpose": list(_transposes()),
    "pad": list(_pads()),
    "resize": [
        Resize(mode, factor=factor)
        for mode in ("nearest", "nearest-exact", "linear", "cubic")
        for factor in (0.5, 1.0, 2.0, 3.0, 1.5)
    ],
    "placed": [Placed(start, step, 12) for start, step in product((0, 1, 3), (1, 2, 3))],
    "spared": [Spared(*one) for one in product((0, 1, 2), (1, 2, 3), (1, 2, 3))],
    "adaptive": [Adaptive(outputs) for outputs in (1, 2, 3, 5)],
    "global": [Global(), Global(1)],
    "broadcast": [Broadcast(4)],
}


def over_each(check: Callable[[AxisMap], None]) -> Callable[[str], None]:
    """A test of every map of a kind."""

    @pytest.mark.parametrize("kind", MAPS)
    def test(kind: str) -> None:
        for axis in MAPS[kind]:
            try:
                check(axis)
            except AssertionError as error:
                error.add_note(f"of {axis}")
                raise

    test.__doc__ = check.__doc__
    return test


def _possible(axis: AxisMap, n: int) -> bool:
    if isinstance(axis, Pad):
        most = n + (axis.mode == "circular") if axis.mode in ("reflect", "circular") else 100
        return max(axis.before, axis.after) < most and axis.output_size(n) > 0
    if isinstance(axis, Placed):
        return axis.start + (n - 1) * axis.step < axis.size
    if isinstance(axis, Spared):
        return axis.start + (axis.count - 1) * axis.step < n
    if isinstance(axis, Broadcast):
        return n == 1
    return axis.output_size(n) > 0


def _sizes(axis: AxisMap) -> list[int]:
    return [n for n in SIZES if _possible(axis, n)]


def _taps(axis: AxisMap, n: int) -> list[NDArray[np.int64]]:
    """For each output, the inputs that it depends on."""
    taps = axis.inputs_of(np.arange(axis.output_size(n), dtype=np.int64), n)
    return [np.unique(row[row != NO_INPUT]) for row in taps]


def _hull(taps: list[NDArray[np.int64]]) -> Interval:
    flat = np.concatenate([np.empty(0, np.int64), *taps])
    return Interval(int(flat.min()), int(flat.max()) + 1) if len(flat) else Interval(0, 0)


@over_each
def test_every_case_has_a_size(axis: AxisMap) -> None:
    assert _sizes(axis)


@over_each
def test_reads_is_the_hull_of_what_is_read(axis: AxisMap) -> None:
    """Beside a gap of a window, and a neighbor whose weight is 0, it may be wider."""
    for n in _sizes(axis):
        taps = _taps(axis, n)
        for lo in range(len(taps)):
            for hi in range(lo + 1, len(taps) + 1):
                reads, hull = axis.input_range_inside(Interval(lo, hi), n), _hull(taps[lo:hi])
                assert reads.covers(hull)
                if not isinstance(axis, Resize | Transpose | Window):
                    assert len(reads) == len(hull)
    assert not axis.input_range_inside(Interval(0, 0), n)
    assert not axis.input_range(Interval(0, 0), n)


@over_each
def test_needs_is_the_hull_of_what_would_be_read_without_borders(axis: AxisMap) -> None:
    if axis.period is None or isinstance(axis, Resize | Spared | Placed):
        return
    for lo, length in product(range(-3, 9), range(1, 6)):
        taps = axis.inputs_of_unbounded(np.arange(lo, lo + length, dtype=np.int64))
        hull = _hull([row[row != NO_INPUT] for row in taps])
        needs = axis.input_range(Interval(lo, lo + length), 5)
        # A transposed kernel has gaps where it is dilated; its ends may fall into one.
        gaps = isinstance(axis, Transpose) and (axis.dilation > 1 or axis.kernel < axis.stride)
        assert needs.covers(hull) if gaps else (needs == hull or not len(needs) + len(hull))


@over_each
def test_needs_of_a_size_is_what_is_read(axis: AxisMap) -> None:
    if axis.period is None:
        for n in _sizes(axis):
            for lo in range(axis.output_size(n)):
                for hi in range(lo + 1, axis.output_size(n) + 1):
                    outputs = Interval(lo, hi)
                    assert axis.input_range(outputs, n) == axis.input_range_inside(outputs, n)


@over_each
def test_ready_counts_all_that_wait_for_nothing(axis: AxisMap) -> None:
    """Most maps know exactly; padding beyond the end may wait for the end."""
    slack = {Transpose: 4, Resize: 3, Placed: 3, Spared: 3}.get(type(axis), 0)
    for n in _sizes(axis):
        taps = _taps(axis, n)
        for known in range(n + 1):
            waiting = (i for i, row in enumerate(taps) if len(row) and row[-1] >= known)
            most = next(waiting, len(taps))
            ready = axis.ready(known, n)
            assert ready <= most
            if known == n:
                assert ready == len(taps)
            elif isinstance(axis, Window) and ready < most:
                assert axis.input_range(Interval(ready, ready + 1), n).hi > n
            elif not (isinstance(axis, Pad) and axis.mode == "circular") and known:
                assert ready >= most - slack


@over_each
def test_ready_of_an_end_unseen_is_ready_of_every_end(axis: AxisMap) -> None:
    for known in SIZES:
        ends = [n for n in range(known, known + 8) if _possible(axis, n)]
        if isinstance(axis, Resize | Spared | Placed) or known not in ends:
            continue
        ready, most = axis.ready(known, None), min(axis.ready(known, n) for n in ends)
        assert ready <= most
        if isinstance(axis, Identity | Window):
            assert ready == most


@over_each
def test_what_keeps_leaves_out_is_never_read_again(axis: AxisMap) -> None:
    """And one more input would be: of some end, if not of the one that comes."""
    for done in range(8):
        # What was given was ready before any of these ends was seen.
        ends = [n for n in range(1, 30) if _possible(axis, n) and axis.ready(n, None) >= done]
        firsts = [int(row[0]) for n in ends for row in _taps(axis, n)[done:] if len(row)]
        left = axis.first_needed(done)
        assert left >= 0
        if firsts:
            assert left <= min(firsts)
        if firsts and isinstance(axis, Identity | Pad | Placed):
            short = isinstance(axis, Pad) and axis.mode == "reflect" and done < axis.before + 4
            assert left == min(firsts) or short  # of an end too near for torch to reflect
        elif firsts and isinstance(axis, Window):
            # Where the first window lies in the padding, the next begins further on.
            assert left > min(firsts) - axis.stride
        elif firsts and isinstance(axis, Transpose):
            assert left > min(firsts) - axis.span
        elif firsts and isinstance(axis, Resize):
            # It keeps the input before, for a scale that torch rounds.
            assert left >= min(firsts) - 2


@over_each
def test_is_global_or_broadcast_where_every_output_reads_the_same(axis: AxisMap) -> None:
    for n in (n for n in _sizes(axis) if n > 2):
        alike = all(len(one) == n for one in _taps(axis, n))
        assert axis.is_global <= alike
    if axis.is_broadcast:
        assert all(list(one) == [0] for one in _taps(axis, 1))


@over_each
def test_unread_inputs_lie_behind_the_last_window(axis: AxisMap) -> None:
    for n in _sizes(axis):
        last = max((int(one.max(initial=-1)) for one in _taps(axis, n)), default=-1)
        left = axis.unread(n)
        assert 0 <= left <= n - 1 - last
        if isinstance(axis, Window) and axis.stride <= axis.span:
            assert left == n - 1 - last or axis.before < 0 or axis.after > 0


@over_each
def test_a_map_pads_where_a_place_of_its_windows_lies_outside(axis: AxisMap) -> None:
    for n in _sizes(axis):
        if isinstance(axis, (Window, Pad)):
            taps = axis.inputs_of_unbounded(np.arange(axis.output_size(n), dtype=np.int64))
            assert axis.pads(n) == bool(((taps < 0) | (taps >= n)).any())
        else:
            assert not axis.pads(n)


@over_each
def test_as_a_window_or_as_padding_it_reads_the_same(axis: AxisMap) -> None:
    for n in _sizes(axis):
        for other in (axis.as_window(n), axis.as_pad()):
            if other is not None:
                here, there = _taps(axis, n), _taps(other, n)
                assert [list(one) for one in here] == [list(one) for one in there]


@over_each
def test_a_whole_block_ends_where_no_input_is_needed_twice(axis: AxisMap) -> None:
    for outputs in range(1, 12):
        end = axis.whole_blocks(outputs)
        assert end >= outputs
        if isinstance(axis, Transpose) and axis.dilation == 1 and axis.kernel == axis.stride:
            before, behind = Interval(end - 1, end), Interval(end, end + 1)
            assert axis.input_range(before, 99).hi <= axis.input_range(behind, 99).lo


@pytest.mark.parametrize("axis", [one for one in MAPS["resize"] if one.period], ids=str)
def test_a_resize_far_from_the_borders_reads_as_its_period_says(axis: AxisMap) -> None:
    n = 60
    for output in range(n // 3, axis.output_size(n) - n // 3):
        read = [int(one) for one in axis.inputs_of(np.array([output]), n)[0] if one != NO_INPUT]
        named = axis.inputs_of_unbounded(np.array([output]))[0]
        assert sorted(int(one) for one in named if one != NO_INPUT) == read
        range_of = axis.input_range(Interval(output, output + 1), n)
        assert range_of.covers(Interval(read[0], read[-1] + 1))
        if len(read) > 1:  # not on an input, where the neighbors have weight 0
            assert range_of == Interval(read[0], read[-1] + 1)
        both = axis.input_range(Interval(output, output + 3), n)
        last = axis.input_range(Interval(output + 2, output + 3), n)
        assert both == range_of.hull(last)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "cubic"])
@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0, 1.5, 4.0])
def test_a_resize_keeps_no_input_before_the_first_that_is_read_but_one(
    mode: ResizeMode, factor: float
) -> None:
    axis = Resize(mode, factor=factor)
    exact = (1 / factor).as_integer_ratio()[0] == 1 and factor in (2.0, 4.0)
    for done in range(12, 40):
        first = axis.input_range(Interval(done, done + 1), 1000).lo
        assert axis.first_needed(done) == first - (not exact)


def test_a_resize_to_one_output_with_aligned_corners_reads_the_first() -> None:
    axis = Resize("linear", size=1, align_corners=True)
    for n in SIZES:
        assert [list(one) for one in _taps(axis, n)] == [[0]]
    two = Resize("linear", size=2, align_corners=True)
    assert [list(one) for one in _taps(two, 7)] == [[0], [6]]


def test_a_resize_without_a_period_says_what_to_ask() -> None:
    with pytest.raises(TypeError, match=r"^this Resize has no period: ask inputs_of"):
        Resize("linear", size=7).inputs_of_unbounded(np.array([0]))
    with pytest.raises(ValueError, match=r"^a Resize needs a factor or a size, and not both$"):
        Resize("linear")


def test_as_periodic_is_the_same_resize_by_a_factor() -> None:
    axis = Resize("linear", size=20, align_corners=True).as_periodic(10)
    assert axis == Resize("linear", factor=2.0)
    assert axis.period == (2, 1)
    uneven = Resize("nearest", factor=2.0, even=False)
    assert uneven.period is None
    assert uneven.as_periodic(10).period == (2, 1)
