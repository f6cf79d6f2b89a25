"""How many axes of space a network has, told before it is traced; and memory in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.engine.memory import parse_bytes
from eyeshot.engine.running import opened
from eyeshot.errors import BadValue
from eyeshot.planning.band_plan import megabytes
from tests.engine.law import noise


class Called(nn.Module):
    """A convolution that is called as a function, with its weight a buffer or a parameter."""

    def __init__(self, weight: torch.Tensor, trained: bool) -> None:
        super().__init__()
        if trained:
            self.weight: torch.Tensor = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.scale = nn.Parameter(torch.ones(len(weight), *[1] * (weight.ndim - 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (F.conv2d if self.weight.ndim == 4 else F.conv3d)(x, self.weight) * self.scale


class OwnPool(nn.MaxPool3d):
    """A layer by another name."""


# An array of three axes is a color picture, channels of a picture, or a volume without channels.
SHAPES: list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = [
    (Called(torch.ones(2, 1, 3, 3), True), (9, 8), (1, 9, 8)),
    (Called(torch.ones(2, 5, 3, 3), False), (5, 9, 8), (5, 9, 8)),
    (Called(torch.ones(2, 1, 3, 3, 3), False), (7, 9, 8), (1, 7, 9, 8)),
    (nn.MaxPool1d(2), (5, 40), (5, 40)),
    (nn.AvgPool2d(3), (5, 9, 8), (5, 9, 8)),
    (nn.Sequential(nn.ReLU(), OwnPool(2)), (7, 9, 8), (1, 7, 9, 8)),
    (nn.Sequential(nn.BatchNorm1d(4), nn.Conv2d(1, 1, 3)), (9, 8), (1, 9, 8)),
]


@pytest.mark.parametrize(("net", "shape", "understood"), SHAPES)
def test_an_image_is_understood_by_the_layers(
    net: nn.Module, shape: tuple[int, ...], understood: tuple[int, ...]
) -> None:
    with opened(np.zeros(shape, np.float32), net) as source:
        assert source.shape == understood


def test_a_network_of_functions_alone_is_run_as_its_image_lies() -> None:
    class Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(x, 2)

    image = noise(1, 12, 10)
    np.testing.assert_allclose(
        eyeshot.run(Pool().eval(), image[0].numpy()), F.avg_pool2d(image[None], 2)[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (2_400_000, "2 MB"),
        (1_500_000_000, "1.50 GB"),
    ],
)
def test_bytes_in_words(count: int, words: str) -> None:
    assert megabytes(count) == words


def test_too_little_memory_is_reported_with_what_is_enough() -> None:
    net, image = nn.Conv2d(1, 2, 3).eval(), noise(1, 30, 30)
    with pytest.raises(BadValue, match="--memory 1 kB cannot hold") as reported:
        eyeshot.run(net, image, memory="1KB")
    enough = str(reported.value).split("the least that can is ")[1]
    least = parse_bytes(enough)
    assert least is not None
    assert least % 10**6 == 0
    eyeshot.run(net, image, memory=least + (64 << 20))  # the process may have grown meanwhile
