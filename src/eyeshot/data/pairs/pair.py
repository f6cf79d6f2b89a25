"""Pairs of pictures: a picture and its target, which is a mask of classes or another picture.

A pair is read by windows: samples in the form of the network, and class numbers. The training pairs
stay in memory if they fit. ``Corner`` reads only the top left part of an image.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs.legend import WHITE, Legend, SingleChannel, Thresholded
from eyeshot.data.tree import is_picture, visible
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.images import Source, Span, understand
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.images.sources.opening import open_file
from eyeshot.images.sources.source import Selection
from eyeshot.images.whole import to_unit

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


class PairReader:
    """Reads windows of one picture and of its target.

    Close it after use, or use it in a ``with`` statement.
    """

    def __init__(self, image: Source, target: Source, legend: Legend | None) -> None:
        self._image = image
        self._target = target
        self._legend = legend

    @property
    def size(self) -> tuple[int, ...]:
        """(height, width); (depth, height, width) of a volume, (length,) of a signal."""
        return self._image.shape[1:]

    @property
    def bytes(self) -> int:
        """The memory that picture and target take with their stored types."""
        return sum(
            int(np.prod(source.shape)) * source.dtype.itemsize
            for source in (self._image, self._target)
        )

    def image(self, *window: Span) -> NDArray[np.float32]:
        """A window of the picture, (C, H, W) float32 in 0…1.

        Args:
            window: half open, (first, one past the last), for each axis; omitted axes are read
                whole.

        Raises:
            BadValue: the window is empty or leaves the picture.
            BadFile: the file is damaged, or has changed.
        """
        return to_unit(self._image.read(*window))

    def target(self, *window: Span) -> NDArray[np.int64] | NDArray[np.float32]:
        """A window of the target; arguments as for :meth:`image`.

        Returns:
            For ``segment``, class numbers (H, W) int64, -1 for unlabeled pixels; for
            ``restore``, samples (C, H, W) float32 in 0…1.

        Raises:
            BadValue: the window is empty or reaches outside the picture.
            BadFile: the file is damaged, or has changed.
        """
        samples = self._target.read(*window)
        if self._legend is None:
            return to_unit(samples)
        try:
            return self._legend.number(samples)
        except BadValue as error:
            raise BadFile(f"{self._target.name}: {error.fact}", cure=error.cure) from None

    def corner(self, *size: int) -> Source:
        """The picture's first rows and columns, to be read by windows while the reader is open."""
        return Corner(self._image, size)

    def hold(self) -> PairReader:
        """The same pair with all its samples in memory; the files are closed."""
        layout = channels_first(len(self.size))
        with self:
            in_memory = [
                ArraySource(samples, understand(samples.shape, layout=layout), source.name)
                for source in self._sources
                for samples in [source.read().copy()]
            ]
        return PairReader(in_memory[0], in_memory[1], self._legend)

    @property
    def _sources(self) -> tuple[Source, Source]:
        return self._image, self._target

    def close(self) -> None:
        """Close the files."""
        for source in self._sources:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_pair(pair: Pair, pairs: Pairs) -> PairReader:
    """Open one pair of ``pairs`` to be read by windows; large files are never read whole.

    Raises:
        BadFile: a file is missing or damaged, or its size or its channels have changed.
    """
    legend, space = pairs.legend, len(pair.size)
    with ExitStack() as stack:
        image = stack.enter_context(open_picture(pair.image, space))
        target = stack.enter_context(
            open_picture(pair.target, space)
            if legend is None
            else open_mask(
                pair.target, colors=legend.colors, threshold=legend.threshold, space=space
            )
        )
        for source, path in ((image, pair.image), (target, pair.target)):
            if source.shape[1:] != pair.size:
                raise BadFile(
                    f"{path}: is {_times(source.shape[1:])} and was {_times(pair.size)} before",
                    cure="put the file back as it was, or start again",
                )
        if image.shape[0] != pairs.channels:
            raise BadFile(
                f"{pair.image}: has {image.shape[0]} channels and had {pairs.channels} before",
                cure="put the file back as it was, or start again",
            )
        stack.pop_all()
    return PairReader(image, target, pairs.legend)


def open_picture(path: Path, space: int = 2) -> Source:
    """Open a picture (C, H, W) to be read by windows; ``space`` is its number of spatial axes."""
    return open_file(path, Selection(space=space, offered=False))


def channels_first(space: int) -> str:
    """The layout of an array (C, …) with ``space`` spatial axes."""
    return {1: "CL", 2: "CHW", 3: "CDHW"}[space]


_GRAY_CURE = (
    "save it with one channel, name its colors in classes.yaml, or make it two-valued with "
    "--threshold 128"
)


def open_mask(path: Path, *, colors: bool | None, threshold: int = 0, space: int = 2) -> Source:
    """Open a mask (C, H, W) to be read by windows. A palette gives indices unless ``colors``.

    If ``colors`` is False the mask has one channel: gray that was saved as color is reduced to one,
    and reading a pixel that is not gray raises BadFile. None leaves the channels as they are.

    With a ``threshold``, values from it on become 255 and all others 0. A folder of masks, one for
    each object of a picture, is 255 wherever one of them is not 0.
    """
    if path.is_dir() and path.suffix.lower() != ".zarr":
        return _open_objects(path)
    if threshold:
        return Thresholded(open_picture(path, space), threshold)
    mask = open_file(path, Selection(space=space, indices=not colors, offered=False))
    gray = colors is False and mask.shape[0] in (2, 3, 4)
    return SingleChannel(mask, _GRAY_CURE) if gray else mask


def _open_objects(folder: Path) -> Source:
    """The union of the masks in a folder, in memory."""
    whole: NDArray[np.bool_] | None = None
    for path in visible(folder):
        if not is_picture(path):
            continue
        with open_mask(path, colors=False) as mask:
            inside = mask.read()[0] > 0
        if whole is not None and whole.shape != inside.shape:
            raise BadFile(f"{path}: is {_times(inside.shape)}, and others {_times(whole.shape)}")
        whole = inside if whole is None else whole | inside
    if whole is None:
        raise BadFile(f"{folder}: holds no masks", cure="draw one for each object")
    union = np.where(whole, WHITE, 0).astype(np.uint8)
    return ArraySource(union[np.newaxis], understand((1, *union.shape), layout="CHW"), str(folder))


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


_MOST_OPEN = 4  # files that are read by windows and kept open


class Readers:
    """Readers of training pairs, opened when first needed.

    Args:
        pairs: the pairs whose training part is read.
        budget: the most bytes in memory; pairs are kept in the order in which they are first read.
    """

    def __init__(self, pairs: Pairs, budget: int) -> None:
        self._pairs = pairs
        self._budget = self._left = budget
        self._in_memory: dict[int, PairReader] = {}
        self._open: OrderedDict[int, PairReader] = OrderedDict()

    def get(self, number: int) -> PairReader:
        """The training pair with that number, kept in memory if it fits."""
        if number in self._in_memory:
            return self._in_memory[number]
        reader = self._open.pop(number, None)
        if reader is None:
            reader = open_pair(self._pairs.train[number], self._pairs)
            if reader.bytes <= self._left:
                self._left -= reader.bytes
                self._in_memory[number] = reader.hold()
                return self._in_memory[number]
        self._open[number] = reader
        if len(self._open) > _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        return reader

    def close(self) -> None:
        """Release files and memory."""
        for reader in (*self._open.values(), *self._in_memory.values()):
            reader.close()
        self._open.clear()
        self._in_memory.clear()
        self._left = self._budget
