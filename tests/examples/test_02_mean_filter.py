"""The mean filter: three ways to the same pixels."""

from __future__ import annotations

import numpy as np

from . import load

example = load("02")


def test_all_ways_give_the_same_pixels() -> None:
    photo = example.read_noisy_photo()
    assert photo.shape == (1133, 1700, 3)
    part = photo[400:630, 500:840]
    want = example.by_reference(part)
    for way in (example.by_conv2d, example.by_eyeshot):
        np.testing.assert_array_equal(way(part), want)
    patch = part[100:105, 100:105].astype(int)
    assert (abs(want[102, 102] - patch.mean(axis=(0, 1))) <= 0.5).all()
