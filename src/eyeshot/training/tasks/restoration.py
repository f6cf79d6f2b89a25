"""A picture for a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from eyeshot.data.pairs import Pairs
from eyeshot.evaluation.restoration import LEAST_ERROR, Likeness, judge_pictures
from eyeshot.runs import RunConfig
from eyeshot.training.losses import restoration_loss
from eyeshot.training.own_network import OwnNet
from eyeshot.training.tasks.crops import CropLearning, Targets


class Restoration(CropLearning):
    """Pictures made of pictures: L1 or MSE on crops, judged on whole pictures."""

    measures = ("loss", "psnr")

    def __init__(self, config: RunConfig, pairs: Pairs, own: OwnNet | None = None) -> None:
        super().__init__(config, pairs, own)
        # How near the pictures are as they were given: the same after each epoch.
        self._before: dict[Path, Likeness] = {}

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """The recipe's loss between pictures (B, C, H, W) in 0 … 1, on the valid pixels."""
        targets = targets.like(outputs)
        kind = self._config.recipe.loss
        return restoration_loss(kind, outputs, targets.wanted, targets.valid)

    def sums(self, loss: Tensor, outputs: Tensor, targets: Targets) -> Tensor:
        """Loss, and PSNR in decibels."""
        targets = targets.like(outputs)
        clipped = outputs.clamp(0, 1)
        error = restoration_loss("mse", clipped, targets.wanted, targets.valid)
        return torch.stack([loss, -10 * error.clamp_min(LEAST_ERROR).log10()]) * len(outputs)

    def judge(self, net: nn.Module) -> dict[str, float]:
        """PSNR and SSIM on the whole validation pictures."""
        with self._judged(net) as traced:
            pairs = self._pairs
            found = judge_pictures(traced, pairs, pairs.validation, before=self._before)
        return {"validation_psnr": found.psnr, "validation_ssim": found.ssim}
