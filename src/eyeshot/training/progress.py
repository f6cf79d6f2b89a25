"""What a person is shown before and during a training, and the final statistics of batch norm.

Progress goes to standard error; standard output belongs to results.

In this file:

- what a person sees while a network learns: a live bar, or plain lines where there is no terminal;
- batch norm's statistics gathered again, for weights that no training step has seen;
- what a person should know of a training before it starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor, nn

from eyeshot.data import Data
from eyeshot.data.examples import count_batches
from eyeshot.language import counted, mark, tr
from eyeshot.runs import RunConfig, build_net
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.terminal import PlainConsole
from eyeshot.training.checkpoint import Position
from eyeshot.training.cropping import border_of, whole_border
from eyeshot.training.own_network import OwnNet, find_faults, frozen_norms, keep_frozen
from eyeshot.training.recipes import LEAST_STEPS, epochs_needed

LEAST_BATCH = 2
"""A single picture that is left over joins the batch before: batch norm compares pictures."""


if TYPE_CHECKING:
    from eyeshot.data.pairs import Pairs


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
                + _WORDS_OF_DATA[len(config.size)][1]
            )
        for row in position.rows:
            self._print_row(row)
        for task in self.bar.task_ids:  # of a fold before
            self.bar.remove_task(task)
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
        speed = self._speed(position.seen / position.seconds)
        self.bar.update(
            self.task,
            completed=position.epoch * self.steps_an_epoch + position.step,
            epoch=f"{position.epoch + 1}/{self.epochs}",
            figures=f"{format_figures(position.means)}  {speed}",
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
        digits, epoch = len(str(self.epochs)), tr("epoch")
        self.console.print(
            f"{epoch} {row['epoch']:{digits}.0f}/{self.epochs}  {format_figures(row)}  "
            f"{self._speed(row['images_per_second'])}",
            soft_wrap=True,
        )

    def _speed(self, rate: float) -> str:
        if self.crops:
            return tr("{rate:,.1f} crops/s", rate=rate)
        return tr("{rate:,.0f} images/s", rate=rate)


def format_figures(figures: dict[str, float]) -> str:
    """Those of the figures that a line has room for, each with its name."""
    return "  ".join(
        f"{tr(name.replace('_', ' ').replace('dice', 'Dice'))} {_WORDS[kind](figures[name])}"
        for name, kind in _SHOWN.items()
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
_NAMES = (  # those that a demo prints; the others are in English in every language
    mark("loss"),
    mark("accuracy"),
    mark("test accuracy"),
)
_SHOWN = {
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


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class _Sums:
    """What one channel-wise norm has been given so far, in float64, a number a channel."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def take(self, _: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        """Add a batch (N, C, H, W); has the form of a hook."""
        (batch,) = (*inputs, *named.values())
        everywhere = (0, *range(2, batch.ndim))
        variance, mean = torch.var_mean(batch.float(), everywhere, correction=0)
        variance, mean = variance.double(), mean.double()
        count = batch.numel() // batch.shape[1]
        self.count += count
        self.total += count * mean
        self.squares += count * (variance + mean.square())


def gather_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the batch norms of ``net`` the mean and variance of all that ``batches`` bring them.

    The statistics that training leaves are of other weights, where the network is a running mean,
    and of pictures that were changed at random. Each batch passes as it does in training, each norm
    by the batch's own statistics; what is kept is the mean and the variance over all pixels of all
    batches, so that neither a small batch nor the difference between two of them is lost.
    Source: Izmailov et al., 2018, arXiv:1803.05407, section 3.2.

    Args:
        net: is left in training mode.
        batches: inputs (N, C, H, W) of the network.
    """
    net.train()
    keep_frozen(frozen_norms(net))
    # Norms that are in eval mode now keep their statistics: frozen by us, or by their own train().
    norms = [layer for layer in net.modules() if isinstance(layer, _BATCH_NORMS) and layer.training]
    if not norms:
        return
    sums = [_Sums() for _ in norms]
    with ExitStack() as hooks, torch.no_grad():
        for layer, sum_ in zip(norms, sums, strict=True):
            hooks.enter_context(layer.register_forward_pre_hook(sum_.take, with_kwargs=True))
        for images in batches:
            net(images)
        for layer, sum_ in zip(norms, sums, strict=True):
            _set(layer, sum_)


def _set(layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, sums: _Sums) -> None:
    if layer.running_mean is None or layer.running_var is None or not sums.count:
        return
    mean = torch.as_tensor(sums.total / sums.count)
    variance = torch.as_tensor(sums.squares / sums.count) - mean.square()
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance.clamp(min=0))


_PICTURE = 2  # axes of space
_WORDS_OF_DATA = {
    1: ("signal", "samples"),
    _PICTURE: ("picture", "pixels"),
    3: ("volume", "voxels"),
}
_WITH_ALPHA = 4
_MANY_WEIGHTS = 10_000_000
"""More than a classifier of this kind can use: they sit in one linear layer behind large maps."""
_SMALLER = "128x128"


def tell(config: RunConfig, data: Data | Pairs, own: OwnNet | None = None) -> Iterator[str]:
    """A sentence for each thing that may surprise."""
    yield from data.notes
    if own is not None:
        yield from find_faults(own, config.channels, config.size)
    if config.task == "generate":
        return
    if isinstance(data, Data):
        yield from _tell_classes(config, data, own)
    else:
        yield from _tell_pairs(config, data, own)


def _tell_classes(config: RunConfig, data: Data, own: OwnNet | None) -> Iterator[str]:
    recipe, count = config.recipe, len(data.train)
    steps = recipe.epochs * count_batches(count, recipe.batch_size, least=LEAST_BATCH)
    if 2 * steps < LEAST_STEPS:
        yield (
            f"{counted(steps, 'step')} in all may be too few to learn anything: --epochs "
            f"{epochs_needed(count, recipe.batch_size)} makes {LEAST_STEPS}"
        )
    if recipe.patience and data.validation is None:
        yield (
            "the best epoch is chosen by the test part, so its accuracy there is a little too "
            "high: add a val folder to choose by"
        )
    if own is not None:
        return
    with torch.device("meta"):
        sizes = {name: p.numel() for name, p in build_net(config).named_parameters()}
    total, largest = sum(sizes.values()), max(sizes, key=lambda name: sizes[name])
    if total > _MANY_WEIGHTS:
        high, wide = config.size
        yield (
            f"{config.model} for pictures of {high}×{wide} has {total:,} weights, "
            f"{sizes[largest]:,} of them in {largest}: use --size {_SMALLER}, "
            "--depth 5, or --model small_vgg"
        )


def _tell_pairs(config: RunConfig, pairs: Pairs, own: OwnNet | None) -> Iterator[str]:
    from eyeshot.evaluation.passes import tell_sizes  # brings the engine, not needed for classes

    if pairs.channels == _WITH_ALPHA and pairs.dims == _PICTURE:
        yield (
            "the pictures have 4 channels, and all are learned from: if the fourth is alpha and "
            "not wanted, save them without it"
        )
    if len(pairs.validation) == 1:
        yield (
            f"one {_WORDS_OF_DATA[pairs.dims][0]} is all that the network is judged by, "
            f"{pairs.validation[0].name}: its figures may not hold for others"
        )
    if own is not None:
        yield from _tell_own(own, config, pairs)
    yield from tell_sizes(own.geometry if own else geometry_of_named(config))


def _tell_own(own: OwnNet, config: RunConfig, pairs: Pairs) -> Iterator[str]:
    """What crops cannot show a network of somebody's own."""
    geometry, layers = own.geometry, own.geometry.statistics
    one, points = _WORDS_OF_DATA[len(config.size)]
    if layers:
        yield (
            f"{counted(len(layers), 'layer')} of {own.name} ({layers[0]}"
            f"{', …' if len(layers) > 1 else ''}) depend on all of a {one}, or on its size: a "
            f"crop gives them other numbers than the whole {one}; large crops keep them near"
        )
    border, whole = border_of(geometry, config.size), whole_border(geometry.output)
    larger = any(n > m for pair in pairs.train for n, m in zip(pair.size, config.size, strict=True))
    if border < whole and larger:
        yield (
            f"an output of {own.name} sees up to {whole} {points} to each side, and of a crop "
            f"{border} are left out: what is next to them is learned from less than a whole "
            f"{one} shows; --crop {2 * whole + geometry.output.alignment} would show all"
        )
