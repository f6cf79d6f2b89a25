"""What a person sees while a network learns: a live bar, or plain lines where there is no terminal.

Progress goes to standard error; standard output belongs to results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from eyeshot.runs import RunConfig
from eyeshot.terminal import PlainConsole
from eyeshot.training.checkpoint import Position


class Progress(Protocol):
    """What training tells while it works; each call must be quick."""

    def begin(self, config: RunConfig, steps_an_epoch: int, position: Position) -> None:
        """Training starts, or goes on from ``position``."""

    def step(self, position: Position) -> None:
        """A step is done."""

    def finish_epoch(self, row: dict[str, float]) -> None:
        """An epoch is done and measured: ``row`` is its line of ``metrics.csv``."""

    def say(self, line: str) -> None:
        """Something that a person should know."""

    def finish(self) -> None:
        """Training is over, or has failed."""


class Silence:
    """No progress shown."""

    def begin(self, config: RunConfig, steps_an_epoch: int, position: Position) -> None:
        """Say nothing."""

    def step(self, position: Position) -> None:
        """Say nothing."""

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Say nothing."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""


class TerminalProgress:
    """A bar with loss, accuracy, pictures a second and the time left; a line for each epoch.

    Attributes:
        rows: of the epochs that are done, as in ``metrics.csv``.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or PlainConsole(stderr=True)
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.epochs = 0
        self.steps_an_epoch = 1
        self.crops = False
        self.rows: list[dict[str, float]] = []

    def begin(self, config: RunConfig, steps_an_epoch: int, position: Position) -> None:
        """Open the bar, at the place where the training goes on."""
        self.epochs, self.steps_an_epoch = config.recipe.epochs, steps_an_epoch
        self.crops = config.task in ("segment", "restore")
        self.rows = list(position.rows)
        if self.crops and not position.rows:
            batch, size = config.recipe.batch_size, "×".join(map(str, config.size))
            self.say(
                f"{self.epochs} epochs of {steps_an_epoch} steps, each on {batch} crops of {size} "
                + {1: "samples", 2: "pixels", 3: "voxels"}[len(config.size)]
            )
        for row in position.rows:
            self._print_row(row)
        self.task = self.bar.add_task(
            "",
            total=self.epochs * steps_an_epoch,
            completed=position.epoch * steps_an_epoch + position.step,
            epoch=f"{position.epoch + 1}/{self.epochs}",
            figures="",
        )
        self.bar.start()

    def step(self, position: Position) -> None:
        """Move the bar."""
        if not self.console.is_terminal:
            return
        self.bar.update(
            self.task,
            completed=position.epoch * self.steps_an_epoch + position.step,
            epoch=f"{position.epoch + 1}/{self.epochs}",
            figures=f"{told(position.means)}  {self._speed(position.seen / position.seconds)}",
        )

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Print the epoch's line above the bar."""
        self.rows.append(row)
        self._print_row(row)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self.console.print(line, soft_wrap=True, markup=False)

    def finish(self) -> None:
        """Close the bar."""
        self.bar.stop()

    def _print_row(self, row: dict[str, float]) -> None:
        digits = len(str(self.epochs))
        self.console.print(
            f"epoch {row['epoch']:{digits}.0f}/{self.epochs}  {told(row)}  "
            f"{self._speed(row['images_per_second'])}",
            soft_wrap=True,
        )

    def _speed(self, rate: float) -> str:
        return f"{rate:,.1f} crops/s" if self.crops else f"{rate:,.0f} images/s"


def told(figures: dict[str, float]) -> str:
    """Those of the figures that a line has room for, each with its name."""
    return "  ".join(
        f"{name.replace('_', ' ').replace('dice', 'Dice')} {_WORDS[kind](figures[name])}"
        for name, kind in _TOLD.items()
        if name in figures
    )


def percent(part: float) -> str:
    """A share as "98.75 %", rounded down: 99.999 % is not 100 %."""
    return f"{math.floor(part * 10_000 + 1e-6) / 100:.2f} %"


_WORDS: dict[str, Callable[[float], str]] = {
    "number": "{:.4f}".format,
    "share": percent,
    "decibels": "{:.2f} dB".format,
}
_TOLD = {
    "loss": "number",
    "discriminator_loss": "number",
    "recognized": "share",
    "fooled": "share",
    "accuracy": "share",
    "dice": "share",
    "psnr": "decibels",
    "test_accuracy": "share",
    "validation_accuracy": "share",
    "validation_dice": "share",
    "validation_psnr": "decibels",
    "validation_ssim": "number",
    "validation_frechet": "number",
}
