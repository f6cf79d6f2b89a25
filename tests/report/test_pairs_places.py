"""Where errors gather and how pictures shrink: the same by bands as at once, and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from eyeshot.evaluation.pairs import find_boundaries
from eyeshot.pictures import (
    CONFUSED,
    INVENTED,
    MISSED,
    UNJUDGED,
    class_colors,
    hex_color,
    paint_classes,
    paint_errors,
)
from eyeshot.report.places import (
    CROP,
    HALO,
    ErrorPlaces,
    Light,
    Profile,
    Reduced,
    factor_for,
    find_worst,
    new_tally,
)

Masks = NDArray[np.int64]


def gathered(truth: Masks, predicted: Masks, step: int) -> ErrorPlaces:
    """Errors gathered by bands of ``step`` rows, as a large picture's are."""
    places, height = ErrorPlaces(), len(truth)
    places.begin((height, truth.shape[1]))
    for start in range(0, height, step):
        stop = min(height, start + step)
        top, bottom = max(0, start - HALO), min(height, stop + HALO)
        counted = slice(start - top, stop - top)
        places.add(top, counted, truth[top:bottom], predicted[top:bottom])
    return places


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[Masks, Masks]:
    """Truth, in which pixels below 0 were not judged, and an answer, of a few large areas."""
    shape = draw(st.tuples(st.integers(1, 90), st.integers(1, 20)))
    seed, classes = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 3))
    generator = np.random.default_rng(seed)
    coarse = draw(st.sampled_from([1, 3, 40]))
    small = tuple(-(-n // coarse) for n in shape)
    both = [
        np.kron(generator.integers(low, classes, small), np.ones((coarse, coarse), np.int64))
        for low in (-1, 0)
    ]
    return both[0][: shape[0], : shape[1]], both[1][: shape[0], : shape[1]]


@given(mask_pairs(), st.integers(1, 100))
def test_bands_gather_what_the_whole_does(masks: tuple[Masks, Masks], step: int) -> None:
    whole, banded = (gathered(*masks, rows) for rows in (len(masks[0]), step))
    assert banded.by_edge.bins == whole.by_edge.bins
    assert banded.by_border.bins == whole.by_border.bins
    assert banded.heat is not None
    assert whole.heat is not None
    np.testing.assert_array_equal(banded.heat, whole.heat)


@given(mask_pairs())
def test_distances_are_those_of_brute_force(masks: tuple[Masks, Masks]) -> None:
    truth, predicted = masks
    edges = find_boundaries(truth)
    apart = np.rint(distance_transform_edt(~edges)) if edges.any() else np.full(truth.shape, 99)
    known, wrong = truth >= 0, (truth >= 0) & (truth != predicted)
    places = gathered(truth, predicted, len(truth))
    by_name = {one.name: one for one in places.by_edge.bins}
    assert sum(one.judged for one in by_name.values()) == known.sum()
    assert sum(one.wrong for one in by_name.values()) == wrong.sum()
    for name, low, high in (("0", 0, 0), ("1", 1, 1), ("3 to 4", 3, 4), ("more than 32", 33, 1e9)):
        here = (apart >= low) & (apart <= high)
        if (here & known).any():
            assert by_name[name].judged == (here & known).sum()
            assert by_name[name].wrong == (here & wrong).sum()
        else:
            assert name not in by_name


def test_the_border_is_counted_from_the_nearest_side() -> None:
    truth = np.zeros((40, 300), np.int64)
    predicted = truth.copy()
    predicted[[0, 20, 20], [150, 2, 150]] = 1  # 0, 2 and 19 pixels from the border
    wrong = {one.name: one.wrong for one in gathered(truth, predicted, 7).by_border.bins}
    assert wrong == {"0 to 3": 2, "4 to 7": 0, "8 to 15": 0, "16 to 31": 1}


def test_a_profile_names_its_bins() -> None:
    profile = Profile((0, 1, 4))
    profile.add(np.array([0, 1, 2, 4, 5, np.inf]), np.array([1, 0, 0, 0, 0, 1], bool))
    bins = [(one.name, one.judged, one.wrong) for one in profile.bins]
    assert bins == [("0", 1, 1), ("1", 1, 0), ("2 to 4", 2, 0), ("more than 4", 2, 1)]


def test_pictures_of_several_sizes_share_no_plane() -> None:
    places = ErrorPlaces()
    for size in ((10, 12), (10, 12)):
        places.begin(size)
        places.add(0, slice(0, 10), np.zeros(size, np.int64), np.ones(size, np.int64))
    assert places.heat is not None
    assert (places.heat == 1).all()
    places.begin((11, 12))
    assert places.heat is None


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30), st.just(2))),
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_a_plane_reduced_by_bands_is_the_mean_of_its_cells(
    plane: NDArray[np.uint8], factor: int, step: int
) -> None:
    height, width = plane.shape[:2]
    reduced = Reduced((height, width), factor, 2)
    for start in range(0, height, step):
        reduced.add(start, plane[start : start + step])
    for row in range(reduced.size[0]):
        for column in range(reduced.size[1]):
            cell = plane[row * factor :, column * factor :][:factor, :factor]
            np.testing.assert_allclose(reduced.means[row, column], cell.mean(axis=(0, 1)))
    assert max(Reduced((height, width), factor_for((height, width), 8), 1).size) <= 8


@given(st.integers(0, 2**32 - 1))
def test_the_parts_with_most_errors_do_not_overlap(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = (int(generator.integers(CROP * 2 + 1, 900)), int(generator.integers(50, 900)))
    row, column = (int(generator.integers(0, n)) for n in size)
    wrong = np.zeros((*size, 1))
    wrong[max(0, row - 20) : row + 20, max(0, column - 20) : column + 20] = 1
    tally = new_tally(size)
    tally.add(0, wrong)
    first, *others = find_worst(tally, size)
    (top, bottom), (left, right) = first
    assert top <= row < bottom
    assert left <= column < right
    assert 0 <= top < bottom <= size[0]
    assert 0 <= left < right <= size[1]
    assert bottom - top == CROP
    for (other_top, other_bottom), (other_left, other_right) in others:
        apart_down = other_top >= bottom or other_bottom <= top
        apart_across = other_left >= right or other_right <= left
        # The last part of an axis is moved inwards, over another one at most by a cell.
        assert apart_down or apart_across or size[0] % (CROP // 2) or size[1] % (CROP // 2)


def test_a_picture_without_errors_or_small_has_no_worst_part() -> None:
    tally = new_tally((900, 900))
    assert find_worst(tally, (900, 900)) == []
    small = new_tally((CROP, CROP))
    small.add(0, np.ones((CROP, CROP, 1)))
    assert find_worst(small, (CROP, CROP)) == []


def test_errors_are_painted_by_their_kind() -> None:
    truth = np.array([[0, 1, 2, 0, 1, -1]])
    predicted = np.array([[0, 1, 1, 2, 0, 1]])
    painted = paint_errors(np.full((1, 6, 3), 100, np.uint8), truth, predicted)
    expected = [(50, 50, 50), (50, 50, 50), CONFUSED, INVENTED, MISSED, UNJUDGED]
    assert [tuple(pixel) for pixel in painted[0].tolist()] == expected


@pytest.mark.parametrize("count", [2, 3, 8, 20, 64])
def test_classes_have_colors_of_their_own(count: int) -> None:
    colors = class_colors(count)
    assert len({tuple(color) for color in colors.tolist()}) == count
    painted = paint_classes(np.array([[count - 1, -1, 0]]), count)
    assert painted[0].tolist() == [colors[-1].tolist(), list(UNJUDGED), colors[0].tolist()]
    assert hex_color(colors[0]) == "#242630"


def test_light_shows_gray_as_colors_and_leaves_opacity_out() -> None:
    gray = np.array([[[0.0, 0.5, 1.0]]])
    assert Light().show(gray).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert Light(0.25, 0.75).show(gray).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert Light().show(np.concatenate([gray, gray])).shape == (1, 3, 3)
    assert Light().show(np.concatenate([gray] * 4)).shape == (1, 3, 3)
