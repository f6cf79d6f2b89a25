"""The report on restoration: the data of each picture, and the sections.

The sections compare the network with plain filters, and show pictures from worst to best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader, Pairs, open_pair
from eyeshot.engine.networks import trace
from eyeshot.evaluation import RestorationEvaluation, fitting_pairs
from eyeshot.evaluation.pairs import RestoredPicture, judge_pictures, psnr_of
from eyeshot.evaluation.passes import Answer
from eyeshot.images import Span
from eyeshot.pages import Image, Section, Strip, Table
from eyeshot.pages import Part as PagePart
from eyeshot.pictures import data_uri
from eyeshot.report.curves import Area, Classic, Levels, judge_classics, look_inside, smooth
from eyeshot.report.places import (
    CROP,
    OVERVIEW,
    Light,
    Reduced,
    Shot,
    factor_for,
    find_worst,
    measure_light,
    new_tally,
)
from eyeshot.runs import Run

SHOWN = 3
"""How many of the worst pictures are shown, and how many of the best."""
AMPLIFIED = 5
"""The factor by which differences are multiplied for display."""
WHOLE_VIEWS = ("input", "restored", "target", f"difference × {AMPLIFIED}")
PARTS = 1
"""Parts of a picture that are shown pixel by pixel."""


@dataclass(frozen=True, eq=False)
class Part:
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
    parts: tuple[Part, ...]


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
    watcher = _Watcher()
    evaluation = judge_pictures(
        trace(run), pairs, pairs.validation, pairs.notes, watch=watcher.watch
    )
    classics = judge_classics(pairs, watcher.areas)
    pictures = tuple(_lay_open(picture, pairs, classics) for picture in watcher.candidates)
    levels = look_inside(run, pairs, pictures[0].score.name)
    return RestoredMaterial(run, pairs, evaluation, classics, pictures, levels)


class _Watcher:
    """Called with each evaluated picture; keeps the worst and the best."""

    def __init__(self) -> None:
        self.areas: dict[Path, Area] = {}
        self.candidates: list[_Candidate] = []  # ordered by PSNR, then by time

    def watch(self, pair: Pair, reader: PairReader, answer: Answer, score: RestoredPicture) -> None:
        (height, width), (down, right) = answer.plane, answer.offset
        self.areas[pair.image] = ((down, down + height), (right, right + width))
        before = sum(picture.score.psnr <= score.psnr for picture in self.candidates)
        full = len(self.candidates) == 2 * SHOWN
        if full and before == SHOWN:
            return  # neither among the worst nor among the best
        light = measure_light(reader)
        whole, tally = _take_whole(reader, answer, light)
        parts = find_worst(tally, answer.plane, PARTS) or [_middle(answer.plane)]
        restored = tuple(
            (_shift(rows, down), _shift(columns, right), _restored(answer, rows, columns))
            for rows, columns in parts
        )
        self.candidates.insert(before, _Candidate(pair, score, whole, light, restored))
        if full:
            del self.candidates[SHOWN]


def _restored(answer: Answer, rows: Span, columns: Span) -> NDArray[np.float32]:
    samples = answer.samples[:, slice(*rows), slice(*columns)]
    return np.asarray(samples, np.float32).clip(0, 1)


def _take_whole(reader: PairReader, answer: Answer, light: Light) -> tuple[Shot, Reduced]:
    """The views of the whole picture, reduced by averaging, and the places of its errors."""
    (height, width), (down, right) = answer.plane, answer.offset
    factor, tally = factor_for(answer.plane, OVERVIEW), new_tally(answer.plane)
    small = [Reduced(answer.plane, factor, 3) for _ in WHOLE_VIEWS]
    for rows, _ in answer.bands():
        image = reader.image((down + rows.start, down + rows.stop), (right, right + width))
        restored, target = (
            _restored(answer, (rows.start, rows.stop), (0, width)),
            answer.truth(reader, rows),
        )
        views = (*map(light.show, (image, restored, target)), _difference(restored, target))
        for reduced, view in zip(small, views, strict=True):
            reduced.add(rows.start, view)
        tally.add(rows.start, np.square(restored - target).sum(axis=0)[..., None])
    pictures = tuple(reduced.picture for reduced in small)
    return Shot(pictures, (down, down + height), (right, right + width), factor), tally


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
) -> Part:
    image = reader.image(rows, columns)
    target = np.asarray(reader.target(rows, columns), np.float32)
    smoothed = [smooth(reader, one.kernel, rows, columns) for one in classics]
    tried = (image, *smoothed, restored)
    views = (*map(light.show, (*tried, target)), _difference(restored, target))
    psnr = tuple(psnr_of(float(np.square(one - target, dtype=np.float64).mean())) for one in tried)
    return Part(Shot(views, rows, columns), psnr)


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


def pictures_section(material: RestoredMaterial) -> Section:
    """Inputs, restored pictures and targets side by side, from the worst to the best."""
    count, shown = len(material.evaluation.pictures), material.pictures
    names = ("input", *(one.title for one in material.classics), "the network")
    parts: list[PagePart] = []
    for place, picture in enumerate(shown):
        kind = "" if count <= 2 * SHOWN else " (worst)" if place < SHOWN else " (best)"
        parts += _strips(picture, kind, names)
    which = (
        f"All {count} held-out pictures"
        if len(shown) == count
        else f"The {SHOWN} worst and the {len(shown) - SHOWN} best of {count} held-out pictures"
    )
    says = (
        f"{which}, the one with the lowest PSNR first, with the part in which the network errs "
        f"most. Differences are {AMPLIFIED} times as large as they are: mid-gray is right, lighter "
        "is too bright, darker too dark."
    )
    return Section("pictures", "Input, restored and target", says, parts)


def _strips(picture: RestoredMaterialPicture, kind: str, names: tuple[str, ...]) -> Iterator[Strip]:
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
        yield Strip(title, _views(whole, WHOLE_VIEWS, score.name), note)
    for part, shot in zip(picture.parts, shots, strict=True):
        labels = [f"{word}: {psnr:.1f} dB" for word, psnr in zip(words, part.psnr, strict=False)]
        views = _views(shot, [*labels, *words[len(labels) :]], f"{score.name}, {shot.place}")
        heading = (title, note) if alone else (f"Pixel by pixel: {shot.place}", "")
        yield Strip(heading[0], views, heading[1], columns=3)


def _views(shot: Shot, words: tuple[str, ...] | list[str], name: str) -> list[tuple[str, Image]]:
    return [
        (word, Image(data_uri(view, photo=True), f"{name}: {word}", sharp=False))
        for word, view in zip(words, shot.views, strict=True)
    ]
