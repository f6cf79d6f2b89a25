"""Mean and deviation of the training pixels, exactly: from counts, not from running sums."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

LEVELS = 256


def channel_statistics(
    batches: Iterable[Tensor], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) of pixels/255, for each channel.

    A byte has 256 values, so counting them is exact and needs one pass; neither the order nor the
    size of the batches can change the result. A channel that never varies has a deviation of 0,
    which nobody could divide by: 1 is given instead, and the channel becomes all zeros.

    Args:
        batches: pictures (B, C, H, W) uint8.
        channels: C.
    """
    counts = np.zeros((channels, LEVELS), np.int64)
    for batch in batches:
        for channel in range(channels):
            flat = batch[:, channel].reshape(-1)
            counts[channel] += torch.bincount(flat, minlength=LEVELS).numpy()
    levels = np.arange(LEVELS) / (LEVELS - 1)
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    varies = (counts > 0).sum(axis=1) > 1
    std = np.where(varies, np.sqrt(variance), 1.0)
    return tuple(map(float, mean)), tuple(map(float, std))
