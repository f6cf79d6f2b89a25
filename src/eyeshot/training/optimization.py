"""What training minimizes and how: losses of pixels, AdamW, learning rate, averaged weights.

In this file:

- what moves the weights: AdamW, the learning rate of a step, and a running average of weights;
- losses of pixels, over those pixels alone whose answer is what it will be in the whole image.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from eyeshot.errors import UnknownName
from eyeshot.runs import Recipe

_SQUARES = 0.999  # AdamW's second decay, of the mean squared gradient


def make_optimizer(net: nn.Module, recipe: Recipe, fresh: Collection[str] | None = None) -> AdamW:
    """AdamW over all parameters; vectors (biases, BatchNorm's scales) are not decayed.

    Source: Loshchilov and Hutter, 2017, arXiv:1711.05101.

    Args:
        net: whose parameters learn.
        recipe: with the rates.
        fresh: names of those that did not come from another training; None for all. The others
            learn at the recipe's ``backbone_rate``.
    """
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    scale = recipe.backbone_rate / recipe.learning_rate or 1.0
    groups: list[dict[str, Any]] = []
    for brought in (False, True):
        chosen = [p for name, p in named if (fresh is not None and name not in fresh) is brought]
        for decay, some in (
            (recipe.weight_decay, [p for p in chosen if p.ndim > 1]),
            (0.0, [p for p in chosen if p.ndim <= 1]),
        ):
            if some or not brought:
                rate = scale if brought else 1.0
                groups.append({"params": some, "weight_decay": decay, "scale": rate})
    parameters = [p for _, p in named]
    # One pass over all parameters a step, in place of a dozen small operations for each.
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, _SQUARES), fused=fused)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of ``step`` (from 0) of ``steps``: up in a straight line, then down to almost 0.

    Source: the one-cycle policy, Smith and Topin, 2017, arXiv:1708.07120.
    """
    rise = recipe.warmup * steps
    done = step + 0.5
    part = done / rise if done < rise else (steps - done) / (steps - rise)
    return recipe.learning_rate * part


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use ``rate`` for every group of parameters, each by its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


class Average:
    """The running mean of a network's state over the last steps: steadier than the last step alone.

    The decay grows from 0.1 to ``decay`` as (1 + n) / (10 + n) with the step n, so that the first
    steps, far from the end, are soon forgotten. Source: Polyak and Juditsky, 1992; the growing
    decay is that of TensorFlow's ``ExponentialMovingAverage``.

    ``net`` is a network of its own that holds the mean.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.net = copy.deepcopy(net)

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the state of ``net`` after ``step`` (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        state = net.state_dict()
        done: set[int] = set()  # layers that share their weights have several names for them
        for name, mean in self.net.state_dict().items():
            if mean.data_ptr() in done:
                continue
            done.add(mean.data_ptr())
            if mean.is_floating_point():
                mean.lerp_(state[name], 1 - keep)
            else:
                mean.copy_(state[name])


LOSSES = ("l1", "mse")
_SMOOTHING = 1.0  # pixels


def segmentation_loss(
    scores: Tensor, labels: Tensor, valid: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Soft Dice loss and cross-entropy, added.

    The Dice of a class is 2 Σ p·y / (Σ p + Σ y) over all valid pixels of the batch together, p the
    class's probability and y 1 where the pixel is of it, with one pixel added above and below so
    that a class that is not there counts as found; its loss is 1 less the mean over classes. The
    cross-entropy is the mean over valid pixels, each weighted by its class's weight.

    Sources: Milletari et al., 2016, arXiv:1606.04797, with the plain sums of Drozdzal et al., 2016,
    arXiv:1608.04117; taken over the batch and added to the cross-entropy as by Isensee et al.,
    2018, arXiv:1809.10486.

    Args:
        scores: (B, classes, H, W); of volumes (B, classes, D, H, W), of signals (B, classes, L).
        labels: class numbers, int64 (B, H, W); what they say where not valid is not looked at.
        valid: bool (B, H, W).
        weights: (classes,); None for all the same.
    """
    logs = scores.float().log_softmax(1)
    classes = torch.arange(scores.shape[1], device=scores.device)
    classes = classes.view(-1, *(1 for _ in labels.shape[1:]))
    truth = (labels.unsqueeze(1) == classes) & valid.unsqueeze(1)
    return _dice_loss(logs.exp(), truth, valid) + _cross_entropy(logs, truth, weights)


def _dice_loss(shares: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    everywhere = (0, *range(2, shares.ndim))
    both = (shares * truth).sum(everywhere)
    said = (shares * valid.unsqueeze(1)).sum(everywhere)
    there = truth.sum(everywhere)
    dice = (2 * both + _SMOOTHING) / (said + there + _SMOOTHING)
    return 1 - dice.mean()


def _cross_entropy(logs: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    everywhere = (0, *range(2, logs.ndim))
    sums = -(logs * truth).sum(everywhere)
    counts = truth.sum(everywhere)
    if weights is not None:
        sums, counts = sums * weights, counts * weights
    # No pixel at all is valid: nothing to learn, and nothing to divide by.
    return sums.sum() / counts.sum().clamp(min=1e-6)


def restoration_loss(kind: str, pictures: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute (``l1``) or squared (``mse``) difference over valid pixels and all channels.

    Args:
        kind: ``"l1"`` or ``"mse"``.
        pictures: (B, C, H, W).
        targets: the same.
        valid: bool (B, H, W).

    Raises:
        UnknownName: no such loss.
    """
    if kind not in LOSSES:
        raise UnknownName("loss", kind, LOSSES)
    difference = pictures - targets
    wrong = difference.abs() if kind == "l1" else difference.square()
    count = valid.sum().clamp(min=1) * pictures.shape[1]
    return (wrong * valid.unsqueeze(1)).sum() / count
