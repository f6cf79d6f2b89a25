"""Axes cut into crops: every position belongs to one, where the network sees what is there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eyeshot.data.pairs.crops import Axis, fit_crop
from eyeshot.errors import BadValue
from tests.networks import examples

axes = st.builds(
    lambda halo, alignment, core, more, aligned: Axis(
        2 * halo + alignment + core + (more // alignment * alignment if aligned else more),
        2 * halo + alignment + core,
        halo,
        alignment,
    ),
    st.integers(0, 40),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(0, 60),
    st.integers(0, 400),
    st.booleans(),
)


@examples(400)
@given(axes, st.integers(0, 2**32))
def test_the_own_parts_are_a_partition_of_what_is_valid(axis: Axis, seed: int) -> None:
    cuts = axis.cut(np.random.default_rng(seed))
    assert len(cuts) == axis.pieces
    assert [cut.first for cut in cuts] == [0, *(cut.last for cut in cuts[:-1])]
    assert cuts[-1].last == axis.length
    for cut in cuts:
        assert cut.stop - cut.start == axis.crop
        assert 0 <= cut.start < cut.stop <= axis.length
        assert cut.first < cut.last  # never empty, never crossed
        # The field of an own position lies inside the crop, or crosses a border of the picture.
        assert cut.start == 0 or cut.first - axis.halo >= cut.start
        assert cut.stop == axis.length or cut.last + axis.halo <= cut.stop


@given(axes, st.integers(0, 2**32))
def test_crops_start_on_the_grid(axis: Axis, seed: int) -> None:
    cuts = axis.cut(np.random.default_rng(seed))
    assert all(cut.start % axis.alignment == 0 for cut in cuts[:-1])
    if (axis.length - axis.crop) % axis.alignment == 0:
        assert cuts[-1].start % axis.alignment == 0


@given(axes)
def test_there_are_no_more_crops_than_needed(axis: Axis) -> None:
    """One crop fewer could not reach: valid parts that touch would not fill the axis."""
    if axis.pieces == 1:
        assert axis.length == axis.crop
        return
    jump = (axis.crop - 2 * axis.halo) // axis.alignment * axis.alignment
    assert axis.crop + (axis.pieces - 2) * jump < axis.length


def test_places_are_random() -> None:
    axis = Axis(512, 256, 40, 16)
    found = {tuple(cut.start for cut in axis.cut(np.random.default_rng(k))) for k in range(60)}
    assert len(found) > 3
    edges = {axis.cut(np.random.default_rng(k))[0].last for k in range(60)}
    assert len(edges) > 20


def test_a_crop_too_small_for_the_halo_is_refused() -> None:
    with pytest.raises(BadValue, match=r"crop is 100, and the network sees 46 .* at least 108"):
        Axis(512, 100, 46, 16)
    assert Axis(512, 108, 46, 16).pieces == 1 + -(-404 // 16)
    assert Axis(100, 100, 46, 16).pieces == 1


@given(
    st.integers(1, 300),
    st.lists(st.integers(1, 600), min_size=1, max_size=5),
    st.sampled_from([1, 4, 16]),
)
def test_a_crop_is_fitted_so_that_the_last_one_starts_on_the_grid(
    crop: int, lengths: list[int], alignment: int
) -> None:
    fitted = fit_crop(crop, tuple(lengths), alignment)
    larger = [length for length in lengths if length > crop]
    assume(larger)
    assert crop - alignment < fitted <= crop
    if len({length % alignment for length in larger}) == 1 and crop >= alignment:
        assert all((length - fitted) % alignment == 0 for length in larger)
    else:
        assert fitted == crop or len(set(larger)) == 1 or crop < alignment
