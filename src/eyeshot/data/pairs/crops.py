"""Crops of the training pictures, in an order that depends on the seed alone."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.data.loading import BUDGET
from eyeshot.data.pairs.cuts import Axis, Cut, fit_crop
from eyeshot.data.pairs.legend import IGNORED
from eyeshot.data.pairs.pair import Pair, Pairs
from eyeshot.data.pairs.reader import PairReader, open_pair
from eyeshot.errors import BadValue

_MOST_SHUFFLED = 2**22  # crops an epoch that are put in order; of more, each is drawn on its own
_MOST_OPEN = 4  # files that are read by windows and kept open

# What random numbers are drawn for: each draw has a stream of its own.
_ORDER, _GROUP, _CUTTING, _DRAW = 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class Crops:
    """A batch of crops, all of one size.

    Attributes:
        images: (B, C, H, W) float32 in 0…1.
        targets: class numbers (B, H, W) int64; samples (B, C, H, W) float32 for ``restore``. Where
            nobody has judged, the number is 0 and ``valid`` is False.
        valid: (B, H, W) bool, the pixels to learn from.
        places: for each crop, which training pair it is from, its first row and its first column.
    """

    images: Tensor
    targets: Tensor
    valid: Tensor
    places: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class _Part:
    """How a picture is cut, and the numbers of its crops among those of its group."""

    pair: int
    rows: Axis
    columns: Axis
    first: int

    @property
    def pieces(self) -> int:
        return self.rows.pieces * self.columns.pieces


class CropSampler:
    """Draws crops of the training pictures.

    In an epoch of :meth:`steps` steps every training pixel is valid exactly once, in a crop whose
    valid part holds it; see :mod:`eyeshot.data.pairs.cuts`. A picture that is not larger than the
    crop is taken whole, and is valid throughout. Crops of different sizes never share a batch: to
    pad one would show the network something that the picture has not, where it ought to see its
    border. So a batch may hold fewer crops than asked for.

    Pictures are held in memory until ``budget`` bytes are used, and read by windows beyond; the
    crops are the same either way.

    Args:
        pairs: what to crop.
        crop: (height, width) of a crop. It is made smaller, by less than ``alignment``, where only
            so the crops at the far borders start at multiples of the alignment.
        halo: how far the network sees to each side, in pixels.
        seed: of the order and the places.
        alignment: of the network: the step at which it gives the same again.
        budget: bytes of pictures that may be held in memory.

    Raises:
        BadValue: a number is out of range, or the crop is too small for the halo.
    """

    def __init__(
        self,
        pairs: Pairs,
        crop: tuple[int, int],
        halo: int,
        seed: int,
        *,
        alignment: int = 1,
        budget: int = BUDGET,
    ) -> None:
        _check(crop, halo, seed, alignment)
        self.pairs = pairs
        self.crop = (
            fit_crop(crop[0], tuple(pair.size[0] for pair in pairs.train), alignment),
            fit_crop(crop[1], tuple(pair.size[1] for pair in pairs.train), alignment),
        )
        self._seed = seed
        self._groups = _group(pairs.train, self.crop, halo, alignment)
        self._readers = _Readers(pairs, budget)
        self._orders: dict[tuple[int, int, int], list[NDArray[np.int64]]] = {}

    @property
    def crops(self) -> int:
        """Crops in an epoch."""
        return sum(self._sizes)

    @property
    def valid_share(self) -> float:
        """The part of an epoch's crops that is valid, 0 to 1; the rest is computed for its sake.

        Larger crops have a larger one, and pictures taken whole have 1.
        """
        areas = [group[0].rows.crop * group[0].columns.crop for group in self._groups]
        computed = sum(area * size for area, size in zip(areas, self._sizes, strict=True))
        return sum(pair.size[0] * pair.size[1] for pair in self.pairs.train) / computed

    def steps(self, count: int) -> int:
        """Batches of up to ``count`` crops in an epoch."""
        return sum(-(-size // count) for size in self._sizes)

    def batch(self, epoch: int, step: int, count: int) -> Crops:
        """The crops of one step; they depend on the seed and these numbers alone.

        Args:
            epoch: each has an order and cuttings of its own.
            step: from 0; after :meth:`steps` of them another pass over the pictures begins.
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
        again, number = divmod(step, self.steps(count))
        group, items = self._choose(epoch, again, number, count)
        crops = [self._crop(group, int(item), epoch, again) for item in items]
        return Crops(
            torch.stack([crop[0] for crop in crops]),
            torch.stack([crop[1] for crop in crops]),
            torch.stack([crop[2] for crop in crops]),
            tuple(crop[3] for crop in crops),
        )

    def close(self) -> None:
        """Let go of files and memory; they are opened again when asked for."""
        self._readers.close()

    @property
    def _sizes(self) -> list[int]:
        return [group[-1].first + group[-1].pieces for group in self._groups]

    def _choose(
        self, epoch: int, again: int, number: int, count: int
    ) -> tuple[list[_Part], NDArray[np.int64]]:
        """The group and the crops of one batch."""
        if self.crops > _MOST_SHUFFLED:
            generator = self._generator(epoch, again, _DRAW, number)
            shares = np.array(self._sizes) / self.crops
            chosen = int(generator.choice(len(shares), p=shares))
            return self._groups[chosen], generator.integers(self._sizes[chosen], size=count)
        batches, *orders = self._shuffled(epoch, again, count)
        batch = int(batches[number])
        for group, order in zip(self._groups, orders, strict=True):
            inside = -(-len(order) // count)
            if batch < inside:
                return group, order[batch * count : (batch + 1) * count]
            batch -= inside
        raise BadValue(f"batch {number} of {len(batches)}")

    def _shuffled(self, epoch: int, again: int, count: int) -> list[NDArray[np.int64]]:
        """The order of the batches, then that of the crops of each group; the last is kept."""
        key = (epoch, again, count)
        if key not in self._orders:
            batches = self._generator(epoch, again, _ORDER, 0).permutation(self.steps(count))
            groups = [
                self._generator(epoch, again, _GROUP, number).permutation(size)
                for number, size in enumerate(self._sizes)
            ]
            self._orders = {key: [batches, *groups]}
        return self._orders[key]

    def _crop(
        self, group: list[_Part], item: int, epoch: int, again: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[int, int, int]]:
        """One crop: picture, answer, valid, place."""
        part = group[bisect_right(group, item, key=attrgetter("first")) - 1]
        generator = self._generator(epoch, again, _CUTTING, part.pair)
        all_rows, all_columns = part.rows.cut(generator), part.columns.cut(generator)
        down, right = divmod(item - part.first, len(all_columns))
        rows, columns = all_rows[down], all_columns[right]
        reader = self._readers.get(part.pair)
        window = (rows.start, rows.stop), (columns.start, columns.stop)
        image = torch.from_numpy(reader.image(*window))
        target = torch.from_numpy(reader.target(*window))
        valid = _valid(rows, columns)
        legend = self.pairs.legend
        if legend is not None and legend.ignore is not None:
            judged = target != IGNORED
            valid &= judged
            target = target * judged
        return image, target, valid, (part.pair, rows.start, columns.start)

    def _generator(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *numbers])


class _Readers:
    """The training pairs, opened when first asked for."""

    def __init__(self, pairs: Pairs, budget: int) -> None:
        self._pairs = pairs
        self._budget = self._left = budget
        self._held: dict[int, PairReader] = {}
        self._open: OrderedDict[int, PairReader] = OrderedDict()

    def get(self, number: int) -> PairReader:
        """The training pair of that number: in memory where it fits."""
        if number in self._held:
            return self._held[number]
        reader = self._open.pop(number, None)
        if reader is None:
            reader = open_pair(self._pairs.train[number], self._pairs)
            if reader.bytes <= self._left:
                self._left -= reader.bytes
                self._held[number] = reader.hold()
                return self._held[number]
        self._open[number] = reader
        if len(self._open) > _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        return reader

    def close(self) -> None:
        for reader in (*self._open.values(), *self._held.values()):
            reader.close()
        self._open.clear()
        self._held.clear()
        self._left = self._budget


def _group(
    train: tuple[Pair, ...], crop: tuple[int, int], halo: int, alignment: int
) -> list[list[_Part]]:
    """The pictures by the size of their crops."""
    groups: dict[tuple[int, int], list[_Part]] = {}
    for number, pair in enumerate(train):
        height, width = pair.size
        rows = Axis(height, min(crop[0], height), halo, alignment)
        columns = Axis(width, min(crop[1], width), halo, alignment)
        group = groups.setdefault((rows.crop, columns.crop), [])
        first = group[-1].first + group[-1].pieces if group else 0
        group.append(_Part(number, rows, columns, first))
    return list(groups.values())


def _valid(rows: Cut, columns: Cut) -> Tensor:
    """(H, W) bool: the crop's own part."""
    valid = torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
    valid[
        rows.first - rows.start : rows.last - rows.start,
        columns.first - columns.start : columns.last - columns.start,
    ] = True
    return valid


def _check(crop: tuple[int, int], halo: int, seed: int, alignment: int) -> None:
    if min(crop) < 1:
        raise BadValue(f"crop is {crop[0]}×{crop[1]}", cure="both must be at least 1")
    for name, value, least in (("halo", halo, 0), ("seed", seed, 0), ("alignment", alignment, 1)):
        if value < least:
            raise BadValue(f"{name} is {value}", cure=f"use {least} or more")
