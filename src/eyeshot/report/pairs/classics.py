"""The mean and the Gaussian filter on the same pictures: what can be had without learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot import filters
from eyeshot.data.pairs import PairReader, Pairs, open_pair
from eyeshot.evaluation.restoration import SSIM_WINDOW, Likeness, psnr_of
from eyeshot.images import Span

SIZES = (3, 5, 7, 9)
NAMES = ("mean", "gaussian")
_PIXELS = 2**21  # that are filtered at a time

Area = tuple[Span, Span]
"""The rows and columns of a picture that are judged."""


@dataclass(frozen=True)
class Classic:
    """A filter in the size that does best on all pictures.

    Attributes:
        kernel: as :func:`eyeshot.filter` takes it: ``mean:5``.
        psnr: decibels, the mean over pictures.
        ssim: the mean over pictures.
    """

    kernel: str
    psnr: float
    ssim: float

    @property
    def title(self) -> str:
        """In words."""
        name, _, size = self.kernel.partition(":")
        return f"{'Gaussian' if name == 'gaussian' else name} filter {size}×{size}"


def judge_classics(pairs: Pairs, areas: Mapping[Path, Area]) -> tuple[Classic, ...]:
    """Each filter, in that of its sizes which gives the highest PSNR.

    Args:
        pairs: whose ``validation`` is filtered.
        areas: of each picture, by its path, the part that is judged.

    Raises:
        BadFile: a picture cannot be read.
    """
    kernels = [f"{name}:{size}" for name in NAMES for size in SIZES]
    errors = np.array([_errors(*opened, kernels) for opened in _opened(pairs, areas)])
    psnr = dict(zip(kernels, np.vectorize(psnr_of)(errors).mean(axis=0).tolist(), strict=True))
    best = [max((f"{name}:{size}" for size in SIZES), key=psnr.__getitem__) for name in NAMES]
    ssim = np.array([_ssims(*opened, best) for opened in _opened(pairs, areas)]).mean(axis=0)
    return tuple(
        Classic(kernel, psnr[kernel], float(like)) for kernel, like in zip(best, ssim, strict=True)
    )


def smooth(reader: PairReader, kernel: str, rows: Span, columns: Span) -> NDArray[np.float32]:
    """A window of the picture (C, h, w) under a filter, as if the whole had been filtered.

    At the picture's own border it is mirrored.
    """
    reach = filters.resolve(kernel).kernels[0].shape[0] // 2
    wide = [
        (max(0, lo - reach), min(length, hi + reach))
        for (lo, hi), length in zip((rows, columns), reader.size, strict=True)
    ]
    picture = np.moveaxis(reader.image(wide[0], wide[1]), 0, -1)
    smoothed: NDArray[Any] = filters.filter(
        picture, kernel, padding="reflect", range="keep", alpha="filter"
    )
    (top, bottom), (left, right) = (
        (lo - first, hi - first) for (lo, hi), (first, _) in zip((rows, columns), wide, strict=True)
    )
    return np.moveaxis(smoothed[top:bottom, left:right], -1, 0)


def _opened(pairs: Pairs, areas: Mapping[Path, Area]) -> Iterator[tuple[PairReader, Area]]:
    for pair in pairs.validation:
        with open_pair(pair, pairs) as reader:
            yield reader, areas[pair.image]


def _errors(reader: PairReader, area: Area, kernels: list[str]) -> list[float]:
    """The mean squared error of each filter on one picture."""
    sums, count = np.zeros(len(kernels)), 0
    for rows, _ in _bands(area, 0):
        target = reader.target(rows, area[1])
        count += target.size
        for place, kernel in enumerate(kernels):
            smoothed = smooth(reader, kernel, rows, area[1]).clip(0, 1)
            sums[place] += np.square(smoothed - target, dtype=np.float64).sum()
    return [float(total) / count for total in sums]


def _ssims(reader: PairReader, area: Area, kernels: list[str]) -> list[float]:
    likeness = [Likeness() for _ in kernels]
    for rows, counted in _bands(area, SSIM_WINDOW // 2):
        target = reader.target(rows, area[1])
        for one, kernel in zip(likeness, kernels, strict=True):
            one.add(smooth(reader, kernel, rows, area[1]).clip(0, 1), target, counted)
    return [one.ssim for one in likeness]


def _bands(area: Area, halo: int) -> Iterator[tuple[Span, slice]]:
    """The rows of an area a band at a time, with ``halo`` rows around, and the band in that."""
    (first, last), (left, right) = area
    step = max(1, _PIXELS // (right - left))
    for start in range(first, last, step):
        stop = min(last, start + step)
        top, bottom = max(first, start - halo), min(last, stop + halo)
        yield (top, bottom), slice(start - top, stop - top)
