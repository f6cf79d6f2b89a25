"""The survey of other people's networks: which are drawn, what counts as equal, the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tools.survey import attempt, compared, spread, table
from torch import Tensor, nn

NAMES = [f"large/{n}" for n in range(9)] + ["small/a", "small/b", "alone"]


def test_a_sample_takes_one_of_each_package_in_turn() -> None:
    drawn = spread(NAMES, 6)
    assert [name.split("/")[0] for name in drawn] == [
        "large",
        "small",
        "alone",
        "large",
        "small",
        "large",
    ]
    assert spread(NAMES, 6) == drawn
    assert sorted(spread(NAMES, 99)) == sorted(NAMES)


def test_a_constant_is_compared_with_all_its_axes() -> None:
    truth = [np.ones((1, 2, 5)), np.ones((1, 6))]
    assert compared([np.ones((2, 5)), np.ones((1, 6))], truth)[0] == "equal"
    assert compared([np.ones((2, 5)), np.ones((2, 6))], truth)[0] == "wrong"
    assert compared([np.ones((2, 5)), np.zeros((1, 6))], truth)[0] == "wrong"


class Constant(nn.Module):
    """A map, and numbers that do not depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.constant = nn.Buffer(torch.arange(6.0)[None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), self.constant


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("net", "kind"),
    [(Constant(), "equal"), (Random(), "refused"), (nn.Conv2d(3, 2, 3), "not built")],
)
def test_what_comes_of_a_network(net: nn.Module, kind: str) -> None:
    assert attempt(lambda: (net, (1, 24, 20)))[0] == kind


def test_the_table_counts_the_kinds_of_each_package() -> None:
    rows = [
        {"name": "b/one", "kind": "equal"},
        {"name": "a/one", "kind": "not built"},
        {"name": "b/two", "kind": "wrong"},
        {"name": "a/two", "kind": "too slow"},
    ]
    lines = table(rows).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "1", "1"],
        ["b", "2", "1", "1"],
        ["all", "3", "1", "1", "1"],
        ["1", "of", "3", "equal:", "33.3%"],
    ]
