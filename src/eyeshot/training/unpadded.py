"""Whether a network without padding, which takes certain sizes alone, takes a folder's pictures."""

from __future__ import annotations

import torch

from eyeshot.data import Pairs
from eyeshot.errors import BadValue
from eyeshot.nets import UNet
from eyeshot.runs import RunConfig, build_net


def check_pictures(config: RunConfig, pairs: Pairs) -> None:
    """Refuse pictures that the training would meet and could not go on with.

    Raises:
        BadValue: one to learn from is smaller than the crop, so that it is taken whole, and the
            network cannot take it; or one to judge by is too small for it.
    """
    with torch.device("meta"):
        net = build_net(config)
    if not isinstance(net, UNet) or not net.spec.taken_off:
        return
    for pair in pairs.train:
        for n, crop in zip(pair.size, config.size, strict=True):
            if net.axis.extent(min(n, crop)) is None:
                below, _ = net.axis.nearest(n)
                cut = "" if below is None else f"cut it to {below}, "
                raise BadValue(
                    f"{pair.image}: a side of {n} pixels, below the {crop} of a crop, and a "
                    "network without padding takes no such size",
                    cure=f"{cut}leave it out, or use --padding same",
                )
    for pair in pairs.validation:
        smallest = min(pair.size)
        below, above = net.axis.nearest(smallest + 1)
        if below is None:
            raise BadValue(
                f"{pair.image}: a side of {smallest} pixels, and the network takes none below "
                f"{above}",
                cure="leave it out, or use --padding same or less --depth",
            )
