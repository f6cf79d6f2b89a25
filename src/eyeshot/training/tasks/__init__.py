"""What a network can be taught, as the loop sees it: batches in, loss out, and how it is judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from eyeshot.data import Data
from eyeshot.runs import RunConfig
from eyeshot.training.own_network import OwnNet
from eyeshot.training.tasks.classification import Classification

if TYPE_CHECKING:
    from eyeshot.data.pairs import Pairs

__all__ = ["Task", "make_task"]

Seed = tuple[int, int, int]


class Task(Protocol):
    """What differs between the tasks; the loop is the same for all.

    A batch and the targets made of it are the task's own: the loop hands them on.
    """

    @property
    def measures(self) -> tuple[str, ...]:
        """Of a batch, each a mean over its pictures; the first is the loss."""

    @property
    def steps_an_epoch(self) -> int:
        """Batches in an epoch."""

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch from step ``start`` on; they depend on epoch and step alone."""

    def prepare(
        self, batch: Any, seed: Seed, share: slice, device: torch.device
    ) -> tuple[Tensor, Any]:
        """Inputs (B, C, H, W) for the network, and targets: this device's ``share`` of a batch.

        What is changed at random depends on ``seed`` (the run's, the epoch, the step) alone.
        """

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """One number to be made small, with its gradient."""

    def sums(self, loss: Tensor, outputs: Tensor, targets: Any) -> Tensor:
        """The ``measures`` of a batch, each times its number of pictures: (len(measures),)."""

    def judge(self, net: nn.Module) -> dict[str, float]:
        """Columns of ``metrics.csv``: how ``net`` does on what it does not learn from."""


def make_task(
    config: RunConfig,
    data: Data | Pairs,
    own: OwnNet | None = None,
    *,
    whole_batches: bool = False,
) -> Task:
    """The task that ``config`` describes, on its ``data``.

    Args:
        config: of the run.
        data: labeled pictures to learn classes or pictures from, pairs for anything else.
        own: the network, where it is somebody's own.
        whole_batches: leave out a last batch that is smaller than the others.
    """
    if config.task == "generate" and isinstance(data, Data):
        from eyeshot.training.tasks.generation import Generation

        return Generation(config, data)
    if isinstance(data, Data):
        return Classification(config, data, whole_batches, own)
    # Anyone who learns classes need not wait for the engine, which whole pictures are judged by.
    from eyeshot.training.tasks.crops import Restoration, Segmentation

    kind = Segmentation if config.task == "segment" else Restoration
    return kind(config, data, own)
