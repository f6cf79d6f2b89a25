"""Small filters on single channels go by OpenCV: the same numbers, whatever the padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot.operators.convolution_kernels import suits_opencv
from tests.networks import examples

OPTIONS: tuple[list[int], list[int], int] = ([1, 1], [1, 1], 1)


@pytest.mark.parametrize("double", [False, True])
def test_a_filter_by_opencv_is_the_convolution(double: bool) -> None:
    @examples(15)
    @given(
        kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
        padding=st.tuples(st.integers(0, 7), st.integers(0, 7)),
        channels=st.integers(1, 4),
        bias=st.booleans(),
        band=st.sampled_from([1, 3, 64]),
    )
    def holds(
        kernel: tuple[int, int], padding: tuple[int, int], channels: int, bias: bool, band: int
    ) -> None:
        torch.manual_seed(0)
        layer = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=bias)
        net = nn.Sequential(layer, nn.ReLU()).eval()
        x = torch.randn(channels, 17, 13)
        if double:
            net, x = net.double(), x.double()
        assert suits_opencv([layer.weight], ([1, 1], [1, 1], channels))
        with torch.no_grad():
            whole = net(x[None])[0]
        form = "float64" if double else "float32"
        part = torch.from_numpy(eyeshot.run(net, x, band=band, output_format=form))
        scale = max(1e-3, float(whole.abs().max()))
        assert float((part - whole).abs().max()) <= (1e-12 if double else 1e-5) * scale

    holds()


@pytest.mark.parametrize(
    ("weight", "options"),
    [
        (torch.zeros(8, 1, 3, 3), ([1, 1], [1, 1], 8)),  # many channels: oneDNN is as fast
        (torch.zeros(2, 1, 3, 3), ([1, 1], [1, 1], 1)),  # two maps of one channel
        (torch.zeros(1, 1, 12, 12), OPTIONS),  # OpenCV would go by a Fourier transform
        (torch.zeros(1, 1, 3, 3), ([2, 2], [1, 1], 1)),
        (torch.zeros(1, 1, 3, 3), ([1, 1], [2, 2], 1)),
        (torch.zeros(1, 1, 3), ([1], [1], 1)),
    ],
)
def test_what_does_not_suit_goes_elsewhere(
    weight: torch.Tensor, options: tuple[list[int], list[int], int]
) -> None:
    assert not suits_opencv([weight], options)
