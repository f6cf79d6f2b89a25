"""Scores reduced to bytes: one pass of OpenCV against PyTorch's own operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import eyeshot
from eyeshot.engine.outputs import form_of
from eyeshot.errors import BadValue


def _by_definition(scores: Tensor) -> Tensor:
    return (scores.clamp(0, 1) * 255).round().to(torch.uint8)


@given(
    shape=st.lists(st.integers(0, 6), min_size=2, max_size=4),
    seed=st.integers(0, 999),
    last=st.booleans(),
)
def test_bytes_are_those_of_the_definition(shape: list[int], seed: int, last: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(shape, generator=draw) * 1.4 - 0.2
    if last:
        scores = scores.transpose(0, -1)
    found = form_of("uint8", max(1, scores.shape[0]))(scores)
    assert found.shape == tuple(scores.shape)
    assert (torch.from_numpy(found) == _by_definition(scores)).all()


def test_every_half_is_rounded_as_pytorch_rounds_it() -> None:
    """Each byte, each middle between two, and the floats beside them."""
    steps = torch.arange(-4, 515, dtype=torch.float64) / 2
    scores = (steps / 255).float()
    around = [scores, *(scores.nextafter(torch.full_like(scores, side)) for side in (-9.0, 9.0))]
    exact = torch.cat(around)[None, None]
    found = torch.from_numpy(form_of("uint8", 1)(exact))
    assert (found == _by_definition(exact)).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("size", [8.0e6, 8.5e6, 1e10, 3e38, float("inf")])
def test_a_huge_score_is_white_and_its_opposite_black(size: float, sign: float) -> None:
    """Beyond 31 bits, the conversion of OpenCV wraps to 0."""
    scores = torch.full((1, 3, 40), 0.25)
    scores[0, 1] = sign * size
    assert (torch.from_numpy(form_of("uint8", 1)(scores)) == _by_definition(scores)).all()


def test_a_huge_score_beside_no_number_is_white() -> None:
    scores = torch.tensor([[[3e38, float("nan"), float("inf"), 0.5]]])
    found = form_of("uint8", 1)(scores)
    assert found[0, 0, [0, 2, 3]].tolist() == [255, 255, 128]


@pytest.mark.parametrize("classes", [2, 256, 257, 65536, 65537])
def test_the_number_of_the_last_class_is_kept(classes: int) -> None:
    scores = torch.zeros(classes, 1, 2)
    scores[-1] = 1
    assert form_of("argmax", classes)(scores).tolist() == [[[classes - 1, classes - 1]]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_take_the_general_way(dtype: torch.dtype) -> None:
    scores = torch.tensor([[[-1.0, 0.25, 0.5, 2.0]]], dtype=dtype)
    assert form_of("uint8", 1)(scores).tolist() == [[[0, 64, 128, 255]]]


def test_a_threshold_is_what_must_be_exceeded() -> None:
    """A probability that is the threshold itself is not above it."""
    scores = torch.tensor([[[-0.001, 0.0, 0.001]]])
    assert form_of("threshold:0.5", 1)(scores).tolist() == [[[0, 0, 255]]]
    two = torch.cat([torch.zeros_like(scores), scores])
    assert form_of("threshold:0.5", 2)(two).tolist() == [[[0, 0, 255]]]


@pytest.mark.parametrize("name", ["float32", "float64", "uint8", "probabilities", "threshold:0.5"])
def test_complex_numbers_lose_no_part(name: str) -> None:
    assert form_of("scores", 1, "complex64").dtype == "complex64"
    with pytest.raises(BadValue, match="of complex numbers; use scores"):
        form_of(name, 1, "complex64")


def test_whole_numbers_of_a_network_are_labels_in_whatever_type_they_are_written() -> None:
    for name in ("scores", "float32", "float64"):
        assert form_of(name, 1, "int64").labels
        assert form_of(name, 1, "bool").labels
        assert not form_of(name, 1, "float32").labels
    assert form_of("argmax", 3).labels
    assert not form_of("probabilities", 3).labels
    assert not form_of("uint8", 1).labels
    assert not form_of("scores", 1, "complex64").labels


@pytest.mark.parametrize(
    ("channels", "end"),
    [
        (1, nn.Sigmoid()),
        (2, nn.Softmax(1)),
        (3, nn.Sigmoid()),
        (1, nn.Hardsigmoid()),
        (1, nn.Sequential(nn.Sigmoid(), nn.Upsample(scale_factor=2, mode="bilinear"))),
    ],
)
def test_probabilities_are_not_squeezed_again(channels: int, end: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), end, nn.Dropout()).eval()
    image = torch.randn(1, 20, 30)
    with torch.no_grad():
        whole = net(image[None])[0].numpy()
    found = eyeshot.run(net, image, output_format="probabilities", band=6)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    if channels < 3:
        mask = eyeshot.run(net, image, output_format="threshold:0.5")
        np.testing.assert_array_equal(mask[0] == 255, whole[-1] > 0.5)
        assert 0.05 < (mask == 255).mean() < 0.95
        with pytest.raises(BadValue, match="with --flips, and the network ends in a sigmoid or a"):
            eyeshot.run(net, image, output_format="threshold:0.5", flips="all")
