"""Pairs of pictures: a picture and its target, which is a mask of classes or another picture.

``Corner`` reads only the top left part of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from eyeshot.data.pairs.legend import Legend
from eyeshot.errors import UnknownName
from eyeshot.images import Source, Span, understand

TASKS = ("segment", "restore")
"""``segment``: the target is a mask of classes. ``restore``: it is a picture."""


@dataclass(frozen=True)
class Pair:
    """One picture and its target, as files.

    Attributes:
        name: the common name of both files, without their suffixes.
        image: the picture's file.
        target: the file of the mask, or of the target picture.
        size: (height, width) of both; (depth, height, width) of volumes, (length,) of signals.
        digest: of the picture's samples, 16 hexadecimal digits; "" if it was not computed.
    """

    name: str
    image: Path
    target: Path
    size: tuple[int, ...]
    digest: str = ""

    @property
    def plane(self) -> tuple[int, int]:
        """(height, width) of a picture; volumes and signals have no such size."""
        height, width = self.size
        return height, width


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs with its parts: the result of :func:`eyeshot.data.load_pairs`.

    Attributes:
        name: the folder.
        task: one of :data:`TASKS`.
        train: the training pairs.
        validation: the validation pairs.
        classes: the names of the classes, empty for ``restore``; a mask's numbers index them.
        channels: C of every picture, as in its file: 1 for gray, 3 for color.
        mean: the mean of the training samples scaled to 0…1, for each channel.
        std: their standard deviation, for each channel, never 0.
        counts: the number of pixels of each class in the training masks; may be 0.
        fingerprint: 16 hexadecimal digits that change with any pixel, name or class.
        legend: the mapping from a mask's samples to classes; None for ``restore``.
        notes: the decisions made while loading, a sentence each.
        own_scale: whether a picture holds floats outside 0…1, whose scale is their own.
    """

    name: str
    task: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: tuple[int, ...]
    fingerprint: str
    legend: Legend | None = None
    notes: tuple[str, ...] = ()
    own_scale: bool = False

    @property
    def dims(self) -> int:
        """The number of spatial axes: 2 for pictures, 3 for volumes, 1 for signals."""
        return len((self.train or self.validation)[0].size)


def check_task(task: str) -> str:
    """Return ``task`` if it is one of :data:`TASKS`.

    Raises:
        UnknownName: it is not.
    """
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    return task


class Corner(Source):
    """The first rows and columns of another source. Closing it does not close the other source.

    Args:
        whole: (C, H, W), or with another number of spatial axes.
        size: the size of the part along each spatial axis.
    """

    def __init__(self, whole: Source, size: tuple[int, ...]) -> None:
        shape = (whole.shape[0], *size)
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(whole.name, understand(shape, layout=layout), whole.dtype)
        self._whole = whole
        self.native_rows = whole.native_rows
        self.memory, self.open_memory = whole.memory, whole.open_memory

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._whole.keep_rows = self.keep_rows  # set by the reader of windows
        samples = self._whole.read(*spans)
        self.decoded_chunks = self._whole.decoded_chunks
        return samples

    def identity(self) -> dict[str, Any]:
        """The identity of the whole, and the size of the part."""
        return {**self._whole.identity(), "corner": list(self.shape[1:])}
