"""A network's answer for a whole picture of any size, laid beside what it should be."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader
from eyeshot.engine.networks import Traced
from eyeshot.engine.running import run
from eyeshot.errors import BadValue
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry

_HELD = 2**28
"""Bytes of an answer that are held in memory; a larger one goes through a file."""
_WINDOW = 2**21
"""Positions that are compared at a time."""


@dataclass(frozen=True)
class Answer:
    """A network's answer for a picture.

    Attributes:
        samples: (C, h, w), in memory or in a file; (C, d, h, w) of a volume, (C, l) of a signal.
        offset: the picture's pixel (row, column) that ``samples[:, 0, 0]`` is about: (0, 0) but for
            a network whose answers are smaller than pictures, and lie in their middle.
    """

    samples: NDArray[Any]
    offset: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """(h, w)."""
        return self.samples.shape[1:]

    @property
    def plane(self) -> tuple[int, int]:
        """(h, w) of the answer for a picture."""
        height, width = self.size
        return height, width

    def bands(self, halo: int = 0) -> Iterator[tuple[slice, slice]]:
        """Its rows a band at a time: the band with ``halo`` rows around it, and the band in that.

        Where the answer ends, the halo does.
        """
        height, *rest = self.size
        step = max(1, _WINDOW // math.prod(rest))
        for start in range(0, height, step):
            stop = min(height, start + step)
            top, bottom = max(0, start - halo), min(height, stop + halo)
            yield slice(top, bottom), slice(start - top, stop - top)

    def truth(self, reader: PairReader, rows: slice) -> NDArray[Any]:
        """What the answer's ``rows`` should be: (rows, w) class numbers, or (C, rows, w)."""
        down, *others = self.offset
        rest = ((lo, lo + n) for lo, n in zip(others, self.size[1:], strict=True))
        return reader.target((down + rows.start, down + rows.stop), *rest)


@contextmanager
def answered(
    net: Traced, pair: Pair, reader: PairReader, *, channels: int | None = None
) -> Iterator[Answer]:
    """Pass a whole picture through a network by :func:`eyeshot.run`; the answer is good inside.

    Of a network whose answers are some pixels apart, each is repeated for the pixels that it stands
    for. Of a network that takes certain sizes alone, as much of the picture as it takes, counted
    from the top left.

    Args:
        net: the network, with the mean and deviation of its samples.
        pair: the picture.
        reader: the same, open.
        channels: of the answer, to be had as it is in float32; None for class numbers.

    Raises:
        BadValue: the picture is too small for the network.
        BadFile: the picture cannot be read.
    """
    image: Any = pair.image
    size = _taken(net.sizes, pair)
    if size != pair.size:
        image = reader.corner(*size)
    form = "argmax" if channels is None else "float32"
    if math.prod(size) * 4 * (channels or 1) <= _HELD:
        yield _placed(net, run(net, image, output_format=form), size)
        return
    with tempfile.TemporaryDirectory(prefix="eyeshot-") as folder:
        path = Path(folder) / "answer.npy"
        run(net, image, path, output_format=form)
        yield _placed(net, np.load(path, mmap_mode="r", allow_pickle=False), size)


def _placed(net: Traced, samples: NDArray[Any], size: tuple[int, ...]) -> Answer:
    """An answer (C, h, w) in the middle of the picture (height, width) that it is about."""
    if any(n > m for n, m in zip(size, samples.shape[1:], strict=True)):
        for axis, step in enumerate(net.geometry.output.stride, start=1):
            if step > 1:
                samples = np.repeat(samples, int(step), axis)
        samples = samples[(slice(None), *map(slice, size))]
    return Answer(
        samples, tuple((n - m) // 2 for n, m in zip(size, samples.shape[1:], strict=True))
    )


def tell_sizes(geometry: NetGeometry) -> tuple[str, ...]:
    """What is to be said of judging a network whose answers are smaller than pictures."""
    off, told = geometry.output.margin, []
    if any(step != 1 for step in geometry.output.stride):
        apart = "×".join(str(step) for step in geometry.output.stride)
        told.append(f"the network answers once for {apart} pixels, and each of them is judged")
    if not off:
        return tuple(told)
    return (
        *told,
        f"the network answers without {off} pixels at each side, and pictures are judged without "
        "them; one of a size that it does not take, by the largest part that it does, from the top "
        "left",
    )


def _taken(sizes: InputSizes, pair: Pair) -> tuple[int, ...]:
    """The picture's height and width, each as large as the network takes it."""
    if sizes.takes(*pair.size):
        return pair.size
    found = []
    for axis, n in enumerate(pair.size):
        below, above = sizes.nearest(n, axis)
        if below is None:
            told = f"takes none below {above}" if above else "takes no side near it"
            raise BadValue(
                f"{pair.image}: a side of {n} pixels, and the network {told}",
                cure="train one with padding, or one of less depth",
            )
        found.append(below)
    return tuple(found)
