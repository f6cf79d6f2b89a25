"""What moves the weights: AdamW, the learning rate of a step, and a running average of weights."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

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
