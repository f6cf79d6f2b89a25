"""What comes in, what goes out: types, ranges, alpha, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import eyeshot
from eyeshot.errors import BadValue, UnknownName
from eyeshot.filters import make_plan

RANDOM = np.random.default_rng(0)
STEP = np.array([[0, 0, 200, 200]] * 4, dtype=np.uint8)


def test_clip_cuts_off() -> None:
    filtered = eyeshot.filter(STEP, "sobel-x", padding="replicate")
    assert filtered.dtype == np.uint8
    assert filtered[1].tolist() == [0, 255, 255, 0]
    assert eyeshot.filter(255 - STEP, "sobel-x", padding="replicate").max() == 0


def test_keep_leaves_signed_floats() -> None:
    filtered = eyeshot.filter(255 - STEP, "sobel-x", padding="replicate", range="keep")
    assert filtered.dtype == np.float32
    assert filtered[1].tolist() == [0, -800, -800, 0]


def test_rescale_fills_the_range_in_all_channels_alike() -> None:
    color = np.stack([STEP, STEP // 2, STEP * 0], axis=-1)
    filtered = eyeshot.filter(color, "sobel-x", padding="replicate", range="rescale")
    assert filtered[1].tolist() == [[0, 0, 0], [255, 128, 0], [255, 128, 0], [0, 0, 0]]


def test_rescaling_a_flat_picture_clips_it() -> None:
    flat = np.full((5, 5), 40, dtype=np.uint8)
    assert (eyeshot.filter(flat, "mean", padding="reflect", range="rescale") == 40).all()


def test_rescaling_refuses_nan() -> None:
    picture = np.full((5, 5), np.nan, dtype=np.float32)
    with pytest.raises(BadValue, match="no range to rescale"):
        eyeshot.filter(picture, "mean", range="rescale")


def test_floats_are_not_clipped_by_default() -> None:
    picture = RANDOM.random((6, 6), dtype=np.float32)
    filtered = eyeshot.filter(picture, "laplacian")
    assert filtered.min() < 0
    clipped = eyeshot.filter(picture, "laplacian", range="clip")
    np.testing.assert_array_equal(clipped, np.clip(filtered, 0, 1))
    stretched = eyeshot.filter(picture, "laplacian", range="rescale")
    assert (stretched.min(), stretched.max()) == (0, 1)


def test_ties_go_to_the_even_number() -> None:
    picture = np.array([[1, 2, 5, 6]], dtype=np.uint8)
    assert eyeshot.filter(picture, [[0.5, 0.5]], padding="valid").tolist() == [[2, 4, 6]]


def test_sums_beyond_sixteen_bits_do_not_wrap() -> None:
    picture = np.full((8, 8), 65535, dtype=np.uint16)
    ones = np.ones((5, 5))
    assert (eyeshot.filter(picture, ones, padding="valid") == 65535).all()
    filtered = eyeshot.filter(picture, ones, padding="valid", range="keep")
    assert (filtered == 25 * 65535).all()
    assert (eyeshot.filter(picture, 1e6 * ones) == 65535).all()


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "float16", "float32", "float64", ">f4", ">u2"]
)
def test_the_type_stays(dtype: str) -> None:
    picture = (RANDOM.random((7, 9, 3)) * 100).astype(dtype)
    filtered = eyeshot.filter(picture, "identity")
    assert filtered.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(filtered, picture)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "int8", "complex64", "object"])
def test_other_types_are_refused(dtype: str) -> None:
    with pytest.raises(BadValue, match="cannot be filtered"):
        eyeshot.filter(np.zeros((4, 4), dtype=dtype), "mean")


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_alpha_is_kept(channels: int, padding: Any) -> None:
    picture = RANDOM.integers(0, 256, (9, 8, channels), np.uint8)
    filtered = eyeshot.filter(picture, "gaussian", padding=padding)
    color = eyeshot.filter(picture[..., :-1], "gaussian", padding=padding)
    np.testing.assert_array_equal(filtered[..., :-1], color)
    inner = picture[2:-2, 2:-2, -1] if padding == "valid" else picture[..., -1]
    np.testing.assert_array_equal(filtered[..., -1], inner)


def test_alpha_can_be_filtered_as_a_color() -> None:
    picture = RANDOM.integers(0, 256, (9, 8, 4), np.uint8)
    filtered = eyeshot.filter(picture, "mean", alpha="filter")
    np.testing.assert_array_equal(filtered[..., 3], eyeshot.filter(picture[..., 3], "mean"))


def _views() -> list[NDArray[np.float32]]:
    base = RANDOM.random((20, 24, 3), dtype=np.float32)
    return [base[::2, ::3], base[::-1], base.transpose(1, 0, 2), np.asfortranarray(base)]


@pytest.mark.parametrize("view", _views(), ids=["strided", "upside-down", "transposed", "fortran"])
def test_views_are_filtered_as_their_copies_are(view: NDArray[np.float32]) -> None:
    view.setflags(write=False)
    expected = eyeshot.filter(view.copy(order="C"), "sobel")
    # To the last bit but one: OpenCV's vector instructions begin where the memory is aligned.
    np.testing.assert_allclose(eyeshot.filter(view, "sobel"), expected, rtol=1e-6)


def test_a_result_never_shares_memory_with_the_picture() -> None:
    picture = RANDOM.random((8, 8), dtype=np.float32)
    for kernel in ("identity", "mean:1"):
        assert not np.shares_memory(eyeshot.filter(picture, kernel), picture)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5, 5, 0)])
def test_an_empty_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadValue, match="empty"):
        eyeshot.filter(np.zeros(shape, np.uint8), "mean")


@pytest.mark.parametrize("shape", [(5,), (1, 5, 5, 3), ()])
def test_other_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadValue, match="axes"):
        eyeshot.filter(np.zeros(shape, np.uint8), "mean")


def test_a_kernel_larger_than_a_valid_picture_is_refused() -> None:
    with pytest.raises(BadValue, match="'mean:5' of 5×5 does not fit into a 9×4 picture"):
        eyeshot.filter(np.zeros((9, 4), np.uint8), "mean:5", padding="valid")
    assert eyeshot.filter(np.zeros((5, 5), np.uint8), "mean:5", padding="valid").shape == (1, 1)


@pytest.mark.parametrize("option", ["padding", "range", "alpha"])
def test_an_unknown_option_is_refused(option: str) -> None:
    arguments: dict[str, Any] = {option: "keeep"}
    with pytest.raises(UnknownName, match=f"unknown {option} 'keeep'"):
        eyeshot.filter(STEP, "mean", **arguments)


def test_a_plan_describes_the_computation() -> None:
    picture = np.zeros((9, 9, 4), np.uint8)
    plan = str(make_plan(picture, "sobel", padding="reflect", convolve=True))
    for word in ("magnitude", "convolution", "mirrored", "3 channels", "alpha kept", "0…255"):
        assert word in plan
    assert "left as they are" in str(make_plan(np.zeros((9, 9)), "mean"))


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e-40), ("f4", 3e38), ("f8", 1.5e308)])
def test_any_scale_is_stretched_to_the_range(dtype: str, scale: float) -> None:
    """The span of the values, or its inverse, may be more than the type holds."""
    picture = np.array([[-1, 0, 1]]) * np.dtype(dtype).type(scale)
    stretched = eyeshot.filter(picture, "identity", range="rescale")
    np.testing.assert_allclose(stretched, [[0, 0.5, 1]], rtol=1e-4)
