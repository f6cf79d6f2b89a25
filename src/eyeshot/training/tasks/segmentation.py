"""A class for each pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eyeshot.evaluation.segmentation import judge_masks
from eyeshot.training.losses import segmentation_loss
from eyeshot.training.tasks.crops import CropLearning, Targets


class Segmentation(CropLearning):
    """Masks: Dice and cross-entropy on crops, judged on whole pictures."""

    measures = ("loss", "accuracy", "dice")

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Dice loss and cross-entropy of scores (B, classes, H, W) on the valid pixels."""
        targets = targets.like(outputs, self._stride)
        given = self._config.recipe.class_weights
        weights = torch.tensor(given, device=outputs.device) if given else None
        return segmentation_loss(outputs, targets.wanted, targets.valid, weights)

    def sums(self, loss: Tensor, outputs: Tensor, targets: Targets) -> Tensor:
        """Loss, share of valid pixels that are right, and mean Dice of the classes there."""
        targets = targets.like(outputs, self._stride)
        count = outputs.shape[1]
        said, truth = outputs.argmax(1)[targets.valid], targets.wanted[targets.valid]
        table = torch.bincount(truth * count + said, minlength=count * count).view(count, count)
        right, there = table.diagonal(), table.sum(1) + table.sum(0)
        accuracy = right.sum() / table.sum().clamp(min=1)
        dice = (2 * right / there.clamp(min=1))[there > 0].sum() / (there > 0).sum().clamp(min=1)
        return torch.stack([loss, accuracy, dice]) * len(outputs)

    def judge(self, net: nn.Module) -> dict[str, float]:
        """Accuracy, Dice, IoU and boundary F1 on the whole validation pictures."""
        with self._judged(net) as traced:
            found = judge_masks(traced, self._pairs, self._pairs.validation)
        return {
            "validation_accuracy": found.accuracy,
            "validation_dice": found.dice,
            "validation_iou": found.iou,
            "validation_boundary_f1": found.boundary_f1,
        }
