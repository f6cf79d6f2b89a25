"""Where the demo plays: its folder, which it alone may replace, and what its steps hand on."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot.data import Data
from eyeshot.errors import BadValue, Failure
from eyeshot.files import explain_os_error
from eyeshot.pages.parts import Section
from eyeshot.runs import Run
from eyeshot.training import Progress

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
    found = shutil.which("eyeshot")
    if found is not None and (not beside.exists() or Path(found).samefile(beside)):
        return "eyeshot"
    if beside.exists():
        near = os.path.relpath(beside)
        return near if len(near) < len(str(beside)) else str(beside)
    return f"{sys.executable} -m eyeshot"
