"""The training curves: the loss, and for pairs of pictures the quality on whole pictures.

In this file:

- the rows of ``metrics.csv``;
- baselines without learning: the mean and the Gaussian filter on the same pictures;
- the maps of each level of a network, on the way down and up.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot import filters
from eyeshot.data.pairs import PairReader, Pairs, open_pair
from eyeshot.errors import BadFile
from eyeshot.evaluation.pairs import SSIM_WINDOW, Likeness, psnr_of
from eyeshot.features import see
from eyeshot.files import explain_os_error
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.images import Span
from eyeshot.inspection import unit_field
from eyeshot.nets.unet import levels_of
from eyeshot.pages import Figure, Image, Part, Plot, Section, Table
from eyeshot.pictures import Curve, color_maps, curves_svg, data_uri, mosaic
from eyeshot.runs import METRICS, Run
from eyeshot.runs.inputs import prepare_input

_CROPS, _WHOLE = ("crops, while learning", "train"), ("whole held-out pictures", "test")


@dataclass(frozen=True)
class Column:
    """A column of ``metrics.csv``, with its name in the table and the format of its numbers."""

    key: str
    name: str
    form: str


@dataclass(frozen=True)
class Score:
    """The main metric of a task: its name, its title, its columns, and whether it is in percent.

    ``measured`` is the column for crops, ``judged`` the column for whole pictures.
    """

    name: str
    title: str
    measured: str
    judged: str
    percent: bool


SCORES = {
    "segment": Score("Dice", "Dice: how well masks are met", "dice", "validation_dice", True),
    "restore": Score("PSNR", "PSNR in decibels", "psnr", "validation_psnr", False),
}
CLASSIFIER_COLUMNS = ("epoch", "loss", "accuracy", "test_loss", "test_accuracy")

COLUMNS = {
    "segment": (
        Column("loss", "loss", ".4f"),
        Column("dice", "Dice of crops", ".2%"),
        Column("validation_dice", "Dice", ".2%"),
        Column("validation_iou", "IoU", ".2%"),
        Column("validation_accuracy", "pixels right", ".2%"),
        Column("validation_boundary_f1", "boundary F1", ".2%"),
    ),
    "restore": (
        Column("loss", "loss", ".5f"),
        Column("psnr", "PSNR of crops", ".2f"),
        Column("validation_psnr", "PSNR", ".2f"),
        Column("validation_ssim", "SSIM", ".4f"),
    ),
}


def curves_section(run: Run) -> Section:
    """Learning curves, and their numbers in a folded table.

    Raises:
        BadFile: ``metrics.csv`` is damaged.
    """
    columns, score = COLUMNS[run.config.task], SCORES[run.config.task]
    rows = read_epochs(run.path / METRICS, ("epoch", *(column.key for column in columns)))
    if not rows:
        says = "The run folder has no metrics.csv, so the curves of the training are not known."
        return Section("learning", "How it learned", says)
    recipe, size = run.config.recipe, "×".join(map(str, run.config.size))
    best = max(rows, key=lambda row: row[score.judged])
    says = (
        f"Each of {len(rows)} epochs showed the network {recipe.steps} times up to "
        f"{recipe.batch_size} crops of at most {size}, changed at random; then it was "
        "judged on whole pictures that it never learns from. "
        f"The weights of epoch {best['epoch']:.0f} did best, and are the result."
    )
    loss = Curve(_CROPS[0], [(row["epoch"], row["loss"]) for row in rows], _CROPS[1])
    parts: list[Part] = [
        _scores(score, rows, averaged=bool(recipe.average)),
        _plot("Loss: how wrong it is", [loss], (_CROPS,), "loss"),
        _table(columns, rows),
    ]
    return Section("learning", "How it learned", says, parts)


def _scores(score: Score, rows: Sequence[dict[str, float]], *, averaged: bool) -> Plot:
    curves = [
        Curve(name, [(row["epoch"], row[key]) for row in rows], style)
        for (name, style), key in ((_CROPS, score.measured), (_WHOLE, score.judged))
    ]
    note = "Crops are changed at random, and whole pictures are not."
    if averaged:
        note += " These are judged with the running average of the weights."
    return _plot(score.title, curves, (_CROPS, _WHOLE), score.name, score.percent, note)


def _plot(
    title: str,
    curves: Sequence[Curve],
    legend: Sequence[tuple[str, str]],
    y_label: str,
    percent: bool = False,
    note: str = "",
) -> Plot:
    svg = curves_svg(curves, title=title, x_label="epoch", y_label=y_label, percent=percent)
    return Plot(title, svg, legend, note)


def _table(columns: Sequence[Column], rows: Sequence[dict[str, float]]) -> Table:
    lines: list[list[Any]] = [
        [f"{row['epoch']:.0f}", *(format(row[column.key], column.form) for column in columns)]
        for row in rows
    ]
    head = ["epoch", *(column.name for column in columns)]
    return Table(head, lines, words=0, folded="The numbers")


SIZES = (3, 5, 7, 9)
NAMES = ("mean", "gaussian")
_PIXELS = 2**21  # pixels that are filtered at a time

Area = tuple[Span, Span]
"""The rows and columns of a picture that are evaluated."""


@dataclass(frozen=True)
class Classic:
    """A filter with the size that is best over all pictures.

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
        """The filter in words."""
        name, _, size = self.kernel.partition(":")
        return f"{'Gaussian' if name == 'gaussian' else name} filter {size}×{size}"


def judge_classics(pairs: Pairs, areas: Mapping[Path, Area]) -> tuple[Classic, ...]:
    """Each filter with the size that gives the highest PSNR.

    Args:
        pairs: the pairs; their ``validation`` part is filtered.
        areas: the part of each picture to evaluate, by the picture's path.

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
    """A window (C, h, w) of the filtered picture; the picture is mirrored at its borders."""
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
    """Bands of rows of an area with ``halo`` rows around, and the place of the band in them."""
    (first, last), (left, right) = area
    step = max(1, _PIXELS // (right - left))
    for start in range(first, last, step):
        stop = min(last, start + step)
        top, bottom = max(first, start - halo), min(last, stop + halo)
        yield (top, bottom), slice(start - top, stop - top)


SIDE = 256
"""The side of the part of a picture that is followed through the network."""
MAPS = 8
"""The most maps that are shown of each level: those that vary most."""
_TILE = 128


@dataclass(frozen=True, eq=False)
class Level:
    """The output of a level's two convolutions.

    Attributes:
        layer: the name of its last layer.
        place: the layer's position in the network, in words.
        shape: (C, h, w) of its maps.
        maps: the maps that are shown, (K, h, w).
        sees: height and width of the receptive field of one of its numbers.
    """

    layer: str
    place: str
    shape: tuple[int, ...]
    maps: NDArray[Any]
    sees: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Levels:
    """A part (H, W, C) of the picture of the pair ``name``, and the maps of each level for it."""

    name: str
    picture: NDArray[np.uint8]
    levels: tuple[Level, ...]


def look_inside(run: Run, pairs: Pairs, name: str) -> Levels | None:
    """Follow the middle of one validation picture; None for a network without levels.

    Raises:
        BadFile: the picture cannot be read.
    """
    net = run.net
    names = levels_of(net)
    if not names:
        return None
    path = next(pair.image for pair in pairs.validation if pair.name == name)
    ready = prepare_input(run, path, side=SIDE)
    features = see(net, ready.values, names)
    fields = Fields(graph_of(net, tuple(ready.values.shape[1:])))
    levels = tuple(
        Level(
            layer.name,
            layer.place,
            layer.maps.shape,
            _liveliest(layer.maps),
            tuple(len(side) for side in unit_field(fields, layer.name).box or ()),
        )
        for layer in features.layers
    )
    return Levels(name, ready.picture, levels)


def levels_section(levels: Levels) -> Section:
    """A figure for each level: its maps, and the receptive field of their numbers."""
    high, wide = levels.picture.shape[:2]
    picture = levels.picture if levels.picture.shape[2] in (1, 3) else levels.picture[..., :1]
    image = Image(data_uri(picture), f"Part of picture {levels.name}", width=224)
    parts: list[Part] = [
        Figure(image, "The picture", f"The middle {high}×{wide} pixels of {levels.name}.")
    ]
    parts += [_figure(level) for level in levels.levels]
    says = (
        "On the way down the maps shrink and each number sees more of the picture; on the way up "
        "they grow again, and the skips bring back what is fine. Bright means much of what a "
        "channel looks for."
    )
    return Section("levels", "What each level sees", says, parts)


def _figure(level: Level) -> Figure:
    count, high, wide = level.shape
    shown = mosaic(color_maps(level.maps), side=_TILE, width=MAPS * (_TILE + 4), columns=MAPS)
    which = f"the {len(level.maps)} that vary most" if count > len(level.maps) else "all of them"
    note = f"{count} maps of {high}×{wide}, {which}."
    if level.sees:
        note += f" Each number sees {level.sees[0]}×{level.sees[1]} pixels of the picture."
    block = level.layer.partition(".")[0]
    title = f"{level.place[:1].upper()}{level.place[1:]} ({block})"
    alt = f"{len(level.maps)} feature maps of {level.place}"
    return Figure(Image(data_uri(shown), alt), title, note)


def _liveliest(maps: NDArray[Any]) -> NDArray[Any]:
    """The maps (K, h, w) whose numbers vary most, in descending order."""
    order = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:MAPS]
    return np.asarray(maps[order])


def read_epochs(
    path: Path, columns: Sequence[str] = CLASSIFIER_COLUMNS
) -> tuple[dict[str, float], ...]:
    """The ``columns`` of the rows of a ``metrics.csv``; empty if there is no such file.

    Raises:
        BadFile: it is damaged.
    """
    if not path.is_file():
        return ()
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        epochs = tuple({name: float(row[name]) for name in columns} for row in rows)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadFile(
            f"{path}: not a table of epochs ({error})", cure="restore it, or remove it"
        ) from None
    if not all(math.isfinite(row["epoch"]) for row in epochs):
        raise BadFile(f"{path}: an epoch is not a number", cure="restore it, or remove it")
    return epochs
