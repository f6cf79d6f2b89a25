"""What the network of a run sees and which sizes it takes: worked out once for all runs alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch
from torch import nn

from eyeshot import nets
from eyeshot.frontends.net_geometry import NetGeometry
from eyeshot.runs import Run
from eyeshot.runs.config import RunConfig

_KEPT = 8
_own: WeakKeyDictionary[nn.Module, NetGeometry] = WeakKeyDictionary()


def geometry_of(run: Run) -> NetGeometry:
    """The geometry of a run's network."""
    if run.config.own is None:
        return geometry_of_named(run.config)
    if run.net not in _own:
        _own[run.net] = NetGeometry(run.net, run.config.channels)
    return _own[run.net]


def geometry_of_named(config: RunConfig) -> NetGeometry:
    """That of a network of :mod:`eyeshot.nets` that ``config`` names; it has no weights."""
    return geometry_of_model(config.model, config.channels, config.outputs, config.model_arguments)


def geometry_of_model(
    model: str, channels: int, outputs: int, arguments: Mapping[str, int | str]
) -> NetGeometry:
    """The same of a network that answers at every pixel, by its name in :mod:`eyeshot.nets`."""
    return _kept(model, channels, outputs, tuple(sorted(arguments.items())))


@lru_cache(_KEPT)
def _kept(
    model: str, channels: int, outputs: int, arguments: tuple[tuple[str, int | str], ...]
) -> NetGeometry:
    with torch.device("meta"):
        net = nets.build(model, in_channels=channels, classes=outputs, **dict(arguments))
    return NetGeometry(net, channels)
