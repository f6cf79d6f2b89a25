"""A class for a picture."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from eyeshot.data import Data
from eyeshot.data.examples import count_batches
from eyeshot.runs import RunConfig, normalize, score
from eyeshot.training.augmentation import shift_pictures
from eyeshot.training.own_network import OwnNet, scores_of

Batch = tuple[Tensor, Tensor]

LEAST_BATCH = 2
"""A single picture that is left over joins the batch before: batch norm compares pictures."""


class Classification:
    """Pictures by class: cross-entropy with smoothed labels, judged by the whole test part."""

    measures = ("loss", "accuracy")

    def __init__(
        self, config: RunConfig, data: Data, whole_batches: bool, own: OwnNet | None = None
    ) -> None:
        self._config, self._data, self._whole_batches = config, data, whole_batches
        self._own = own

    @property
    def steps_an_epoch(self) -> int:
        """Steps in one pass; several devices leave out a last batch that they could not share."""
        return count_batches(
            len(self._data.train),
            self._config.recipe.batch_size,
            drop_last=self._whole_batches,
            least=LEAST_BATCH,
        )

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Pictures uint8 (B, C, H, W) and labels (B,), shuffled again for each epoch."""
        recipe = self._config.recipe
        return self._data.train.batches(
            recipe.batch_size,
            shuffle_seed=recipe.seed,
            epoch=epoch,
            start=start,
            drop_last=self._whole_batches,
            least=LEAST_BATCH,
        )

    def prepare(
        self, batch: Batch, seed: tuple[int, int, int], share: slice, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Pictures shifted at random and normalized, and labels."""
        images, labels = batch
        images = shift_pictures(images, self._config.recipe.shift, seed)[share].to(device)
        pictures = normalize(images, self._config.mean, self._config.std)
        return pictures, labels[share].to(device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of scores (B, classes) for labels (B,), by the classes' weights."""
        recipe = self._config.recipe
        given = recipe.class_weights
        weights = torch.tensor(given, device=outputs.device) if given else None
        outputs = scores_of(self._own, outputs, training=True)
        return cross_entropy(outputs, targets, weights, label_smoothing=recipe.label_smoothing)

    def sums(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss times the pictures, and how many are right."""
        correct = (outputs.argmax(1) == targets).sum()
        return torch.stack([loss * len(targets), correct])

    def judge(self, net: nn.Module) -> dict[str, float]:
        """Loss without smoothing, and accuracy, on the test part."""
        scores, labels = score(net, self._data.test, self._config)
        scores = scores_of(self._own, scores, training=False)
        return {
            "test_loss": float(cross_entropy(scores, labels)),
            "test_accuracy": float((scores.argmax(1) == labels).double().mean()),
        }
