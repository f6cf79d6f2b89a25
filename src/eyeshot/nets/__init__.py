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
from eyeshot.nets.classifiers import digit_cnn, small_vgg

__all__ = ["NAMES", "build", "digit_cnn", "small_vgg"]

_TABLE: dict[str, Callable[..., nn.Module]] = {
    "digit_cnn": digit_cnn,
    "small_vgg": small_vgg,
}

NAMES = tuple(_TABLE)


def build(name: str, **arguments: Any) -> nn.Module:
    """Build the network ``name`` with ``arguments``, its weights drawn from torch's generator.

    Raises:
        UnknownName: there is no such network, or it takes no such argument.
        BadValue: an argument is out of range.
    """
    make = _TABLE.get(name)
    if make is None:
        raise UnknownName("model", name, NAMES)
    known = inspect.signature(make).parameters
    for argument in arguments:
        if argument not in known:
            raise UnknownName(f"argument of {name}", argument, known)
    try:
        return make(**arguments)
    except BadValue as error:
        raise error.at(name) from None
