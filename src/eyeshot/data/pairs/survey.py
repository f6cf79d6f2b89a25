"""Every pair looked at once, by bands, before anything starts.

One pass reads every file. It finds a damaged one before an hour of training is lost, learns sizes
and channels, adds up what the mean, the deviation and the weights of classes are made of, and takes
a digest of all samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs.legend import encode
from eyeshot.data.pairs.listing import Files
from eyeshot.data.pairs.pair import Problem
from eyeshot.data.pairs.reader import open_mask, open_picture, scale
from eyeshot.errors import EyeshotError
from eyeshot.images import Source
from eyeshot.images.layouts import MOST_CHANNELS

_BAND = 2**21  # samples that are looked at together
_MOST_VALUES = 2**12  # a mask with more is a photograph by mistake

_GREY_CURE = "save it with one channel, or name its colours in classes.yaml"


class Moments:
    """Count, mean and squared deviations of each channel, joined by the formula of Chan et al.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979: no large sums are subtracted, so none of their digits are lost.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take in samples (C, …)."""
        flat = samples.reshape(len(samples), -1).astype(np.float64)
        mean = flat.mean(axis=1)
        self._join(flat.shape[1], mean, ((flat - mean[:, None]) ** 2).sum(axis=1))

    def join(self, other: Moments) -> None:
        """Take in what ``other`` has seen."""
        self._join(other.count, other.mean, other.squares)

    def _join(self, count: int, mean: NDArray[Any], squares: NDArray[Any]) -> None:
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """Of the population; 1 for a channel that never varies, so that one can divide by it."""
        std = np.sqrt(self.squares / max(self.count, 1))
        return np.where(std > 1e-9, std, 1.0)  # 16 bits vary by 1.5e-5 or not at all


@dataclass
class Seen:
    """What one pair holds.

    Attributes:
        files: the pair.
        channels: of the picture.
        size: (height, width) of the picture.
        moments: of the picture's samples, scaled to 0…1.
        digest: of the picture's samples.
        target_digest: of the answer's.
        tally: pixels of each code in the mask; empty for ``restore``.
        problems: what is wrong with either file, in the order it was found.
    """

    files: Files
    channels: int = 0
    size: tuple[int, int] = (0, 0)
    moments: Moments = field(default_factory=lambda: Moments(0))
    digest: str = ""
    target_digest: str = ""
    tally: dict[int, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def look(files: Files, task: str, *, colours: bool) -> Seen:
    """Read both files of a pair once; whatever is wrong is in the ``problems`` of the answer.

    Args:
        files: the pair.
        task: one of :data:`eyeshot.data.pairs.pair.TASKS`.
        colours: whether masks are coloured.
    """
    seen = Seen(files)
    shape = _look_at_picture(files.image, seen)
    other = (
        _look_at_mask(files.target, seen, colours)
        if task == "segment"
        else _look_at_wanted(files.target, seen)
    )
    if shape is not None and other is not None and shape[1:] != other[1:]:
        message = f"is {_times(other[1:])}, and {files.image} is {_times(shape[1:])}"
        seen.problems.append(Problem(files.target, message, "make both of one size"))
    if task == "restore" and shape and other and shape[0] != other[0]:
        message = f"has {_channels(other[0])}, and {files.image} has {shape[0]}"
        seen.problems.append(Problem(files.target, message, "save both in the same colours"))
    return seen


def _look_at_picture(path: Path, seen: Seen) -> tuple[int, ...] | None:
    try:
        with open_picture(path) as source:
            seen.channels, *size = source.shape
            seen.size = (size[0], size[1])
            seen.moments = Moments(seen.channels)
            seen.digest = _read_samples(path, source, seen.moments)
            return source.shape
    except EyeshotError as error:
        seen.problems.append(_problem(path, error))
    except _Refused as refusal:
        seen.problems.append(refusal.problem)
    return None


def _look_at_wanted(path: Path, seen: Seen) -> tuple[int, ...] | None:
    try:
        with open_picture(path) as source:
            seen.target_digest = _read_samples(path, source, Moments(source.shape[0]))
            return source.shape
    except EyeshotError as error:
        seen.problems.append(_problem(path, error))
    except _Refused as refusal:
        seen.problems.append(refusal.problem)
    return None


def _look_at_mask(path: Path, seen: Seen, colours: bool) -> tuple[int, ...] | None:
    try:
        with open_mask(path, colours=colours) as source:
            _check_mask(path, source, colours)
            seen.target_digest = _read_codes(path, source, seen.tally, colours)
            return source.shape
    except EyeshotError as error:
        seen.problems.append(_problem(path, error))
    except _Refused as refusal:
        seen.problems.append(refusal.problem)
    return None


class _Refused(Exception):
    """Carries a problem out of the middle of a file."""

    def __init__(self, path: Path, message: str, cure: str) -> None:
        self.problem = Problem(path, message, cure)


def _read_samples(path: Path, source: Source, moments: Moments) -> str:
    channels, kind = source.shape[0], source.dtype.kind
    if channels > MOST_CHANNELS:
        cure = f"store one picture a file, of at most {MOST_CHANNELS} channels"
        raise _Refused(path, f"has {channels} channels, as a stack of pictures has", cure)
    if kind not in "uf":
        raise _Refused(path, f"holds {source.dtype} samples", "save it in 8 or 16 bits, unsigned")
    digest = _digest(source)
    for band in _bands(source):
        digest.update(np.ascontiguousarray(band).data)
        low, high = band.min(), band.max()
        if kind == "f" and not (low >= 0 and high <= 1):  # so written that NaN is refused too
            raise _Refused(path, f"holds floats from {low:g} to {high:g}", "scale them to 0…1")
        moments.add(scale(band))
    return str(digest.hexdigest())


def _read_codes(path: Path, source: Source, tally: dict[int, int], colours: bool) -> str:
    digest = _digest(source)
    for band in _bands(source):
        digest.update(np.ascontiguousarray(band).data)
        for code, count in _count(band, colours):
            tally[code] = tally.get(code, 0) + count
        if len(tally) > _MOST_VALUES:
            raise _Refused(path, f"holds more than {_MOST_VALUES} values", "is it a mask?")
    return str(digest.hexdigest())


def _count(band: NDArray[Any], colours: bool) -> Iterator[tuple[int, int]]:
    """The codes in a band of a mask (C, rows, W), and how many pixels each."""
    if not colours and band.dtype.itemsize <= 2 and band.dtype.kind == "u":
        counts = np.bincount(band[0].reshape(-1))
        codes = np.nonzero(counts)[0]
        yield from zip(codes.tolist(), counts[codes].tolist(), strict=True)
    else:
        codes, counts = np.unique(encode(band, colours=colours), return_counts=True)
        yield from zip(codes.tolist(), counts.tolist(), strict=True)


def _check_mask(path: Path, source: Source, colours: bool) -> None:
    channels = source.shape[0]
    if not colours and channels != 1:
        raise _Refused(path, f"is a mask with {_channels(channels)}", _GREY_CURE)
    if channels > MOST_CHANNELS:
        raise _Refused(path, f"is a mask with {_channels(channels)}", "store one mask a file")
    if source.dtype.kind not in "biu" or (colours and source.dtype != np.uint8):
        raise _Refused(path, f"is a mask of {source.dtype}", "save it in 8 bits")


def _digest(source: Source) -> Any:
    return hashlib.blake2b(repr((source.shape, str(source.dtype))).encode(), digest_size=16)


def _bands(source: Source) -> Iterator[NDArray[Any]]:
    """The whole image from the top, some rows at a time: as many as it stores together."""
    channels, height, width = source.shape
    rows = max(1, _BAND // (channels * width))
    native = source.native_rows
    rows = max(native, rows // native * native) if native < height else rows
    for top in range(0, height, rows):
        yield source.read((top, min(top + rows, height)))


def _problem(path: Path, error: EyeshotError) -> Problem:
    return Problem(path, error.fact.removeprefix(f"{path}: "), error.cure)


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
