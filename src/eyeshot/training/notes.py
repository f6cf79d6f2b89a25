"""What a person should know of a training before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from eyeshot.data import Data
from eyeshot.runs import RunConfig, build_net

if TYPE_CHECKING:
    from eyeshot.data.pairs import Pairs

_WITH_ALPHA = 4


def tell(config: RunConfig, data: Data | Pairs) -> Iterator[str]:
    """A sentence for each thing that may surprise."""
    yield from data.notes
    if not isinstance(data, Data):
        yield from _tell_pairs(config, data)


def _tell_pairs(config: RunConfig, pairs: Pairs) -> Iterator[str]:
    from eyeshot.evaluation.passes import tell_sizes  # brings the engine, not needed for classes

    if pairs.channels == _WITH_ALPHA:
        yield (
            "the pictures have 4 channels, and all are learned from: if the fourth is alpha and "
            "not wanted, save them without it"
        )
    if len(pairs.validation) == 1:
        yield (
            f"one picture is all that the network is judged by, {pairs.validation[0].name}: its "
            "figures may not hold for others"
        )
    with torch.device("meta"):
        net = build_net(config)
    yield from tell_sizes(net)
