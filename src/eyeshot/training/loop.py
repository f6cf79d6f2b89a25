"""The loop: pictures in, loss out, weights moved; measured and saved as it goes."""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from eyeshot.data import Data
from eyeshot.errors import Failure
from eyeshot.files import write_aside
from eyeshot.runs import LAST, METRICS, WEIGHTS, RunConfig, normalise, save_tensors, score
from eyeshot.training import checkpoint
from eyeshot.training.augmentation import shift_pictures
from eyeshot.training.checkpoint import Position
from eyeshot.training.optimization import Average, learning_rate, set_learning_rate
from eyeshot.training.progress import Progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass
class Training:
    """Everything that one training moves along: made by :func:`eyeshot.train`, run by :meth:`fit`.

    ``net`` is the plain module and ``model`` the same wrapped by Fabric for its devices and
    precision; ``average`` holds the running mean of the weights when the recipe wants one.
    """

    config: RunConfig
    data: Data
    folder: Path
    fabric: Fabric
    net: nn.Module
    model: nn.Module
    optimizer: Optimizer
    average: Average | None
    position: Position
    progress: Progress
    checkpoint_seconds: float

    @property
    def steps_an_epoch(self) -> int:
        """Steps in one pass; several devices leave out a last batch that they could not share."""
        count, size = len(self.data.train), self.config.recipe.batch_size
        return count // size if self.fabric.world_size > 1 else math.ceil(count / size)

    @property
    def result(self) -> nn.Module:
        """The network that the training is to give: the average, where there is one."""
        return self.net if self.average is None else self.average.net

    def fit(self) -> None:
        """Train from the position to the end, and write the weights and the metrics.

        Raises:
            Failure: the loss is not a number, or the disk is full; the last checkpoint is kept.
        """
        self.progress.begin(self.config, self.steps_an_epoch, self.position)
        while self.position.epoch < self.config.recipe.epochs:
            self.train_epoch()
            row = self.measure()
            self.position.next_epoch(row)
            self.save()
            self.progress.finish_epoch(row)
        self.finish()

    def train_epoch(self) -> None:
        """The rest of the epoch, from the position on."""
        recipe, position = self.config.recipe, self.position
        batches = self.data.train.batches(
            recipe.batch_size,
            shuffle_seed=recipe.seed,
            epoch=position.epoch,
            start=position.step,
            drop_last=self.fabric.world_size > 1,
        )
        self.model.train()
        saved = started = time.perf_counter()
        for images, labels in batches:
            self.train_step(images, labels)
            now = time.perf_counter()
            position.seconds += now - started
            self.progress.step(position)
            if now - saved > self.checkpoint_seconds and position.step < self.steps_an_epoch:
                self.save()
                saved = time.perf_counter()
            started = time.perf_counter()

    def train_step(self, images: Tensor, labels: Tensor) -> None:
        """One step on a batch: images uint8 (B, C, H, W), labels (B,)."""
        recipe, position, fabric = self.config.recipe, self.position, self.fabric
        seed = (recipe.seed, position.epoch, position.step)
        _seed_torch(fabric.device, seed)  # dropout, if there is any: the same after a resumption
        share = slice(fabric.global_rank, None, fabric.world_size)
        images = shift_pictures(images, recipe.shift, seed)[share].to(fabric.device)
        labels = labels[share].to(fabric.device)
        done = position.epoch * self.steps_an_epoch + position.step
        steps = recipe.epochs * self.steps_an_epoch
        set_learning_rate(self.optimizer, learning_rate(recipe, done, steps))

        pictures = normalise(images, self.config.mean, self.config.std)
        scores = self.model(pictures.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)
        self.record(loss.detach(), scores.detach(), labels)
        fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.net, done)
        position.step += 1

    def record(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Add a batch to the epoch's sums, before its gradient can do harm."""
        position = self.position
        correct = (scores.argmax(1) == labels).sum()
        sums = torch.stack([loss * len(labels), correct])
        if self.fabric.world_size > 1:
            torch.distributed.all_reduce(sums)
        loss_sum, right = sums.tolist()
        if not math.isfinite(loss_sum):
            raise Failure(
                f"the loss is {loss_sum / len(labels)} in epoch {position.epoch + 1}, "
                f"step {position.step + 1}",
                cure="train anew with a lower --lr; the checkpoint before it is kept",
            )
        position.loss_sum += loss_sum
        position.correct += int(right)
        position.seen += len(labels) * self.fabric.world_size

    def measure(self) -> dict[str, float]:
        """The row of the epoch just done, with the test part judged by the weights as they are.

        Raises:
            Failure: the last steps drove the weights to where the test loss is not a number.
        """
        position, recipe = self.position, self.config.recipe
        scores, labels = score(self.result, self.data.test, self.config)
        test_loss = float(cross_entropy(scores, labels))
        if not math.isfinite(test_loss):
            raise Failure(
                f"the test loss is {test_loss} after epoch {position.epoch + 1}",
                cure="train anew with a lower --lr; the checkpoint before it is kept",
            )
        done = (position.epoch + 1) * self.steps_an_epoch - 1
        steps = recipe.epochs * self.steps_an_epoch
        return {
            "epoch": position.epoch + 1,
            "loss": position.loss_sum / position.seen,
            "accuracy": position.correct / position.seen,
            "test_loss": test_loss,
            "test_accuracy": float((scores.argmax(1) == labels).double().mean()),
            "learning_rate": learning_rate(recipe, done, steps),
            "images_per_second": position.seen / position.seconds,
            "seconds": position.seconds,
        }

    def save(self) -> None:
        """Write the checkpoint and the table of metrics."""
        if self.fabric.is_global_zero:
            folder = self.folder / LAST
            checkpoint.save(folder, self.net, self.average, self.optimizer, self.position)
            write_metrics(self.folder / METRICS, self.position.rows)

    def finish(self) -> None:
        """Write the weights: from now on the folder can be loaded."""
        if self.fabric.is_global_zero:
            write_metrics(self.folder / METRICS, self.position.rows)
            save_tensors(self.folder / WEIGHTS, self.result.state_dict())
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


def _seed_torch(device: torch.device, numbers: tuple[int, int, int]) -> None:
    """Seed torch's own generators from ``numbers``, each combination as good as any other.

    ``torch.manual_seed`` would do it for devices that are not there too, and formats a stack trace
    for each of them: half a millisecond a step.
    """
    mixed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.default_generator.manual_seed(mixed)
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed)
    elif device.type == "mps":
        torch.mps.manual_seed(mixed)
