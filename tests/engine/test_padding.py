"""A picture padded to a size that the network takes: as torch pads, cropped, and by parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.errors import BadValue, EyeshotError, UnknownName
from eyeshot.nets.unet import unet
from tests.engine.law import noise

TORCH = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}


class Strict(nn.Module):
    """Takes multiples of 16 alone, as many do; gives a map and a class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, padding=2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if x.shape[2] % 16 or x.shape[3] % 16:
            raise ValueError("give multiples of 16")
        y = self.conv(x)
        return {"map": y, "half": F.max_pool2d(y, 2), "class": y.mean((2, 3))}


@pytest.mark.parametrize("mode", TORCH)
@pytest.mark.parametrize(
    ("net", "padded", "answer"),
    [
        (nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 64, 3, 1, 1), nn.PixelShuffle(8)),
         (64, 76), (122, 150)),
        (nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(192, 2, 3, 1, 1)), (64, 80), (8, 10)),
        (unet(in_channels=3, base=2, depth=2, padding="valid"), (64, 76), (21, 35)),
    ],
)  # fmt: skip
def test_it_is_the_padded_pass_cropped(
    net: nn.Module, mode: str, padded: tuple[int, int], answer: tuple[int, int]
) -> None:
    net, image = net.eval(), noise(3, 61, 75)
    below, right = padded[0] - 61, padded[1] - 75
    with torch.no_grad():
        truth = net(F.pad(image[None], (0, right, 0, below), mode=TORCH[mode]))[0].numpy()
    truth = truth[:, : answer[0], : answer[1]]
    run = eyeshot.run(net, image, pad=mode, band=5)
    assert run.shape == truth.shape
    np.testing.assert_allclose(run, truth, atol=1e-5 * np.abs(truth).max())
    region = [(3, answer[0] - 1), (2, answer[1])]
    part = eyeshot.run(net, image, pad=mode, region=region)[:, : region[0][1] - 3]
    np.testing.assert_allclose(part, truth[:, 3:-1, 2:], atol=1e-5 * np.abs(truth).max())


def test_every_output_is_cropped_by_its_own_stride() -> None:
    whole, half, classes = eyeshot.run(Strict().eval(), noise(3, 40, 61), pad="edge")
    assert (whole.shape, half.shape, classes.shape) == ((4, 40, 61), (4, 20, 31), (4,))


def test_a_size_that_is_taken_is_left_alone() -> None:
    net, image = nn.Conv2d(3, 2, 3).eval(), noise(3, 9, 8)
    assert np.array_equal(eyeshot.run(net, image, pad="zero"), eyeshot.run(net, image))


@pytest.mark.parametrize(
    ("image", "mode", "error", "words"),
    [
        (noise(3, 40, 40), "mirror", UnknownName, "unknown pad 'mirror'"),
        (
            noise(3, 5, 40),
            "reflect",
            BadValue,
            "too small to be reflected to 16×48; use --pad edge",
        ),
        (noise(2, 48, 48), "edge", EyeshotError, "has 2 channels"),
    ],
)
def test_refusals(image: torch.Tensor, mode: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        eyeshot.run(Strict().eval(), image, pad=mode)


def test_the_network_is_as_it_was() -> None:
    net = Strict().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    eyeshot.run(net, noise(3, 40, 61), pad="edge")
    assert not net.training
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
