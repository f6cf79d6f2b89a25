"""The tasks that learn from crops of pairs: a class for each pixel, or a picture for a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from eyeshot.data.pairs import Crops, Pairs
from eyeshot.engine.networks import Traced, trace
from eyeshot.errors import Failure
from eyeshot.evaluation.restoration import LEAST_ERROR, Likeness, judge_pictures
from eyeshot.evaluation.segmentation import judge_masks
from eyeshot.runs import RunConfig
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.training.augmentation import augment_crops
from eyeshot.training.cropping import make_sampler
from eyeshot.training.optimization import restoration_loss, segmentation_loss
from eyeshot.training.own_network import OwnNet, scores_of
from eyeshot.training.progress import gather_statistics

_PICTURE = 2  # axes of space
_GATHERED_CROPS, _GATHERED_PIXELS = 64, 2**22
"""Crops and pixels by which batch norm's statistics are gathered at least, or by all there are."""


@dataclass(frozen=True)
class Targets:
    """What the outputs of a batch should be.

    Attributes:
        wanted: class numbers (B, H, W), or pictures (B, C, H, W) in 0 … 1.
        valid: where an output sees what it will see in the whole image, (B, H, W).
    """

    wanted: Tensor
    valid: Tensor

    def like(self, outputs: Tensor, stride: tuple[int, ...] = (1, 1)) -> Targets:
        """The targets of ``outputs``, one for each.

        A network may take pixels off at each side: then they are those in the middle. And it may
        answer once in ``stride`` pixels: then the target is that of the middle one of them.
        """
        sides = zip(self.valid.shape[1:], outputs.shape[2:], stride, strict=True)
        wanted, valid = self.wanted, self.valid
        for axis, (n, m, step) in enumerate(sides, start=-len(stride)):
            places = _middle(n, m, step, valid.device)
            if places is not None:
                wanted, valid = wanted.index_select(axis, places), valid.index_select(axis, places)
        return self if valid is self.valid else Targets(wanted, valid)


def _middle(pixels: int, outputs: int, step: int, device: torch.device) -> Tensor | None:
    """The pixel that each output along an axis stands for; None where they are one and the same."""
    if pixels == outputs and step == 1:
        return None
    margin = max(0, (pixels - outputs * step) // 2)
    places = torch.arange(outputs, device=device) * step + margin + step // 2
    return places.clamp(max=pixels - 1)


class CropLearning:
    """The part of a task that brings crops."""

    def __init__(self, config: RunConfig, pairs: Pairs, own: OwnNet | None = None) -> None:
        self._config, self._pairs, self._own = config, pairs, own
        recipe = config.recipe
        geometry = own.geometry if own else geometry_of_named(config)
        self._memory_format = own.memory_format if own else torch.channels_last
        if pairs.dims != _PICTURE:
            self._memory_format = torch.contiguous_format
        self._sampler = make_sampler(pairs, config.size, geometry, recipe.seed)
        self._stride = tuple(map(int, geometry.output.stride))
        self._kinds = () if recipe.augment == "none" else tuple(recipe.augment.split(","))
        flat = (-1, *(1 for _ in config.size))
        self._mean = torch.tensor(config.mean).view(flat)
        self._std = torch.tensor(config.std).view(flat)
        self._traced: Traced | None = None

    @property
    def steps_an_epoch(self) -> int:
        """As the recipe says."""
        return self._config.recipe.steps

    def batches(self, epoch: int, start: int) -> Iterator[Crops]:
        """Crops drawn again for each step."""
        for step in range(start, self.steps_an_epoch):
            yield self._sampler.batch(epoch, step, self._config.recipe.batch_size)

    def prepare(
        self, batch: Crops, seed: tuple[int, int, int], share: slice, device: torch.device
    ) -> tuple[Tensor, Targets]:
        """Crops changed at random and normalized, and their targets."""
        if self._kinds:
            batch = augment_crops(batch, self._kinds, seed)
        images = self._normalize(batch)[share].to(device)
        return images, Targets(batch.targets[share].to(device), batch.valid[share].to(device))

    def _normalize(self, batch: Crops) -> Tensor:
        return (batch.images - self._mean) / self._std

    @contextmanager
    def _judged(self, net: nn.Module) -> Iterator[Traced]:
        """``net`` in eval mode, as the engine takes it; traced once for all epochs.

        Its batch norms get their statistics again first.

        Raises:
            Failure: the last steps drove a weight to where it is no number.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values()):
            raise Failure(
                "a weight of the network is no number any more",
                cure="train again with a lower --lr; the checkpoint before it is kept",
            )
        if self._traced is None or self._traced.module is not net:
            sizes = {pair.size for pair in self._pairs.validation}
            self._traced = trace(
                net, mean=self._config.mean, std=self._config.std, keep=max(1, len(sizes))
            )
        training = net.training
        device, recipe = next(net.parameters()).device, self._config.recipe
        half = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16-mixed")
        with half:
            gather_statistics(net, self._untouched(device))
        net.eval()
        try:
            yield self._traced
        finally:
            net.train(training)

    def _untouched(self, device: torch.device) -> Iterator[Tensor]:
        """Crops as they are, normalized: so many that they show what is usual, or one pass."""
        count = self._config.recipe.batch_size
        crops = pixels = 0
        for step in range(self._sampler.steps(count)):
            batch = self._sampler.batch(0, step, count)
            images = self._normalize(batch).to(device)
            yield images.contiguous(memory_format=self._memory_format)
            crops, pixels = crops + len(batch), pixels + batch.valid.numel()
            if crops >= _GATHERED_CROPS and pixels >= _GATHERED_PIXELS:
                return


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


class Segmentation(CropLearning):
    """Masks: Dice and cross-entropy on crops, judged on whole pictures."""

    measures = ("loss", "accuracy", "dice")

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Dice loss and cross-entropy of scores (B, classes, H, W) on the valid pixels."""
        targets = targets.like(outputs, self._stride)
        given = self._config.recipe.class_weights
        weights = torch.tensor(given, device=outputs.device) if given else None
        outputs = scores_of(self._own, outputs, training=True)
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
