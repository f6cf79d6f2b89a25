"""Networks to train, each a plain ``nn.Module`` whose layers have names a person can say.

A network is built by name, because a run folder holds the name and the arguments and never code:
what :func:`build` does not know cannot be loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from eyeshot.errors import BadValue, UnknownName
from eyeshot.nets.blocks import DoubleConv, Down, Up, digit_cnn, small_vgg
from eyeshot.nets.generators import Generator, discriminator, generator
from eyeshot.nets.unet import UNet, unet

__all__ = [
    "CLASSIFIERS",
    "GENERATORS",
    "NAMES",
    "PER_PIXEL",
    "DoubleConv",
    "Down",
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


def build(name: str, **arguments: Any) -> nn.Module:
    """Build the network ``name`` with ``arguments``, its weights drawn from torch's generator.

    ``size`` may be told of every network; those that take any size are not told.

    Raises:
        UnknownName: there is no such network, or it takes no such argument.
        BadValue: an argument is out of range.
    """
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
