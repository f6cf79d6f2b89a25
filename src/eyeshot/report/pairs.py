"""The report on pairs of pictures, masks or restored pictures: the data of each, and the sections.

The sections show pictures from worst to best; for masks the classes, and where errors are frequent;
for restored pictures the network beside plain filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import trace
from eyeshot.evaluation import MaskEvaluation, PictureScore, RestorationEvaluation, fitting_pairs
from eyeshot.evaluation.pairs import RestoredPicture, judge_masks, judge_pictures, psnr_of
from eyeshot.evaluation.passes import Answer
from eyeshot.images import Span
from eyeshot.pages import Figure, Image, Legend, Matrix, Part, Section, Shares, Strip, Table, Text
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
from eyeshot.report.curves import Area, Classic, Levels, judge_classics, look_inside, smooth
from eyeshot.report.places import (
    CROP,
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

Picture = TypeVar("Picture")

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
    watcher = _MaskWatcher(len(pairs.classes))
    evaluation = judge_masks(trace(run), pairs, pairs.validation, pairs.notes, watch=watcher.watch)
    pictures = tuple(watcher.extremes.pictures)
    levels = look_inside(run, pairs, pictures[0].score.name)
    return MaskMaterial(run, pairs, evaluation, pictures, watcher.places, levels)


class _Extremes(Generic[Picture]):
    """The worst and the best pictures so far, :data:`SHOWN` of each, from the worst on."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []  # ordered by score, then by time
        self._scores: list[float] = []

    def place(self, score: float) -> int | None:
        """Where a picture of this score belongs; None if between the worst and the best."""
        place = sum(one <= score for one in self._scores)
        return None if place == SHOWN and len(self.pictures) == 2 * SHOWN else place

    def insert(self, place: int, score: float, picture: Picture) -> None:
        """Add a picture at its place; one that no longer belongs to either goes."""
        full = len(self.pictures) == 2 * SHOWN
        self.pictures.insert(place, picture)
        self._scores.insert(place, score)
        if full:
            del self.pictures[SHOWN], self._scores[SHOWN]


def _take_whole(
    answer: Answer, views: int, see: Callable[[slice], Sequence[NDArray[np.uint8]]]
) -> Shot:
    """The views of the whole picture, reduced by averaging, band by band.

    Args:
        answer: the network's output.
        views: how many ``see`` returns.
        see: the views of a band of rows of the output, each (H, W, 3).
    """
    (height, width), (down, right) = answer.plane, answer.offset
    factor = factor_for(answer.plane, OVERVIEW)
    small = [Reduced(answer.plane, factor, 3) for _ in range(views)]
    for rows, _ in answer.bands():
        for reduced, view in zip(small, see(rows), strict=True):
            reduced.add(rows.start, view)
    pictures = tuple(reduced.picture for reduced in small)
    return Shot(pictures, (down, down + height), (right, right + width), factor)


def _shown(
    shot: Shot, words: Sequence[str], name: str, *, photos: bool = True
) -> list[tuple[str, Image]]:
    """The views of a shot with their words; without ``photos`` only the first is one."""
    return [
        (word, Image(data_uri(view, photo=photos or not place), f"{name}: {word}", sharp=False))
        for place, (word, view) in enumerate(zip(words, shot.views, strict=True))
    ]


def _kind(place: int, count: int) -> str:
    """Whether the picture at a place of those shown is one of the worst or of the best."""
    return "" if count <= 2 * SHOWN else " (worst)" if place < SHOWN else " (best)"


def _which(shown: int, count: int) -> str:
    """Which of all pictures are shown, in words."""
    if shown == count:
        return f"All {count} held-out pictures"
    return f"The {SHOWN} worst and the {shown - SHOWN} best of {count} held-out pictures"


class _MaskWatcher:
    """Called with each evaluated picture; keeps the worst and the best."""

    def __init__(self, classes: int) -> None:
        self.places = ErrorPlaces()
        self._classes = classes
        self.extremes = _Extremes[MaskPicture]()

    def watch(self, pair: Pair, reader: PairReader, answer: Answer, score: PictureScore) -> None:
        tally = self._count(reader, answer)
        place = self.extremes.place(score.dice)
        if place is None:
            return
        parts = find_worst(tally, answer.plane)
        light = measure_light(reader)
        shots = tuple(_take(reader, answer, light, *part, self._classes) for part in parts)
        whole = _take_masks_whole(reader, answer, light, self._classes)
        self.extremes.insert(place, score.dice, MaskPicture(score, pair.plane, whole, shots))

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
    return Shot(_mask_views(picture, truth, predicted, classes), *here)


def _take_masks_whole(reader: PairReader, answer: Answer, light: Light, classes: int) -> Shot:
    """The views of the whole picture."""
    down, right = answer.offset
    columns = (right, right + answer.plane[1])

    def see(rows: slice) -> tuple[NDArray[np.uint8], ...]:
        picture = light.show(reader.image((down + rows.start, down + rows.stop), columns))
        return _mask_views(picture, answer.truth(reader, rows), _predictions(answer, rows), classes)

    return _take_whole(answer, len(VIEWS), see)


def _mask_views(
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


def mask_pictures_section(material: MaskMaterial) -> Section:
    """Picture, truth, prediction and errors side by side, from the worst picture to the best."""
    count, shown = len(material.evaluation.pictures), material.pictures
    parts: list[Part] = [_legend(material)]
    for place, picture in enumerate(shown):
        parts += _mask_strips(picture, _kind(place, count))
    says = (
        f"{_which(len(shown), count)}, the one with the lowest mean Dice first, "
        "with its parts that have most errors."
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


def _mask_strips(picture: MaskPicture, kind: str) -> Iterator[Strip]:
    score, (height, width) = picture.score, picture.size
    reduced = picture.whole.factor
    title = (
        f"Picture {score.name}{kind}: Dice {score.dice:.1%}, {score.accuracy:.1%} of pixels right"
    )
    note = f"{height:,}×{width:,} pixels" + (
        f", shown {reduced} times smaller each way." if reduced > 1 else "."
    )
    yield Strip(title, _shown(picture.whole, VIEWS, score.name, photos=False), note)
    for part in picture.parts:
        name = f"{score.name}, {part.place}"
        yield Strip(f"Where it errs most: {part.place}", _shown(part, VIEWS, name, photos=False))


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


AMPLIFIED = 5
"""The factor by which differences are multiplied for display."""
WHOLE_VIEWS = ("input", "restored", "target", f"difference × {AMPLIFIED}")
PARTS = 1
"""Parts of a picture that are shown pixel by pixel."""


@dataclass(frozen=True, eq=False)
class RestoredPart:
    """A part of a picture, pixel by pixel.

    Attributes:
        shot: the input, each classic filter, restored, target, difference.
        psnr: in decibels, for all but the last two.
    """

    shot: Shot
    psnr: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A picture that may be shown; its parts are completed when the filters are chosen."""

    pair: Pair
    score: RestoredPicture
    whole: Shot
    light: Light
    restored: tuple[tuple[Span, Span, NDArray[np.float32]], ...]


@dataclass(frozen=True, eq=False)
class RestoredMaterialPicture:
    """The views of one picture: the whole, and the part with the largest errors."""

    score: RestoredPicture
    size: tuple[int, int]
    whole: Shot
    parts: tuple[RestoredPart, ...]


@dataclass(frozen=True, eq=False)
class RestoredMaterial:
    """The data of a restoration's report.

    Attributes:
        run: the run.
        pairs: the pairs; it is tested on ``pairs.validation``.
        evaluation: the metrics.
        classics: the metrics of filters without training.
        pictures: the worst and the best pictures, the worst first.
        levels: the maps of the network's levels for a part of the worst picture.
    """

    run: Run
    pairs: Pairs
    evaluation: RestorationEvaluation
    classics: tuple[Classic, ...]
    pictures: tuple[RestoredMaterialPicture, ...]
    levels: Levels | None


def gather_restored(run: Run, data: Pairs | None = None) -> RestoredMaterial:
    """Evaluate the run and filters on whole pictures, and keep the data that the page shows.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they differ in kind from the training pairs.
    """
    pairs = fitting_pairs(run, data)
    watcher = _RestoredWatcher()
    evaluation = judge_pictures(
        trace(run), pairs, pairs.validation, pairs.notes, watch=watcher.watch
    )
    classics = judge_classics(pairs, watcher.areas)
    pictures = tuple(_lay_open(picture, pairs, classics) for picture in watcher.extremes.pictures)
    levels = look_inside(run, pairs, pictures[0].score.name)
    return RestoredMaterial(run, pairs, evaluation, classics, pictures, levels)


class _RestoredWatcher:
    """Called with each evaluated picture; keeps the worst and the best."""

    def __init__(self) -> None:
        self.areas: dict[Path, Area] = {}
        self.extremes = _Extremes[_Candidate]()

    def watch(self, pair: Pair, reader: PairReader, answer: Answer, score: RestoredPicture) -> None:
        (height, width), (down, right) = answer.plane, answer.offset
        self.areas[pair.image] = ((down, down + height), (right, right + width))
        place = self.extremes.place(score.psnr)
        if place is None:
            return
        light = measure_light(reader)
        whole, tally = _take_restored_whole(reader, answer, light)
        parts = find_worst(tally, answer.plane, PARTS) or [_middle(answer.plane)]
        restored = tuple(
            (_shift(rows, down), _shift(columns, right), _restored(answer, rows, columns))
            for rows, columns in parts
        )
        candidate = _Candidate(pair, score, whole, light, restored)
        self.extremes.insert(place, score.psnr, candidate)


def _restored(answer: Answer, rows: Span, columns: Span) -> NDArray[np.float32]:
    samples = answer.samples[:, slice(*rows), slice(*columns)]
    return np.asarray(samples, np.float32).clip(0, 1)


def _take_restored_whole(reader: PairReader, answer: Answer, light: Light) -> tuple[Shot, Reduced]:
    """The views of the whole picture, and the places of its errors."""
    tally, (down, right), width = new_tally(answer.plane), answer.offset, answer.plane[1]

    def see(rows: slice) -> tuple[NDArray[np.uint8], ...]:
        image = reader.image((down + rows.start, down + rows.stop), (right, right + width))
        restored = _restored(answer, (rows.start, rows.stop), (0, width))
        target = answer.truth(reader, rows)
        tally.add(rows.start, np.square(restored - target).sum(axis=0)[..., None])
        return (*map(light.show, (image, restored, target)), _difference(restored, target))

    return _take_whole(answer, len(WHOLE_VIEWS), see), tally


def _lay_open(
    picture: _Candidate, pairs: Pairs, classics: tuple[Classic, ...]
) -> RestoredMaterialPicture:
    with open_pair(picture.pair, pairs) as reader:
        parts = tuple(_part(reader, picture.light, classics, *one) for one in picture.restored)
    return RestoredMaterialPicture(picture.score, picture.pair.plane, picture.whole, parts)


def _part(
    reader: PairReader,
    light: Light,
    classics: tuple[Classic, ...],
    rows: Span,
    columns: Span,
    restored: NDArray[np.float32],
) -> RestoredPart:
    image = reader.image(rows, columns)
    target = np.asarray(reader.target(rows, columns), np.float32)
    smoothed = [smooth(reader, one.kernel, rows, columns) for one in classics]
    tried = (image, *smoothed, restored)
    views = (*map(light.show, (*tried, target)), _difference(restored, target))
    psnr = tuple(psnr_of(float(np.square(one - target, dtype=np.float64).mean())) for one in tried)
    return RestoredPart(Shot(views, rows, columns), psnr)


def _difference(restored: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The difference, amplified around mid-gray: brighter is too bright, darker too dark."""
    return Light().show((restored - target) * AMPLIFIED / 2 + 0.5)


def _middle(size: tuple[int, int]) -> tuple[Span, Span]:
    """The middle part of a small picture, or all of it if it is not larger than a part."""
    first, second = (((n - min(n, CROP)) // 2, (n + min(n, CROP)) // 2) for n in size)
    return first, second


def _shift(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by


def filters_section(material: RestoredMaterial) -> Section:
    """PSNR and SSIM of the network, compared with filters without training."""
    evaluation, classics = material.evaluation, material.classics
    pictures = evaluation.pictures
    unrestored = [
        sum(values) / len(pictures)
        for values in zip(*((one.given_psnr, one.given_ssim) for one in pictures), strict=True)
    ]
    rows = [
        ["input", f"{unrestored[0]:.2f} dB", f"{unrestored[1]:.4f}"],
        *([one.title, f"{one.psnr:.2f} dB", f"{one.ssim:.4f}"] for one in classics),
    ]
    total = ["the network", f"{evaluation.psnr:.2f} dB", f"{evaluation.ssim:.4f}"]
    best = max(one.psnr for one in classics)
    says = (
        f"The mean over {len(pictures)} held-out pictures, each filtered and passed through the "
        "network whole; of each filter the size that does best. The network is "
        f"{abs(evaluation.psnr - best):.1f} dB {'above' if evaluation.psnr >= best else 'below'} "
        "the better filter: 6 dB are half the error."
    )
    table = Table(["", "PSNR", "SSIM"], rows, total=total)
    return Section("filters", "Beside filters that nobody trained", says, [table])


def restored_pictures_section(material: RestoredMaterial) -> Section:
    """Inputs, restored pictures and targets side by side, from the worst to the best."""
    count, shown = len(material.evaluation.pictures), material.pictures
    names = ("input", *(one.title for one in material.classics), "the network")
    parts: list[Part] = []
    for place, picture in enumerate(shown):
        parts += _restored_strips(picture, _kind(place, count), names)
    says = (
        f"{_which(len(shown), count)}, the one with the lowest PSNR first, "
        f"with the part in which the network errs most. Differences are {AMPLIFIED} "
        "times as large as they are: mid-gray is right, lighter is too bright, darker too dark."
    )
    return Section("pictures", "Input, restored and target", says, parts)


def _restored_strips(
    picture: RestoredMaterialPicture, kind: str, names: tuple[str, ...]
) -> Iterator[Strip]:
    score, (height, width) = picture.score, picture.size
    title = (
        f"Picture {score.name}{kind}: from {score.given_psnr:.2f} to {score.psnr:.2f} dB, "
        f"SSIM from {score.given_ssim:.3f} to {score.ssim:.3f}"
    )
    whole, words = picture.whole, (*names, "target", f"difference × {AMPLIFIED}")
    made = f", shown {whole.factor} times smaller, which hides noise" if whole.factor > 1 else ""
    note = f"{height:,}×{width:,} pixels{made}."
    shots = [part.shot for part in picture.parts]
    alone = [(shot.rows, shot.columns) for shot in shots] == [(whole.rows, whole.columns)]
    if not alone:
        yield Strip(title, _shown(whole, WHOLE_VIEWS, score.name), note)
    for part, shot in zip(picture.parts, shots, strict=True):
        labels = [f"{word}: {psnr:.1f} dB" for word, psnr in zip(words, part.psnr, strict=False)]
        views = _shown(shot, [*labels, *words[len(labels) :]], f"{score.name}, {shot.place}")
        heading = (title, note) if alone else (f"Pixel by pixel: {shot.place}", "")
        yield Strip(heading[0], views, heading[1], columns=3)
