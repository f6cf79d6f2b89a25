"""The named kernels are what their names promise, and each comes in the sizes it says."""

from __future__ import annotations

import numpy as np
import pytest

from eyeshot.errors import BadValue, UnknownName
from eyeshot.filters import NAMES, RECIPES, Kind, Method, gaussian, resolve, route
from eyeshot.filters.kernels import find_route


def one(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    (kernel,) = resolve(name).kernels
    return np.asarray(kernel)


@pytest.mark.parametrize("name", ["identity", "mean", "gaussian", "sharpen", "emboss", "motion"])
def test_kernels_that_keep_brightness_sum_to_one(name: str) -> None:
    assert one(name).sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "name",
    ["laplacian", "edge5", *(f"{k}-{a}" for k in ("sobel", "prewitt", "scharr") for a in "xy")],
)
def test_kernels_that_find_edges_sum_to_zero(name: str) -> None:
    assert one(name).sum() == 0


def test_the_kernels_that_everybody_knows() -> None:
    assert one("sobel-x").tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert one("sobel-y").tolist() == [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]
    assert one("laplacian").tolist() == [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    edge5 = one("edge5")
    assert edge5.shape == (5, 5)
    assert edge5[2, 2] == 24
    assert sorted(edge5.ravel())[:24] == [-1] * 24


def test_a_magnitude_has_the_kernels_of_its_parts() -> None:
    for name in ("sobel", "prewitt", "scharr"):
        x, y = resolve(name).kernels
        np.testing.assert_array_equal(x, one(f"{name}-x"))
        np.testing.assert_array_equal(y, one(f"{name}-y"))
        np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 15])
def test_sizes_are_given(size: int) -> None:
    for name, recipe in RECIPES.items():
        if recipe.sized:
            assert resolve(f"{name}:{size}").shape == (size, size)


def test_a_gaussian_fades_evenly_in_all_directions() -> None:
    bell = gaussian(7, sigma=1.5)
    np.testing.assert_allclose(bell, bell[::-1, ::-1])
    np.testing.assert_allclose(bell, bell.T)
    assert bell[3, 4] / bell[3, 3] == pytest.approx(np.exp(-1 / (2 * 1.5**2)))
    assert np.isfinite(gaussian(1)).all()


def test_kernels_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        resolve("mean").kernels[0][0, 0] = 5


@pytest.mark.parametrize("name", ["sobel:5", "edge5:7", "mean:0", "mean:1002"])
def test_a_size_that_cannot_be_had_is_refused(name: str) -> None:
    with pytest.raises(BadValue, match="size"):
        resolve(name)


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), float("inf")])
def test_a_gaussian_needs_a_width(sigma: float) -> None:
    with pytest.raises(BadValue, match="sigma"):
        gaussian(5, sigma)


def test_a_gaussian_needs_a_size() -> None:
    with pytest.raises(BadValue, match="size"):
        gaussian(0)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'gaussian'"):
        resolve("gausian")


def test_what_a_kernel_is() -> None:
    kinds = {name: {part.kind for part in route(name)} for name in NAMES}
    assert kinds["mean"] == {Kind.BOX}
    assert kinds["gaussian"] == kinds["sobel"] == kinds["scharr-y"] == {Kind.SEPARABLE}
    assert kinds["edge5"] == kinds["laplacian"] == kinds["motion"] == {Kind.DENSE}


def test_the_route_follows_the_size() -> None:
    methods = [route(f"mean:{size}")[0].method for size in (3, 9, 51)]
    assert methods == [Method.DIRECT, Method.SEPARABLE, Method.BOX]
    dense = np.random.default_rng(0).normal(size=(40, 40))
    assert route(dense[:7, :7])[0].method is Method.DIRECT
    assert route(dense)[0].method is Method.FFT
    assert find_route(dense, local=True).method is Method.DIRECT


def test_the_pieces_of_a_kernel_hold_each_weight_once() -> None:
    random = np.random.default_rng(0)
    for height, width in [(12, 12), (31, 31), (1, 300), (300, 1), (3, 140)]:
        kernel = random.normal(size=(height, width)) * (random.random((height, width)) < 0.3)
        for itemsize, largest in ((4, 129), (8, 49)):
            covered = np.zeros(kernel.shape, dtype=int)
            for top, left, rows, columns in find_route(kernel, itemsize, local=True).pieces:
                assert rows * columns <= largest
                covered[top : top + rows, left : left + columns] += 1
            assert covered.max() <= 1
            assert (covered[kernel != 0] == 1).all()


def test_a_route_says_itself_in_words() -> None:
    assert (
        str(route("gaussian:9")[0])
        == "9×9 separable, a row then a column: 18 multiply-adds a pixel"
    )
    assert "3 pieces" in str(route("motion:31")[0])
    assert "running sums" in str(route("mean:51")[0])
    assert "Fourier" in str(route(np.random.default_rng(0).normal(size=(40, 40)))[0])
