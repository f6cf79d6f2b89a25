"""Training pictures read one by one: decoded in advance, counted, and the progress shown.

In this file:

- pictures that stay in their files and are decoded when needed, in advance by workers;
- the progress of long work: one line on standard error, only on a terminal;
- mean and deviation of the training pixels, exactly: from counts, not from running sums.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eyeshot import images
from eyeshot.data import pixels
from eyeshot.errors import BadFile, EyeshotError, Failure


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
