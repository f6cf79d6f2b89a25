"""What a network can be taught, as the loop sees it: batches in, loss out, and how it is judged.

The tasks: a class for a picture, a class for each pixel, a picture for a picture, and pictures made
from random numbers by two networks that learn from each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softplus

from eyeshot import nets
from eyeshot.data import Data
from eyeshot.data.examples import count_batches
from eyeshot.data.pairs import Crops, Pairs
from eyeshot.engine.networks import Traced, trace
from eyeshot.errors import Failure
from eyeshot.evaluation.labels import (
    check_spread,
    describe_pixels,
    draw_latents,
    frechet_distance,
    make_pictures,
    to_bytes,
)
from eyeshot.evaluation.pairs import LEAST_ERROR, Likeness, judge_masks, judge_pictures
from eyeshot.geometry.sizes import OutputGeometry
from eyeshot.runs import RunConfig, build_net, normalize, score
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.training.augmentation import augment_crops, shift_pictures
from eyeshot.training.cropping import make_sampler
from eyeshot.training.optimization import restoration_loss, segmentation_loss
from eyeshot.training.own_network import OwnNet, scores_of
from eyeshot.training.progress import LEAST_BATCH, gather_statistics

__all__ = ["Task", "make_task"]

Seed = tuple[int, int, int]


class Task(Protocol):
    """What differs between the tasks; the loop is the same for all.

    Only the task knows what a batch and its targets are; the loop passes them on.
    """

    @property
    def measures(self) -> tuple[str, ...]:
        """Of a batch, each a mean over its pictures; the first is the loss."""

    @property
    def steps_an_epoch(self) -> int:
        """Batches in an epoch."""

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch from step ``start`` on; they depend only on epoch and step."""

    def prepare(
        self, batch: Any, seed: Seed, share: slice, device: torch.device
    ) -> tuple[Tensor, Any]:
        """Inputs (B, C, H, W) for the network, and targets: this device's ``share`` of a batch.

        Random changes depend only on ``seed`` (that of the run, the epoch, the step).
        """

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """One number to minimize, with its gradient."""

    def sums(self, loss: Tensor, outputs: Tensor, targets: Any) -> Tensor:
        """The ``measures`` of a batch, each times its number of pictures: (len(measures),)."""

    def judge(self, net: nn.Module) -> dict[str, float]:
        """Columns of ``metrics.csv``: how well ``net`` does on data that it does not learn from."""


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
        data: labeled pictures for classes or a generator, pairs for other tasks.
        own: the user's own network, if there is one.
        whole_batches: leave out a last batch that is smaller than the others.
    """
    if config.task == "generate" and isinstance(data, Data):
        return Generation(config, data)
    if isinstance(data, Data):
        return Classification(config, data, whole_batches, own)
    kind = Segmentation if config.task == "segment" else Restoration
    return kind(config, data, own)


Batch = tuple[Tensor, Tensor]


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
        class_weights = recipe.class_weights
        weights = torch.tensor(class_weights, device=outputs.device) if class_weights else None
        outputs = scores_of(self._own, outputs, training=True)
        return cross_entropy(outputs, targets, weights, label_smoothing=recipe.label_smoothing)

    def sums(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss times the pictures, and how many are right."""
        correct = (outputs.argmax(1) == targets).sum()
        return torch.stack([loss * len(targets), correct])

    def judge(self, net: nn.Module) -> dict[str, float]:
        """Loss without smoothing, and accuracy, on the validation part, or else the test part."""
        part, examples = self._data.judged
        scores, labels = score(net, examples, self._config)
        scores = scores_of(self._own, scores, training=False)
        return {
            f"{part}_loss": float(cross_entropy(scores, labels)),
            f"{part}_accuracy": float((scores.argmax(1) == labels).double().mean()),
        }


_PICTURE = 2  # axes of space
_GATHERED_CROPS, _GATHERED_PIXELS = 64, 2**22
"""Crops and pixels by which batch norm's statistics are gathered at least, or by all there are."""


@dataclass(frozen=True)
class Targets:
    """What the outputs of a batch should be.

    Attributes:
        values: class numbers (B, H, W), or pictures (B, C, H, W) in 0 … 1.
        valid: where an output sees what it will see in the whole image, (B, H, W).
    """

    values: Tensor
    valid: Tensor

    def like(self, outputs: Tensor, output: OutputGeometry | None = None) -> Targets:
        """The targets of ``outputs``, one for each.

        If a network removes pixels at the sides, the targets are those that its outputs belong to;
        without ``output``, those in the middle. If it has one output for several pixels, the target
        is that of the middle one of them.
        """
        axes = outputs.ndim - 2
        sides = zip(self.valid.shape[1:], outputs.shape[2:], strict=True)
        values, valid = self.values, self.valid
        for axis, (n, m) in enumerate(sides):
            if output is None:
                step, first = 1, (n - m) // 2
            else:
                step, first = int(output.stride[axis]), output.place(axis, n, m)
            if (step, n) != (1, m):
                places = torch.arange(m, device=valid.device) * step + first + step // 2
                places = places.clamp(max=n - 1)
                along = axis - axes
                values = values.index_select(along, places)
                valid = valid.index_select(along, places)
        return self if valid is self.valid else Targets(values, valid)


class CropLearning:
    """The part of a task that brings crops."""

    _output: OutputGeometry | None = None

    def __init__(self, config: RunConfig, pairs: Pairs, own: OwnNet | None = None) -> None:
        self._config, self._pairs, self._own = config, pairs, own
        recipe = config.recipe
        geometry = own.geometry if own else geometry_of_named(config)
        self._memory_format = own.memory_format if own else torch.channels_last
        if pairs.dims != _PICTURE:
            self._memory_format = torch.contiguous_format
        self._sampler = make_sampler(pairs, config.size, geometry, recipe.seed)
        self._output = geometry.output
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
        targets = targets.like(outputs, self._output)
        kind = self._config.recipe.loss
        return restoration_loss(kind, outputs, targets.values, targets.valid)

    def sums(self, loss: Tensor, outputs: Tensor, targets: Targets) -> Tensor:
        """Loss, and PSNR in decibels."""
        targets = targets.like(outputs, self._output)
        clipped = outputs.clamp(0, 1)
        error = restoration_loss("mse", clipped, targets.values, targets.valid)
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
        targets = targets.like(outputs, self._output)
        class_weights = self._config.recipe.class_weights
        weights = torch.tensor(class_weights, device=outputs.device) if class_weights else None
        outputs = scores_of(self._own, outputs, training=True)
        return segmentation_loss(outputs, targets.values, targets.valid, weights)

    def sums(self, loss: Tensor, outputs: Tensor, targets: Targets) -> Tensor:
        """Loss, share of valid pixels that are right, and mean Dice of the classes there."""
        targets = targets.like(outputs, self._output)
        count = outputs.shape[1]
        predicted, truth = outputs.argmax(1)[targets.valid], targets.values[targets.valid]
        table = torch.bincount(truth * count + predicted, minlength=count * count).view(
            count, count
        )
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


JUDGED = 1000
"""Pictures made after each epoch, and held-out ones, whose distributions are compared."""
_SHOWN = 16  # latents whose pictures are kept after each epoch
_SEED = 0  # of the latents that are judged and shown: the same after each epoch
_FLATTENED = 4
"""Of so many pictures of a batch one has its slope measured: an estimate costs less than all."""
_STEEPNESS = 1 / 80
"""How much the slope counts beside the other losses, for each sample of a picture in −1 … 1: 10 for
those of 28×28, as in the paper, and more where there are more, as Karras et al., 2020,
arXiv:2006.06676."""


class Adversaries(nn.Module):
    """A generator and the discriminator that it learns from, as one network with one loss.

    Both move in the same step, each by its own part of the loss: the discriminator's scores of made
    pictures count once for its own weights, with the pictures held constant, and once for the
    generator's, with the discriminator's weights held constant. The discriminator is kept flat
    around real pictures: without that it wins, or the generator makes one picture alone.
    Sources: Goodfellow et al., 2014, arXiv:1406.2661, with the loss that does not saturate;
    the penalty R1 of Mescheder et al., 2018, arXiv:1801.04406.

    Attributes:
        generator: what the training is to give.
        discriminator: needed to train alone; it is kept in the checkpoint.
    """

    def __init__(self, generator: nets.Generator, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores (N, 4) of N pictures (N, C, H, W) and of N pictures made from new latents.

        A column each: of the pictures; of made ones, to move the discriminator; of the same, to
        move the generator; and the mean squared slope |∇D|² at some of the pictures times their
        samples, to move the discriminator. The latents come from torch's generator.
        """
        count = len(pictures)
        made = self.generator(torch.randn(count, self.generator.latent, 1, 1).to(pictures.device))
        some = pictures[: -(-count // _FLATTENED)].detach().requires_grad_()
        first = self.discriminator(some)
        (slope,) = torch.autograd.grad(first.sum(), some, create_graph=True)
        rest = self.discriminator(torch.cat([pictures[len(some) :], made.detach()]))
        weights = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        moving = functional_call(self.discriminator, weights, (made,))
        real, rejected = torch.cat([first, rest[:-count]]), rest[-count:]
        steep = slope.square().flatten(1).sum(1).mean() * slope[0].numel()
        return torch.cat([real, rejected, moving, steep.to(real).expand(count, 1)], 1)


def build_learner(config: RunConfig) -> nn.Module:
    """What a training moves: the run's network, or with it the one that it learns from."""
    net = build_net(config)
    if not isinstance(net, nets.Generator):
        return net
    width = config.model_arguments.get("width", nets.Generator.WIDTH)
    return Adversaries(
        net,
        nets.discriminator(channels=config.channels, size=config.picture_size, width=int(width)),
    )


def result_of(learner: nn.Module) -> nn.Module:
    """The network that goes into the run folder."""
    return learner.generator if isinstance(learner, Adversaries) else learner


class Generation:
    """Pictures without labels; judged by how the made ones are distributed beside held-out ones."""

    measures = ("loss", "discriminator_loss", "recognized", "fooled")

    def __init__(self, config: RunConfig, data: Data) -> None:
        self._config, self._data = config, data
        check_spread(f"the held-out part of {data.name}", len(data.test))
        count = min(JUDGED, len(data.test))
        pictures, _ = data.test.take(range(count))
        self._held_out = describe_pixels(normalize(pictures, config.mean, config.std))

    @property
    def steps_an_epoch(self) -> int:
        """Steps in one pass over the pictures."""
        batch = self._config.recipe.batch_size
        return count_batches(len(self._data.train), batch, least=LEAST_BATCH)

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        """Pictures uint8 or uint16 (B, C, H, W), shuffled again for each epoch."""
        recipe = self._config.recipe
        batches = self._data.train.batches(
            recipe.batch_size,
            shuffle_seed=recipe.seed,
            epoch=epoch,
            start=start,
            least=LEAST_BATCH,
        )
        for pictures, _ in batches:
            yield pictures

    def prepare(
        self, batch: Tensor, seed: tuple[int, int, int], share: slice, device: torch.device
    ) -> tuple[Tensor, None]:
        """Pictures in −1 … 1; there is no target."""
        del seed  # nothing is changed at random
        return normalize(batch[share].to(device), self._config.mean, self._config.std), None

    def loss(self, outputs: Tensor, targets: None) -> Tensor:
        """The losses of both networks, added: neither moves the weights of the other."""
        generator, discriminator = _losses(outputs)
        return generator + discriminator

    def sums(self, loss: Tensor, outputs: Tensor, targets: None) -> Tensor:
        """The generator's loss, the discriminator's, and what share of both kinds it recognizes."""
        generator, discriminator = _losses(outputs)
        recognized = (outputs[:, 0] > 0).float().mean()
        fooled = (outputs[:, 1] > 0).float().mean()
        return torch.stack([generator, discriminator, recognized, fooled]) * len(outputs)

    def judge(self, net: nn.Module) -> dict[str, float]:
        """The Fréchet distance between made and held-out pictures, by their coarse pixels."""
        net = _generator(net)
        made = make_pictures(net, draw_latents(net.latent, len(self._held_out), _SEED))
        return {"validation_frechet": frechet_distance(describe_pixels(made), self._held_out)}

    def show(self, net: nn.Module) -> NDArray[np.uint8]:
        """A strip of pictures of the same latents after each epoch: (H, 16·W) or (H, 16·W, 3)."""
        latents = draw_latents(_generator(net).latent, _SHOWN, _SEED)
        pictures = to_bytes(make_pictures(_generator(net), latents), self._config)
        strip = np.concatenate(list(pictures), axis=1)
        return strip[..., 0] if self._config.channels == 1 else strip


def _generator(net: nn.Module) -> nets.Generator:
    if not isinstance(net, nets.Generator):
        raise TypeError(f"expected a generator, got {type(net).__name__}")
    return net


def _losses(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's loss and the discriminator's, of scores (B, 4)."""
    real, made, moving, steep = scores.float().unbind(1)
    telling = softplus(-real).mean() + softplus(made).mean()
    return softplus(-moving).mean(), telling + _STEEPNESS / 2 * steep.mean()
