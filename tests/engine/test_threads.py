"""Several threads use one network at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

import eyeshot
from tests.engine.law import noise


def test_threads_share_a_network() -> None:
    """A trace takes the weights out of the network for a moment; other threads wait."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    images = [noise(1, 16 + i, 20 + i) for i in range(8)]
    with torch.no_grad():
        truths = [net(x[None])[0].numpy() for x in images]
        units = [net[0](x[None])[0, 1, 2, 3].item() for x in images]

    def use(x: torch.Tensor) -> tuple[np.ndarray, int, float]:
        found = eyeshot.run(net, x)
        field = eyeshot.receptive_field(net, tuple(x.shape), "2")
        seen = eyeshot.see(net, x).layer("0").maps
        return found, len((field.box or ())[0]), float(seen[1, 2, 3])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(use, images))
    for (found, field, value), truth, unit in zip(results, truths, units, strict=True):
        np.testing.assert_allclose(found, truth, atol=1e-6)
        assert field == 5
        assert abs(value - unit) < 1e-6
