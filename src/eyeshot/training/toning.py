"""Pictures in another light: brighter or darker, harder or softer, a little blurred or noisy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eyeshot.extras import extra

BRIGHTNESS = 0.1
"""The most that is added or taken away, of 0…1."""

CONTRAST = 1.25
"""The most that samples are multiplied or divided by."""

GAMMA = 1.4
"""The highest power that samples are raised to; the lowest is 1 through it."""

BLURRED = 0.2
"""The share of crops that are blurred, by a Gaussian of at most :data:`SOFTEST` pixels."""

SOFTEST = 1.0
NOISE = 0.03
"""The highest standard deviation of the noise, of 0…1."""


def tone(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """Each picture with a contrast, a brightness and a gamma of its own.

    Args:
        pictures: (B, C, H, W) in 0…1.
        generator: draws them.

    Returns:
        (B, C, H, W) in 0…1.
    """
    with extra("train"):
        from kornia import enhance  # takes seconds to import

    count = len(pictures)
    factors = torch.from_numpy(CONTRAST ** generator.uniform(-1, 1, count)).float()
    added = torch.from_numpy(generator.uniform(-BRIGHTNESS, BRIGHTNESS, count)).float()
    powers = torch.from_numpy(GAMMA ** generator.uniform(-1, 1, count)).float()
    toned = enhance.adjust_contrast(pictures, factors, clip_output=False)
    return enhance.adjust_gamma(enhance.adjust_brightness(toned, added), powers)


def roughen(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """Some pictures blurred, and each with noise of its own strength.

    Args:
        pictures: (B, C, H, W) in 0…1; they are written over.
        generator: draws how much.

    Returns:
        (B, C, H, W) in 0…1.
    """
    with extra("train"):
        from kornia.filters import gaussian_blur2d  # takes seconds to import

    count = len(pictures)
    chosen = torch.from_numpy(generator.random(count) < BLURRED)
    softness = torch.from_numpy(generator.uniform(0.3, SOFTEST, (count, 1))).float()
    if chosen.any():
        sigma = softness[chosen].expand(-1, 2)
        pictures[chosen] = gaussian_blur2d(pictures[chosen], (5, 5), sigma, "replicate")
    strengths = torch.from_numpy(generator.uniform(0, NOISE, (count, 1, 1, 1))).float()
    source = torch.Generator().manual_seed(int(generator.integers(2**62)))
    noise = torch.randn(pictures.shape, generator=source)
    return pictures.add_(noise.mul_(strengths)).clamp_(0, 1)
