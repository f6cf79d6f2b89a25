"""A statistic over all positions may answer for several: adaptive pools of one column."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.law import by_parts, cut, job_of, noise, whole


class Pooled(nn.Module):
    """A pool to a given size and a pad, so that something comes behind it."""

    def __init__(self, largest: bool, size: tuple[int, int]) -> None:
        super().__init__()
        self.pool = F.adaptive_max_pool2d if largest else F.adaptive_avg_pool2d
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(self.pool(x, self.size), (3, 2, 1, 1), value=0.5)


@pytest.mark.parametrize("strips", [1, 2, 3])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    ("size", "pooled"), [((41, 1), (1, 2)), ((5, 1), (1, 3)), ((1, 1), (1, 4))]
)
def test_one_column_may_answer_for_several(
    size: tuple[int, int], pooled: tuple[int, int], largest: bool, strips: int
) -> None:
    """Found by tools/random_networks.py, network 2049: the statistic has the width of its input."""
    net, x = Pooled(largest, pooled).eval(), noise(2, *size)
    (truth,) = whole(net, x)
    for band in (1, 7, 64):
        (found,), _ = by_parts(cut(job_of(net, x), band, strips))
        np.testing.assert_allclose(found, truth, atol=1e-6)
