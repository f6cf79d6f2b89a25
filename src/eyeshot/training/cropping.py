"""Which crops of pictures a network learns from."""

from __future__ import annotations

import math

from torch import nn

from eyeshot.data.pairs import CropSampler, Pairs
from eyeshot.errors import BadValue
from eyeshot.nets import UNet, UNetSpec

_VALID_SHARE = 0.5
"""Of a crop: so much of it is to be learned from, the rest is what that part sees."""
_LEAST_SHARE = 0.2
"""So much of all crops must be valid where they are made smaller so as to share batches."""


def make_sampler(pairs: Pairs, crop: tuple[int, int], spec: UNetSpec, seed: int) -> CropSampler:
    """Crops for a network that sees what ``spec`` says.

    Raises:
        BadValue: nothing in such a crop would be valid.
    """
    off = spec.taken_off  # such a net takes certain sizes alone, which must not be changed
    alignment = 1 if off else spec.alignment
    return CropSampler(pairs, crop, off or spec.halo, seed, alignment=alignment)


def choose_crop(net: UNet, pairs: Pairs, asked: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of a crop: as asked, or so large that half of it may be learned from.

    No larger than the smallest picture, so that crops of all pictures are of one size and share a
    batch; but where that would leave little to learn from, as large as there is a use for, and
    smaller pictures are taken whole, each size in batches of its own.

    Raises:
        BadValue: the network cannot take it.
    """
    if asked is not None:
        if min(asked) < 1:
            raise BadValue(f"crop is {asked[0]}×{asked[1]}", cure="use 1 pixel or more")
        return _taken(net, asked[0], given=True), _taken(net, asked[1], given=True)
    spec = net.spec
    least = math.ceil(2 * (spec.taken_off or spec.halo) / (1 - math.sqrt(_VALID_SHARE)))
    side = math.ceil(least / spec.alignment) * spec.alignment
    heights, widths = zip(*(pair.size for pair in pairs.train), strict=True)
    largest = min(side, max(heights)), min(side, max(widths))
    common = min(side, *heights), min(side, *widths)
    if common != largest:
        try:
            crop = _taken(net, common[0]), _taken(net, common[1])
            if make_sampler(pairs, crop, spec, 0).valid_share >= _LEAST_SHARE:
                return crop
        except BadValue:  # nothing of it would be valid
            pass
    return _taken(net, largest[0]), _taken(net, largest[1])


def _taken(net: UNet, side: int, *, given: bool = False) -> int:
    """A side of a crop that the network takes: this one, or without padding the next below."""
    if not net.spec.taken_off or net.axis.extent(side) is not None:
        return side
    below, above = net.axis.nearest(side)
    if below is None or given:
        near = " or ".join(str(n) for n in (below, above) if n is not None)
        raise BadValue(
            f"a crop with a side of {side} pixels, which a network without padding cannot take",
            cure=f"use {near}",
        )
    return below


def check_batches(net: UNet, sampler: CropSampler, count: int) -> None:
    """Refuse batches of up to ``count`` crops that would leave batch norm a single pixel.

    Raises:
        BadValue: a batch of one crop, of which the lowest level is one pixel.
    """
    if net.spec.taken_off or not any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
        return
    for (height, width), crops in sampler.sizes.items():
        side = max(height, width)
        if 1 in (count, crops) and side <= net.spec.alignment:
            cures = ["norm none", "another batch size"]
            if side > 2:
                cures.insert(0, f"a depth of {(side - 1).bit_length() - 1} or less")
            raise BadValue(
                f"a batch of one crop of {height}×{width}, which is a single pixel when it was "
                f"halved {net.depth} times: batch norm cannot compare it with others",
                cure="use " + ", ".join(cures[:-1]) + f" or {cures[-1]}",
            )
