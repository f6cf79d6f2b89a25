"""The report on segmentation: the data of each picture, and the sections.

The sections show the classes, pictures from worst to best, and where errors are frequent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs
from eyeshot.engine.networks import trace
from eyeshot.evaluation import MaskEvaluation, PictureScore, fitting_pairs
from eyeshot.evaluation.pairs import judge_masks
from eyeshot.evaluation.passes import Answer
from eyeshot.images import Span
from eyeshot.pages import (
    Figure,
    Image,
    Legend,
    Matrix,
    Part,
    Section,
    Shares,
    Strip,
    Table,
    Text,
)
from eyeshot.pictures import (
    CONFUSED,
    INVENTED,
    MISSED,
    UNJUDGED,
    class_colors,
    color_maps,
    data_uri,
    hex_color,
    paint_classes,
    paint_errors,
)
from eyeshot.report.curves import Levels, look_inside
from eyeshot.report.places import (
    HALO,
    OVERVIEW,
    Bin,
    ErrorPlaces,
    Light,
    Reduced,
    Shot,
    factor_for,
    find_worst,
    measure_light,
    new_tally,
)
from eyeshot.runs import Run

_PICTURE = 2  # spatial axes
SHOWN = 3
"""How many of the worst pictures are shown, and how many of the best."""
VIEWS = ("picture", "truth", "prediction", "errors")


@dataclass(frozen=True, eq=False)
class MaskPicture:
    """The views of one picture: the whole, and the parts with most errors."""

    score: PictureScore
    size: tuple[int, int]
    whole: Shot
    parts: tuple[Shot, ...]


@dataclass(frozen=True, eq=False)
class MaskMaterial:
    """The data of a segmentation's report.

    Attributes:
        run: the run.
        pairs: the pairs; it is tested on ``pairs.validation``.
        evaluation: the metrics.
        pictures: the worst and the best pictures, the worst first; empty for volumes and signals.
        places: where errors are frequent.
        levels: the maps of the network's levels for a part of the worst picture.
    """

    run: Run
    pairs: Pairs
    evaluation: MaskEvaluation
    pictures: tuple[MaskPicture, ...]
    places: ErrorPlaces
    levels: Levels | None


def gather_masks(run: Run, data: Pairs | None = None) -> MaskMaterial:
    """Evaluate the run on whole pictures, and keep the data that the page shows.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they differ in kind from the training pairs.
    """
    pairs = fitting_pairs(run, data)
    if pairs.dims != _PICTURE:
        scores = judge_masks(trace(run), pairs, pairs.validation, pairs.notes)
        return MaskMaterial(run, pairs, scores, (), ErrorPlaces(), None)
    watcher = _Watcher(len(pairs.classes))
    evaluation = judge_masks(trace(run), pairs, pairs.validation, pairs.notes, watch=watcher.watch)
    pictures = watcher.pictures
    levels = look_inside(run, pairs, pictures[0].score.name)
    return MaskMaterial(run, pairs, evaluation, pictures, watcher.places, levels)


class _Watcher:
    """Called with each evaluated picture; keeps the worst and the best."""

    def __init__(self, classes: int) -> None:
        self.places = ErrorPlaces()
        self._classes = classes
        self._pictures_by_dice: list[MaskPicture] = []  # ordered by Dice, then by time

    @property
    def pictures(self) -> tuple[MaskPicture, ...]:
        return tuple(self._pictures_by_dice)

    def watch(self, pair: Pair, reader: PairReader, answer: Answer, score: PictureScore) -> None:
        tally = self._count(reader, answer)
        before = sum(picture.score.dice <= score.dice for picture in self._pictures_by_dice)
        full = len(self._pictures_by_dice) == 2 * SHOWN
        if full and before == SHOWN:
            return  # neither among the worst nor among the best
        parts = find_worst(tally, answer.plane)
        light = measure_light(reader)
        shots = tuple(_take(reader, answer, light, *part, self._classes) for part in parts)
        whole = _take_whole(reader, answer, light, self._classes)
        self._pictures_by_dice.insert(before, MaskPicture(score, pair.plane, whole, shots))
        if full:
            del self._pictures_by_dice[SHOWN]

    def _count(self, reader: PairReader, answer: Answer) -> Reduced:
        """The places of this picture's errors; they are also added to those of all pictures."""
        tally = new_tally(answer.plane)
        self.places.begin(answer.plane)
        for rows, counted in answer.bands(HALO):
            truth, predicted = answer.truth(reader, rows), _predictions(answer, rows)
            self.places.add(rows.start, counted, truth, predicted)
            wrong = ((truth >= 0) & (truth != predicted))[counted]
            tally.add(rows.start + counted.start, wrong[..., None])
        return tally


def _predictions(answer: Answer, rows: slice, columns: slice = slice(None)) -> NDArray[np.int64]:
    return np.asarray(answer.samples[0, rows, columns], np.int64)


def _take(
    reader: PairReader, answer: Answer, light: Light, rows: Span, columns: Span, classes: int
) -> Shot:
    """The views of a part of the picture, pixel by pixel."""
    down, right = answer.offset
    here = (rows[0] + down, rows[1] + down), (columns[0] + right, columns[1] + right)
    picture = light.show(reader.image(*here))
    truth = np.asarray(reader.target(*here), np.int64)
    predicted = _predictions(answer, slice(*rows), slice(*columns))
    return Shot(_views(picture, truth, predicted, classes), *here)


def _take_whole(reader: PairReader, answer: Answer, light: Light, classes: int) -> Shot:
    """The views of the whole picture, reduced by averaging, band by band."""
    (height, width), (down, right) = answer.plane, answer.offset
    factor = factor_for(answer.plane, OVERVIEW)
    small = [Reduced(answer.plane, factor, 3) for _ in VIEWS]
    for rows, _ in answer.bands():
        span = (down + rows.start, down + rows.stop)
        picture = light.show(reader.image(span, (right, right + width)))
        views = _views(picture, answer.truth(reader, rows), _predictions(answer, rows), classes)
        for reduced, view in zip(small, views, strict=True):
            reduced.add(rows.start, view)
    return Shot(
        tuple(reduced.picture for reduced in small),
        (down, down + height),
        (right, right + width),
        factor,
    )


def _views(
    picture: NDArray[np.uint8], truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.uint8], ...]:
    return (
        picture,
        paint_classes(truth, classes),
        paint_classes(predicted, classes),
        paint_errors(picture, truth, predicted),
    )


_LARGEST_TABLE = 16  # classes: a larger table is not shown, because it is hard to read
_NEAR = 2  # pixels: the error of a boundary that a person draws by hand
_HEAT_WIDTH = 420


def classes_section(material: MaskMaterial) -> Section:
    """The metrics of each class, and which classes are confused."""
    evaluation = material.evaluation
    rows = [
        [
            one.name,
            f"{one.pixels:,}" if one.pixels else "absent",
            *map(_say, (one.dice, one.iou, one.recall, one.precision, one.boundary_f1)),
        ]
        for one in evaluation.per_class
    ]
    head = [
        "class",
        "pixels",
        "Dice",
        "IoU",
        "found (recall)",
        "right when predicted (precision)",
        f"boundary F1, within {evaluation.tolerance} px",
    ]
    total = ["mean", "", *map(_say, (evaluation.dice, evaluation.iou)), "", ""]
    parts: list[Part] = [Table(head, rows, total=[*total, _say(evaluation.boundary_f1)])]
    if len(rows) <= _LARGEST_TABLE:
        parts.append(_matrix(material))
    says = (
        f"All {evaluation.confusion.sum():,} judged pixels of {_pictures(evaluation.pictures)}, "
        "each passed through the network whole. In the table below, each row is what pixels "
        "truly are, each column what the network predicted."
    )
    return Section("classes", "How well each class is met", says, parts)


def pictures_section(material: MaskMaterial) -> Section:
    """Picture, truth, prediction and errors side by side, from the worst picture to the best."""
    count, shown = len(material.evaluation.pictures), material.pictures
    parts: list[Part] = [_legend(material)]
    for place, picture in enumerate(shown):
        kind = "" if count <= 2 * SHOWN else " (worst)" if place < SHOWN else " (best)"
        parts += _strips(picture, kind)
    which = (
        f"All {count} held-out pictures"
        if len(shown) == count
        else f"The {SHOWN} worst and the {len(shown) - SHOWN} best of {count} held-out pictures"
    )
    says = (
        f"{which}, the one with the lowest mean Dice first, with its parts that have most errors."
    )
    return Section("pictures", "Truth and prediction", says, parts)


def errors_section(material: MaskMaterial) -> Section:
    """Wrong pixels by distance to boundaries and to the border, and on the picture's plane."""
    places, evaluation = material.places, material.evaluation
    wrong = int(evaluation.confusion.sum() - evaluation.confusion.trace())
    if not wrong:
        says = f"Nowhere: all {evaluation.confusion.sum():,} judged pixels are right."
        return Section("errors", "Where errors gather", says)
    edges = places.by_edge.bins
    parts: list[Part] = [
        Text(_near_edges(edges)),
        _shares("To the nearest boundary between true classes", edges),
        _shares("To the border of the picture", places.by_border.bins),
    ]
    if places.heat is not None:
        parts.append(_heat(places.heat))
    says = (
        f"{wrong:,} pixels are wrong, {wrong / evaluation.confusion.sum():.2%} of all. Where a "
        "row holds a larger share of the wrong pixels than of all pixels, errors gather there."
    )
    return Section("errors", "Where errors gather", says, parts)


def _say(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _pictures(scores: tuple[PictureScore, ...]) -> str:
    return "one held-out picture" if len(scores) == 1 else f"{len(scores)} held-out pictures"


def _matrix(material: MaskMaterial) -> Matrix:
    counts = material.evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [
        [
            (f"{share:.1%}" if share else "", float(share), row == column)
            for column, share in enumerate(line)
        ]
        for row, line in enumerate(shares)
    ]
    return Matrix(material.pairs.classes, cells, "truth", "prediction")


def _legend(material: MaskMaterial) -> Legend:
    classes = material.pairs.classes
    ground = classes[0]
    colors = [
        *zip(map(hex_color, class_colors(len(classes))), classes, strict=True),
        (hex_color(MISSED), f"error: missed, taken for {ground}"),
        (hex_color(INVENTED), f"error: invented, truly {ground}"),
    ]
    if len(classes) > 2:
        colors.append((hex_color(CONFUSED), f"error: one class for another, neither {ground}"))
    legend = material.pairs.legend
    if legend is not None and legend.ignore is not None:
        colors.append((hex_color(UNJUDGED), "not judged by anybody"))
    return Legend(colors)


def _strips(picture: MaskPicture, kind: str) -> Iterator[Strip]:
    score, (height, width) = picture.score, picture.size
    reduced = picture.whole.factor
    title = (
        f"Picture {score.name}{kind}: Dice {score.dice:.1%}, {score.accuracy:.1%} of pixels right"
    )
    note = f"{height:,}×{width:,} pixels" + (
        f", shown {reduced} times smaller each way." if reduced > 1 else "."
    )
    yield Strip(title, _shown(picture.whole, score.name), note)
    for part in picture.parts:
        name = f"{score.name}, {part.place}"
        yield Strip(f"Where it errs most: {part.place}", _shown(part, name))


def _shown(shot: Shot, name: str) -> list[tuple[str, Image]]:
    return [
        (word, Image(data_uri(view, photo=word == "picture"), f"{name}: {word}", sharp=False))
        for word, view in zip(VIEWS, shot.views, strict=True)
    ]


def _near_edges(bins: tuple[Bin, ...]) -> str:
    names = [str(near) for near in range(_NEAR + 1)]
    near = [one for one in bins if one.name in names]
    wrong, judged = sum(one.wrong for one in near), sum(one.judged for one in near)
    all_wrong, all_judged = sum(one.wrong for one in bins), sum(one.judged for one in bins)
    return (
        f"{wrong / all_wrong:.0%} of the wrong pixels lie within {_NEAR} pixels of a true "
        f"boundary, where {judged / all_judged:.0%} of all pixels lie. That close, two people who "
        "draw the same mask by hand differ too."
    )


def _shares(title: str, bins: tuple[Bin, ...]) -> Shares:
    wrong, judged = sum(one.wrong for one in bins), sum(one.judged for one in bins)
    rows = [
        (one.name, one.wrong / wrong, one.judged / judged, f"{one.wrong / one.judged:.1%}")
        for one in bins
    ]
    heads = ("pixels away", "of the wrong pixels", "of all pixels", "wrong among them")
    return Shares(heads, rows, title)


def _heat(heat: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Figure:
    picture = color_maps(heat[None])[0]
    image = Image(
        data_uri(picture), "Share of wrong pixels over the plane of the picture", _HEAT_WIDTH
    )
    note = (
        "All held-out pictures laid over one another: the brighter a place, the more of its pixels "
        f"are wrong, from {heat.min():.1%} (black) to {heat.max():.1%} (brightest)."
    )
    return Figure(image, "On the plane of the picture", note)
