"""Mean and deviation of the training pixels, exactly: from counts, not from running sums.

A byte has 256 values, so counting them is exact and takes one pass, and neither the order nor the
size of the pieces can change the result.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVELS = 256

Counts = NDArray[np.int64]


def count_levels(batch: Tensor) -> Counts:
    """How often each value stands in each channel: (C, 256), of pictures (N, C, H, W) uint8."""
    counts = np.zeros((batch.shape[1], LEVELS), np.int64)
    for channel, total in enumerate(counts):
        total += torch.bincount(batch[:, channel].reshape(-1), minlength=LEVELS).numpy()
    return counts


def describe_counts(counts: Counts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) of value/255, for each channel.

    A channel that never varies has a deviation of 0, by which nobody could divide: 1 is given
    instead, and the channel, less its mean, is all zeros.

    Args:
        counts: (C, 256), from :func:`count_levels`.
    """
    levels = np.arange(LEVELS) / (LEVELS - 1)
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    varies = (counts > 0).sum(axis=1) > 1
    std = np.where(varies, np.sqrt(variance), 1.0)
    return tuple(map(float, mean)), tuple(map(float, std))
