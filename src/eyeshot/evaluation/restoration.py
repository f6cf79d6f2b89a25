"""Evaluate restored images against their targets, on whole images of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue
from eyeshot.evaluation.passes import Answer, answered

SSIM_WINDOW = 11
"""The side in pixels of SSIM's Gaussian window, whose sigma is 1.5."""
_REACH, _DEVIATION = SSIM_WINDOW // 2, 1.5
_C1, _C2 = 0.01**2, 0.03**2
LEAST_ERROR = 1e-10
"""A mean squared error that is not visible; a smaller one counts as this, for a finite PSNR."""
_AT_ONCE = 2**18
"""Positions of one channel that are compared at a time; ten maps of 8 bytes or so are in memory."""

Picture = NDArray[np.float64]


@dataclass(frozen=True)
class RestoredPicture:
    """One image: PSNR in decibels and SSIM of the network's output, and those of its input."""

    name: str
    psnr: float
    ssim: float
    given_psnr: float
    given_ssim: float


@dataclass(frozen=True)
class RestorationEvaluation:
    """A network's images compared with their targets, all in 0 … 1.

    Attributes:
        pictures: the result of each image.
        notes: further lines for the reader.
    """

    pictures: tuple[RestoredPicture, ...]
    notes: tuple[str, ...] = ()

    @property
    def psnr(self) -> float:
        """The mean PSNR over images, in decibels."""
        return float(np.mean([picture.psnr for picture in self.pictures]))

    @property
    def ssim(self) -> float:
        """The mean SSIM over images, −1 to 1."""
        return float(np.mean([picture.ssim for picture in self.pictures]))

    def _repr_html_(self) -> str:
        from eyeshot.evaluation.passes import restoration_piece

        return restoration_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "count": len(self.pictures),
            "psnr": self.psnr,
            "ssim": self.ssim,
            "pictures": [vars(picture) for picture in self.pictures],
            "notes": list(self.notes),
        }


Watch = Callable[[Pair, PairReader, Answer, RestoredPicture], None]
"""Called for each image after its evaluation, while its answer can still be read."""


def judge_pictures(
    net: Traced,
    pairs: Pairs,
    judged: Sequence[Pair],
    notes: tuple[str, ...] = (),
    *,
    watch: Watch | None = None,
    before: dict[Path, Likeness] | None = None,
) -> RestorationEvaluation:
    """Compare a network's outputs with their targets: whole images, a band of rows at a time.

    Outputs outside 0 … 1 are clipped, as an image file would be.

    Args:
        net: the network, with the mean and deviation of its samples.
        pairs: the pairs that ``judged`` belong to.
        judged: the pairs to evaluate.
        notes: lines to put into the result.
        watch: called for each image, so that its answer need not be computed again.
        before: a cache, by file, of the PSNR and SSIM of the inputs. Missing entries are added, so
            that a second evaluation need not measure them again.

    Raises:
        BadFile: an image cannot be read.
        BadValue: an image does not fit the network.
    """
    known = {} if before is None else before
    pictures = tuple(_judge(net, pair, pairs, watch, known) for pair in judged)
    return RestorationEvaluation(pictures, notes)


def _judge(
    net: Traced,
    pair: Pair,
    pairs: Pairs,
    watch: Watch | None,
    known: dict[Path, Likeness],
) -> RestoredPicture:
    restored, unrestored = Likeness(), known.get(pair.image) or Likeness()
    _check_size(pair, pair.plane, "too small to be compared")
    with (
        open_pair(pair, pairs) as reader,
        answered(net, pair, reader, channels=pairs.channels) as answer,
    ):
        _check_size(pair, answer.plane, "all that the network without padding answers: too small")
        down, right = answer.offset
        columns = (right, right + answer.plane[1])
        for rows, counted in answer.bands(SSIM_WINDOW // 2):
            truth = answer.truth(reader, rows)
            restored.add(answer.samples[:, rows].clip(0, 1), truth, counted)
            if pair.image not in known:
                before = reader.image((down + rows.start, down + rows.stop), columns)
                unrestored.add(before, truth, counted)
        known[pair.image] = unrestored
        before_and_after = (restored.psnr, restored.ssim, unrestored.psnr, unrestored.ssim)
        score = RestoredPicture(pair.name, *before_and_after)
        if watch is not None:
            watch(pair, reader, answer, score)
    return score


class Likeness:
    """PSNR and SSIM of two images, accumulated over windows of rows.

    Source: Wang et al., 2004, "Image quality assessment: from error visibility to structural
    similarity". At the border, images are mirrored.
    """

    def __init__(self) -> None:
        self._error, self._ssim, self._count = 0.0, 0.0, 0

    def add(self, one: NDArray[Any], other: NDArray[Any], counted: slice) -> None:
        """Add the rows ``counted`` of a window (C, h, w) in 0 … 1."""
        height, width = one.shape[1:]
        first, last, _ = counted.indices(height)
        step = max(1, _AT_ONCE // width)
        for start in range(first, last, step):
            stop = min(last, start + step)
            top, bottom = max(0, start - _REACH), min(height, stop + _REACH)
            inside = slice(start - top, stop - top)
            for a, b in zip(one[:, top:bottom], other[:, top:bottom], strict=True):
                self._compare(np.asarray(a, np.float64), np.asarray(b, np.float64), inside)

    def _compare(self, one: Picture, other: Picture, counted: slice) -> None:
        """Add the rows ``counted`` of one channel (h, w)."""
        first, second = _blur(one), _blur(other)
        squares, product = first * first + second * second, first * second
        spread = _blur(one * one + other * other) - squares
        together = _blur(one * other) - product
        similar = (2 * product + _C1) * (2 * together + _C2)
        similar /= (squares + _C1) * (spread + _C2)
        self._ssim += float(similar[counted].sum())
        self._error += float(np.square(one - other)[counted].sum())
        self._count += similar[counted].size

    @property
    def psnr(self) -> float:
        """Decibels."""
        return psnr_of(self._error / self._count)

    @property
    def ssim(self) -> float:
        """The SSIM, from −1 to 1; 1 for equal images."""
        return self._ssim / self._count


def _blur(values: Picture) -> Picture:
    """The mean around each position, weighted by a Gaussian; mirrored at the border."""
    import cv2

    size = (SSIM_WINDOW, SSIM_WINDOW)
    blurred = cv2.GaussianBlur(values, size, _DEVIATION, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.float64)


def _check_size(pair: Pair, size: tuple[int, int], constraint: str) -> None:
    if min(size) <= _REACH:
        raise BadValue(
            f"{pair.image}: {size[0]}×{size[1]}, {constraint}",
            cure=f"{_REACH + 1} pixels or more each way can be compared: use larger pictures",
        )


def psnr_of(error: float) -> float:
    """The PSNR 10 log₁₀(1 / error), in decibels, of a mean squared error in 0 … 1; at most 100.

    The PSNR of equal images is infinite; it is reported as 100.
    """
    return 10 * math.log10(1 / max(error, LEAST_ERROR)) if error == error else error
