"""How near restored pictures come to what they should be, on whole pictures of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue
from eyeshot.evaluation.passes import Answer, answered

SSIM_WINDOW = 11
"""Pixels of the Gaussian window, of deviation 1.5, in which two pictures are compared."""
_LEAST_ERROR = 1e-10


@dataclass(frozen=True)
class RestoredPicture:
    """One picture: its PSNR in decibels and its SSIM, and those of the picture as it was given."""

    name: str
    psnr: float
    ssim: float
    given_psnr: float
    given_ssim: float


@dataclass(frozen=True)
class RestorationEvaluation:
    """A network's pictures beside what they should be, all in 0 … 1.

    Attributes:
        pictures: a line a picture.
        notes: what the reader should know.
    """

    pictures: tuple[RestoredPicture, ...]
    notes: tuple[str, ...] = ()

    @property
    def psnr(self) -> float:
        """Decibels, the mean over pictures."""
        return float(np.mean([picture.psnr for picture in self.pictures]))

    @property
    def ssim(self) -> float:
        """The mean over pictures."""
        return float(np.mean([picture.ssim for picture in self.pictures]))

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "count": len(self.pictures),
            "psnr": self.psnr,
            "ssim": self.ssim,
            "pictures": [vars(picture) for picture in self.pictures],
            "notes": list(self.notes),
        }


Watch = Callable[[Pair, PairReader, Answer, RestoredPicture], None]
"""Shown each picture when it has been judged, while its answer is there to be read."""


def judge_pictures(
    net: Traced,
    pairs: Pairs,
    judged: Sequence[Pair],
    notes: tuple[str, ...] = (),
    *,
    watch: Watch | None = None,
) -> RestorationEvaluation:
    """Compare a network's pictures with the wanted ones, whole and a band of rows at a time.

    What a network gives outside of 0 … 1 counts as clipped: no picture can hold it.

    Args:
        net: with the mean and deviation of its samples.
        pairs: that the pictures are of.
        judged: the pictures.
        notes: to be handed on.
        watch: shown each picture, so that nobody has to pass it through the network again.

    Raises:
        BadFile: a picture cannot be read.
        BadValue: a picture does not fit the network.
    """
    return RestorationEvaluation(tuple(_judge(net, pair, pairs, watch) for pair in judged), notes)


def _judge(net: Traced, pair: Pair, pairs: Pairs, watch: Watch | None) -> RestoredPicture:
    restored, given = Likeness(), Likeness()
    if min(pair.size) <= SSIM_WINDOW // 2:
        raise BadValue(
            f"{pair.image}: {pair.size[0]}×{pair.size[1]}, too small to be compared",
            cure=f"use pictures of {SSIM_WINDOW // 2 + 1} pixels or more each way",
        )
    with (
        open_pair(pair, pairs) as reader,
        answered(net, pair, reader, channels=pairs.channels) as answer,
    ):
        down, right = answer.offset
        columns = (right, right + answer.size[1])
        for rows, counted in answer.bands(SSIM_WINDOW // 2):
            truth = answer.truth(reader, rows)
            before = reader.image((down + rows.start, down + rows.stop), columns)
            restored.add(answer.samples[:, rows].clip(0, 1), truth, counted)
            given.add(before, truth, counted)
        score = RestoredPicture(pair.name, restored.psnr, restored.ssim, given.psnr, given.ssim)
        if watch is not None:
            watch(pair, reader, answer, score)
    return score


class Likeness:
    """PSNR and SSIM of two pictures, gathered by windows.

    Source: Wang et al., 2004, "Image quality assessment: from error visibility to structural
    similarity"; at the border the pictures are mirrored.
    """

    def __init__(self) -> None:
        self._error, self._ssim, self._count = 0.0, 0.0, 0

    def add(self, one: NDArray[Any], other: NDArray[Any], counted: slice) -> None:
        """Take in the rows ``counted`` of a window (C, h, w) in 0 … 1."""
        from kornia.metrics import ssim  # takes seconds to import

        first, second = (torch.from_numpy(np.array(a, np.float64)) for a in (one, other))
        similar = ssim(first[None], second[None], SSIM_WINDOW)[0, :, counted]
        self._ssim += float(similar.sum())
        self._error += float((first - second).square()[:, counted].sum())
        self._count += similar.numel()

    @property
    def psnr(self) -> float:
        """Decibels."""
        return psnr_of(self._error / self._count)

    @property
    def ssim(self) -> float:
        """From −1 to 1, which is for the same picture."""
        return self._ssim / self._count


def psnr_of(error: float) -> float:
    """10 log₁₀(1 / error) decibels of a mean squared error of pictures in 0 … 1; at most 100.

    Two pictures that are the same have no PSNR; 100 says that none could see a difference.
    """
    return 10 * math.log10(1 / max(error, _LEAST_ERROR)) if error == error else error
