"""The receptive field: by hand and by Eyeshot, its gradient, and what fills it."""

from __future__ import annotations

import math

import numpy as np
import torch

import eyeshot

from . import load

example = load("11")


def test_it_grows_by_the_kernel_less_one_times_the_strides() -> None:
    net = example.build_net()
    assert example.grow_by_hand(net) == example.grow_by_eyeshot(net)
    assert list(example.grow_by_hand(net).values()) == [3, 5, 6, 10, 14, 16, 24, 32]


def test_the_gradient_fills_the_box_and_nothing_else_and_most_of_it_is_in_the_middle() -> None:
    net, photo = example.build_net(), example.read_photo()
    box = eyeshot.receptive_field(net, (1, 128, 128), layer="conv3b", unit=(15, 16)).box
    assert box is not None
    place = tuple(slice(side.lo, side.hi) for side in box)
    strength = example.measure_gradient(net, torch.from_numpy(photo)[None, None], (15, 16))
    assert strength.shape == (128, 128)
    assert np.count_nonzero(strength) == np.count_nonzero(strength[place]) > 0
    half = example.share_of_half(strength, place)
    assert half < 0.3
    even = np.ones((10, 10))
    assert example.share_of_half(even, (slice(10), slice(10))) == 0.5


def test_the_effective_field_grows_with_the_root_of_the_depth() -> None:
    widths = example.measure_widths([2, 8, 16], tries=5)
    assert [side for side, _ in widths.values()] == [5, 17, 33]
    for depth, (_, width) in widths.items():
        assert math.isclose(width, math.sqrt(8 * depth + 1), rel_tol=0.35)
