"""What the rest of a run keeps of its beginning, so that both are the very same run."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.errors import BadFile, BadValue, shorten
from eyeshot.images import Sink, Source, Span, unfinished
from eyeshot.planning import Cut, cut_from

MOST_READINGS = 64
"""Windows of the input that a journal keeps, at most."""
_PASS = "all that was read: "
"""Begins the name of a note on all samples of a pass; an input has no such name."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run that was cut off had settled for itself.

    Attributes:
        cut: its bands and strips, which follow from the memory that was free.
        threads: among how many torch shared out the work, which decides where parts end.
    """

    cut: Cut
    threads: int


def look_up(targets: Sequence[Any]) -> Begun | None:
    """What the unfinished run at the first of these outputs had settled; None without one."""
    for target in targets:
        settings = unfinished(target)
        cut = None if settings is None else cut_from(settings)
        if settings is not None and cut is not None:
            threads = settings.get("threads")
            if not isinstance(threads, int) or threads < 1:
                threads = torch.get_num_threads()
            return Begun(cut, threads)
    return None


class Readings:
    """Samples that were read, by their checksums: a run that goes on reads some of them again.

    The time and length of a file say little: a Zarr image is many files, and a time can be set
    back. Up to :data:`MOST_READINGS` windows are kept in the journal of each output, spread over
    all that was read. Rows that nobody has read yet may be others: they belong to no output row.
    """

    def __init__(self, sources: Mapping[str, Source], sinks: Iterable[Sink]) -> None:
        """Go on from what the sinks know of.

        Raises:
            BadFile: an image holds other samples than it did.
        """
        self._kept = [sink.notes for sink in sinks]
        self._count, self._step = 0, 1
        self._passes: dict[str, int] = {}
        for notes in self._kept:
            for name, window, checksum in map(_reading, notes):
                if name in sources:
                    _require(sources[name], window, checksum)
                elif name.startswith(_PASS):
                    self._passes[name] = checksum

    def note(self, name: str, window: Sequence[Interval], samples: NDArray[Any]) -> None:
        """Keep a window of an input, if it is its turn."""
        self._count += 1
        if self._count % self._step:
            return
        reading = [name, [[side.lo, side.hi] for side in window], checksum_of(samples)]
        for notes in self._kept:
            notes.append(reading)
            if len(notes) >= MOST_READINGS:
                kept = enumerate(list(notes))
                notes[:] = [one for n, one in kept if n % 2 == 0 or one[0].startswith(_PASS)]
        if self._kept and len(self._kept[0]) == MOST_READINGS // 2:
            self._step *= 2

    def note_pass(self, place: str, image: str, checksum: int) -> None:
        """Keep the checksum of all samples from which statistics were gathered.

        Every output row depends on them, those that an earlier run has written, too. So a sample
        here or there is not enough: all that was read must be as it was.

        Args:
            place: which samples these are.
            image: that holds them, for the message.
            checksum: of them.

        Raises:
            BadFile: the unfinished run has read other samples.
        """
        name = _PASS + place
        before = self._passes.get(name)
        if before is None:
            self._passes[name] = checksum
            for notes in self._kept:
                notes.append([name, [], checksum])
        elif before != checksum:
            raise changed(image)


def changed(image: str) -> BadFile:
    """The error of an image that is another than the one whose statistics were gathered."""
    return BadFile(
        f"{image}: is not the image from which the unfinished run has gathered its statistics",
        cure="bring the image back as it was, or start again with --force",
    )


def _reading(note: Any) -> tuple[str, tuple[Span, ...], int]:
    try:
        name, window, checksum = note
        return str(name), tuple((int(lo), int(hi)) for lo, hi in window), int(checksum)
    except (TypeError, ValueError, OverflowError):
        raise BadFile(
            f"the journal of the unfinished run holds {shorten(note)}",
            cure="start again with --force",
        ) from None


def _require(source: Source, window: tuple[Span, ...], checksum: int) -> None:
    try:
        same = checksum_of(source.read(*window)) == checksum
    except BadValue:
        same = False
    if not same:
        raise BadFile(
            f"{source.name}: rows {window[0][0]} to {window[0][1]} are not those that the "
            "unfinished run has read",
            cure="bring the image back as it was, or start again with --force",
        )


def checksum_of(samples: NDArray[Any], value: int = 0) -> int:
    """A checksum of samples (C, rows, …), after others that gave ``value``."""
    for plane in samples:  # one at a time: a copy of all of them could be too large
        value = zlib.crc32(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data, value)
    return value


def arithmetic(place: torch.device) -> str:
    """By what the numbers are made: another processor or another torch rounds in other places."""
    kind = torch.backends.cpu.get_cpu_capability() if place.type == "cpu" else _gpu(place)
    return f"{place.type} ({kind}), torch {torch.__version__}"


def _gpu(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else ""


@contextmanager
def sharing(threads: int) -> Iterator[None]:
    """Share torch's work out among so many threads; afterwards as before."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
