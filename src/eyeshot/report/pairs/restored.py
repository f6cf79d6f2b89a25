"""What the report of restored pictures draws from, gathered while each picture is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import trace
from eyeshot.evaluation import RestorationEvaluation
from eyeshot.evaluation.pairs import fitting_pairs
from eyeshot.evaluation.passes import Answer
from eyeshot.evaluation.restoration import RestoredPicture, judge_pictures, psnr_of
from eyeshot.images import Span
from eyeshot.report.pairs.classics import Area, Classic, judge_classics, smooth
from eyeshot.report.pairs.levels import Levels, look_inside
from eyeshot.report.pairs.reduction import Light, Reduced, factor_for, measure_light
from eyeshot.report.pairs.shots import CROP, OVERVIEW, Shot, find_worst, new_tally
from eyeshot.runs import Run

SHOWN = 3
"""Of the worst pictures, and of the best."""
AMPLIFIED = 5
"""By which differences are multiplied to be seen."""
WHOLE_VIEWS = ("given", "restored", "target", f"difference × {AMPLIFIED}")
PARTS = 1
"""Parts of a picture that are shown pixel by pixel."""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a picture, pixel by pixel.

    Attributes:
        shot: given, each classic filter, restored, target, difference.
        psnr: in decibels, of all but the last two.
    """

    shot: Shot
    psnr: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Kept:
    """A picture that may be shown; its parts wait for the filters to be chosen."""

    pair: Pair
    score: RestoredPicture
    whole: Shot
    light: Light
    restored: tuple[tuple[Span, Span, NDArray[np.float32]], ...]


@dataclass(frozen=True, eq=False)
class RestoredMaterialPicture:
    """One picture laid open: all of it, and the part with the largest errors."""

    score: RestoredPicture
    size: tuple[int, int]
    whole: Shot
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class RestoredMaterial:
    """A run that makes pictures, laid out.

    Attributes:
        run: what the report is about.
        pairs: what it is judged by: ``pairs.validation``.
        evaluation: how well it does.
        classics: how well filters do that nobody trained.
        pictures: the worst and the best, the worst first.
        levels: what the network sees in a part of the worst picture.
    """

    run: Run
    pairs: Pairs
    evaluation: RestorationEvaluation
    classics: tuple[Classic, ...]
    pictures: tuple[RestoredMaterialPicture, ...]
    levels: Levels | None


def gather_restored(run: Run, data: Pairs | None = None) -> RestoredMaterial:
    """Judge the run by whole pictures beside filters, and keep what a page has room for.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they are not such as the network was trained on.
    """
    pairs = fitting_pairs(run, data)
    watcher = _Watcher()
    evaluation = judge_pictures(
        trace(run), pairs, pairs.validation, pairs.notes, watch=watcher.watch
    )
    classics = judge_classics(pairs, watcher.areas)
    pictures = tuple(_lay_open(kept, pairs, classics) for kept in watcher.kept)
    levels = look_inside(run, pairs, pictures[0].score.name)
    return RestoredMaterial(run, pairs, evaluation, classics, pictures, levels)


class _Watcher:
    """Sees each picture as it is judged, and keeps the worst and the best."""

    def __init__(self) -> None:
        self.areas: dict[Path, Area] = {}
        self.kept: list[_Kept] = []  # in the order of their PSNR; of equals, as they came

    def watch(self, pair: Pair, reader: PairReader, answer: Answer, score: RestoredPicture) -> None:
        (height, width), (down, right) = answer.plane, answer.offset
        self.areas[pair.image] = ((down, down + height), (right, right + width))
        before = sum(kept.score.psnr <= score.psnr for kept in self.kept)
        full = len(self.kept) == 2 * SHOWN
        if full and before == SHOWN:
            return  # neither among the worst nor among the best
        light = measure_light(reader)
        whole, tally = _take_whole(reader, answer, light)
        parts = find_worst(tally, answer.plane, PARTS) or [_middle(answer.plane)]
        restored = tuple(
            (_shift(rows, down), _shift(columns, right), _restored(answer, rows, columns))
            for rows, columns in parts
        )
        self.kept.insert(before, _Kept(pair, score, whole, light, restored))
        if full:
            del self.kept[SHOWN]


def _restored(answer: Answer, rows: Span, columns: Span) -> NDArray[np.float32]:
    samples = answer.samples[:, slice(*rows), slice(*columns)]
    return np.asarray(samples, np.float32).clip(0, 1)


def _take_whole(reader: PairReader, answer: Answer, light: Light) -> tuple[Shot, Reduced]:
    """All of the answer, averaged down a band at a time, and where it differs most."""
    (height, width), (down, right) = answer.plane, answer.offset
    factor, tally = factor_for(answer.plane, OVERVIEW), new_tally(answer.plane)
    small = [Reduced(answer.plane, factor, 3) for _ in WHOLE_VIEWS]
    for rows, _ in answer.bands():
        given = reader.image((down + rows.start, down + rows.stop), (right, right + width))
        restored, target = (
            _restored(answer, (rows.start, rows.stop), (0, width)),
            answer.truth(reader, rows),
        )
        views = (*map(light.show, (given, restored, target)), _difference(restored, target))
        for reduced, view in zip(small, views, strict=True):
            reduced.add(rows.start, view)
        tally.add(rows.start, np.square(restored - target).sum(axis=0)[..., None])
    pictures = tuple(reduced.picture for reduced in small)
    return Shot(pictures, (down, down + height), (right, right + width), factor), tally


def _lay_open(kept: _Kept, pairs: Pairs, classics: tuple[Classic, ...]) -> RestoredMaterialPicture:
    with open_pair(kept.pair, pairs) as reader:
        parts = tuple(_part(reader, kept.light, classics, *one) for one in kept.restored)
    return RestoredMaterialPicture(kept.score, kept.pair.plane, kept.whole, parts)


def _part(
    reader: PairReader,
    light: Light,
    classics: tuple[Classic, ...],
    rows: Span,
    columns: Span,
    restored: NDArray[np.float32],
) -> Part:
    given = reader.image(rows, columns)
    target = np.asarray(reader.target(rows, columns), np.float32)
    smoothed = [smooth(reader, one.kernel, rows, columns) for one in classics]
    tried = (given, *smoothed, restored)
    views = (*map(light.show, (*tried, target)), _difference(restored, target))
    psnr = tuple(psnr_of(float(np.square(one - target, dtype=np.float64).mean())) for one in tried)
    return Part(Shot(views, rows, columns), psnr)


def _difference(restored: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What is too bright or too dark, amplified around mid-grey."""
    return Light().show((restored - target) * AMPLIFIED / 2 + 0.5)


def _middle(size: tuple[int, int]) -> tuple[Span, Span]:
    """The middle of a small picture: all of it, where that is no larger than a part."""
    first, second = (((n - min(n, CROP)) // 2, (n + min(n, CROP)) // 2) for n in size)
    return first, second


def _shift(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by
