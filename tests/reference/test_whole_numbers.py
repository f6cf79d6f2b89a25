"""Pictures are bytes: sums of them must not run over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eyeshot import reference as ref


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.bool_, np.float32])
def test_small_types_give_the_numbers_of_float64(kind: Any) -> None:
    numbers = np.random.default_rng(0)
    x = numbers.integers(0, 256, (2, 2, 6, 6)).astype(kind)
    weight = numbers.integers(0, 100, (2, 2, 3, 3)).astype(kind)
    exact, kernel = x.astype(np.float64), weight.astype(np.float64)
    y = ref.conv(x, weight)
    np.testing.assert_array_equal(y, ref.conv(exact, kernel))
    np.testing.assert_array_equal(
        ref.conv_transpose(x, weight, stride=2), ref.conv_transpose(exact, kernel, stride=2)
    )
    for mine, expected in zip(
        ref.conv_backward(y, x, weight), ref.conv_backward(y, exact, kernel), strict=True
    ):
        np.testing.assert_allclose(mine, expected, rtol=1e-5)
    np.testing.assert_array_equal(ref.max_pool(x, 2, padding=1), ref.max_pool(exact, 2, padding=1))
    np.testing.assert_allclose(ref.avg_pool(x, 3), ref.avg_pool(exact, 3), rtol=1e-6)
    flat, rows = x.reshape(2, -1), weight.reshape(2, -1)
    np.testing.assert_array_equal(
        ref.linear(flat[:, :18], rows),
        ref.linear(exact.reshape(2, -1)[:, :18], kernel.reshape(2, -1)),
    )


def test_whole_numbers_stay_whole() -> None:
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert ref.conv(x, x[:, :, :2, :2]).dtype == np.int64
    assert ref.max_pool(x, 2).dtype == np.int64


def test_single_precision_stays_single() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    assert ref.conv(x, x[:, :, :2, :2]).dtype == np.float32
    assert ref.max_pool_backward(ref.max_pool(x, 2), x, 2).dtype == np.float32
    mean = ref.avg_pool(x, 2)
    assert mean.dtype == np.float32
    assert ref.avg_pool_backward(mean, x, 2).dtype == np.float32
    assert ref.upsample(x, scale=2, mode="linear").dtype == np.float32
