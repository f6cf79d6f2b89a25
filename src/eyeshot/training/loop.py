"""The training loop: forward pass, loss, optimizer step; it measures and saves at intervals.

Devices are set up by Lightning Fabric, and torch's global state is restored at the end.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from eyeshot.errors import BadValue, EyeshotError, Failure, UnknownName
from eyeshot.extras import extra
from eyeshot.files import make_folder, write_aside
from eyeshot.frontends.refusals import in_brief, line_at_fault
from eyeshot.language import counted
from eyeshot.runs import (
    LAST,
    LAST_WEIGHTS,
    METRICS,
    PROGRAM,
    SAMPLES,
    WEIGHTS,
    Recipe,
    RunConfig,
    read_tensors,
    save_tensors,
)
from eyeshot.training import checkpoint
from eyeshot.training.chance import generators_restored, seed_everything
from eyeshot.training.checkpoint import STOP, Position
from eyeshot.training.logs import Log, write_row
from eyeshot.training.optimization import Average, learning_rate, set_learning_rate
from eyeshot.training.own_network import OwnNet, frozen_norms, keep_frozen
from eyeshot.training.progress import Progress
from eyeshot.training.tasks import Generation, Task, result_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PICTURE = 2  # axes of space


class Stopped(Exception):
    """A person ended the training. It is caught inside this package."""


@dataclass
class Training:
    """The state of one training: made by :func:`eyeshot.train`, run by :meth:`fit`.

    ``net`` is the plain module, and ``model`` is the same module wrapped by Fabric for its devices
    and precision; ``average`` has the running mean of the weights if the recipe asks for one.
    """

    config: RunConfig
    task: Task
    folder: Path
    fabric: Fabric
    net: nn.Module
    model: nn.Module
    optimizer: Optimizer
    average: Average | None
    position: Position
    progress: Progress
    checkpoint_seconds: float
    own: OwnNet | None = None
    logs: Sequence[Log] = ()

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory layout of the network's inputs."""
        if len(self.config.size) != _PICTURE:
            return torch.contiguous_format  # channels last is a layout of pictures
        return self.own.memory_format if self.own else torch.channels_last

    @property
    def result(self) -> nn.Module:
        """The network that is the result: the average, if there is one."""
        return result_of(self.net if self.average is None else self.average.net)

    def fit(self) -> None:
        """Train from the position to the end, and write the weights and the metrics.

        Raises:
            Failure: the loss is not a number, or the disk is full; the last checkpoint is kept.
        """
        self.progress.begin(self.config, self.task.steps_an_epoch, self.position)
        if self.fabric.is_global_zero and not (self.folder / LAST / checkpoint.FILE).is_file():
            self.save()  # from now on a killed training can be resumed
        while self.position.epoch < self.config.recipe.epochs and not self.ended:
            self.train_epoch()
            row = self.measure()
            self.keep_weights(row)
            self.keep_samples()
            self.position.next_epoch(row)
            write_row(self.logs, row)
            self.save()
            self.progress.finish_epoch(row)
            if self.position.epoch < self.config.recipe.epochs and self.stop_asked:
                self.stop()
        if self.ended:
            self.progress.say(self.ended)
        self.finish()

    @property
    def stop_asked(self) -> bool:
        """Whether a person asked to end the training after this step."""
        return bool(self.fabric.broadcast((self.folder / STOP).exists()))

    @property
    def out_of_time(self) -> bool:
        """Whether the steps have used up the minutes of the recipe."""
        minutes, position = self.config.recipe.minutes, self.position
        elapsed = position.seconds + sum(row["seconds"] for row in position.rows)
        return bool(minutes) and elapsed >= 60 * minutes

    @property
    def ended(self) -> str:
        """Why the training ends before its last epoch; "" if it does not."""
        recipe, position, best = self.config.recipe, self.position, self.config.best
        if self.out_of_time:
            return f"ended after {recipe.minutes:g} minutes of steps, in epoch {position.epoch}"
        since = position.epoch - position.best_epoch
        if recipe.patience and best and position.rows and since >= recipe.patience:
            name = best.replace("_", " ")
            return (
                f"ended in epoch {position.epoch}: no better {name} for {counted(since, 'epoch')}"
            )
        return ""

    def stop(self) -> None:
        """Save the training and end it, because the folder has a file ``STOP``.

        Raises:
            Stopped: always.
        """
        self.save()
        if self.fabric.is_global_zero:
            (self.folder / STOP).unlink(missing_ok=True)
            if not (self.folder / WEIGHTS).is_file():
                self.write_weights(self.result.state_dict(), self.position.epoch)
        self.fabric.barrier()
        self.progress.say(
            f"stopped by {self.folder / STOP} in epoch {self.position.epoch + 1}, after step "
            f"{self.position.step}; go on with --resume"
        )
        raise Stopped

    def train_epoch(self) -> None:
        """Train the rest of the epoch, from the position on."""
        position = self.position
        self.model.train()
        keep_frozen(frozen_norms(self.net))
        saved = started = time.perf_counter()
        for batch in self.task.batches(position.epoch, position.step):
            self.train_step(batch)
            now = time.perf_counter()
            position.seconds += now - started
            self.progress.step(position)
            if position.step < self.task.steps_an_epoch:
                if self.stop_asked:
                    self.stop()
                if now - saved > self.checkpoint_seconds or self.out_of_time:
                    self.save()
                    saved = time.perf_counter()
                if self.out_of_time:
                    return
            started = time.perf_counter()

    def train_step(self, batch: Any) -> None:
        """One step on a batch of the task."""
        recipe, position, fabric = self.config.recipe, self.position, self.fabric
        seed = (recipe.seed, position.epoch, position.step)
        seed_everything(fabric.device, seed)  # for dropout: the same numbers after --resume
        share = slice(fabric.global_rank, None, fabric.world_size)
        inputs, targets = self.task.prepare(batch, seed, share, fabric.device)
        done = position.epoch * self.task.steps_an_epoch + position.step
        steps = recipe.epochs * self.task.steps_an_epoch
        set_learning_rate(self.optimizer, learning_rate(recipe, done, steps))

        with self.failures_named():
            outputs = self.model(inputs.contiguous(memory_format=self.memory_format))
            loss = self.task.loss(outputs, targets)
            sums = self.task.sums(loss.detach(), outputs.detach(), targets)
            self.record(sums, len(inputs))
            fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.net, done)
        position.step += 1

    @contextmanager
    def failures_named(self) -> Iterator[None]:
        """Inside, an error that a user's own network raises becomes one line.

        Raises:
            Failure: there was one.
        """
        try:
            yield
        except EyeshotError:
            raise
        except Exception as error:  # somebody's forward may raise anything
            if self.own is None:
                raise
            place = line_at_fault(error)
            raise Failure(
                f"{self.own.name} failed in epoch {self.position.epoch + 1}, step "
                f"{self.position.step + 1}: {f'{place}: ' if place else ''}{in_brief(error)}",
                cure="correct it, and train again; the checkpoint before the step is kept",
            ) from error

    def record(self, sums: Tensor, count: int) -> None:
        """Add a batch's measures to the epoch's, before its gradient changes the weights."""
        position = self.position
        if self.fabric.world_size > 1:
            torch.distributed.all_reduce(sums)
        values = sums.tolist()
        if not math.isfinite(values[0]):
            raise Failure(
                f"the loss is {values[0] / count} in epoch {position.epoch + 1}, "
                f"step {position.step + 1}",
                cure="train again with a lower --lr; the checkpoint before it is kept",
            )
        for name, value in zip(self.task.measures, values, strict=True):
            position.sums[name] = position.sums.get(name, 0.0) + value
        position.seen += count * self.fabric.world_size

    def measure(self) -> dict[str, float]:
        """The row of the finished epoch, with the measures of the resulting weights.

        Raises:
            Failure: a measure of the weights after the last steps is not a number.
        """
        position, recipe = self.position, self.config.recipe
        judged = self.task.judge(self.result)
        for name, value in judged.items():
            if not math.isfinite(value):
                raise Failure(
                    f"the {name.replace('_', ' ')} is {value} after epoch {position.epoch + 1}",
                    cure="train again with a lower --lr; the checkpoint before it is kept",
                )
        done = (position.epoch + 1) * self.task.steps_an_epoch - 1
        steps = recipe.epochs * self.task.steps_an_epoch
        return {
            "epoch": position.epoch + 1,
            **position.means,
            **judged,
            "learning_rate": learning_rate(recipe, done, steps),
            "images_per_second": position.seen / position.seconds,
            "seconds": position.seconds,
        }

    def keep_weights(self, row: dict[str, float]) -> None:
        """Write the weights, unless those of an earlier epoch did at least as well.

        From now on the folder can be loaded. The weights are written before the checkpoint that
        records them: a training killed between the two resumes before the epoch, and computes the
        same weights again.
        """
        best, position = self.config.best, self.position
        if best is not None:
            if position.best is not None and row[best] <= position.best:
                return
            position.best, position.best_epoch = row[best], position.epoch + 1
        if self.fabric.is_global_zero:
            self.write_weights(self.result.state_dict(), position.epoch + 1)

    def write_weights(
        self, weights: Mapping[str, Tensor], epoch: int, *, finished: bool = False
    ) -> None:
        """Write the weights that the folder is loaded with, and their epoch."""
        # One key only: the order of several keys in the file would be random.
        metadata = {"epoch": f"{epoch} finished" if finished else str(epoch)}
        save_tensors(self.folder / WEIGHTS, weights, metadata)

    def keep_samples(self) -> None:
        """After each epoch of a generator, save the pictures that it makes of the same latents."""
        if isinstance(self.task, Generation) and self.fabric.is_global_zero:
            make_folder(self.folder / SAMPLES)
            path = self.folder / SAMPLES / f"epoch-{self.position.epoch + 1:03}.png"
            with write_aside(path) as aside:
                Image.fromarray(self.task.show(self.result)).save(aside, format="PNG")

    def save(self) -> None:
        """Write the checkpoint and the table of metrics."""
        if self.fabric.is_global_zero:
            folder = self.folder / LAST
            checkpoint.save(folder, self.net, self.average, self.optimizer, self.position)
            write_metrics(self.folder / METRICS, self.position.rows)

    def finish(self) -> None:
        """Write the last weights, and record that the training has finished."""
        if self.fabric.is_global_zero:
            position = self.position
            write_metrics(self.folder / METRICS, position.rows)
            last = self.result.state_dict()
            if self.config.best is None:
                self.write_weights(last, position.epoch, finished=True)
            else:
                save_tensors(self.folder / LAST_WEIGHTS, last)
                best, _ = read_tensors(self.folder / WEIGHTS)
                self.write_weights(best, position.best_epoch, finished=True)
            if self.own is not None:
                best, _ = read_tensors(self.folder / WEIGHTS)
                self.result.load_state_dict(best)
                self.own.write(self.result, self.folder / PROGRAM)
        self.fabric.barrier()
        self.progress.finish()


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """Write ``rows`` as CSV under a header of their keys; no rows, no file."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    with write_aside(path) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")


DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> str:
    """The device that "auto" means on this machine; any other name unchanged.

    Raises:
        UnknownName: no such kind of device.
        BadValue: this machine has none.
    """
    if name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(kind for kind, is_there in there.items() if is_there)
    if not there[name]:
        raise BadValue(f"device is {name!r}, and there is none here", cure="use auto or cpu")
    return name


def make_fabric(recipe: Recipe) -> Fabric:
    """Fabric for the recipe's device, number of devices and precision, none of them "auto".

    Raises:
        BadValue: there are fewer devices, or they cannot share the batch.
    """
    if recipe.device == "cuda" and recipe.devices > torch.cuda.device_count():
        raise BadValue(
            f"devices is {recipe.devices}, and there are {torch.cuda.device_count()}",
            cure="use as many as there are, or fewer",
        )
    if recipe.batch_size % recipe.devices:
        raise BadValue(
            f"batch_size is {recipe.batch_size}, which {recipe.devices} devices cannot share",
            cure=f"use a multiple of {recipe.devices}",
        )
    with extra("train"):
        from lightning_fabric import Fabric  # takes seconds to import: only when it trains

    return Fabric(
        accelerator=recipe.device,
        devices=recipe.devices,
        precision="bf16-mixed" if recipe.precision == "bf16-mixed" else "32-true",
    )


@contextmanager
def torch_state_restored() -> Iterator[None]:
    """Inside, random numbers and cuDNN's settings are our own; then they are restored.

    So is the level of Fabric's log. cuDNN uses only algorithms that give the same bits every time.
    """
    devices = list(range(torch.cuda.device_count()))
    with (
        _fabric_quiet(),
        generators_restored(devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        warnings.catch_warnings(),
    ):
        yield


@contextmanager
def _fabric_quiet() -> Iterator[None]:
    """Inside, Fabric logs only errors."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    with extra("train"):
        import lightning_fabric  # noqa: F401 - sets the level itself when it is first imported

    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
