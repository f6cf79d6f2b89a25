"""What a person should know of a training on pairs before it starts."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from eyeshot.data.pairs import Pairs
from eyeshot.evaluation.passes import tell_sizes
from eyeshot.runs import RunConfig, build_net

_WITH_ALPHA = 4


def tell(config: RunConfig, pairs: Pairs) -> Iterator[str]:
    """A sentence for each thing that may surprise."""
    yield from pairs.notes
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
