"""What the network of a run sees and which sizes it takes: worked out once for all runs alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch

from eyeshot import nets
from eyeshot.frontends.net_geometry import NetGeometry
from eyeshot.runs.config import RunConfig

_KEPT = 8


def geometry_of(config: RunConfig) -> NetGeometry:
    """The geometry of the network that ``config`` describes; that network has no weights."""
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
