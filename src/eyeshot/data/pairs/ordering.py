"""In which order the crops of an epoch come, and which of them share a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SHUFFLED = 2**22
"""Crops an epoch that are put in order; of more than that, those of each batch are drawn alone."""

# What random numbers are drawn for: each has a stream of its own.
_ORDER, _GROUP, _DRAW, CUTTING, LABELLED = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Batch:
    """Which crops a batch holds.

    Attributes:
        group: of which group.
        items: which of its crops.
        again: how often all crops of the epoch have come before.
    """

    group: int
    items: tuple[int, ...]
    again: int


class Order:
    """The order of crops in groups; crops of two groups never share a batch.

    Args:
        sizes: how many crops each group has.
        seed: of the order.
    """

    def __init__(self, sizes: tuple[int, ...], seed: int) -> None:
        self.sizes = sizes
        self._seed = seed
        self._shuffled: dict[tuple[int, int, int], list[NDArray[np.int64]]] = {}

    def steps(self, count: int) -> int:
        """Batches of up to ``count`` crops, or one more, that hold each crop once."""
        return sum(_batches(size, count) for size in self.sizes)

    def batch(self, epoch: int, step: int, count: int) -> Batch:
        """The batch of one step; it depends only on the seed and these numbers."""
        again, number = divmod(step, self.steps(count))
        if sum(self.sizes) > MOST_SHUFFLED:
            return self._draw(epoch, again, number, count)
        batches, *orders = self._shuffle(epoch, again, count)
        starts = np.cumsum([0, *(_batches(size, count) for size in self.sizes)])
        group = int(np.searchsorted(starts, batches[number], side="right")) - 1
        first = (int(batches[number]) - int(starts[group])) * count
        last = int(batches[number]) + 1 == starts[group + 1]
        end = self.sizes[group] if last else first + count
        return Batch(group, tuple(orders[group][first:end].tolist()), again)

    def generator(self, epoch: int, again: int, purpose: int, number: int) -> np.random.Generator:
        """A separate stream of random numbers."""
        return np.random.default_rng([self._seed, epoch, again, purpose, number])

    def _draw(self, epoch: int, again: int, number: int, count: int) -> Batch:
        generator = self.generator(epoch, again, _DRAW, number)
        shares = np.array(self.sizes) / sum(self.sizes)
        group = int(generator.choice(len(shares), p=shares))
        items = generator.integers(self.sizes[group], size=count)
        return Batch(group, tuple(items.tolist()), again)

    def _shuffle(self, epoch: int, again: int, count: int) -> list[NDArray[np.int64]]:
        """The order of the batches, then that of the crops of each group; the last is kept."""
        key = (epoch, again, count)
        if key not in self._shuffled:
            batches = self.generator(epoch, again, _ORDER, 0).permutation(self.steps(count))
            groups = [
                self.generator(epoch, again, _GROUP, number).permutation(size)
                for number, size in enumerate(self.sizes)
            ]
            self._shuffled = {key: [batches, *groups]}
        return self._shuffled[key]


def _batches(size: int, count: int) -> int:
    """Batches of a group. A crop left over joins the last: batch norm compares crops."""
    full, left = divmod(size, count)
    return full if full and (left == 0 or (left == 1 and count > 1)) else full + 1
