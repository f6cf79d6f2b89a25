"""The crops of pictures that a network learns from.

A network that accepts only certain sizes is checked against the pictures of the folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from eyeshot.data.pairs import CropSampler, Pairs
from eyeshot.errors import BadValue
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry
from eyeshot.geometry.sizes import OutputGeometry
from eyeshot.runs import RunConfig

_VALID_SHARE = 0.5
"""The share of a crop that is learned from; the rest is what that part sees."""
_LARGEST = 512
"""The side of a crop in pixels, for a network whose fields are larger than any crop."""
_MOST_BORDER = 4
"""The largest part of such a crop that is left out at each side: the side's length over this."""
_VOLUME, _VOLUME_SIDE = 3, 0.5
"""The same share for a crop with three axes, along each side."""
_LEAST_SIDE = {1: 4096, 2: 128, _VOLUME: 32}
"""Of a crop of signals, pictures and volumes, where these are so large. A network that sees a few
samples would otherwise learn from thousands of tiny crops a step, and most of the time would go
into cutting them: with a field of 3×3, crops of 7×7 took ten times as long as the network did."""
_LEAST_SHARE = 0.2
"""The share of all crops that must stay valid if crops are made smaller to share batches."""


def make_sampler(
    pairs: Pairs, crop: tuple[int, ...], geometry: NetGeometry, seed: int
) -> CropSampler:
    """Crops for a network of this geometry.

    Raises:
        BadValue: nothing in such a crop would be valid.
    """
    # The sampler makes crops smaller to align them, which only a network of any size takes.
    alignment = geometry.output.alignment if geometry.sizes.every else 1
    return CropSampler(pairs, crop, border_of(geometry, crop), seed, alignment=alignment)


def choose_crop(
    geometry: NetGeometry, pairs: Pairs, asked: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The sides of a crop: the requested ones, or such that half of it can be learned from.

    Of a volume an eighth: half of it would take crops of many millions of voxels. No crop is
    smaller than a least size, except where the pictures are.

    No larger than the smallest picture, so that crops of all pictures are of one size and share a
    batch; but where that would leave little to learn from, as large as there is a use for, and
    smaller pictures are taken whole, each size in batches of its own.

    Raises:
        BadValue: the network cannot take it.
    """
    if asked is not None:
        if min(asked) < 1:
            raise BadValue(f"crop is {'×'.join(map(str, asked))}", cure="use 1 or more")
        if len(asked) != pairs.dims:
            raise BadValue(
                f"crop is {'×'.join(map(str, asked))}, and the data has {pairs.dims} axes of space",
                cure="give one length an axis",
            )
        return _accepted(geometry.sizes, asked, exactly=True)
    output = geometry.output
    part = math.sqrt(_VALID_SHARE) if pairs.dims < _VOLUME else _VOLUME_SIDE
    least = math.ceil(2 * whole_border(output) / (1 - part))
    side = max(1, math.ceil(least / output.alignment)) * output.alignment
    if not geometry.whole_fields:
        side = min(side, max(1, _LARGEST // output.alignment) * output.alignment)
    usual = math.ceil(_LEAST_SIDE[pairs.dims] / output.alignment) * output.alignment
    side = max(side, usual)
    lengths = list(zip(*(pair.size for pair in pairs.train), strict=True))
    largest = tuple(min(side, max(along)) for along in lengths)
    common = tuple(min(side, *along) for along in lengths)
    if common != largest:
        try:
            crop = _accepted(geometry.sizes, common)
            if make_sampler(pairs, crop, geometry, 0).valid_share >= _LEAST_SHARE:
                return crop
        except BadValue:  # nothing of it would be valid
            pass
    return _accepted(geometry.sizes, largest)


def border_of(geometry: NetGeometry, crop: tuple[int, ...]) -> int:
    """Pixels at each side of a crop that are not learned from."""
    output = geometry.output
    if geometry.whole_fields:
        return whole_border(output)
    return max(output.margin, min(whole_border(output), min(crop) // _MOST_BORDER))


def whole_border(output: OutputGeometry) -> int:
    """Pixels at each side of a crop in which an output sees less than in the whole picture."""
    # An answer for some pixels sees around all of them; its target is that of the middle one.
    more = max(math.ceil(step) for step in output.stride) - 1
    return max(output.margin, output.halo + more) if output.padded else output.margin + more


def _accepted(
    sizes: InputSizes, crop: tuple[int, ...], *, exactly: bool = False
) -> tuple[int, ...]:
    """A crop that the network accepts: this one, or for each side the next smaller one."""
    found = []
    for axis, side in enumerate(crop):
        below, above = (side, side) if sizes.takes_side(side, axis) else sizes.nearest(side, axis)
        if below is None or (exactly and below != side):
            near = " or ".join(str(n) for n in (below, above) if n is not None)
            raise BadValue(
                f"a crop with a side of {side}, which the network does not take",
                cure=f"use {near}" if near else "use another crop",
            )
        found.append(below)
    return tuple(found)


def check_batches(
    build: Callable[..., nn.Module],
    sampler: CropSampler,
    count: int,
    *,
    channels: int,
    alignment: int,
) -> None:
    """Refuse batches of up to ``count`` crops that would leave batch norm a single value.

    Args:
        build: builds the network; ``depth=`` makes it of another depth, where it has one.
        sampler: of the crops.
        count: crops in a batch.
        channels: of a crop.
        alignment: of the network: larger crops leave more than one value.

    Raises:
        BadValue: a batch of one crop, in which a map of the network is a single pixel.
    """
    for size, crops in sampler.sizes.items():
        if 1 not in (count, crops) or max(size) > alignment:
            continue
        net, crop = build(), torch.empty(1, channels, *size, device="meta")
        if _learns(net, crop):
            continue
        cures = ["norm none", "another batch size"]
        depth = getattr(net, "depth", 1)
        less = (n for n in range(depth - 1, 0, -1) if _learns(build(depth=n), crop))
        if (enough := next(less, None)) is not None:
            cures.insert(0, f"a depth of {enough} or less")
        raise BadValue(
            f"a batch of one crop of {'×'.join(map(str, size))}, of which the network has a map of "
            "a single pixel: batch norm cannot compare it with others",
            cure="use " + ", ".join(cures[:-1]) + f" or {cures[-1]}",
        )


def _learns(net: nn.Module, crop: torch.Tensor) -> bool:
    try:
        net.train()(crop)
    except ValueError:  # "Expected more than 1 value per channel when training"
        return False
    return True


def check_pictures(config: RunConfig, pairs: Pairs, sizes: InputSizes) -> None:
    """Refuse pictures at which the training would fail later.

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
                    f"{pair.image}: a side of {n}, below the {crop} of a crop, and the "
                    "network takes no such size",
                    cure=f"{cut}leave it out" + (", or use --padding same" if bare else ""),
                )
        for pair in pairs.validation:
            n = pair.size[axis]
            if sizes.takes_side(n, axis):
                continue
            below, above = sizes.nearest(n, axis)
            if below is None:
                rule = f"takes none below {above}" if above else "takes no side near it"
                raise BadValue(
                    f"{pair.image}: a side of {n}, and the network {rule}",
                    cure="leave it out"
                    + (", or use --padding same or less --depth" if bare else ""),
                )
