"""What the report of masks draws from, gathered while each picture is judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs
from eyeshot.engine.networks import trace
from eyeshot.evaluation import MaskEvaluation, PictureScore
from eyeshot.evaluation.pairs import fitting_pairs
from eyeshot.evaluation.passes import Answer
from eyeshot.evaluation.segmentation import judge_masks
from eyeshot.images import Span
from eyeshot.pictures.masks import paint_classes, paint_errors
from eyeshot.report.pairs.levels import Levels, look_inside
from eyeshot.report.pairs.places import HALO, ErrorPlaces
from eyeshot.report.pairs.reduction import Light, Reduced, factor_for, measure_light
from eyeshot.report.pairs.shots import OVERVIEW, Shot, find_worst, new_tally
from eyeshot.runs import Run

_PICTURE = 2  # axes of space
SHOWN = 3
"""Of the worst pictures, and of the best."""
VIEWS = ("picture", "truth", "prediction", "errors")


@dataclass(frozen=True, eq=False)
class MaskPicture:
    """One picture laid open: all of it, and the parts with most errors."""

    score: PictureScore
    size: tuple[int, int]
    whole: Shot
    parts: tuple[Shot, ...]


@dataclass(frozen=True, eq=False)
class MaskMaterial:
    """A run that makes masks, laid out.

    Attributes:
        run: what the report is about.
        pairs: what it is judged by: ``pairs.validation``.
        evaluation: how well it does.
        pictures: the worst and the best, the worst first; none of volumes and signals.
        places: where errors gather.
        levels: what the network sees in a part of the worst picture.
    """

    run: Run
    pairs: Pairs
    evaluation: MaskEvaluation
    pictures: tuple[MaskPicture, ...]
    places: ErrorPlaces
    levels: Levels | None


def gather_masks(run: Run, data: Pairs | None = None) -> MaskMaterial:
    """Judge the run by whole pictures, and keep of them what a page has room for.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they are not such as the network was trained on.
    """
    pairs = fitting_pairs(run, data)
    if pairs.dims != _PICTURE:
        found = judge_masks(trace(run), pairs, pairs.validation, pairs.notes)
        return MaskMaterial(run, pairs, found, (), ErrorPlaces(), None)
    watcher = _Watcher(len(pairs.classes))
    evaluation = judge_masks(trace(run), pairs, pairs.validation, pairs.notes, watch=watcher.watch)
    pictures = watcher.pictures
    levels = look_inside(run, pairs, pictures[0].score.name)
    return MaskMaterial(run, pairs, evaluation, pictures, watcher.places, levels)


class _Watcher:
    """Sees each picture as it is judged, and keeps the worst and the best."""

    def __init__(self, classes: int) -> None:
        self.places = ErrorPlaces()
        self._classes = classes
        self._kept: list[MaskPicture] = []  # in the order of their Dice; of equals, as they came

    @property
    def pictures(self) -> tuple[MaskPicture, ...]:
        return tuple(self._kept)

    def watch(self, pair: Pair, reader: PairReader, answer: Answer, score: PictureScore) -> None:
        tally = self._count(reader, answer)
        before = sum(kept.score.dice <= score.dice for kept in self._kept)
        full = len(self._kept) == 2 * SHOWN
        if full and before == SHOWN:
            return  # neither among the worst nor among the best
        parts = find_worst(tally, answer.plane)
        light = measure_light(reader)
        shots = tuple(_take(reader, answer, light, *part, self._classes) for part in parts)
        whole = _take_whole(reader, answer, light, self._classes)
        self._kept.insert(before, MaskPicture(score, pair.plane, whole, shots))
        if full:
            del self._kept[SHOWN]

    def _count(self, reader: PairReader, answer: Answer) -> Reduced:
        """Where this picture's errors lie, added to those of the others."""
        tally = new_tally(answer.plane)
        self.places.begin(answer.plane)
        for rows, counted in answer.bands(HALO):
            truth, said = answer.truth(reader, rows), _said(answer, rows)
            self.places.add(rows.start, counted, truth, said)
            wrong = ((truth >= 0) & (truth != said))[counted]
            tally.add(rows.start + counted.start, wrong[..., None])
        return tally


def _said(answer: Answer, rows: slice, columns: slice = slice(None)) -> NDArray[np.int64]:
    return np.asarray(answer.samples[0, rows, columns], np.int64)


def _take(
    reader: PairReader, answer: Answer, light: Light, rows: Span, columns: Span, classes: int
) -> Shot:
    """A part of the answer, pixel by pixel."""
    down, right = answer.offset
    here = (rows[0] + down, rows[1] + down), (columns[0] + right, columns[1] + right)
    picture = light.show(reader.image(*here))
    truth = np.asarray(reader.target(*here), np.int64)
    said = _said(answer, slice(*rows), slice(*columns))
    return Shot(_views(picture, truth, said, classes), *here)


def _take_whole(reader: PairReader, answer: Answer, light: Light, classes: int) -> Shot:
    """All of the answer, averaged down a band at a time."""
    (height, width), (down, right) = answer.plane, answer.offset
    factor = factor_for(answer.plane, OVERVIEW)
    small = [Reduced(answer.plane, factor, 3) for _ in VIEWS]
    for rows, _ in answer.bands():
        span = (down + rows.start, down + rows.stop)
        picture = light.show(reader.image(span, (right, right + width)))
        views = _views(picture, answer.truth(reader, rows), _said(answer, rows), classes)
        for reduced, view in zip(small, views, strict=True):
            reduced.add(rows.start, view)
    return Shot(
        tuple(reduced.picture for reduced in small),
        (down, down + height),
        (right, right + width),
        factor,
    )


def _views(
    picture: NDArray[np.uint8], truth: NDArray[np.int64], said: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.uint8], ...]:
    return (
        picture,
        paint_classes(truth, classes),
        paint_classes(said, classes),
        paint_errors(picture, truth, said),
    )
