"""Pictures with labels, and a data set that is split for training. Every source becomes these.

A set in memory and a set in files are read in the same way: :meth:`Examples.batches`. Pictures that
stay in their files are decoded when needed, in advance by workers. The pixels are unsigned bytes;
the run normalizes them for its network (division by 255, minus the mean, divided by the deviation).
A folder with deeper pictures gives uint16, divided by 65535. Mean and deviation of the training
pixels are exact: from counts, not from running sums.

The progress of long work is shown here too: one line on standard error, only on a terminal.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eyeshot import images
from eyeshot.data import pixels
from eyeshot.errors import BadFile, BadValue, EyeshotError, Failure

BUDGET = 2**30
"""The default limit in bytes for pictures in memory; larger sets are streamed."""

Batch = tuple[Tensor, Tensor]  # pictures (B, C, H, W) uint8 or uint16, labels (B,) int64


class Pictures(Protocol):
    """Where the pixels of a set come from."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""

    def take(self, indices: Tensor) -> Tensor:
        """The pictures (K, C, H, W) at ``indices`` (K,), in that order."""

    def stream(self, batches: Sequence[Tensor], workers: int | None) -> Iterator[Tensor]:
        """The pictures of each of ``batches`` in turn."""


@dataclass(frozen=True, eq=False)
class HeldPictures:
    """Pictures in memory: (N, C, H, W) uint8 or uint16."""

    images: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype not in (torch.uint8, torch.uint16) or self.images.ndim != 4:
            raise BadValue(
                f"pictures of {tuple(self.images.shape)} {self.images.dtype}",
                cure="expected (N, C, H, W) torch.uint8 or torch.uint16",
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        count, channels, height, width = self.images.shape
        return count, channels, height, width

    def take(self, indices: Tensor) -> Tensor:
        """A copy of the pictures at ``indices``."""
        return self.images.index_select(0, indices)

    def stream(self, batches: Sequence[Tensor], workers: int | None) -> Iterator[Tensor]:
        """The pictures of each of ``batches``; there is nothing for workers to do."""
        for indices in batches:
            yield self.take(indices)


@dataclass(frozen=True, eq=False)
class Examples:
    """N pictures and their labels.

    Attributes:
        pictures: where the pixels come from, in memory or from files.
        labels: (N,) int64, each an index into the set's ``classes``.
    """

    pictures: Pictures
    labels: Tensor

    def __post_init__(self) -> None:
        expected = (self.pictures.shape[0],)
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != expected:
            raise BadValue(
                f"labels of {tuple(self.labels.shape)} {self.labels.dtype}",
                cure=f"expected {expected} torch.int64, one for each picture",
            )

    @classmethod
    def hold(cls, images: Tensor, labels: Tensor) -> Examples:
        """Examples in memory, of pictures (N, C, H, W) uint8 or uint16, and labels (N,) int64."""
        return cls(HeldPictures(images), labels)

    def __len__(self) -> int:
        return self.pictures.shape[0]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return self.pictures.shape

    @property
    def in_memory(self) -> bool:
        """Whether the pictures are in memory, as :attr:`images`."""
        return isinstance(self.pictures, HeldPictures)

    @property
    def images(self) -> Tensor:
        """All pictures at once, (N, C, H, W); only for a set in memory.

        Raises:
            BadValue: the set is streamed from its files.
        """
        if not isinstance(self.pictures, HeldPictures):
            raise BadValue(
                f"these {len(self)} pictures are streamed from their files, not held in memory",
                cure="read them by batches() or take(), or load with a larger budget",
            )
        return self.pictures.images

    def take(self, indices: Sequence[int] | Tensor) -> Batch:
        """The pictures (K, C, H, W) and labels (K,) at ``indices``, in that order.

        Raises:
            BadFile: a picture cannot be read.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.pictures.take(chosen), self.labels.index_select(0, chosen)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        drop_last: bool = False,
        least: int = 1,
        workers: int | None = None,
    ) -> Iterator[Batch]:
        """Go once through all examples, ``batch_size`` at a time.

        The order depends only on ``shuffle_seed``, ``epoch`` and N, so that a run that was stopped
        after ``start`` batches continues with exactly the batches that it has not seen; earlier
        batches are not read. The global random generators are not used.

        Args:
            batch_size: B, at least 1.
            shuffle_seed: None keeps the order of the set.
            epoch: each epoch has a different order.
            start: the number of batches to skip at the beginning.
            drop_last: omit a last batch that is not full.
            least: a last batch that is not full and has fewer pictures is added to the batch
                before it.
            workers: processes that decode files in advance; by default the number of cores.
                Pictures in memory need no workers.

        Yields:
            Pictures (B, C, H, W) uint8 or uint16, and labels (B,) int64.

        Raises:
            BadValue: ``batch_size`` or ``start`` is out of range.
            BadFile: a picture cannot be read.
        """
        if batch_size < 1:
            raise BadValue(f"batch_size is {batch_size}", cure="it must be at least 1")
        if start < 0:
            raise BadValue(f"start is {start}", cure="it must be at least 0")
        order = _order(len(self), shuffle_seed, epoch)
        parts = list(torch.split(order, batch_size))
        if drop_last and len(parts[-1]) < batch_size:
            parts.pop()
        if len(parts) > 1 and len(parts[-1]) < min(least, batch_size):
            parts[-2:] = [torch.cat(parts[-2:])]
        return self._read(parts[start:], workers)

    def _read(self, parts: list[Tensor], workers: int | None) -> Iterator[Batch]:
        for part, pictures in zip(parts, self.pictures.stream(parts, workers), strict=True):
            yield pictures, self.labels.index_select(0, part)


def count_batches(count: int, batch_size: int, *, drop_last: bool = False, least: int = 1) -> int:
    """The number of batches that :meth:`Examples.batches` makes of ``count`` pictures."""
    full, left = divmod(count, batch_size)
    if not left or drop_last or (full and left < least):
        return full
    return full + 1


def _order(count: int, seed: int | None, epoch: int) -> Tensor:
    if seed is None:
        return torch.arange(count)
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    # manual_seed takes a signed 64-bit number
    generator = torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True, eq=False)
class Data:
    """A set of labeled pictures with its parts: the result of :func:`eyeshot.data.load`.

    Attributes:
        name: the source: ``digits``, ``mnist``, or the folder.
        train: the training part.
        test: the test part, which judges the finished network.
        classes: the names of the classes; a label is an index into them.
        channels: C, 1 for gray and 3 for color.
        size: (H, W) of every picture.
        mean: the mean of the training pixels divided by 255 (65535 for 16 bits), for each channel.
        std: their standard deviation, for each channel, never 0.
        validation: the part that judges each epoch, if the source has one beside the test part.
        notes: the decisions made while loading, a sentence each.
        marks: digests of the training pictures of a folder, which identify each of them.
    """

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Examples | None = None
    notes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[str, Examples]:
        """The part that judges each epoch, with its name: "validation" if there is one, or "test".

        The best epoch is chosen by it.
        """
        return ("test", self.test) if self.validation is None else ("validation", self.validation)


def read_pixels(path: Path, notes: list[str] | None = None) -> pixels.Samples:
    """The picture in a file: (H, W) if gray, (H, W, 3) if color, in 8 or 16 bits.

    Args:
        path: the file.
        notes: gets facts about the file that the user should know.

    Raises:
        BadFile: the file is not a picture, is damaged, or has floats outside 0…1 or bands that are
            not colors.
    """
    try:
        picture = images.read_picture(path, offered=False)
        if notes is not None:
            notes += picture.notes
        return pixels.to_samples(picture.samples, alpha=picture.alpha)
    except EyeshotError as error:
        message = str(error)
        raise BadFile(message if str(path) in message else f"{path}: {message}") from error


def count_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures in files.

    Attributes:
        paths: one file per picture.
        channels: the channels of each converted picture, 1 or 3.
        size: (height, width) of each converted picture.
        stretch: whether a picture of another size is stretched to ``size`` or refused.
        deep: whether they are returned in 16 bits.
    """

    paths: tuple[Path, ...]
    channels: int
    size: tuple[int, int]
    stretch: bool
    deep: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return len(self.paths), self.channels, *self.size

    def take(self, indices: Tensor) -> Tensor:
        """The pictures at ``indices``, decoded now.

        Raises:
            BadFile: one cannot be read, or its size has changed.
        """
        dtype = torch.uint16 if self.deep else torch.uint8
        batch = torch.empty((len(indices), self.channels, *self.size), dtype=dtype)
        for place, index in enumerate(indices.tolist()):
            batch[place] = torch.from_numpy(self._decode(self.paths[index]))
        return batch

    def stream(self, batches: Sequence[Tensor], workers: int | None) -> Iterator[Tensor]:
        """The pictures of each of ``batches``, decoded ahead by ``workers`` processes.

        Raises:
            BadFile: a picture cannot be read.
            Failure: a worker died.
        """
        most = count_cores() if workers is None else workers
        loader: DataLoader[Tensor | _Refusal] = DataLoader(
            _Batches(self, batches),
            batch_size=None,
            num_workers=min(most, len(batches)),
            # Without a generator, it would draw its workers' seeds from the global one.
            generator=torch.Generator(),
        )
        read = iter(loader)
        for _ in batches:
            try:
                item = next(read)
            except RuntimeError as error:
                raise Failure(
                    f"a process that reads pictures ahead died ({error})",
                    cure="use fewer workers or a smaller batch",
                ) from error
            if isinstance(item, _Refusal):
                raise BadFile(item.fact, cure=item.cure)
            yield item

    def _decode(self, path: Path) -> pixels.Samples:
        # In the order in which Survey does it: every step rounds.
        samples = read_pixels(path)
        if self.stretch:
            samples = pixels.resize(samples, self.size)
        elif samples.shape[:2] != self.size:
            height, width = samples.shape[:2]
            raise BadFile(
                f"{path}: is {height}×{width}, and was {self.size[0]}×{self.size[1]} before",
                cure="put the file back as it was",
            )
        picture = pixels.to_channels(samples, self.channels)
        picture = pixels.deepen(picture) if self.deep else pixels.reduce(picture)
        return np.ascontiguousarray(picture.transpose(2, 0, 1))


@dataclass(frozen=True)
class _Refusal:
    """The text of a :class:`BadFile` from a worker. If the worker raised it, the message would
    contain a traceback.
    """

    fact: str
    cure: str


class _Batches(Dataset[Tensor | _Refusal]):
    """A dataset in which each item is a batch."""

    def __init__(self, pictures: FilePictures, batches: Sequence[Tensor]) -> None:
        self.pictures = pictures
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor | _Refusal:
        try:
            return self.pictures.take(self.batches[index])
        except BadFile as error:
            return _Refusal(error.fact, error.cure)


Progress = Callable[[str, int, int], None]
"""Called with the name of the work, the amount done, and the total."""

_PATIENCE = 1.0  # seconds before progress is shown
_PAUSE = 0.1  # seconds between two updates


class TerminalProgress:
    """A line on the terminal that is overwritten. Silent for short work and without a terminal."""

    def __init__(self) -> None:
        self._what = ""
        self._began = self._last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` of the work called ``what`` is done."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._last = what, now, 0.0
        over = done >= total
        if now - self._began < _PATIENCE or not sys.stderr.isatty():
            return
        if over or now - self._last > _PAUSE:
            self._last = now
            end = "\n" if over else ""
            percent = 100 * done // max(total, 1)
            print(f"\r{what}: {percent} %", end=end, file=sys.stderr, flush=True)


LEVELS = 256
DEEP_LEVELS = 65536

Counts = NDArray[np.int64]


def count_levels(batch: Tensor) -> Counts:
    """The count of each value in each channel of pictures (N, C, H, W).

    Returns:
        (C, 256) of uint8, (C, 65536) of uint16.
    """
    levels = LEVELS if batch.dtype == torch.uint8 else DEEP_LEVELS
    counts = np.zeros((batch.shape[1], levels), np.int64)
    for channel, total in enumerate(counts):
        total += np.bincount(batch[:, channel].numpy().reshape(-1), minlength=levels)
    return counts


def deepen_counts(counts: Counts) -> Counts:
    """Counts (C, 256) converted to those of the same pictures in 16 bits, (C, 65536)."""
    deep = np.zeros((len(counts), DEEP_LEVELS), np.int64)
    deep[:, :: (DEEP_LEVELS - 1) // (LEVELS - 1)] = counts
    return deep


def describe_counts(counts: Counts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) of value/largest, for each channel.

    A constant channel has a deviation of 0, which is replaced by 1, because it is a divisor; the
    channel minus its mean is all zeros.

    Args:
        counts: (C, 256) or (C, 65536), from :func:`count_levels`.
    """
    values = counts.shape[1]
    levels = np.arange(values) / (values - 1)
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    varies = (counts > 0).sum(axis=1) > 1
    std = np.where(varies, np.sqrt(variance), 1.0)
    return tuple(map(float, mean)), tuple(map(float, std))
