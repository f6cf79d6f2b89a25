"""Every route, border, type and size against the definition in plain NumPy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.networks import examples

import eyeshot
from eyeshot import reference
from eyeshot.filters import NAMES, Method, resolve, route
from eyeshot.filters.filtering import KernelSet, correlate
from eyeshot.filters.kernels import find_route, freeze

Array = NDArray[Any]
Border = Literal["same", "valid", "reflect", "replicate", "circular"]
BORDERS: tuple[Border, ...] = ("same", "valid", "reflect", "replicate", "circular")
# Rounding errors grow with the sum of |weight · value|; these are a few units in the last place.
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def define(picture: Array, kernel: Array, padding: Border, *, flip: bool = False) -> Array:
    """The answer by the reference, in float64, channel by channel."""
    planes = np.atleast_3d(picture.astype(np.float64)).transpose(2, 0, 1)[:, np.newaxis]
    mode = "zeros" if padding in ("same", "valid") else padding
    maps = reference.conv(
        planes,
        np.asarray(kernel, dtype=np.float64)[np.newaxis, np.newaxis],
        padding="valid" if padding == "valid" else "same",
        padding_mode=mode,
        flip=flip,
    )
    return maps[:, 0].transpose(1, 2, 0).reshape(*maps.shape[2:], *picture.shape[2:])


def bound(picture: Array, kernel: Array) -> float:
    return float(np.abs(kernel).sum() * np.abs(picture).max()) + 1e-300


@st.composite
def kernels(draw: st.DrawFn, largest: int = 15) -> Array:
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights: Array = random.normal(size=(height, width))
    match draw(st.sampled_from(["box", "separable", "dense", "sparse", "whole", "zero"])):
        case "box":
            weights = np.full((height, width), weights[0, 0])
        case "separable":
            weights = np.outer(weights[:, 0], weights[0])
        case "sparse":
            weights = weights * (random.random((height, width)) < 0.1)
        case "whole":
            weights = np.rint(weights * 3)
        case "zero":
            weights = np.zeros((height, width))
    return weights


@st.composite
def pictures(draw: st.DrawFn, least: int = 1, dtypes: tuple[str, ...] = ("float32",)) -> Array:
    size = draw(st.integers(least, 33)), draw(st.integers(least, 33))
    channels = draw(st.sampled_from([(), (1,), (2,), (3,), (4,), (5,)]))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "u":
        white = 2 ** (8 * dtype.itemsize) - 1
        return random.integers(0, white, (*size, *channels), endpoint=True).astype(dtype)
    return random.normal(size=(*size, *channels)).astype(dtype)


@examples(60)
@given(pictures(least=15, dtypes=("float32", "float64")), kernels(), st.sampled_from(BORDERS))
def test_floats_equal_the_reference(picture: Array, kernel: Array, padding: Border) -> None:
    before = picture.copy()
    filtered = eyeshot.filter(picture, kernel, padding=padding, alpha="filter")
    expected = define(picture, kernel, padding)
    assert filtered.dtype == picture.dtype
    assert filtered.shape == expected.shape
    error = float(np.abs(filtered - expected).max())
    assert error <= TOLERANCE[str(picture.dtype)] * bound(picture, kernel)
    np.testing.assert_array_equal(picture, before)


@examples(40)
@given(pictures(), kernels(largest=24), st.sampled_from(BORDERS[2:]))
def test_a_border_wider_than_the_picture_repeats_as_numpy_pads(
    picture: Array, kernel: Array, padding: Border
) -> None:
    """The reference refuses what PyTorch refuses; we go on mirroring or wrapping, as NumPy does."""
    filtered = eyeshot.filter(picture, kernel, padding=padding, alpha="filter")
    rim = [((size - 1) // 2, size // 2) for size in kernel.shape] + [(0, 0)]
    names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    pad: Any = np.pad
    padded = pad(picture.astype(np.float64), rim[: picture.ndim], mode=names[padding])
    expected = define(padded, kernel, "valid")
    assert float(np.abs(filtered - expected).max()) <= TOLERANCE["float32"] * bound(picture, kernel)


@examples(30)
@given(pictures(least=15, dtypes=("uint8", "uint16")), kernels(), st.sampled_from(BORDERS))
def test_whole_numbers_are_rounded_and_clipped_without_overflow(
    picture: Array, kernel: Array, padding: Border
) -> None:
    filtered = eyeshot.filter(picture, kernel, padding=padding, alpha="filter")
    exact = define(picture, kernel, padding)
    expected = np.clip(np.rint(exact), 0, np.iinfo(picture.dtype).max)
    assert filtered.dtype == picture.dtype
    # Only where the exact sum lies on the edge between two whole numbers may rounding differ.
    on_edge = np.abs(exact - np.floor(exact) - 0.5) <= 3e-6 * bound(picture, kernel)
    assert ((filtered == expected) | on_edge).all()
    assert int(np.abs(filtered.astype(np.int64) - expected.astype(np.int64)).max(initial=0)) <= 1


@examples(25)
@given(pictures(least=15, dtypes=("float64",)), kernels(), st.sampled_from(BORDERS))
def test_convolution_turns_the_kernel(picture: Array, kernel: Array, padding: Border) -> None:
    filtered = eyeshot.filter(picture, kernel, padding=padding, convolve=True, alpha="filter")
    expected = define(picture, kernel, padding, flip=True)
    assert float(np.abs(filtered - expected).max()) <= 1e-13 * bound(picture, kernel)


@pytest.mark.parametrize("name", [*NAMES, "mean:4", "mean:31", "gaussian:12", "motion:40"])
@pytest.mark.parametrize("padding", BORDERS)
def test_every_named_kernel_equals_the_reference(name: str, padding: Border) -> None:
    picture = np.random.default_rng(0).random((47, 52, 3))
    parts = [define(picture, kernel, padding) for kernel in resolve(name).kernels]
    expected = parts[0] if len(parts) == 1 else np.hypot(*parts)
    filtered = eyeshot.filter(picture, name, padding=padding)
    assert float(np.abs(filtered - expected).max()) <= 1e-12


@pytest.mark.parametrize("channels", [(), (1,), (3,), (6,)])
@pytest.mark.parametrize("padding", BORDERS)
def test_a_magnitude_in_many_bands_equals_the_reference(
    channels: tuple[int, ...], padding: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eyeshot.filters.filtering._BAND_BYTES", 1)
    picture = np.random.default_rng(0).random((61, 9, *channels))
    expected = np.hypot(*(define(picture, kernel, padding) for kernel in resolve("sobel").kernels))
    filtered = eyeshot.filter(picture, "sobel", padding=padding)
    assert float(np.abs(filtered - expected).max()) <= 1e-13


LARGE = np.random.default_rng(1).normal(size=(33, 30))


@pytest.mark.parametrize(
    ("kernel", "method"),
    [
        (np.ones((3, 3)), Method.DIRECT),
        (np.ones((9, 9)), Method.SEPARABLE),
        (np.full((41, 40), 0.3), Method.BOX),
        (LARGE[:9, :10], Method.DIRECT),
        (LARGE[:20, :21], Method.DIRECT),  # more weights than OpenCV takes at once: in pieces
        (LARGE, Method.FFT),
        (np.eye(40), Method.DIRECT),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
@pytest.mark.parametrize("padding", BORDERS)
def test_each_method_equals_the_reference(kernel: Array, method: Method, padding: Border) -> None:
    assert [part.method for part in route(kernel)] == [method]
    picture = np.random.default_rng(0).random((50, 64, 3), dtype=np.float32)
    filtered = eyeshot.filter(picture, kernel, padding=padding)
    expected = define(picture, kernel, padding)
    assert float(np.abs(filtered - expected).max()) <= 2e-6 * bound(picture, kernel)


@examples(25)
@given(pictures(dtypes=("float64",)), kernels(largest=9), st.booleans())
def test_all_methods_that_can_compute_a_kernel_agree(
    picture: Array, kernel: Array, ones: bool
) -> None:
    if picture.ndim == 3:
        picture = np.ascontiguousarray(picture[..., 0])
    kernel = np.ones_like(kernel) if ones else kernel
    general = find_route(kernel, 8, local=True)
    expected = correlate(picture, kernel, general, "same")
    for candidate in (find_route(kernel, 8), find_route(kernel, 4)):
        filtered = correlate(picture, kernel, candidate, "same")
        assert float(np.abs(filtered - expected).max()) <= 1e-6 * bound(picture, kernel)


@pytest.mark.parametrize("kernel", ["mean", "mean:5", "mean:31", "gaussian:7", LARGE])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_reaches_no_further_than_the_kernel(kernel: str | Array, bad: float) -> None:
    picture = np.random.default_rng(0).random((90, 90), dtype=np.float32)
    picture[45, 45] = bad
    filtered = eyeshot.filter(picture, kernel)
    height, width = resolve(kernel).shape
    touched = np.zeros(picture.shape, dtype=bool)
    touched[45 - height // 2 : 46 + height // 2, 45 - width // 2 : 46 + width // 2] = True
    assert np.isfinite(filtered[~touched]).all()
    assert not np.isfinite(filtered[45, 45])
    clean = np.where(np.isfinite(picture), picture, 0)
    expected = define(clean, resolve(kernel).kernels[0], "same")
    np.testing.assert_allclose(filtered[~touched], expected[~touched], atol=1e-3)


def test_squares_that_overflow_are_not_taken_for_infinity() -> None:
    picture = np.full((40, 40), 1e30, dtype=np.float32)
    filtered = eyeshot.filter(picture, "mean:31", padding="valid")
    np.testing.assert_allclose(filtered, 1e30, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spike", [1e6, 1e10, 3e38])
@pytest.mark.parametrize("kernel", ["mean:31", "dense"])
def test_one_huge_value_changes_only_what_covers_it(kernel: str, spike: float, dtype: str) -> None:
    """Running sums and transforms would lose all others, as beside a "no data" of -3.4e38."""
    rng = np.random.default_rng(4)
    weights = rng.random((31, 31)) if kernel == "dense" else np.full((31, 31), 1 / 31**2)
    picture = rng.random((80, 90, 2)).astype(dtype)
    picture[40, 40, 0] = -spike
    got = eyeshot.filter(picture, weights, padding="valid", alpha="filter")
    windows = np.lib.stride_tricks.sliding_window_view(picture.astype("f8"), (31, 31), (0, 1))
    expected = np.einsum("hwcij,ij->hwc", windows, weights)
    apart = np.abs(windows).max((3, 4)) < 2
    assert apart.any()
    assert not apart.all()
    np.testing.assert_allclose(
        got[apart], expected[apart], rtol=1e-4 if dtype == "float32" else 1e-8
    )


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e34), ("f4", 1e-44), ("f8", 1e305)])
def test_a_transform_is_right_at_any_scale(dtype: str, scale: float) -> None:
    """Its sums are over the whole picture, so they leave a type's range long before results do."""
    rng = np.random.default_rng(6)
    picture = (rng.standard_normal((60, 70)) * scale).astype(dtype)
    weights = rng.standard_normal((31, 31))
    got = eyeshot.filter(picture, weights, padding="valid") / np.float64(scale)
    windows = np.lib.stride_tricks.sliding_window_view(picture / np.float64(scale), (31, 31))
    expected = np.einsum("hwij,ij->hw", windows, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=0.1 if scale < 1e-40 else 1e-3)


def test_zeros_beside_a_large_value_stay_zeros() -> None:
    """A float32 transform leaves 0.3 of one value of a million everywhere."""
    picture = np.zeros((80, 90), np.float32)
    picture[0, 0] = 1e6
    weights = np.random.default_rng(7).standard_normal((31, 31))
    filtered = eyeshot.filter(picture, weights)
    np.testing.assert_allclose(filtered[20:, 20:], 0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e-25), ("f4", 1e25), ("f8", 1e-160)])
def test_edge_strength_is_right_at_any_scale(dtype: str, scale: float) -> None:
    """The squares of these floats are 0, or infinite."""
    picture = np.random.default_rng(5).random((20, 21))
    picture[:6, :6] = 0
    scaled = (picture * scale).astype(dtype)
    strength = eyeshot.filter(scaled, "sobel", padding="reflect") / np.dtype(dtype).type(scale)
    expected = eyeshot.filter(picture, "sobel", padding="reflect")
    np.testing.assert_allclose(strength, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e17, 1e25])
def test_edge_strength_of_bytes_is_right_at_any_scale_of_the_kernels(scale: float) -> None:
    """The squares of these sums are 0, or infinite."""
    picture = np.random.default_rng(8).integers(0, 256, (20, 21)).astype(np.uint8)
    kernels = KernelSet("scaled", tuple(freeze(one * scale) for one in resolve("sobel").kernels))
    strength = eyeshot.filter(picture, kernels, range="keep") / scale
    expected = eyeshot.filter(picture, "sobel", range="keep")
    np.testing.assert_allclose(strength, expected, rtol=1e-5)


def test_a_transform_of_bytes_is_right_with_huge_weights() -> None:
    """In float32 its sums over the whole picture would be infinite."""
    rng = np.random.default_rng(9)
    picture = rng.integers(0, 256, (60, 70)).astype(np.uint8)
    weights = rng.standard_normal((31, 31))
    got = eyeshot.filter(picture, weights * 1e33, range="keep") / 1e33
    expected = eyeshot.filter(picture, weights, range="keep")
    np.testing.assert_allclose(got, expected, atol=0.1)


def test_a_small_weight_is_not_left_out_beside_a_large_one() -> None:
    """A kernel is separable only if each of its weights is, to its own rounding."""
    weights = np.outer(np.arange(1.0, 8), np.arange(1.0, 8))
    weights[0] = 0
    weights[0, 0] = 1e-7
    picture = np.zeros((7, 7), np.float32)
    picture[0, 0] = 1
    assert eyeshot.filter(picture, weights, padding="valid") == np.float32(1e-7)
