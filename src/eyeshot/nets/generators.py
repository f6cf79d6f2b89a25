"""A network that makes pictures from random numbers, and the one that it is trained against."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from eyeshot.errors import BadValue
from eyeshot.nets.unet import UP_WAYS, Resize, UpWay, check_choice

_LARGEST_START = 8
"""Pixels a side of the first map: a larger one would be drawn by the latent without convolution."""
_LEAST_START = 4
_KERNELS = (2, 3, 4, 5, 6)
_HIDDEN = 8  # times the width: channels of the layer that knows the whole picture
_SLOPE = 0.2  # of the discriminator's leaky ReLU, as in the paper


class Generator(nn.Sequential):
    """Made by :func:`generator`: layers one after another, from a latent to a picture.

    Attributes:
        latent: numbers that a picture is made from.
    """

    WIDTH = 32
    """Channels of the last map before the picture, by default."""

    def __init__(self, layers: OrderedDict[str, nn.Module], latent: int) -> None:
        super().__init__(layers)
        self.latent = latent

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, channels, H, W) in −1 … 1 of latents (N, latent, 1, 1)."""
        for layer in self:
            x = layer(x)
        return x


def generator(
    latent: int = 64,
    *,
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = Generator.WIDTH,
    up: UpWay = "transpose",
    kernel: int = 4,
) -> Generator:
    """A DCGAN's generator: a small map drawn from a latent, then doubled until it is a picture.

    By default (N, 64, 1, 1) → mix (N, 256, 1, 1) → transpose1 (N, 64, 7, 7) → transpose2
    (N, 32, 14, 14) → transpose3 (N, 1, 28, 28) → tanh. After each layer but the last stand batch
    norm and ReLU (norm0, relu0, …); channels are halved where the size is doubled. A latent is an
    image of one pixel, so that the network is convolutional from end to end.
    Sources: Radford, Metz and Chintala, 2015, arXiv:1511.06434; the layer mix, without which what
    stands in one corner knows of another by a linear map alone, as Chen et al., 2016,
    arXiv:1606.03657.

    Args:
        latent: numbers that a picture is made from.
        channels: of the picture.
        size: its height and width in pixels; both are halved until neither is above 8.
        width: channels of the last map before the picture.
        up: how a map is doubled: ``"transpose"``, a transposed convolution with stride 2
            (transpose2, …); ``"nearest"`` or ``"bilinear"``, a resize and a 3×3 convolution behind
            it (resize2, conv2, …).
        kernel: of the transposed convolutions with stride 2, from 2 to 6. One that is no multiple
            of the stride, 3 or 5, draws a checkerboard.

    Raises:
        BadValue: a number out of range, or a size that cannot be halved so far.
        UnknownName: no such ``up``.
    """
    _check_counts(latent=latent, channels=channels, width=width)
    check_choice("way up", up, UP_WAYS)
    if kernel not in _KERNELS:
        raise BadValue(f"kernel is {kernel}", cure=f"use {_KERNELS[0]} to {_KERNELS[-1]}")
    start, doublings = _halve(size)
    hidden = _HIDDEN * width
    widths = [hidden, *(width * 2**level for level in range(doublings - 1, -1, -1)), channels]
    # Batch norm subtracts the mean, so a bias before it would do nothing.
    layers: OrderedDict[str, nn.Module] = OrderedDict(mix=nn.Conv2d(latent, hidden, 1, bias=False))
    for step, (before, after) in enumerate(pairwise(widths), start=1):
        layers[f"norm{step - 1}"] = nn.BatchNorm2d(before)
        layers[f"relu{step - 1}"] = nn.ReLU()
        if step == 1:
            layers["transpose1"] = nn.ConvTranspose2d(before, after, start, bias=False)
        else:
            layers |= _double(step, before, after, up, kernel, bias=step == len(widths) - 1)
    layers["tanh"] = nn.Tanh()
    return _drawn(Generator(layers, latent))


def discriminator(
    *, channels: int = 1, size: tuple[int, int] = (28, 28), width: int = Generator.WIDTH
) -> nn.Sequential:
    """The network that a generator is trained against: one score a picture, high for a real one.

    The generator's way back: (N, 1, 28, 28) → conv1 (N, 32, 14, 14) → conv2 (N, 64, 7, 7), 4×4
    with stride 2, → whole (N, 256, 1, 1), which sees all of the picture → head (N, 1, 1, 1) →
    flatten (N, 1). After each but the head stands a leaky ReLU of slope 0.2 (leaky1, …). Each
    picture is judged by itself: no batch norm mixes the pictures of a batch.

    Args:
        channels: of the picture.
        size: its height and width in pixels; both are halved until neither is above 8.
        width: channels after conv1; every further convolution doubles them.

    Raises:
        BadValue: a number out of range, or a size that cannot be halved so far.
    """
    _check_counts(channels=channels, width=width)
    start, halvings = _halve(size)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before, after = channels, width
    for step in range(1, halvings + 1):
        layers[f"conv{step}"] = nn.Conv2d(before, after, 4, stride=2, padding=1)
        layers[f"leaky{step}"] = nn.LeakyReLU(_SLOPE)
        before, after = after, 2 * after
    layers["whole"] = nn.Conv2d(before, _HIDDEN * width, start)
    layers[f"leaky{halvings + 1}"] = nn.LeakyReLU(_SLOPE)
    layers["head"] = nn.Conv2d(_HIDDEN * width, 1, 1)
    layers["flatten"] = nn.Flatten()
    net = nn.Sequential(layers)
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            # He et al., 2015, arXiv:1502.01852: no batch norm brings the maps to a common scale.
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return net


def _double(
    step: int, before: int, after: int, up: UpWay, kernel: int, *, bias: bool
) -> dict[str, nn.Module]:
    """The layers that double a map, by name."""
    if up == "transpose":
        padding = (kernel - 1) // 2
        rest = 2 + 2 * padding - kernel  # so that the map is doubled to the pixel
        build = partial(nn.ConvTranspose2d, before, after, kernel, stride=2, bias=bias)
        return {f"transpose{step}": build(padding=padding, output_padding=rest)}
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=bias)
    return {
        f"resize{step}": Resize("nearest" if up == "nearest" else "bilinear"),
        f"conv{step}": convolution,
    }


def _drawn(net: Generator) -> Generator:
    """``net`` with weights for adversarial training: normal, of deviation 0.02, as in the paper."""
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _halve(size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """``size`` halved until neither side is above 8, and how often that was.

    Raises:
        BadValue: a side is odd on the way, or below 4 at its end.
    """
    height, width = size
    count = 0
    while max(height, width) > _LARGEST_START and not height % 2 and not width % 2:
        height, width, count = height // 2, width // 2, count + 1
    if not count or max(height, width) > _LARGEST_START or min(height, width) < _LEAST_START:
        raise BadValue(
            f"pictures of {size[0]}×{size[1]}, which halving does not bring to between "
            f"{_LEAST_START} and {_LARGEST_START} pixels a side",
            cure="resize them, such as to 28×28, 32×32 or 64×64",
        )
    return (height, width), count


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise BadValue(f"{name} is {value}", cure="use 1 or more")
