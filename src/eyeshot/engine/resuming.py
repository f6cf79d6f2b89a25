"""What a resumed run needs from the unfinished run, so that its samples are exactly the same."""

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
"""The most windows of the input whose checksums a journal keeps."""
_PASS = "all that was read: "
"""The start of the name of a note on all samples of a pass; no input has such a name."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The plan of an unfinished run.

    Attributes:
        cut: its bands and strips, which depend on the memory that was free.
        threads: the number of torch's threads, which affects rounding.
        exact: whether convolutions were computed with fewer products; ``direct`` if not.
    """

    cut: Cut
    threads: int
    exact: str


def look_up(targets: Sequence[Any]) -> Begun | None:
    """The plan of the unfinished run of these outputs; None if there is no unfinished run."""
    for target in targets:
        settings = unfinished(target)
        cut = None if settings is None else cut_from(settings)
        if settings is not None and cut is not None:
            threads = settings.get("threads")
            if not isinstance(threads, int) or threads < 1:
                threads = torch.get_num_threads()
            return Begun(cut, threads, str(settings.get("exact", "direct")))
    return None


class Readings:
    """Checksums of samples that were read; a resumed run reads some of these samples again.

    The time and the length of a file are not enough: a Zarr image has many files, and a time can be
    set back. The journal of each output keeps up to :data:`MOST_READINGS` windows, spread over
    everything that was read. Rows that were not read yet may change, because no written row depends
    on them.
    """

    def __init__(self, sources: Mapping[str, Source], sinks: Iterable[Sink]) -> None:
        """Check the windows in the journals of the sinks.

        Raises:
            BadFile: samples of an image have changed.
        """
        self._notes = [sink.notes for sink in sinks]
        self._count, self._step = 0, 1
        self._passes: dict[str, int] = {}
        for notes in self._notes:
            for name, window, checksum in map(_reading, notes):
                if name in sources:
                    _require(sources[name], window, checksum)
                elif _is_pass((name,)):
                    self._passes[name] = checksum

    def note(self, name: str, window: Sequence[Interval], samples: NDArray[Any]) -> None:
        """Record the checksum of a window; of many windows, only every n-th is recorded."""
        self._count += 1
        if not self._notes or self._count % self._step:
            return
        reading = [name, [[side.lo, side.hi] for side in window], checksum_of(samples)]
        for notes in self._notes:
            notes.append(reading)
        halved = [_halve(notes) for notes in self._notes]
        self._step *= 2 if any(halved) else 1

    def note_pass(self, place: str, image: str, checksum: int) -> None:
        """Keep the checksum of all samples from which statistics were gathered.

        Every output row depends on these samples, also the rows that an earlier run has written. So
        a few windows are not enough: all samples must be unchanged.

        Args:
            place: a name for these samples.
            image: the name of the image, for the message.
            checksum: the checksum of the samples.

        Raises:
            BadFile: the unfinished run has read other samples.
        """
        name = _PASS + place
        before = self._passes.get(name)
        if before is None:
            self._passes[name] = checksum
            for notes in self._notes:
                notes.append([name, [], checksum])
        elif before != checksum:
            raise changed(image)


def _halve(notes: list[Any]) -> bool:
    """Drop every second window if there are :data:`MOST_READINGS`; notes on passes stay."""
    windows = [one for one in notes if not _is_pass(one)]
    if len(windows) < MOST_READINGS:
        return False
    notes[:] = [*filter(_is_pass, notes), *windows[::2]]
    return True


def _is_pass(note: Sequence[Any]) -> bool:
    """Whether a note is on all samples of a pass, not on a window."""
    return str(note[0]).startswith(_PASS)


def changed(image: str) -> BadFile:
    """The error for an image that is not the one whose statistics were gathered."""
    return BadFile(
        f"{image}: has changed since this run, or its unfinished part, gathered statistics from it",
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
    """A checksum of samples (C, rows, …); ``value`` is the checksum of the samples before them."""
    for plane in samples:  # one at a time, because a copy of all planes may be too large
        value = zlib.crc32(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data, value)
    return value


def arithmetic(place: torch.device) -> str:
    """The processor and the torch that compute: other ones may round differently."""
    kind = torch.backends.cpu.get_cpu_capability() if place.type == "cpu" else _gpu(place)
    return f"{place.type} ({kind}), torch {torch.__version__}"


def _gpu(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else ""


@contextmanager
def sharing(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` threads; the previous number is restored at the end."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
