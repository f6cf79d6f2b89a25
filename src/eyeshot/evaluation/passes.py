"""A network's answer for a whole picture of any size, laid beside what it should be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from eyeshot.data.pairs import Pair, PairReader
from eyeshot.engine.networks import Traced
from eyeshot.engine.running import run
from eyeshot.errors import BadValue
from eyeshot.nets import UNet

_HELD = 2**28
"""Bytes of an answer that are held in memory; a larger one goes through a file."""
_WINDOW = 2**21
"""Positions that are compared at a time."""


@dataclass(frozen=True)
class Answer:
    """A network's answer for a picture.

    Attributes:
        samples: (C, h, w), in memory or in a file.
        offset: the picture's pixel (row, column) that ``samples[:, 0, 0]`` is about: (0, 0) but for
            a network that takes pixels off at the border.
    """

    samples: NDArray[Any]
    offset: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.samples.shape[1], self.samples.shape[2]

    def bands(self, halo: int = 0) -> Iterator[tuple[slice, slice]]:
        """Its rows a band at a time: the band with ``halo`` rows around it, and the band in that.

        Where the answer ends, the halo does.
        """
        height, width = self.size
        step = max(1, _WINDOW // width)
        for start in range(0, height, step):
            stop = min(height, start + step)
            top, bottom = max(0, start - halo), min(height, stop + halo)
            yield slice(top, bottom), slice(start - top, stop - top)

    def truth(self, reader: PairReader, rows: slice) -> NDArray[Any]:
        """What the answer's ``rows`` should be: (rows, w) class numbers, or (C, rows, w)."""
        down, right = self.offset
        width = self.size[1]
        return reader.target((down + rows.start, down + rows.stop), (right, right + width))


@contextmanager
def answered(
    net: Traced, pair: Pair, reader: PairReader, *, channels: int | None = None
) -> Iterator[Answer]:
    """Pass a whole picture through a network by :func:`eyeshot.run`; the answer is good inside.

    Of a network without padding, which takes certain sizes alone, as much of the picture as it
    takes, counted from the top left.

    Args:
        net: the network, with the mean and deviation of its samples.
        pair: the picture.
        reader: the same, open.
        channels: of the answer, to be had as it is in float32; None for class numbers.

    Raises:
        BadValue: the picture is too small for the network.
        BadFile: the picture cannot be read.
    """
    module = net.module
    off = module.spec.taken_off if isinstance(module, UNet) else 0
    image: Any = pair.image
    height, width = pair.size
    if off and isinstance(module, UNet):
        sizes = [_largest(module, n, pair) for n in (height, width)]
        image = reader.corner(sizes[0], sizes[1])
    form = "argmax" if channels is None else "float32"
    if height * width * 4 * (channels or 1) <= _HELD:
        yield Answer(run(net, image, form=form), (off, off))
        return
    with tempfile.TemporaryDirectory(prefix="eyeshot-") as folder:
        path = Path(folder) / "answer.npy"
        run(net, image, path, form=form)
        yield Answer(np.load(path, mmap_mode="r", allow_pickle=False), (off, off))


def tell_sizes(module: nn.Module) -> tuple[str, ...]:
    """What is to be said of judging a network without padding; nothing of any other."""
    off = module.spec.taken_off if isinstance(module, UNet) else 0
    if not off:
        return ()
    return (
        f"without padding, pictures are judged without {off} pixels at each side; one of a size "
        "that the network does not take, by the largest part that it does, from the top left",
    )


def _largest(net: UNet, n: int, pair: Pair) -> int:
    """The largest side of at most ``n`` pixels that a network without padding takes."""
    below, above = net.axis.nearest(n + 1)
    if below is None:
        raise BadValue(
            f"{pair.image}: a side of {n} pixels, and the network takes none below {above}",
            cure="train one with padding, or one of less depth",
        )
    return below
