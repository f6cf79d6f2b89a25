"""Networks made of one function, for tests of what stands in a ``forward``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eyeshot

SIZE = (3, 12, 10)
PICTURE = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions, a buffer, a plain tensor, a number; ``forward`` is a function of it."""

    gain: Tensor

    def __init__(self, result: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.register_buffer("gain", torch.rand(4, 1, 1) + 1)
        self.plain, self.calls, self.result = torch.rand(4, 1, 1) + 1, 0, result

    def forward(self, x: Tensor) -> Any:
        return self.result(self, x)


def net_of(result: Callable[[Any, Tensor], Any]) -> Net:
    """In eval mode, with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(result).eval()


def check_run(
    result: Callable[[Any, Tensor], Any], like: Callable[[Any, Tensor], Any] | None = None
) -> None:
    """What is run equals what the next call gives, of a network that was not called yet.

    Args:
        result: what the network computes.
        like: the same in plain operators, where torch cannot be relied on to call ``result``.
    """
    expected = net_of(like or result)(PICTURE[None].clone())[0].detach().numpy()
    actual = eyeshot.run(net_of(result), PICTURE, band=5)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * float(np.abs(expected).max()))


def halo(result: Callable[[Any, Tensor], Any]) -> list[tuple[int, int]]:
    """How far a unit of the output sees along each axis; nothing where that is not bounded."""
    return [axis.unit_halo for axis in eyeshot.inspect(net_of(result), SIZE).reaches[0].axes]
