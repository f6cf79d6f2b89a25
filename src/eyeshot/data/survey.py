"""Every picture of a set looked at once, before anything starts.

One pass reads every file. It finds a damaged one before an hour of training is lost, learns the
size and the channels, counts the pixels' values for the mean and the deviation, finds test pictures
that are training pictures too, and keeps what it has read as long as that fits the budget; beyond
it, the pictures are streamed from their files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from eyeshot.data import pixels
from eyeshot.data.examples import HeldPictures, Pictures
from eyeshot.data.progress import Progress
from eyeshot.data.statistics import LEVELS, Counts, count_levels
from eyeshot.data.streaming import FilePictures, count_cores, read_pixels
from eyeshot.errors import BadFile

_AT_ONCE = 256  # files in flight, so that the pass itself needs little memory


class Survey:
    """What one pass over the files of a set has found.

    Args:
        paths: the training files first, then the others.
        training: how many of them are for training.
        size: (height, width) to stretch to; None expects all pictures to have one size.
        budget: how many bytes of pictures may be held in memory.

    Attributes:
        channels: 3 where any training picture is in colour, else 1.
        size: (height, width) of every picture.
        counts: (channels, 256), how often each value stands in the training pictures.
    """

    def __init__(
        self, paths: list[Path], training: int, size: tuple[int, int] | None, budget: int
    ) -> None:
        self.channels = pixels.GREY
        self._paths = paths
        self._training = training
        self._stretch = size is not None
        self._size = pixels.check_size(size) if size else None
        self._budget = budget
        self._kept: list[pixels.Bytes] | None = []
        self._counts = np.zeros((pixels.COLOUR, LEVELS), np.int64)
        self._seen: dict[bytes, int] = {}  # training picture, by its hash -> its number
        self._twins: list[tuple[int, int]] = []  # held-out number, training number
        self._made_grey = 0

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every picture; known once :meth:`run` has been through them."""
        if self._size is None:
            raise RuntimeError("the survey has not been run")
        return self._size

    @property
    def counts(self) -> Counts:
        """(channels, 256)."""
        return self._counts[: self.channels]

    def run(self, progress: Progress) -> None:
        """Look at every picture.

        Raises:
            BadFile: one cannot be read, or two differ in size and none was asked for.
        """
        for number, picture in enumerate(self._read_all()):
            self._check_size(number, picture)
            if self._size is not None:
                picture = pixels.resize(picture, self._size)
            if number < self._training:
                self._count(picture)
            elif picture.ndim == 3 and self.channels == pixels.GREY:
                self._made_grey += 1
            self._look_for_twin(number, picture)
            self._keep(picture)
            progress("reading pictures", number + 1, len(self._paths))

    def pictures(self, start: int, stop: int) -> Pictures:
        """The pictures ``[start, stop)`` of the files, in memory or not; each may be had once."""
        if self._kept is None:
            return FilePictures(
                tuple(self._paths[start:stop]), self.channels, self.size, self._stretch
            )
        held = torch.empty((stop - start, self.channels, *self.size), dtype=torch.uint8)
        for place, number in enumerate(range(start, stop)):
            brought = pixels.to_channels(self._kept[number], self.channels)
            held[place] = torch.from_numpy(brought).permute(2, 0, 1)
            self._kept[number] = brought[:0]  # let go at once: not all of it twice
        return HeldPictures(held)

    def notes(self) -> list[str]:
        """What a person should know, a sentence each."""
        notes = []
        if self._kept is None:
            notes.append(f"more than {self._budget} bytes of pictures: they stay in their files")
        if self._made_grey:
            notes.append(
                f"{self._made_grey} held-out pictures are in colour and were made grey, "
                "like all training pictures"
            )
        if self._twins:
            held_out, training = self._twins[0]
            notes.append(
                f"{len(self._twins)} held-out pictures are training pictures too, "
                f"first {self._paths[held_out]} = {self._paths[training]}: "
                "the accuracy will look better than it is"
            )
        return notes

    def _read_all(self) -> Iterator[pixels.Bytes]:
        with ThreadPoolExecutor(count_cores()) as pool:
            for start in range(0, len(self._paths), _AT_ONCE):
                yield from pool.map(read_pixels, self._paths[start : start + _AT_ONCE])

    def _check_size(self, number: int, picture: pixels.Bytes) -> None:
        height, width = picture.shape[:2]
        if self._size is None:
            self._size = (height, width)
        if not self._stretch and (height, width) != self._size:
            raise BadFile(
                f"{self._paths[number]}: is {height}×{width}, "
                f"and {self._paths[0]} is {self._size[0]}×{self._size[1]}",
                cure="choose one size for all, such as --size 64x64",
            )

    def _count(self, picture: pixels.Bytes) -> None:
        if picture.ndim == 3:
            self.channels = pixels.COLOUR
        colour = pixels.to_channels(picture, pixels.COLOUR)
        self._counts += count_levels(torch.from_numpy(colour).permute(2, 0, 1)[None])

    def _look_for_twin(self, number: int, picture: pixels.Bytes) -> None:
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        if number < self._training:
            self._seen.setdefault(digest, number)
        elif digest in self._seen:
            self._twins.append((number, self._seen[digest]))

    def _keep(self, picture: pixels.Bytes) -> None:
        if self._kept is None:
            return
        height, width = self.size
        if len(self._paths) * self.channels * height * width > self._budget:
            self._kept = None
        else:
            self._kept.append(picture)
