"""Crops of the training pictures, in an order that depends only on the seed.

Each axis of a picture is cut so that every pixel is used equally often.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.data.examples import BUDGET
from eyeshot.data.pairs.layout import CUTTING, LABELED, Order
from eyeshot.data.pairs.pair import IGNORED, Pair, Pairs, Readers
from eyeshot.errors import BadValue


@dataclass(frozen=True)
class Cut:
    """One crop along one axis.

    Attributes:
        start: where the crop begins.
        stop: one past where it ends.
        first: the first position of the part that is learned only from this crop.
        last: one past where that part ends.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Axis:
    """An axis of a picture that is cut into crops.

    Attributes:
        length: the picture's length in pixels.
        crop: the length of each crop; at most ``length``.
        halo: how far the network sees to each side.
        alignment: crops start at multiples of it. The last one ends with the picture; it starts at
            a multiple only if ``length`` - ``crop`` is one.
    """

    length: int
    crop: int
    halo: int
    alignment: int

    def __post_init__(self) -> None:
        if self.crop < self.length and self._longest_jump < 1:
            least = 2 * self.halo + self.alignment
            raise BadValue(
                f"crop is {self.crop}, and the network sees {self.halo} pixels to each side: "
                "nothing inside a picture would be valid",
                cure=f"use a crop of at least {least}, or of the whole picture ({self.length})",
            )

    @property
    def pieces(self) -> int:
        """The number of crops: the smallest that covers the axis."""
        if self.crop == self.length:
            return 1
        return 1 + -(-self._jumps // self._longest_jump)

    def cut(self, generator: np.random.Generator) -> tuple[Cut, ...]:
        """Random crops; every position is in the own part of exactly one of them."""
        starts = self._starts(generator)
        # The boundary between two crops lies where both are valid. Each boundary is drawn
        # independently with its index subtracted; then all are sorted and the indices added again.
        # So no two are equal, and none leaves its range, because both ends of the ranges increase
        # by at least 1 from one boundary to the next.
        numbers = np.arange(len(starts) - 1)
        lowest, highest = starts[1:] + self.halo, starts[:-1] + self.crop - self.halo
        drawn = generator.integers(lowest - numbers, highest - numbers, endpoint=True)
        inner = np.sort(drawn) + numbers
        bounds = [0, *inner.tolist(), self.length]
        return tuple(
            Cut(start, start + self.crop, first, last)
            for start, (first, last) in zip(starts.tolist(), pairwise(bounds), strict=True)
        )

    @property
    def _longest_jump(self) -> int:
        """The most alignment steps between two crops whose valid parts still touch."""
        return (self.crop - 2 * self.halo) // self.alignment

    @property
    def _jumps(self) -> int:
        """The alignment steps from the first crop to the last."""
        return -(-(self.length - self.crop) // self.alignment)

    def _starts(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Where the crops begin: random jumps with the required sum, none of them too long.

        No jump is 0: with the smallest number of crops, all jumps but one of the longest length
        would not reach the end.
        """
        room = [self._longest_jump] * (self.pieces - 1)
        places = np.zeros(self.pieces, np.int64)
        if room:
            jumps = generator.multivariate_hypergeometric(room, self._jumps)
            places[1:] = np.cumsum(jumps) * self.alignment
        return np.minimum(places, self.length - self.crop)


def fit_crop(crop: int, lengths: tuple[int, ...], alignment: int) -> int:
    """The largest crop up to ``crop`` whose last start in every picture is aligned too.

    If the pictures' lengths have different remainders there is none, and ``crop`` is returned.
    """
    remainders = {length % alignment for length in lengths if length > crop}
    if len(remainders) != 1:
        return crop
    fitted = crop - (crop - remainders.pop()) % alignment
    return fitted if fitted > 0 else crop


_TRIES = 20
"""How often a crop without labels is drawn again: scribbles cover only a few places."""
_SEARCHED = 2**23
"""Pixels of the largest mask that is searched for labels; in larger ones crops are random."""


@dataclass(frozen=True, eq=False)
class Crops:
    """A batch of crops, all of one size.

    Attributes:
        images: (B, C, H, W) float32 in 0…1; (B, C, D, H, W) of volumes, (B, C, L) of signals.
        targets: class numbers (B, H, W) int64; samples (B, C, H, W) float32 for ``restore``. For
            unlabeled pixels the number is 0 and ``valid`` is False.
        valid: (B, H, W) bool, the pixels to learn from.
        places: for each crop, which training pair it is from, and where it begins along each axis:
            its first row and its first column.
    """

    images: Tensor
    targets: Tensor
    valid: Tensor
    places: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class _Part:
    """How a picture is cut, and the number of its first crop within its group."""

    pair: int
    axes: tuple[Axis, ...]
    first: int

    @property
    def pieces(self) -> int:
        return math.prod(axis.pieces for axis in self.axes)

    @property
    def crop(self) -> tuple[int, ...]:
        return tuple(axis.crop for axis in self.axes)


class CropSampler:
    """Draws crops of the training pictures.

    In an epoch of :meth:`steps` steps every training pixel is in exactly one crop's valid part;
    see :mod:`eyeshot.data.pairs.crops`. A picture that is not larger than the crop is used whole,
    and all of it is valid. Crops of different sizes never share a batch: padding a crop would show
    the network a false border. So a batch may contain fewer crops than requested.

    Pictures are kept in memory up to ``budget`` bytes; the others are read by windows. The crops
    are the same in both cases.

    Args:
        pairs: the pairs to crop.
        crop: (height, width) of a crop, or its length along each axis of volumes. It is made
            smaller, by less than ``alignment``, where only so the crops at the far borders start at
            multiples of the alignment.
        halo: how far the network sees to each side, in pixels.
        seed: the seed of the order and the positions.
        alignment: the period of the network in pixels.
        budget: the most bytes of pictures in memory.

    Raises:
        BadValue: a number is out of range, or the crop is too small for the halo.
    """

    def __init__(
        self,
        pairs: Pairs,
        crop: tuple[int, ...],
        halo: int,
        seed: int,
        *,
        alignment: int = 1,
        budget: int = BUDGET,
    ) -> None:
        _check(crop, halo, seed, alignment)
        self.pairs = pairs
        lengths = zip(*(pair.size for pair in pairs.train), strict=True)
        self.crop = tuple(
            fit_crop(side, along, alignment) for side, along in zip(crop, lengths, strict=True)
        )
        self._groups = _group(pairs.train, self.crop, halo, alignment)
        self._order = Order(tuple(_count(group) for group in self._groups), seed)
        self._readers = Readers(pairs, budget)

    @property
    def crops(self) -> int:
        """Crops in an epoch."""
        return sum(self._order.sizes)

    @property
    def sizes(self) -> dict[tuple[int, ...], int]:
        """How many crops of each (height, width) an epoch has."""
        sizes = (group[0].crop for group in self._groups)
        return dict(zip(sizes, self._order.sizes, strict=True))

    @property
    def valid_share(self) -> float:
        """The valid part of an epoch's crops, 0 to 1; the rest is the context that it needs.

        It grows with the size of the crops, and is 1 for pictures that are used whole.
        """
        areas = [math.prod(group[0].crop) for group in self._groups]
        computed = sum(area * size for area, size in zip(areas, self._order.sizes, strict=True))
        return sum(math.prod(pair.size) for pair in self.pairs.train) / computed

    def steps(self, count: int) -> int:
        """Batches of up to ``count`` crops in an epoch."""
        return self._order.steps(count)

    def batch(self, epoch: int, step: int, count: int) -> Crops:
        """The crops of one step; they depend only on the seed and these numbers.

        Args:
            epoch: each epoch has a different order and different positions.
            step: from 0; after :meth:`steps` steps the next pass over the pictures begins.
            count: B; the batch may be smaller.

        Raises:
            BadValue: a number is out of range.
            BadFile: a file is damaged, or has changed.
        """
        if epoch < 0 or step < 0 or count < 1:
            raise BadValue(
                f"epoch {epoch}, step {step}, count {count}",
                cure="count from 0, and ask for 1 or more crops",
            )
        batch = self._order.batch(epoch, step, count)
        group = self._groups[batch.group]
        crops = (self._labeled(group, item, epoch, batch.again) for item in batch.items)
        images, targets, valid, places = zip(*crops, strict=True)
        return Crops(torch.stack(images), torch.stack(targets), torch.stack(valid), places)

    def close(self) -> None:
        """Release files and memory; they are opened again when needed."""
        self._readers.close()

    def _labeled(
        self, group: list[_Part], item: int, epoch: int, again: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
        """One crop; if none of its pixels has a label, another one that is drawn in its place."""
        crop = self._crop(group, item, epoch, again)
        legend = self.pairs.legend
        if legend is None or legend.ignore is None:
            return crop
        drawn = self._order.generator(epoch, again, LABELED, item)
        for _ in range(_TRIES):
            if crop[2].any():
                break
            crop = self._crop(group, self._near_label(group, drawn, epoch, again), epoch, again)
        return crop

    def _near_label(
        self, group: list[_Part], drawn: np.random.Generator, epoch: int, again: int
    ) -> int:
        """A crop of a random picture, around a random labeled pixel if the picture has one."""
        item = int(drawn.integers(_count(group)))
        part = group[bisect_right(group, item, key=attrgetter("first")) - 1]
        if math.prod(axis.length for axis in part.axes) > _SEARCHED:
            return item
        target = self._readers.get(part.pair).target()
        places = np.argwhere(target != IGNORED)
        if not len(places):
            return item
        place = places[int(drawn.integers(len(places)))]
        generator = self._order.generator(epoch, again, CUTTING, part.pair)
        number = 0
        for axis, at in zip(part.axes, place, strict=True):
            cuts = axis.cut(generator)
            here = next(index for index, cut in enumerate(cuts) if at < cut.last)
            number = number * len(cuts) + here
        return part.first + number

    def _crop(
        self, group: list[_Part], item: int, epoch: int, again: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
        """One crop: picture, target, valid pixels, place."""
        part = group[bisect_right(group, item, key=attrgetter("first")) - 1]
        generator = self._order.generator(epoch, again, CUTTING, part.pair)
        cuts = [axis.cut(generator) for axis in part.axes]
        number = np.unravel_index(item - part.first, [len(along) for along in cuts])
        own = [along[int(place)] for along, place in zip(cuts, number, strict=True)]
        reader = self._readers.get(part.pair)
        window = [(cut.start, cut.stop) for cut in own]
        image = torch.from_numpy(reader.image(*window))
        target = torch.from_numpy(reader.target(*window))
        valid = _valid(own)
        legend = self.pairs.legend
        if legend is not None and legend.ignore is not None:
            labeled = target != IGNORED
            valid &= labeled
            target = target * labeled
        return image, target, valid, (part.pair, *(cut.start for cut in own))


def _group(
    train: tuple[Pair, ...], crop: tuple[int, ...], halo: int, alignment: int
) -> list[list[_Part]]:
    """The pictures, grouped by the size of their crops."""
    groups: dict[tuple[int, ...], list[_Part]] = {}
    for number, pair in enumerate(train):
        axes = tuple(
            Axis(length, min(side, length), halo, alignment)
            for length, side in zip(pair.size, crop, strict=True)
        )
        group = groups.setdefault(tuple(axis.crop for axis in axes), [])
        group.append(_Part(number, axes, _count(group)))
    return list(groups.values())


def _count(group: list[_Part]) -> int:
    """The number of crops in a group."""
    return group[-1].first + group[-1].pieces if group else 0


def _valid(cuts: Sequence[Cut]) -> Tensor:
    """(H, W) bool: the crop's own part."""
    valid = torch.zeros([cut.stop - cut.start for cut in cuts], dtype=torch.bool)
    valid[tuple(slice(cut.first - cut.start, cut.last - cut.start) for cut in cuts)] = True
    return valid


def _check(crop: tuple[int, ...], halo: int, seed: int, alignment: int) -> None:
    if min(crop) < 1:
        raise BadValue(f"crop is {'×'.join(map(str, crop))}", cure="each must be at least 1")
    for name, value, least in (("halo", halo, 0), ("seed", seed, 0), ("alignment", alignment, 1)):
        if value < least:
            raise BadValue(f"{name} is {value}", cure=f"use {least} or more")
