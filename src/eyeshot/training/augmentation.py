"""Pictures changed at random while training, so that the network meets more of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def shift_pictures(images: Tensor, reach: int, seed: tuple[int, int, int]) -> Tensor:
    """Move each picture by up to ``reach`` pixels along both axes; what comes in is 0.

    The shifts depend on ``seed`` (the run's, the epoch, the step) alone; nobody else's random
    numbers are used up.

    Args:
        images: (N, C, H, W), any dtype.
        reach: pixels, 0 or more.
        seed: three whole numbers of 0 or more.

    Returns:
        (N, C, H, W).
    """
    if reach == 0:
        return images
    count, _, height, width = images.shape
    draws = np.random.default_rng(seed).integers(0, 2 * reach + 1, size=(2, count))
    down, right = torch.from_numpy(draws).to(images.device)
    wide = functional.pad(images, (reach, reach, reach, reach))
    # Every window of the padded picture as a view; one copy then takes the chosen of each.
    windows = wide.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, down, right]
