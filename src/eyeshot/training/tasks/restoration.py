"""A picture for a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eyeshot.evaluation.restoration import judge_pictures, psnr_of
from eyeshot.training.losses import restoration_loss
from eyeshot.training.tasks.crops import CropLearning, Targets


class Restoration(CropLearning):
    """Pictures made of pictures: L1 or MSE on crops, judged on whole pictures."""

    measures = ("loss", "psnr")

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
        return torch.stack([loss, torch.as_tensor(psnr_of(float(error)))]) * len(outputs)

    def judge(self, net: nn.Module) -> dict[str, float]:
        """PSNR and SSIM on the whole validation pictures."""
        with self._judged(net) as traced:
            found = judge_pictures(traced, self._pairs, self._pairs.validation)
        return {"validation_psnr": found.psnr, "validation_ssim": found.ssim}
