"""Pairs of pictures: a picture and its target, which is a mask of classes or another picture.

The top left part of an image can be read as if it were the whole.
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
"""``segment``: the answer is a mask of classes. ``restore``: it is a picture."""


@dataclass(frozen=True)
class Pair:
    """One picture and its target, as files.

    Attributes:
        name: the common name of both files, without their suffixes.
        image: the picture's file.
        target: the mask's, or the wanted picture's.
        size: (height, width) of both; (depth, height, width) of volumes, (length,) of signals.
        digest: of the picture's samples, 16 hexadecimal digits; "" where nobody has taken it.
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

    @property
    def dims(self) -> int:
        """Axes of space: 2 of pictures, 3 of volumes, 1 of signals."""
        return len((self.train or self.validation)[0].size)


def check_task(task: str) -> str:
    """``task`` itself, where it is one.

    Raises:
        UnknownName: it is not.
    """
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    return task


class Corner(Source):
    """The first rows and columns of another source, which its opener closes.

    Args:
        whole: (C, H, W), or of more or fewer axes of space.
        size: of the part, along each of them.
    """

    def __init__(self, whole: Source, size: tuple[int, ...]) -> None:
        shape = (whole.shape[0], *size)
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(whole.name, understand(shape, layout=layout), whole.dtype)
        self._whole = whole
        self.native_rows = whole.native_rows
        self.memory, self.open_memory = whole.memory, whole.open_memory

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._whole.keep_rows = self.keep_rows  # as a reader of windows asks
        samples = self._whole.read(*spans)
        self.decoded_chunks = self._whole.decoded_chunks
        return samples

    def identity(self) -> dict[str, Any]:
        """That of the whole, and which part."""
        return {**self._whole.identity(), "corner": list(self.shape[1:])}
