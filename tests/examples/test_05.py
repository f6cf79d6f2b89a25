"""Pooling: the tutorial's numbers, and that a shift matters less after it."""

from __future__ import annotations

import numpy as np

from eyeshot import data

from . import load

example = load("05")


def test_the_largest_of_each_window() -> None:
    largest = example.pool_numbers()["max"]
    assert largest[0, 0].tolist() == [[5, 6, 7, 7], [13, 14, 15, 15]]
    assert largest[0, 1].tolist() == [[21, 22, 23, 23], [29, 30, 31, 31]]


def test_the_mean_of_each_window() -> None:
    """By hand, row 0, column 0: the window holds 0, 1, 4 and 5."""
    mean = example.pool_numbers()["mean"]
    assert mean[0, 0, 0, 0] == (0 + 1 + 4 + 5) / 4
    assert mean[0, 0, 1, 1] == np.mean([4, 5, 6, 8, 9, 10, 12, 13, 14])


def test_a_shift_changes_less_the_larger_the_pool() -> None:
    digits = (next(data.load("digits").test.batches(50))[0].double() / 255).numpy()
    changes = example.measure_shift(digits)
    assert changes["none"] > changes["max 2×2"] > changes["max 4×4"]
    assert changes["mean 4×4"] < changes["max 2×2"]
