"""The survey of other people's networks: what it calls equal, refused, wrong and spoilt."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from tools.survey import attempt
from torch import Tensor, nn


class Does(nn.Module):
    """One function of a convolved picture, and of the layer itself."""

    def __init__(self, function: Callable[[Tensor, nn.Module], object]) -> None:
        super().__init__()
        self.first, self.function = nn.Conv2d(1, 2, 3), function

    def forward(self, x: Tensor) -> object:
        return self.function(self.first(x), self)


_CALLS = itertools.count(1)


def _counts(y: Tensor, _: nn.Module) -> Tensor:
    return y * next(_CALLS)


CASES: dict[str, tuple[Callable[[Tensor, nn.Module], object], str]] = {
    "a map": (lambda y, _: y.softmax(2), "equal"),
    "a map and a number in a dictionary": (lambda y, _: {"map": y, "mean": y.mean()}, "equal"),
    "a random tensor": (lambda y, _: y + torch.randn(1), "refused"),
    "random numbers like a map": (lambda y, _: y + torch.randn_like(y), "refused"),
    "another answer each time": (_counts, "wrong"),
    "no network": (lambda y, _: y.nothing, "not built"),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("name", CASES)
def test_what_came_of_a_network(name: str) -> None:
    function, kind = CASES[name]
    assert attempt(lambda: (Does(function), (1, 12, 10)))[0] == kind
