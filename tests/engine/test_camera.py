"""Rows from a camera: any network, in any chunks, every output, against one whole pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot.errors import BadValue
from tests.engine.law import Array, enliven, largest_difference, noise, whole
from tests.zoo import UNet


class Heads(nn.Module):
    """A fine answer, a coarse one that is ready later, a summary, and the first one again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.deep = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(4, 3, 5, padding=2), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = self.stem(x)
        coarse = self.deep(fine)
        return fine, coarse, self.pool(coarse), fine


def pushed(
    net: nn.Module, image: torch.Tensor, chunks: list[int], form: str = "float32"
) -> list[list[Array]]:
    """What each push gave, and the end: a list of outputs each."""
    rows, given, y = eyeshot.stream(net, image.shape[2], form=form), [], 0
    for chunk in (*chunks, image.shape[1]):
        part = rows.push(image[:, y : y + chunk].numpy())
        given.append(part if isinstance(part, list) else [part])
        y += chunk
    assert rows.rows == image.shape[1]
    end = rows.finish()
    return [*given, end if isinstance(end, list) else [end]]


@settings(max_examples=15)
@given(height=st.integers(4, 40), chunks=st.lists(st.integers(0, 9), max_size=6))
def test_every_output_comes(height: int, chunks: list[int]) -> None:
    net, image = enliven(Heads(), noise(1, 1, 16, 16)), noise(1, height, 13)
    joined = [np.concatenate(parts, 1) for parts in zip(*pushed(net, image, chunks), strict=True)]
    truth = whole(net, image)
    summary = joined.pop(2)
    assert summary.shape == (2, 1, 1)
    assert largest_difference([summary[:, 0, 0]], [truth.pop(2)]) <= 1e-5
    assert largest_difference(joined, truth) <= 1e-5


def test_each_output_comes_as_soon_as_it_is_ready() -> None:
    net, image = enliven(Heads(), noise(1, 1, 16, 16)), noise(1, 32, 13)
    ready = [[part.shape[1] for part in parts] for parts in pushed(net, image, [1] * 32)]
    fine, coarse, summary, again = (list(counts) for counts in zip(*ready, strict=True))
    assert fine == again == [0] + [1] * 31 + [0, 1]
    assert coarse[:13] == [0] * 12 + [1]
    assert summary == [0] * 33 + [1]


def test_one_form_for_every_output() -> None:
    net, image = enliven(Heads(), noise(1, 1, 16, 16)), noise(1, 16, 13)
    parts = pushed(net, image, [], form="argmax")
    joined = [np.concatenate(one, 1) for one in zip(*parts, strict=True)]
    for labels, scores in zip(joined, whole(net, image), strict=True):
        assert labels.dtype == np.uint8
        assert np.array_equal(labels.reshape(-1), scores.argmax(0).reshape(-1))


def test_a_network_of_one_output_gives_no_list() -> None:
    net, image = enliven(UNet(1, 2), noise(1, 1, 16, 16)), noise(1, 20, 12)
    rows = eyeshot.stream(net, 12)
    part, end = rows.push(image.numpy()), rows.finish()
    assert isinstance(part, np.ndarray)
    assert largest_difference([np.concatenate([part, end], 1)], whole(net, image)) <= 1e-5


def test_a_traced_network_brings_its_mean() -> None:
    net, image = nn.Conv2d(1, 2, 3).eval(), noise(1, 9, 7)
    rows = eyeshot.stream(eyeshot.trace(net, mean=[2], std=[4]), 7)
    given = np.concatenate([rows.push(image.numpy()), rows.finish()], 1)
    assert largest_difference([given], whole(net, (image - 2) / 4)) <= 1e-5


def test_weights_that_are_no_numbers_are_refused() -> None:
    net = nn.Conv2d(1, 2, 3).eval()
    nn.init.constant_(net.weight, float("inf"))
    with pytest.raises(BadValue, match="weight weight holds NaN or infinity"):
        eyeshot.stream(net, 7)
