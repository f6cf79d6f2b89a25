"""A network of programs, exported again: as any network, it takes every batch and size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue
from eyeshot.frontends.programs import export_program


class Flat(nn.Module):
    """A classifier of pictures of one size, flattened by the number of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2)
        scores: Tensor = self.head(x.view(x.size(0), -1))
        return scores


class Even(nn.Module):
    """A skip over a stride and an up-sampling: even sides alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return x + nn.functional.interpolate(self.down(x), scale_factor=2)


class Both(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.one(x) + self.other(x)
        return added


@pytest.mark.parametrize(
    ("net", "size", "batches"),
    [
        (Flat(), (1, 12, 12), [(1, 1, 12, 12), (2, 1, 12, 12), (5, 1, 12, 12)]),
        (Even(), (1, 16, 16), [(1, 1, 16, 16), (3, 1, 24, 18), (2, 1, 40, 64)]),
    ],
    ids=["flat", "even"],
)
def test_programs_in_a_network_take_every_batch_and_size(
    net: nn.Module, size: tuple[int, ...], batches: list[tuple[int, ...]]
) -> None:
    member = export_program(net.eval(), size).net
    both = export_program(Both(member, net).eval(), size).net
    for shape in batches:
        x = torch.randn(shape)
        torch.testing.assert_close(both(x), 2 * net(x), atol=1e-5, rtol=1e-5)


def test_the_sizes_that_a_program_refuses_are_those_of_its_members() -> None:
    member = export_program(Even().eval(), (1, 16, 16)).net
    both = export_program(Both(member, member).eval(), (1, 16, 16)).net
    for net in (member, both):
        with pytest.raises(BadValue, match=r"an input of 1x1x17x16, but the network was exported"):
            net(torch.randn(1, 1, 17, 16))
