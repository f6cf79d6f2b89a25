"""Networks to train, each a plain ``nn.Module`` whose layers have names a person can say.

A network is built by name, because a run folder holds the name and the arguments and never code:
what :func:`build` does not know cannot be loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, UnknownName
from eyeshot.nets.generators import Generator, discriminator, generator
from eyeshot.nets.unet import DoubleConv, Down, UNet, Up, digit_cnn, small_vgg, unet

__all__ = [
    "CLASSIFIERS",
    "GENERATORS",
    "NAMES",
    "PER_PIXEL",
    "DoubleConv",
    "Down",
    "Ensemble",
    "Generator",
    "UNet",
    "Up",
    "build",
    "digit_cnn",
    "discriminator",
    "generator",
    "small_vgg",
    "unet",
]

_CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "digit_cnn": digit_cnn,
    "small_vgg": small_vgg,
}
_PER_PIXEL: dict[str, Callable[..., nn.Module]] = {"unet": unet}
_GENERATORS: dict[str, Callable[..., nn.Module]] = {"generator": generator}
_TABLE = {**_CLASSIFIERS, **_PER_PIXEL, **_GENERATORS}

CLASSIFIERS = tuple(_CLASSIFIERS)
"""Names of those that give one score a class."""
PER_PIXEL = tuple(_PER_PIXEL)
"""Names of those that give one score a class at every pixel."""
GENERATORS = tuple(_GENERATORS)
"""Names of those that make a picture of a latent."""
NAMES = tuple(_TABLE)


ENSEMBLE = "ensemble"
"""The name of several networks that were trained each for itself, and whose scores are averaged."""
_MOST_MEMBERS = 1000


def build(name: str, **arguments: Any) -> nn.Module:
    """Build the network ``name`` with ``arguments``, its weights drawn from torch's generator.

    ``size`` may be passed for every network; those that take any size ignore it. An ``ensemble`` is
    of ``count`` networks called ``of``, which get all other arguments.

    Raises:
        UnknownName: there is no such network, or it takes no such argument.
        BadValue: an argument is out of range.
    """
    if name == ENSEMBLE:
        return _build_ensemble(**arguments)
    make = _TABLE.get(name)
    if make is None:
        raise UnknownName("model", name, NAMES)
    known = inspect.signature(make).parameters
    if "size" not in known:
        arguments.pop("size", None)
    for argument in arguments:
        if argument not in known:
            raise UnknownName(f"argument of {name}", argument, known)
        kind = type(known[argument].default)
        if kind in (int, str) and type(arguments[argument]) is not kind:
            raise BadValue(
                f"{argument} is {arguments[argument]!r}",
                cure="use a whole number" if kind is int else "use a word",
            ).at(name)
    try:
        return make(**arguments)
    except BadValue as error:
        raise error.at(name) from None


def _build_ensemble(*, of: str = "", count: int = 0, **arguments: Any) -> Ensemble:
    if of not in (*CLASSIFIERS, *PER_PIXEL):
        raise UnknownName("model of an ensemble", of, (*CLASSIFIERS, *PER_PIXEL))
    if type(count) is not int or not 1 <= count <= _MOST_MEMBERS:
        raise BadValue(f"an ensemble of {count}", cure=f"use 1 to {_MOST_MEMBERS} networks")
    members = [build(of, **arguments) for _ in range(count)]
    channels = int(arguments.get("in_channels", 1))
    dims = int(arguments.get("dims", 2))
    plain = [(0.0,) * channels] * count, [(1.0,) * channels] * count
    return Ensemble(members, *plain, dims=dims)


class Ensemble(nn.Module):
    """The mean of several networks' outputs, each network with its own normalization.

    It takes samples in 0 … 1, (N, C, H, W), and returns what each of them returns.
    Scores are averaged, not probabilities.

    Args:
        members: networks of one task, with equal inputs and outputs.
        means: for each member, the mean of each channel, subtracted from its samples.
        stds: for each member, the deviation of each channel, by which they are then divided.
        dims: axes of space: 2 of pictures, 3 of volumes, 1 of signals.

    Attributes:
        members: the networks.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        means: Sequence[Sequence[float]],
        stds: Sequence[Sequence[float]],
        *,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        for number, (mean, std) in enumerate(zip(means, stds, strict=True)):
            sides = (-1,) + (1,) * dims
            self.register_buffer(f"mean{number}", torch.tensor(mean).view(sides))
            self.register_buffer(f"std{number}", torch.tensor(std).view(sides))

    def forward(self, x: Tensor) -> Tensor:
        """Samples in 0 … 1 (N, C, H, W) -> the mean of the members' answers."""
        answers = [
            member((x - self.get_buffer(f"mean{number}")) / self.get_buffer(f"std{number}"))
            for number, member in enumerate(self.members)
        ]
        total: Tensor = answers[0]
        for answer in answers[1:]:
            total = total + answer
        return total / len(answers)
