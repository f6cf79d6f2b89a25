"""Evaluate predicted masks and restored images against their targets, on whole images of any size.

:class:`BoundaryCount` adds a score for the boundaries of classes, computed by windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue
from eyeshot.evaluation.passes import Answer, answered

TOLERANCE = 2
"""The distance in pixels up to which a boundary counts as found."""


class BoundaryCount:
    """The boundary F1 of each class: how much of a boundary lies near the other one.

    A pixel is on the boundary of its class if one of its four neighbors is of another class. The
    image's border is not a boundary, nor is the border of an unlabeled region. Precision is the
    share of the prediction's boundary that is at most ``tolerance`` pixels (Euclidean distance)
    from the true boundary; recall is the reverse; F1 is their harmonic mean.
    Source: Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic
    segmentation?", BMVC 2013.
    """

    def __init__(self, classes: int, tolerance: int = TOLERANCE) -> None:
        self.tolerance = tolerance
        reach = np.arange(-tolerance, tolerance + 1)
        self._disc = (reach[:, None] ** 2 + reach**2 <= tolerance**2).astype(np.uint8)
        # By class: pixels of the predicted boundary, those near the true boundary; and the reverse.
        self._counts = np.zeros((classes, 4), np.int64)

    @property
    def halo(self) -> int:
        """Rows that a window must have around the rows that are counted."""
        return self.tolerance + 1

    def add(self, predicted: NDArray[np.int64], truth: NDArray[np.int64], counted: slice) -> None:
        """Count the rows ``counted`` of a window: class numbers (h, w), -1 if unlabeled."""
        edges = [np.where(find_boundaries(labels), labels, -1) for labels in (predicted, truth)]
        present = np.union1d(*(np.unique(edge) for edge in edges))
        for label in present[present >= 0]:
            ours, theirs = ((edge == label).astype(np.uint8) for edge in edges)
            self._counts[label] += (
                int(ours[counted].sum()),
                int((ours & self._near(theirs))[counted].sum()),
                int(theirs[counted].sum()),
                int((theirs & self._near(ours))[counted].sum()),
            )

    def f1(self) -> list[float | None]:
        """F1 of each class; None if neither mask has a boundary of it."""
        return [_f1(*(int(n) for n in row)) for row in self._counts]

    def _near(self, edge: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        near: NDArray[np.uint8] = cv2.dilate(edge, self._disc).astype(np.uint8, copy=False)
        return near


def find_boundaries(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The labeled pixels with a labeled neighbor (of four) of another class: (H, W) bool.

    Args:
        labels: (H, W) class numbers; below 0 for unlabeled pixels.
    """
    edge = np.zeros(labels.shape, bool)
    down = (labels[1:] != labels[:-1]) & (labels[1:] >= 0) & (labels[:-1] >= 0)
    edge[1:] |= down
    edge[:-1] |= down
    right = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] >= 0) & (labels[:, :-1] >= 0)
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def _f1(predicted: int, predicted_near: int, present: int, present_near: int) -> float | None:
    if not predicted and not present:
        return None
    if not predicted_near or not present_near:
        return 0.0
    precision, recall = predicted_near / predicted, present_near / present
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class over all images together; None if a denominator is 0.

    Of a class that no true mask has, the precision alone is a number: 0 where it was predicted.

    Attributes:
        name: the name of the class.
        pixels: the number of pixels of this class in the true masks.
        dice: 2 |A ∩ B| / (|A| + |B|), where A are the predicted pixels and B the true ones.
        iou: |A ∩ B| / |A ∪ B|.
        precision: |A ∩ B| / |A|.
        recall: |A ∩ B| / |B|.
        boundary_f1: see :class:`eyeshot.evaluation.pairs.BoundaryCount`.
    """

    name: str
    pixels: int
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    boundary_f1: float | None


@dataclass(frozen=True)
class PictureScore:
    """One image: the share of labeled pixels that are right, and the mean Dice.

    Classes that are not in its true mask are left out of the mean, as in :class:`MaskEvaluation`.
    """

    name: str
    accuracy: float
    dice: float


@dataclass(frozen=True)
class MaskEvaluation:
    """The evaluation of a network's masks for whole images.

    Attributes:
        per_class: the scores of each class.
        pictures: the scores of each image that has a labeled pixel.
        confusion: (classes, classes), the number of pixels of class [row] predicted as [column].
        tolerance: the distance in pixels up to which a boundary counts as found.
        notes: further lines for the reader.
    """

    per_class: tuple[ClassScore, ...]
    pictures: tuple[PictureScore, ...]
    confusion: NDArray[np.int64] = field(repr=False)
    tolerance: int = TOLERANCE
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """The share of labeled pixels that are right, 0 to 1."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def dice(self) -> float:
        """The mean Dice over classes in the true masks; any other is 0 after one wrong pixel."""
        return _mean([one.dice for one in self.per_class if one.pixels])

    @property
    def iou(self) -> float:
        """The mean IoU over classes in the true masks."""
        return _mean([one.iou for one in self.per_class if one.pixels])

    @property
    def boundary_f1(self) -> float:
        """The mean boundary F1 over classes in the true masks that have a boundary."""
        return _mean([one.boundary_f1 for one in self.per_class])

    def _repr_html_(self) -> str:
        from eyeshot.evaluation.passes import masks_piece

        return masks_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "count": len(self.pictures),
            "accuracy": self.accuracy,
            "dice": self.dice,
            "iou": self.iou,
            "boundary_f1": self.boundary_f1,
            "boundary_tolerance": self.tolerance,
            "per_class": [vars(one) for one in self.per_class],
            "pictures": [vars(one) for one in self.pictures],
            "confusion": self.confusion.tolist(),
            "notes": list(self.notes),
        }


MaskWatch = Callable[[Pair, PairReader, Answer, PictureScore], None]
"""Called for each image after its evaluation, while its answer can still be read."""


def judge_masks(
    net: Traced,
    pairs: Pairs,
    judged: Sequence[Pair],
    notes: tuple[str, ...] = (),
    *,
    watch: MaskWatch | None = None,
) -> MaskEvaluation:
    """Compare a network's masks with the true ones: whole images, a band of rows at a time.

    Args:
        net: the network, with the mean and deviation of its samples; it keeps its mode.
        pairs: the pairs that ``judged`` belong to.
        judged: the pairs to evaluate.
        notes: lines to put into the result.
        watch: called for each image, so that its answer need not be computed again.

    Raises:
        BadFile: an image cannot be read.
        BadValue: an image does not fit the network, or no mask has a labeled pixel.
    """
    classes = len(pairs.classes)
    boundaries = BoundaryCount(classes)
    total = np.zeros((classes, classes), np.int64)
    pictures, blank = [], []
    for pair in judged:
        with open_pair(pair, pairs) as reader, answered(net, pair, reader) as answer:
            table = _confusion(reader, answer, classes, boundaries)
            if not table.any():
                blank.append(pair)
                continue
            accuracy = float(table.trace() / table.sum())
            score = PictureScore(pair.name, accuracy, _mean(_dices(table)))
            if watch is not None:
                watch(pair, reader, answer, score)
        pictures.append(score)
        total += table
    if not pictures:
        raise BadValue(
            f"{pairs.name}: no pixel that the network answers is judged by any mask",
            cure="draw classes in one of them",
        )
    if blank:
        notes += (
            f"in {len(blank)} of {len(judged)} masks no pixel is judged, first "
            f"{blank[0].target}: those pictures have no score",
        )
    return MaskEvaluation(
        _score_classes(pairs.classes, total, boundaries.f1()),
        tuple(pictures),
        total,
        boundaries.tolerance,
        notes,
    )


def _confusion(
    reader: PairReader, answer: Answer, classes: int, boundaries: BoundaryCount
) -> NDArray[np.int64]:
    """The confusion matrix (classes, classes) of one image; its boundaries are counted too."""
    table = np.zeros(classes * classes, np.int64)
    for rows, counted in answer.bands(boundaries.halo):
        truth = answer.truth(reader, rows)
        predicted = np.where(truth < 0, -1, answer.samples[0, rows].astype(np.int64))
        for ours, theirs, lines in _planes(predicted, truth, counted):
            boundaries.add(ours, theirs, lines)
        known = truth[counted] >= 0
        cells = truth[counted][known] * classes + predicted[counted][known]
        table += np.bincount(cells, minlength=classes * classes)
    return table.reshape(classes, classes)


def _planes(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], counted: slice
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], slice]]:
    """Planes (h, w) in which boundaries are compared: slices of a volume, a signal as one row."""
    if predicted.ndim == 1:
        yield predicted[np.newaxis, counted], truth[np.newaxis, counted], slice(None)
    elif predicted.ndim == 2:
        yield predicted, truth, counted
    else:
        for ours, theirs in zip(predicted[counted], truth[counted], strict=True):
            yield ours, theirs, slice(None)


def _score_classes(
    names: tuple[str, ...], table: NDArray[np.int64], boundary_f1: list[float | None]
) -> tuple[ClassScore, ...]:
    right, there, predicted = table.diagonal(), table.sum(1), table.sum(0)
    return tuple(
        ClassScore(
            name,
            int(there[i]),
            _share(2 * right[i], there[i] + predicted[i]) if there[i] else None,
            _share(right[i], there[i] + predicted[i] - right[i]) if there[i] else None,
            _share(right[i], predicted[i]),
            _share(right[i], there[i]),
            boundary_f1[i] if there[i] else None,
        )
        for i, name in enumerate(names)
    )


def _dices(table: NDArray[np.int64]) -> list[float | None]:
    """The Dice of each class that is in the true mask."""
    there = table.sum(1)
    sizes = np.where(there > 0, there + table.sum(0), 0)
    return [_share(2 * right, size) for right, size in zip(table.diagonal(), sizes, strict=True)]


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Sequence[float | None]) -> float:
    """The mean of the values that are not None; 1 if all are None (nothing to find, none found)."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 1.0


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


PictureWatch = Callable[[Pair, PairReader, Answer, RestoredPicture], None]
"""Called for each image after its evaluation, while its answer can still be read."""


def judge_pictures(
    net: Traced,
    pairs: Pairs,
    judged: Sequence[Pair],
    notes: tuple[str, ...] = (),
    *,
    watch: PictureWatch | None = None,
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
    watch: PictureWatch | None,
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
