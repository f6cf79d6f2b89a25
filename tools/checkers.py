"""Ways to twice the size, and the pattern that some of them draw by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from eyeshot.images.whole import open_image

CHANNELS, LAYERS, SMALL = 8, 3, 32
Way = Callable[[int], nn.Module]  # channels in and out → a layer that doubles the size


def _resized(mode: str) -> Way:
    return lambda channels: nn.Sequential(
        nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(channels, channels, 3, padding=1)
    )


WAYS: dict[str, Way] = {
    "transposed 3×3 / 2": lambda c: nn.ConvTranspose2d(c, c, 3, stride=2, padding=1),
    "transposed 4×4 / 2": lambda c: nn.ConvTranspose2d(c, c, 4, stride=2, padding=1),
    "transposed 2×2 / 2": lambda c: nn.ConvTranspose2d(c, c, 2, stride=2),
    "nearest + 3×3": _resized("nearest"),
    "bilinear + 3×3": _resized("bilinear"),
}


def terms(way: Way, side: int = 8) -> NDArray[np.int64]:
    """How many products with an input are added up in each of ``side``² outputs, off the border."""
    layer = way(1)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, float(parameter.ndim > 1))
    with torch.no_grad():
        counts = layer(torch.ones(1, 1, side, side))[0, 0]
    rounded: NDArray[np.int64] = counts[3 : 3 + side, 3 : 3 + side].round().long().numpy()
    return rounded


def rise(way: Way) -> NDArray[np.float32]:
    """A small photograph after ``LAYERS`` such layers with ReLU between, their weights noise."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        x = small_photograph().expand(1, CHANNELS, SMALL, SMALL)
        for _ in range(LAYERS):
            layer = way(CHANNELS)
            for parameter in layer.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(1.0, 0.2)  # alike, so that the photograph is still known
                else:
                    parameter.zero_()
            x = layer(x).relu()
            x = x / x.std()
        values: NDArray[np.float32] = x[0].mean(0).numpy()
    return values


def small_photograph() -> Tensor:
    """Matplotlib's sample photograph, its face, (1, 1, SMALL, SMALL), 0 … 1."""
    photograph_file = Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    with open_image(photograph_file) as photograph:
        face = photograph.convert("L").crop((96, 40, 416, 360))
        small = face.resize((SMALL, SMALL), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]
