"""Pictures with labels, and a data set that is split for training. Every source becomes these.

A set in memory and a set in files are read in the same way: :meth:`Examples.batches`. The pixels
are unsigned bytes; the run normalizes them for its network (division by 255, minus the mean,
divided by the deviation). A folder with deeper pictures gives uint16, divided by 65535.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from eyeshot.errors import BadValue

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
    def held(self) -> bool:
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
        test: the test part.
        classes: the names of the classes; a label is an index into them.
        channels: C, 1 for gray and 3 for color.
        size: (H, W) of every picture.
        mean: the mean of the training pixels divided by 255 (65535 for 16 bits), for each channel.
        std: their standard deviation, for each channel, never 0.
        validation: a second held-out part, if the source has one.
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
