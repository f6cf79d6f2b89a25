"""Whether a network that takes certain sizes alone takes a folder's pictures."""

from __future__ import annotations

from eyeshot.data import Pairs
from eyeshot.errors import BadValue
from eyeshot.frontends.net_geometry import InputSizes
from eyeshot.runs import RunConfig


def check_pictures(config: RunConfig, pairs: Pairs, sizes: InputSizes) -> None:
    """Refuse pictures that the training would meet and could not go on with.

    Raises:
        BadValue: one to learn from is smaller than the crop, so that it is taken whole, and the
            network cannot take it; or one to judge by is too small for it.
    """
    bare = config.model_arguments.get("padding") == "valid"
    for axis, crop in enumerate(config.size):
        for pair in sorted(pairs.train, key=lambda pair: pair.size[axis]):
            n = pair.size[axis]
            if not sizes.takes_side(min(n, crop), axis):
                below, _ = sizes.nearest(n, axis)
                cut = "" if below is None else f"cut it to {below}, "
                raise BadValue(
                    f"{pair.image}: a side of {n} pixels, below the {crop} of a crop, and the "
                    "network takes no such size",
                    cure=f"{cut}leave it out" + (", or use --padding same" if bare else ""),
                )
        for pair in pairs.validation:
            n = pair.size[axis]
            if sizes.takes_side(n, axis):
                continue
            below, above = sizes.nearest(n, axis)
            if below is None:
                told = f"takes none below {above}" if above else "takes no side near it"
                raise BadValue(
                    f"{pair.image}: a side of {n} pixels, and the network {told}",
                    cure="leave it out"
                    + (", or use --padding same or less --depth" if bare else ""),
                )
