"""Batch norm's statistics gathered again, for weights that no training step has seen."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eyeshot.training.fine_tuning import frozen_norms, keep_frozen

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class _Sums:
    """What one channel-wise norm has been given so far, in float64, a number a channel."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def take(self, _: nn.Module, given: tuple[Tensor]) -> None:
        """Add a batch (N, C, H, W); has the form of a hook."""
        everywhere = (0, *range(2, given[0].ndim))
        variance, mean = torch.var_mean(given[0].float(), everywhere, correction=0)
        variance, mean = variance.double(), mean.double()
        count = given[0].numel() // given[0].shape[1]
        self.count += count
        self.total += count * mean
        self.squares += count * (variance + mean.square())


def gather_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the batch norms of ``net`` the mean and variance of all that ``batches`` bring them.

    The statistics that training leaves are of other weights, where the network is a running mean,
    and of pictures that were changed at random. Each batch passes as it does in training, each norm
    by the batch's own statistics; what is kept is the mean and the variance over all pixels of all
    batches, so that neither a small batch nor the difference between two of them is lost.
    Source: Izmailov et al., 2018, arXiv:1803.05407, section 3.2.

    Args:
        net: is left in training mode.
        batches: inputs (N, C, H, W) of the network.
    """
    frozen = frozen_norms(net)
    norms = [
        layer for layer in net.modules() if isinstance(layer, _BATCH_NORMS) and layer not in frozen
    ]
    if not norms:
        return
    sums = [_Sums() for _ in norms]
    net.train()
    keep_frozen(frozen)
    with ExitStack() as hooks, torch.no_grad():
        for layer, sum_ in zip(norms, sums, strict=True):
            hooks.enter_context(layer.register_forward_pre_hook(sum_.take))
        for images in batches:
            net(images)
        for layer, sum_ in zip(norms, sums, strict=True):
            _set(layer, sum_)


def _set(layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, sums: _Sums) -> None:
    if layer.running_mean is None or layer.running_var is None or not sums.count:
        return
    mean = torch.as_tensor(sums.total / sums.count)
    variance = torch.as_tensor(sums.squares / sums.count) - mean.square()
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance.clamp(min=0))
