"""Thousands of digits on one large page, found and read in one pass of a dense form."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot import images
from eyeshot.data import Data
from eyeshot.demo.pages.crops import page_crops
from eyeshot.demo.pages.drawing import draw_page
from eyeshot.demo.pages.reading import Marks, Readings, mark, read_peaks
from eyeshot.demo.pages.scattering import Page, cells_for, scatter
from eyeshot.demo.stage import Stage
from eyeshot.densification import dense
from eyeshot.engine.running import run as run_over
from eyeshot.language import speaking, tr
from eyeshot.pages.parts import Figure, Image, Section
from eyeshot.pictures import data_uri
from eyeshot.runs import Run
from eyeshot.training import train

__all__ = ["PageRead", "find_digits", "page_crops", "read_page", "scatter"]

_EPOCHS = 5
_FILLED = 0.5  # of the page's cells hold a digit
_SEED = 11


@dataclass(frozen=True, eq=False)
class PageRead:
    """A page, what was read on it, and the judgement.

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
    judgement = tr("{judgement}: {file}", judgement=_judgement(read.marks), file=stage.page_read)
    stage.say(f"   {judgement}")


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


def _judgement(marks: Marks) -> str:
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
        judgement = _judgement(read.marks)
    says = (
        f"The same kind of network without padding, taught an eleventh class, nothing, and made "
        f"fully convolutional (eyeshot.dense): {len(read.page.labels):,} digits that it has never "
        f"seen, scattered over {high:,}×{wide:,} pixels, found and read in one pass, band by band. "
        f"{judgement}."
    )
    note = (
        "The whole page, and its part with the most mistakes. Green: found and read right; red: "
        "read as what stands beside it; orange: nothing is there; blue: missed."
    )
    image = Image(data_uri(picture, photo=True), "a page of digits, each framed", sharp=False)
    return Section("page", "A page of digits, read in one pass", says, [Figure(image, "", note)])
