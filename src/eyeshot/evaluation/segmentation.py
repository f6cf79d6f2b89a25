"""How well masks are met, on whole pictures of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue
from eyeshot.evaluation.boundaries import TOLERANCE, BoundaryCount
from eyeshot.evaluation.passes import Answer, answered


@dataclass(frozen=True)
class ClassScore:
    """One class over all pictures together; None where there is nothing to take a share of.

    Attributes:
        name: of the class.
        pixels: that are of it.
        dice: 2 |A ∩ B| / (|A| + |B|), A what is said to be it and B what is.
        iou: |A ∩ B| / |A ∪ B|.
        precision: |A ∩ B| / |A|.
        recall: |A ∩ B| / |B|.
        boundary_f1: see :class:`eyeshot.evaluation.boundaries.BoundaryCount`.
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
    """One picture: share of judged pixels that are right, and mean Dice of the classes in it."""

    name: str
    accuracy: float
    dice: float


@dataclass(frozen=True)
class MaskEvaluation:
    """A network's masks for whole pictures.

    Attributes:
        per_class: a line a class.
        pictures: a line a picture in which a pixel was judged.
        confusion: (classes, classes), how many pixels of class [row] were said to be [column].
        tolerance: pixels by which a boundary may be missed.
        notes: what the reader should know.
    """

    per_class: tuple[ClassScore, ...]
    pictures: tuple[PictureScore, ...]
    confusion: NDArray[np.int64] = field(repr=False)
    tolerance: int = TOLERANCE
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """The share of all pixels that is right."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def dice(self) -> float:
        """The mean over classes that are there: of another, one wrong pixel makes it 0."""
        return _mean([one.dice for one in self.per_class if one.pixels])

    @property
    def iou(self) -> float:
        """The mean over classes that are there."""
        return _mean([one.iou for one in self.per_class if one.pixels])

    @property
    def boundary_f1(self) -> float:
        """The mean over classes with a boundary."""
        return _mean([one.boundary_f1 for one in self.per_class])

    def _repr_html_(self) -> str:
        from eyeshot.evaluation.pieces import masks_piece

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


Watch = Callable[[Pair, PairReader, Answer, PictureScore], None]
"""Shown each picture when it has been judged, while its answer is there to be read."""


def judge_masks(
    net: Traced,
    pairs: Pairs,
    judged: Sequence[Pair],
    notes: tuple[str, ...] = (),
    *,
    watch: Watch | None = None,
) -> MaskEvaluation:
    """Compare a network's masks with the true ones, on whole pictures and a band of rows at a time.

    Args:
        net: with the mean and deviation of its samples; any mode of training, which it is left in.
        pairs: that the pictures are of.
        judged: the pictures.
        notes: to be handed on.
        watch: shown each picture, so that nobody has to pass it through the network again.

    Raises:
        BadFile: a picture cannot be read.
        BadValue: a picture does not fit the network, or nobody has judged a pixel of any.
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
    """Pixels of each class said to be each class, in one picture; its boundaries are counted."""
    table = np.zeros(classes * classes, np.int64)
    for rows, counted in answer.bands(boundaries.halo):
        truth = answer.truth(reader, rows)
        said = np.where(truth < 0, -1, answer.samples[0, rows].astype(np.int64))
        for ours, theirs, lines in _planes(said, truth, counted):
            boundaries.add(ours, theirs, lines)
        known = truth[counted] >= 0
        cells = truth[counted][known] * classes + said[counted][known]
        table += np.bincount(cells, minlength=classes * classes)
    return table.reshape(classes, classes)


def _planes(
    said: NDArray[np.int64], truth: NDArray[np.int64], counted: slice
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], slice]]:
    """Planes (h, w) whose boundaries are compared: each slice of a volume, a signal as one row."""
    if said.ndim == 1:
        yield said[np.newaxis, counted], truth[np.newaxis, counted], slice(None)
    elif said.ndim == 2:
        yield said, truth, counted
    else:
        for ours, theirs in zip(said[counted], truth[counted], strict=True):
            yield ours, theirs, slice(None)


def _score_classes(
    names: tuple[str, ...], table: NDArray[np.int64], boundary_f1: list[float | None]
) -> tuple[ClassScore, ...]:
    right, there, said = table.diagonal(), table.sum(1), table.sum(0)
    return tuple(
        ClassScore(
            name,
            int(there[i]),
            _share(2 * right[i], there[i] + said[i]),
            _share(right[i], there[i] + said[i] - right[i]),
            _share(right[i], said[i]),
            _share(right[i], there[i]),
            boundary_f1[i],
        )
        for i, name in enumerate(names)
    )


def _dices(table: NDArray[np.int64]) -> list[float | None]:
    sizes = table.sum(0) + table.sum(1)
    return [_share(2 * right, size) for right, size in zip(table.diagonal(), sizes, strict=True)]


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Sequence[float | None]) -> float:
    """The mean of those that are numbers; 1 where none is: nothing to find, and nothing found."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 1.0
