"""Mean and deviation of the training pixels, exactly: from counts, not from running sums.

A byte has 256 values, and 16 bits 65,536, so counting them is exact and takes one pass, and neither
the order nor the size of the pieces can change the result.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVELS = 256
DEEP_LEVELS = 65536

Counts = NDArray[np.int64]


def count_levels(batch: Tensor) -> Counts:
    """The count of each value in each channel of pictures (N, C, H, W).

    Returns:
        (C, 256) of uint8, (C, 65536) of uint16.
    """
    levels = LEVELS if batch.dtype == torch.uint8 else DEEP_LEVELS
    counts = np.zeros((batch.shape[1], levels), np.int64)
    for channel, total in enumerate(counts):
        total += np.bincount(batch[:, channel].numpy().reshape(-1), minlength=levels)
    return counts


def deepen_counts(counts: Counts) -> Counts:
    """Counts (C, 256) as those of the same pictures in 16 bits, (C, 65536)."""
    deep = np.zeros((len(counts), DEEP_LEVELS), np.int64)
    deep[:, :: (DEEP_LEVELS - 1) // (LEVELS - 1)] = counts
    return deep


def describe_counts(counts: Counts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) of value/largest, for each channel.

    A constant channel has a deviation of 0, which is replaced by 1, because it is a divisor; the
    channel minus its mean is all zeros.

    Args:
        counts: (C, 256) or (C, 65536), from :func:`count_levels`.
    """
    values = counts.shape[1]
    levels = np.arange(values) / (values - 1)
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    varies = (counts > 0).sum(axis=1) > 1
    std = np.where(varies, np.sqrt(variance), 1.0)
    return tuple(map(float, mean)), tuple(map(float, std))
