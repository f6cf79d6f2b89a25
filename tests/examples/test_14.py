"""Local correlation: near pixels are alike in a photograph, and no pixels are once shuffled."""

from __future__ import annotations

import numpy as np
import pytest

from . import load

example = load("14")


def test_correlation_falls_with_distance_and_is_gone_when_shuffled() -> None:
    photo = example.read_photo()
    values = [example.correlate(photo, distance) for distance in (1, 4, 16, 64)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.95
    assert values[-1] < 0.5
    shuffled = example.shuffle(photo)
    assert np.sort(shuffled, axis=None) == pytest.approx(np.sort(photo, axis=None))
    assert abs(example.correlate(shuffled, 1)) < 0.02


def test_a_stripe_repeats_after_its_period() -> None:
    stripes = np.tile([0.0, 1.0], (40, 20)) + np.tile([[0.0], [1.0]], (20, 40))
    assert example.correlate(stripes, 2) == pytest.approx(1)


def test_the_nearest_eight_pixels_tell_nearly_all() -> None:
    photo = example.read_photo()
    three, five = (example.explain_by_surroundings(photo, size) for size in (3, 5))
    assert three > 0.98
    assert 0 < five - three < 0.01
    assert abs(example.explain_by_surroundings(example.shuffle(photo), 3)) < 0.02


def test_shuffled_digits_cost_convolutions_their_lead() -> None:
    right = example.compare_on_shuffled_digits(steps=40)
    plain = [right[f"fully connected, {order}"] for order in ("in order", "shuffled")]
    assert abs(plain[0] - plain[1]) < 0.05  # it never knew which pixels are neighbors
    assert right["convolutions, in order"] > right["convolutions, shuffled"] + 0.05
    assert plain[1] > right["convolutions, shuffled"] + 0.05
