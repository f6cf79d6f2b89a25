"""Digits on large pages: drawn, learned from, found and read in one pass, and shown.

In this file:

- thousands of digits on one large page, found and read in one pass of a dense form;
- what the reader of a page learns from: crops of another page, digits and what is none;
- a page that was read, drawn: the whole of it reduced, and one part enlarged;
- digits found and read on a page: one pass of the dense form, and the peaks of what it gives;
- a page of digits whose places are known, far larger than any picture a network learned from.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont
from scipy.ndimage import correlate1d, label, maximum_filter
from scipy.spatial import KDTree

from eyeshot import images
from eyeshot.data import Data, Examples
from eyeshot.demo.overview import Stage
from eyeshot.densification import dense
from eyeshot.engine.running import run as run_over
from eyeshot.language import speaking, tr
from eyeshot.pages import Figure, Image, Section
from eyeshot.pictures import data_uri
from eyeshot.runs import Run
from eyeshot.training import train

CELL = 64
"""Each digit lies somewhere in a cell of its own of so many pixels, so that none covers another."""


@dataclass(frozen=True, eq=False)
class Page:
    """Digits scattered over a page.

    Attributes:
        pixels: (H, W) uint8, light on dark as the digits are.
        corners: (N, 2) first row and column of each digit's picture.
        labels: (N,) what each of them is.
        side: height and width of a digit's picture.
    """

    pixels: NDArray[np.uint8]
    corners: NDArray[np.int64]
    labels: NDArray[np.int64]
    side: int


def scatter(pictures: NDArray[Any], labels: NDArray[Any], cells: int, seed: int) -> Page:
    """Each picture once, at random in a cell of its own, on a page of ``cells``² cells.

    Args:
        pictures: (N, side, side) uint8; at most ``cells``² of them.
        labels: (N,).
        cells: along each side of the page.
        seed: another page for another seed.
    """
    draw = np.random.default_rng(seed)
    side = pictures.shape[-1]
    chosen = draw.permutation(cells * cells)[: len(pictures)]
    corners = np.stack([chosen // cells, chosen % cells], axis=1) * CELL
    corners += draw.integers(0, CELL - side + 1, size=corners.shape)
    pixels = np.zeros((cells * CELL, cells * CELL), np.uint8)
    for picture, (top, left) in zip(pictures, corners, strict=True):
        pixels[top : top + side, left : left + side] = picture
    return Page(pixels, corners, np.asarray(labels, np.int64), side)


def cells_for(count: int, filled: float) -> int:
    """Cells along each side so that about this share of all of them holds a digit."""
    return math.ceil(math.sqrt(count / filled))


NOTHING = "nothing"
NEAR = 3
"""A digit counts as found by a crop that is no more than so many pixels off, along both axes."""
_FAR = 6  # from so many pixels on it does not; between the two, a crop is taught as neither
_FARTHEST = 20
_HELD_OUT = 500  # of the digits to learn from; they judge the reader while it learns
_LOOKS = 2  # crops of each digit


def page_crops(data: Data, seed: int = 0) -> Data:
    """Crops of pages of training digits, in the classes of ``data`` and *nothing*.

    The test digits are not touched: what judges the reader while it learns are some of the training
    digits, on a page of their own.
    """
    images, labels = data.train.images[:, 0].numpy(), data.train.labels.numpy()
    nothing = len(data.classes)
    parts = [
        _examples(scatter(images[part], labels[part], cells_for(count, 0.5), seed + n), nothing, n)
        for n, (part, count) in enumerate(
            [
                (slice(_HELD_OUT, None), len(images) - _HELD_OUT),
                (slice(None, _HELD_OUT), _HELD_OUT),
            ]
        )
    ]
    return dataclasses.replace(
        data,
        name=f"{data.name} on a page",
        train=parts[0],
        test=parts[1],
        classes=(*data.classes, NOTHING),
    )


def _examples(page: Page, nothing: int, seed: int) -> Examples:
    draw = np.random.default_rng((seed, 7))
    corners_of_digits, labels = [], []
    for _ in range(_LOOKS):
        shifts = draw.integers(-NEAR, NEAR + 1, size=page.corners.shape)
        corners_of_digits.append(page.corners + shifts)
        labels.append(page.labels)
    missed = page.corners + _offsets(draw, len(page.corners))
    blank = draw.integers(0, page.pixels.shape[0] - page.side + 1, size=(len(missed) // 2, 2))
    empty = _away(page, np.concatenate([missed, blank]))
    corners = np.concatenate([*corners_of_digits, empty])
    labels.append(np.full(len(empty), nothing))
    pictures = torch.from_numpy(cut_crops(page.pixels, corners, page.side))
    return Examples.hold(pictures[:, None], torch.from_numpy(np.concatenate(labels)))


def _offsets(draw: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Random shifts of which the larger is between ``_FAR`` and ``_FARTHEST``."""
    shifts = draw.integers(-_FARTHEST, _FARTHEST + 1, size=(count, 2))
    larger = draw.integers(0, 2, size=count)
    away = draw.integers(_FAR, _FARTHEST + 1, size=count) * draw.choice([-1, 1], size=count)
    shifts[np.arange(count), larger] = away
    return shifts


def _away(page: Page, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those crops that no digit is near to."""
    away, _ = KDTree(page.corners).query(corners, p=np.inf)
    far: NDArray[np.int64] = corners[away >= _FAR]
    return far


def cut_crops(pixels: NDArray[Any], corners: NDArray[np.int64], side: int) -> NDArray[Any]:
    """Squares (N, side, side) of a page; dark where they reach beyond it."""
    wide = np.pad(pixels, side)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side))
    return windows[corners[:, 0] + side, corners[:, 1] + side].copy()


SURE = 0.15
"""A digit is where the smoothed probability of any digit peaks above this: a position that is sure,
alone among neighbors that are sure of nothing, comes to 0.25."""
_WEIGHTS = (0.25, 0.5, 0.25)
_CLOSE = 6  # pixels: as far as a reading may lie from the digit that it is of


@dataclass(frozen=True, eq=False)
class Readings:
    """What was read, and where.

    Attributes:
        corners: (N, 2) first row and column of each crop in which a digit was found.
        labels: (N,) what it was read as.
    """

    corners: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Marks:
    """Readings compared with what is there.

    Attributes:
        right: (N,) of each reading, whether the digit is there and is that one.
        false: (N,) whether there is no digit.
        missed: (M,) of each digit of the page, whether nothing was read there.
    """

    right: NDArray[np.bool_]
    false: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @property
    def precision(self) -> float:
        """Of what was found, the share that is a digit."""
        return 1 - float(self.false.mean()) if len(self.false) else 0.0

    @property
    def recall(self) -> float:
        """Of all digits, the share that was found."""
        return 1 - float(self.missed.mean())

    @property
    def accuracy(self) -> float:
        """Of all digits, the share that was found and read right."""
        return float(self.right.sum()) / len(self.missed)


def read_peaks(probabilities: NDArray[Any], stride: int, side: int) -> Readings:
    """The digits in the dense map of a page.

    Args:
        probabilities: (classes + 1, rows, columns); the last class is *nothing*.
        stride: pixels from one position to the next.
        side: pixels of a digit's picture; no two digits are closer than this.
    """
    around = _smoothed(probabilities[:-1])
    some = around.sum(axis=0)
    reach = 2 * ((side - 1) // (2 * stride)) + 1
    # Neighbors that are equally high are one peak.
    peaks, _ = label((some == maximum_filter(some, reach)) & (some > SURE), np.ones((3, 3)))
    _, first = np.unique(peaks, return_index=True)
    rows, columns = np.unravel_index(first[peaks.flat[first] > 0], some.shape)
    # Where the probability is spread over neighbors, the digit lies between them.
    corners = np.stack([rows, columns], axis=1) * stride + _lean(
        probabilities, rows, columns, stride
    )
    return Readings(corners, around[:, rows, columns].argmax(axis=0))


def _smoothed(maps: NDArray[Any]) -> NDArray[Any]:
    """Each map with every position weighed together with its neighbors, 1-2-1 each way."""
    smooth = correlate1d(maps, _WEIGHTS, axis=1, mode="constant")
    smooth = correlate1d(smooth, _WEIGHTS, axis=2, mode="constant")
    return np.asarray(smooth)


def _lean(
    probabilities: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any], stride: int
) -> NDArray[np.int64]:
    """From the middle position of each peak to the mean place of its probability, in pixels."""
    some = np.pad(1 - probabilities[-1], 1)
    near = np.stack([[some[rows + 1 + y, columns + 1 + x] for x in (-1, 0, 1)] for y in (-1, 0, 1)])
    total = near.sum(axis=(0, 1))
    down = (near[2] - near[0]).sum(axis=0) / total
    right = (near[:, 2] - near[:, 0]).sum(axis=0) / total
    pixels: NDArray[np.int64] = np.rint(np.stack([down, right], axis=1) * stride).astype(np.int64)
    return pixels


def mark(readings: Readings, page: Page) -> Marks:
    """Compare the readings with the digits of the page; a digit is found once."""
    right = np.zeros(len(readings.labels), bool)
    false = np.ones(len(readings.labels), bool)
    missed = np.ones(len(page.labels), bool)
    for n, (corner, digit) in enumerate(zip(readings.corners, readings.labels, strict=True)):
        away = np.abs(page.corners - corner).max(axis=1)
        nearest = int(away.argmin())
        if away[nearest] <= _CLOSE and missed[nearest]:
            missed[nearest], false[n] = False, False
            right[n] = digit == page.labels[nearest]
    return Marks(right, false, missed)


_SIDE = 1024  # of either half of the picture, in pixels
_PART = 512  # pixels of the page in the enlarged half
_GAP = 24
_RIGHT, _WRONG, _FALSE, _MISSED = (38, 140, 70), (210, 30, 30), (220, 120, 0), (30, 80, 220)


def draw_page(page: Page, readings: Readings, marks: Marks) -> NDArray[np.uint8]:
    """The page beside its part with the most mistakes, (H, W, 3) uint8, dark on light.

    A green frame is a digit that was found and read right; red one that was read wrong, with what
    it was read as; orange one that is not there; blue one that was missed.
    """
    corner = _worst_part(page, readings, marks)
    whole = _marked(page, readings, marks, (0, 0), page.pixels.shape[0])
    part = _marked(page, readings, marks, corner, min(_PART, *page.pixels.shape))
    gap = np.full((_SIDE, _GAP, 3), 255, np.uint8)
    return np.concatenate([whole, gap, part], axis=1)


def _marked(
    page: Page, readings: Readings, marks: Marks, corner: tuple[int, int], extent: int
) -> NDArray[np.uint8]:
    """A square of the page, drawn ``_SIDE`` pixels wide, with frames around what was read."""
    top, left = corner
    pixels = PIL.Image.fromarray(255 - page.pixels[top : top + extent, left : left + extent])
    picture = pixels.resize((_SIDE, _SIDE), PIL.Image.Resampling.BOX).convert("RGB")
    pen, scale = ImageDraw.Draw(picture), _SIDE / extent
    for place, read, right, false in zip(
        readings.corners, readings.labels, marks.right, marks.false, strict=True
    ):
        color = _RIGHT if right else _FALSE if false else _WRONG
        _frame(pen, place - (top, left), page.side, scale, color, str(read), plain=bool(right))
    for place in page.corners[marks.missed]:
        _frame(pen, place - (top, left), page.side, scale, _MISSED, "?", plain=False)
    return np.asarray(picture)


def _frame(
    pen: ImageDraw.ImageDraw,
    corner: NDArray[Any],
    side: int,
    scale: float,
    color: tuple[int, int, int],
    text: str,
    *,
    plain: bool,
) -> None:
    """A frame around one digit; what was read stands beside it where there is room, or a need."""
    grown = 0.0 if plain or scale >= 1 else side / 2  # a mistake must be seen on a small page
    top, left = (float(one) * scale for one in corner - grown)
    bottom, right = (float(one) * scale for one in corner + side + grown)
    pen.rectangle((left, top, right, bottom), outline=color, width=1 if plain else 3)
    if scale >= 1:
        font = ImageFont.load_default(size=9 * scale)
        pen.text((right + scale, top - scale), text, fill=color, font=font)


def _worst_part(page: Page, readings: Readings, marks: Marks) -> tuple[int, int]:
    """The corner of the part of the page with the most mistakes in its inside."""
    wrong = np.concatenate([readings.corners[~marks.right], page.corners[marks.missed]])
    extent = min(_PART, *page.pixels.shape)
    if not len(wrong):
        return (0, 0)
    corners = np.clip(wrong - extent // 2, 0, np.array(page.pixels.shape) - extent)
    inside = (
        (wrong[None] >= corners[:, None]) & (wrong[None] < corners[:, None] + extent - page.side)
    ).all(axis=2)
    top, left = corners[inside.sum(axis=1).argmax()].tolist()
    return top, left


__all__ = ["PageRead", "find_digits", "page_crops", "read_page", "scatter"]

_EPOCHS = 5
_FILLED = 0.5  # of the page's cells hold a digit
_SEED = 11


@dataclass(frozen=True, eq=False)
class PageRead:
    """A page, what was read on it, and the judgment.

    Attributes:
        page: the page and what is on it.
        readings: what was found, where, and read as what.
        marks: which of it is right.
        seconds: from the page's pixels to the readings.
    """

    page: Page
    readings: Readings
    marks: Marks
    seconds: float


def read_page(stage: Stage) -> None:
    """Train a reader, scatter all held-out digits over a page, and read it in one pass."""
    run = train(
        page_crops(stage.data),
        model_arguments={"padding": 0},
        epochs=_EPOCHS,
        batch_size=128,
        shift=0,
        out=stage.page_run_folder,
        progress=stage.progress,
    )
    page = held_out_page(stage.data)
    images.write(stage.page, page.pixels)
    read = find_digits(run, page)
    picture = draw_page(page, read.readings, read.marks)
    images.write(stage.page_read, picture)
    stage.sections.append(_section(read, picture))
    high, wide = page.pixels.shape
    line = tr(
        "{n:,} digits that it has never seen, on {height:,}×{width:,} pixels ({file}), found and "
        "read in {seconds:.1f} s",
        n=len(page.labels),
        height=high,
        width=wide,
        file=stage.page,
        seconds=read.seconds,
    )
    stage.say(f"   {line}")
    judgment = tr("{judgment}: {file}", judgment=_judgment(read.marks), file=stage.page_read)
    stage.say(f"   {judgment}")


def held_out_page(data: Data, seed: int = _SEED) -> Page:
    """All test digits on one page."""
    pictures, labels = data.test.images[:, 0].numpy(), data.test.labels.numpy()
    return scatter(pictures, labels, cells_for(len(labels), _FILLED), seed)


def find_digits(run: Run, page: Page) -> PageRead:
    """Read a page with the dense form of a run that was trained on :func:`page_crops`."""
    form = dense(run)
    started = time.perf_counter()
    probabilities: NDArray[Any] = run_over(
        dataclasses.replace(run, net=form), page.pixels, output_format="probabilities"
    )
    readings = read_peaks(probabilities, form.stride[0], page.side)
    seconds = time.perf_counter() - started
    return PageRead(page, readings, mark(readings, page), seconds)


def _judgment(marks: Marks) -> str:
    return tr(
        "{recall:.1%} of them found, {precision:.1%} of what was found is a digit, and "
        "{accuracy:.1%} are found and read right",
        recall=marks.recall,
        precision=marks.precision,
        accuracy=marks.accuracy,
    )


def _section(read: PageRead, picture: NDArray[np.uint8]) -> Section:
    high, wide = read.page.pixels.shape
    with speaking("en"):  # as the rest of the report
        judgment = _judgment(read.marks)
    says = (
        f"The same kind of network without padding, taught an eleventh class, nothing, and made "
        f"fully convolutional (eyeshot.dense): {len(read.page.labels):,} digits that it has never "
        f"seen, scattered over {high:,}×{wide:,} pixels, found and read in one pass, band by band. "
        f"{judgment}."
    )
    note = (
        "The whole page, and its part with the most mistakes. Green: found and read right; red: "
        "read as what stands beside it; orange: nothing is there; blue: missed."
    )
    image = Image(data_uri(picture, photo=True), "a page of digits, each framed", sharp=False)
    return Section("page", "A page of digits, read in one pass", says, [Figure(image, "", note)])
