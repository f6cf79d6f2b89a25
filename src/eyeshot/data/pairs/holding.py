"""The training pairs, in memory if they fit, otherwise read by windows."""

from __future__ import annotations

from collections import OrderedDict

from eyeshot.data.pairs.pair import Pairs
from eyeshot.data.pairs.reader import PairReader, open_pair

_MOST_OPEN = 4  # files that are read by windows and kept open


class Readers:
    """Readers of training pairs, opened when first needed.

    Args:
        pairs: the pairs whose training part is read.
        budget: the most bytes in memory; the pairs that are read first are kept first.
    """

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
        """Let go of files and memory."""
        for reader in (*self._open.values(), *self._held.values()):
            reader.close()
        self._open.clear()
        self._held.clear()
        self._left = self._budget
