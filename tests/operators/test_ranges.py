"""Outputs that are probabilities are known as such, however the network computes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot.engine.networks import trace
from eyeshot.operators import gives_probabilities
from eyeshot.operators.ranges import bounds_of
from tests.engine.law import noise

Answer = Callable[[Tensor, Tensor], Tensor]


class Two(nn.Module):
    """An answer computed from two maps of scores."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.one, self.other = (nn.Conv2d(1, 3, 3, padding=1) for _ in range(2))
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(20 * self.one(x), 20 * self.other(x))


def _by_hand(a: Tensor, b: Tensor) -> Tensor:
    powers = (a - a.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


PROBABLE: tuple[Answer, ...] = (
    lambda a, b: torch.stack([a.softmax(1), b.softmax(1)]).mean(0),
    lambda a, b: torch.stack([a.sigmoid(), b.sigmoid()], 0).sum(0) / 2,
    lambda a, b: (a.softmax(1) + b.softmax(1)) / 2,
    lambda a, b: 0.3 * a.sigmoid() + 0.7 * b.sigmoid(),
    lambda a, b: torch.lerp(a.sigmoid(), b.sigmoid(), 0.3),
    lambda a, b: torch.cat([a.sigmoid(), 1 - a.sigmoid()], 1),
    lambda a, b: a.clamp(0, 1),
    lambda a, b: a.sigmoid().clamp(1e-6, 1 - 1e-6),
    lambda a, b: F.hardtanh(a, 0, 1),
    lambda a, b: F.relu6(a + 3) / 6,
    lambda a, b: (a.tanh() + 1) / 2,
    lambda a, b: a.log_softmax(1).exp(),
    _by_hand,
    lambda a, b: a.exp() / a.exp().sum(1, keepdim=True),
    lambda a, b: F.normalize(a.relu(), p=1, dim=1),
    lambda a, b: torch.maximum(a.sigmoid(), b.sigmoid()),
    lambda a, b: (a.sigmoid() * b.sigmoid()).sqrt(),
    lambda a, b: F.avg_pool2d(a.sigmoid(), 3, 1, 1),
)
OTHERS: tuple[Answer, ...] = (
    lambda a, b: a,
    lambda a, b: a.relu(),
    lambda a, b: a.sigmoid() + b.sigmoid(),
    lambda a, b: a.sigmoid() - b.sigmoid(),
    lambda a, b: 3 * a.sigmoid(),
    lambda a, b: a.tanh(),
    lambda a, b: a.exp() / b.exp().sum(1, keepdim=True),
    lambda a, b: a / a.sum(1, keepdim=True),
    lambda a, b: a.sigmoid() / b.sigmoid(),
    lambda a, b: a.log_softmax(1),
    lambda a, b: -a.sigmoid(),
    lambda a, b: F.interpolate(a.sigmoid(), scale_factor=2, mode="bicubic"),
    lambda a, b: F.relu6(a),
    lambda a, b: a.sum((2, 3), keepdim=True),
    lambda a, b: -a.exp().sum((2, 3), keepdim=True),
)


@pytest.mark.parametrize("answer", [*PROBABLE, *OTHERS])
def test_values_lie_within_their_bounds(answer: Answer) -> None:
    net, x = Two(answer).eval(), noise(1, 12, 16)
    graph = trace(net).graph((1, 12, 16))
    low, high = bounds_of(graph, graph.outputs[0])
    with torch.no_grad():
        found = net(x[None])
    assert low - 1e-6 <= float(found.min()) <= float(found.max()) <= high + 1e-6
    assert gives_probabilities(graph, graph.outputs[0]) == (answer in PROBABLE)


@pytest.mark.parametrize("answer", PROBABLE)
def test_probabilities_are_not_squeezed_again(answer: Answer) -> None:
    net, x = Two(answer).eval(), noise(1, 12, 16)
    with torch.no_grad():
        truth = net(x[None])[0].numpy()
    found = eyeshot.run(net, x, output_format="probabilities")
    np.testing.assert_allclose(found, truth, atol=1e-5)
