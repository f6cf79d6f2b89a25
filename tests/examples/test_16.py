"""Shifts: what follows the picture exactly, on the stride grid alone, and what stays."""

from __future__ import annotations

import pytest
import torch

from eyeshot import data

from . import load

example = load("16")


def canvas(part: data.Examples, count: int) -> torch.Tensor:
    few = data.Examples.hold(part.images[:count], part.labels[:count])
    x: torch.Tensor = example.read_canvas(few, 0.0, 1.0)
    return x


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_maps_follow_exactly_on_the_stride_grid_alone(stride: int) -> None:
    x = canvas(data.load("digits").test, 50)
    assert x.shape == (50, 1, example.SIDE, example.SIDE)
    for layer, own in example.build_layers().values():
        if own == stride:
            for columns in example.SHIFTS:
                apart = example.follow(layer, stride, x, columns)
                assert (apart < 1e-5) == (columns % stride == 0)


def test_the_larger_the_pool_the_less_a_small_shift_changes() -> None:
    x = canvas(data.load("digits").test, 50)
    layers = example.build_layers()
    names = ["convolution", "convolution, max-pool 2×2", "convolution, max-pool 4×4"]
    changed = [example.stay(layers[name][0], x, 1) for name in names]
    assert changed == sorted(changed, reverse=True)
    assert changed[-1] < 0.8 * changed[0]


def test_a_global_pool_does_not_mind_where_a_digit_is() -> None:
    digits = data.load("digits")
    x, test = canvas(digits.train, 2000), canvas(digits.test, 300)
    right = {}
    for name, net in example.build_nets().items():
        example.train(net, x, digits.train.labels[:2000], 40 if name == "fully connected" else 60)
        right[name] = example.judge_shifted(net, test, digits.test.labels[:300])
    assert right["global pool"][0] > 0.5
    assert max(right["global pool"]) - min(right["global pool"]) < 0.1
    for name in ("fully connected", "pools, then flatten"):
        assert right[name][0] > 0.7
        assert right[name][8] < right[name][0] / 2
    assert right["pools, then flatten"][2] > right["fully connected"][2]
