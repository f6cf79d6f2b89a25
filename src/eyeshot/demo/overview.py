"""The demo's folder and its pictures: a digit on paper, and the overview of the network.

In this file:

- the demo in one picture: a digit, its maps after each step, the first kernels, the curve;
- a digit as a person would photograph it: large, dark on light paper, in uneven light;
- where the demo plays: its folder, which it alone may replace, and what its steps hand on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.data import Data
from eyeshot.errors import BadValue, Failure
from eyeshot.extras import extra
from eyeshot.features import Features, Step, see
from eyeshot.files import explain_os_error, write_aside
from eyeshot.pages import Section
from eyeshot.pictures import color_kernels, color_maps, mosaic
from eyeshot.runs import Run
from eyeshot.training import Progress

with extra("report"):
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.ticker import MaxNLocator

_INK, _FAINT, _PAPER = "#1d1c22", "#77757f", "#ffffff"
_TRAIN, _TEST = "#c2641b", "#1f6f78"
_SIZE = (12.4, 6.3)  # inches
_DPI = 110
_MAPS = 16  # of a step, at most

_Box = tuple[float, float, float, float]  # left, bottom, width, height, in parts of the figure


def draw_overview(
    run: Run, digit: NDArray[np.uint8], epochs: Sequence[dict[str, float]], path: Path
) -> None:
    """Draw one digit's way through the network, its first kernels, and how it learned.

    Args:
        run: a network of digits.
        digit: (28, 28), light on dark.
        epochs: the rows of the run's ``metrics.csv``.
        path: the PNG to write.
    """
    pixels, _ = run.prepare(digit)
    features = see(run.net, run.normalize(pixels))
    figure = Figure(figsize=_SIZE, facecolor=_PAPER)
    _write(figure, 0.03, 0.935, "What a network of convolutions sees", size=19, weight="bold")
    _draw_way(figure, digit, features)
    _draw_kernels(figure, run)
    _draw_curve(figure, epochs)
    _draw_answer(figure, run, features)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=_DPI)


def _draw_way(figure: Figure, digit: NDArray[np.uint8], features: Features) -> None:
    """The digit, and to its right its maps after each of the four steps."""
    steps = [step for step in features.steps if step.maps.ndim == 3]
    bottom, height, side = 0.49, 0.36, 0.183
    _show(figure, (0.03, 0.575, 0.1, 0.19), digit, cmap="gray")
    _write(figure, 0.03, 0.792, "a digit it", size=10, color=_FAINT)
    _write(figure, 0.03, 0.768, "has never seen", size=10, color=_FAINT)
    for number, step in enumerate(steps[:4]):
        left = 0.163 + number * 0.209
        _arrow(figure, left - 0.022, 0.67, left - 0.003)
        _show(figure, (left, bottom, side, height), _tiles(step))
        _write(figure, left, 0.875, _name(step), size=11.5, weight="bold")
        count, high, wide = step.maps.shape
        shown = f"{count} maps of {high}×{wide}"
        _write(figure, left, 0.472, shown, size=10, color=_FAINT, top=True)


def _tiles(step: Step) -> NDArray[np.uint8]:
    """Sixteen maps in a square, each of its own range."""
    return mosaic(color_maps(step.maps[:_MAPS]), side=84, columns=4, gap=5)


def _name(step: Step) -> str:
    words = {"convolution + ReLU": "convolution, ReLU", "max pooling": "pooling"}
    return words.get(step.title, step.title)


def _draw_kernels(figure: Figure, run: Run) -> None:
    weights = run.net.get_submodule("conv1").get_parameter("weight").detach().numpy()
    picture = mosaic(color_kernels(weights), side=60, columns=4, gap=6)
    _write(figure, 0.03, 0.385, f"its {len(weights)} first kernels", size=11.5, weight="bold")
    _show(figure, (0.03, 0.055, 0.16, 0.31), picture)


def _draw_curve(figure: Figure, epochs: Sequence[dict[str, float]]) -> None:
    _write(figure, 0.27, 0.385, "how it learned: digits read right", size=11.5, weight="bold")
    axis = figure.add_axes((0.315, 0.105, 0.33, 0.25))
    count = [row["epoch"] for row in epochs]
    for column, name, color in (
        ("accuracy", "while learning", _TRAIN),
        ("test_accuracy", "held-out digits", _TEST),
    ):
        values = [100 * row[column] for row in epochs]
        axis.plot(count, values, "o-", color=color, lw=2.2, ms=4.5, label=name)
    if epochs:
        last = epochs[-1]["test_accuracy"]
        axis.set_title(f"{last:.2%} in the end", fontsize=10, color=_TEST, loc="right", pad=3)
        axis.legend(frameon=False, loc="lower right", fontsize=10, labelcolor=_INK)
    axis.set_xlabel("epoch", color=_FAINT, fontsize=10)
    axis.yaxis.set_major_formatter("{x:.0f} %")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(colors=_FAINT, labelsize=9.5, length=0)
    axis.grid(axis="y", color="#e6e4de")
    axis.set_axisbelow(True)
    for name in ("top", "right", "left"):
        axis.spines[name].set_visible(False)
    axis.spines["bottom"].set_color("#c9c7c0")


def _draw_answer(figure: Figure, run: Run, features: Features) -> None:
    scores = np.asarray(features.layers[-1].maps, np.float64)
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    _write(figure, 0.71, 0.385, "its answer", size=11.5, weight="bold")
    axis = figure.add_axes((0.71, 0.105, 0.26, 0.25))
    places = np.arange(len(shares))
    colors = [_TEST if place == best else "#c9c7c0" for place in places]
    axis.bar(places, 100 * shares, color=colors, width=0.72)
    axis.text(
        best, 100 * shares[best] + 2, f"{shares[best]:.1%}", ha="center", color=_TEST, size=10
    )
    axis.set_ylim(0, 112)
    axis.set_xticks(places, run.config.classes, fontsize=11, color=_INK)
    axis.set_yticks([])
    axis.tick_params(length=0)
    for name in ("top", "right", "left"):
        axis.spines[name].set_visible(False)
    axis.spines["bottom"].set_color("#c9c7c0")


def _show(figure: Figure, box: _Box, picture: NDArray[Any], **style: Any) -> None:
    axis = figure.add_axes(box, anchor="NW")
    axis.imshow(picture, interpolation="nearest", **style)
    axis.set_axis_off()


def _arrow(figure: Figure, left: float, height: float, right: float) -> None:
    figure.add_artist(
        FancyArrowPatch(
            (left, height), (right, height), arrowstyle="-|>", mutation_scale=12, color=_FAINT
        )
    )


def _write(
    figure: Figure,
    left: float,
    height: float,
    text: str,
    *,
    size: float,
    color: str = _INK,
    weight: str = "normal",
    top: bool = False,
) -> None:
    anchor = "top" if top else "baseline"
    figure.text(left, height, text, size=size, color=color, weight=weight, va=anchor)


_HEIGHT, _WIDTH = 900, 700
_SIDE = 460  # pixels of the digit's field of 28×28
_PLACE = (170, 90)  # of that field's top left corner
_SHEET = np.array([236, 228, 210])
_PEN = np.array([38, 44, 84])
_GRAIN = 3.0  # levels, the deviation of the camera's noise


def write_on_paper(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A digit (28, 28), light on dark, as a photograph of blue ink on paper, (900, 700, 3)."""
    large = cv2.resize(digit, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(large, (0, 0), 7).astype(np.float64) / 255
    ink = np.zeros((_HEIGHT, _WIDTH))
    top, left = _PLACE
    # Ink has an edge where a gray ramp has none.
    ink[top : top + _SIDE, left : left + _SIDE] = np.clip((soft - 0.25) * 4, 0, 1)
    rows, columns = np.mgrid[0 : 1 : _HEIGHT * 1j, 0 : 1 : _WIDTH * 1j]
    light = 1.0 - 0.38 * columns * rows - 0.10 * rows  # a window at the top left
    color = _SHEET + ink[..., None] * (_PEN - _SHEET)
    grain = np.random.default_rng(0).normal(0, _GRAIN, (_HEIGHT, _WIDTH, 1))
    return np.asarray(np.clip(color * light[..., None] + grain, 0, 255), np.uint8)


MARKER = ".eyeshot-demo"
_MARK = (
    "Made by `eyeshot demo`. While this file is here, the next demo replaces what this one made.\n"
)


@dataclass
class Stage:
    """The demo's folder and what has been made so far.

    Attributes:
        folder: as the caller named it, so that the paths shown can be typed as they are.
        say: prints a line.
        progress: of the training.
        epochs: None for the usual number.
        suggestions: command lines to try next.
        sections: of the report, besides those that every run has.
    """

    folder: Path
    say: Callable[[str], None]
    progress: bool | Progress = True
    epochs: int | None = None
    suggestions: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    _run: Run | None = None
    _data: Data | None = None

    @property
    def run_folder(self) -> Path:
        """Where the network is saved."""
        return self.folder / "run"

    @property
    def pictures(self) -> Path:
        """Where the single pictures lie."""
        return self.folder / "pictures"

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def overview(self) -> Path:
        """The demo in one picture."""
        return self.folder / "overview.png"

    @property
    def page_run_folder(self) -> Path:
        """Where the network that reads pages is saved."""
        return self.folder / "page-run"

    @property
    def page(self) -> Path:
        """The page of digits."""
        return self.folder / "page.png"

    @property
    def page_read(self) -> Path:
        """The page with what was read on it."""
        return self.folder / "page-read.png"

    @property
    def run(self) -> Run:
        """The trained network; set by the first step."""
        if self._run is None:
            raise Failure("the demo has no network yet", cure="train one in an earlier step")
        return self._run

    @run.setter
    def run(self, run: Run) -> None:
        self._run = run

    @property
    def data(self) -> Data:
        """The digits; set by the first step."""
        if self._data is None:
            raise Failure("the demo has no digits yet", cure="load them in an earlier step")
        return self._data

    @data.setter
    def data(self, data: Data) -> None:
        self._data = data

    def suggest(self, *words: str | Path) -> None:
        """Add ``eyeshot`` with these words to what can be tried next."""
        self.suggestions.append(shlex.join([command(), *(str(word) for word in words)]))

    def clear(self) -> None:
        """Take away what an earlier demo made; whatever else lies in the folder stays."""
        made_before = (self.run_folder, self.pictures, self.report, self.overview)
        for made in (*made_before, self.page_run_folder, self.page, self.page_read):
            if made.is_dir() and not made.is_symlink():
                shutil.rmtree(made)
            else:
                made.unlink(missing_ok=True)


def open_stage(
    folder: Path,
    *,
    say: Callable[[str], None],
    progress: bool | Progress = True,
    epochs: int | None = None,
) -> Stage:
    """Make the folder ready: new, empty, or that of an earlier demo.

    Raises:
        BadValue: it holds something else.
        BadFile: it cannot be made or written to.
    """
    stage = Stage(folder, say, progress, epochs)
    marker = folder / MARKER
    try:
        if folder.exists() and not marker.is_file() and any(folder.iterdir()):
            raise BadValue(
                f"{folder} is not empty and not made by a demo",
                cure="name another folder with --out",
            )
        folder.mkdir(parents=True, exist_ok=True)
        # Before all else, so that a demo that was stopped can be run again.
        marker.write_text(_MARK, encoding="utf-8")
        stage.clear()
        stage.pictures.mkdir()
    except OSError as error:
        raise explain_os_error(error, Path(error.filename or folder)) from error
    return stage


def first_digit(data: Data, digit: int) -> NDArray[np.uint8]:
    """The first held-out picture of ``digit``, (28, 28)."""
    index = int((data.test.labels == digit).int().argmax())
    pixels, _ = data.test.take([index])
    return np.ascontiguousarray(pixels[0, 0].numpy())


def command() -> str:
    """How this ``eyeshot`` can be called from here: its bare name only where that finds it."""
    beside = Path(sys.executable).with_name("eyeshot")
    installed = shutil.which("eyeshot")
    if installed is not None and (not beside.exists() or Path(installed).samefile(beside)):
        return "eyeshot"
    if beside.exists():
        near = os.path.relpath(beside)
        return near if len(near) < len(str(beside)) else str(beside)
    return f"{sys.executable} -m eyeshot"
