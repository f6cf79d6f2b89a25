"""A network of programs, exported again: as any network, it takes every batch and size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import eyeshot
from eyeshot.errors import BadValue
from eyeshot.frontends.programs import export_program, network_fingerprint
from eyeshot.inspection.locating import make_network


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


class Cast(nn.Module):
    """Ends in a cast, or multiplies by a buffer that is cast."""

    scale: Tensor

    def __init__(self, cast: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.cast = nn.Conv2d(1, 2, 3, padding=1), cast
        self.register_buffer("scale", torch.tensor([[[2.0]], [[3.0]]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.cast(self.conv(x), self.scale)


@pytest.mark.parametrize(
    "cast",
    [
        lambda maps, scale: maps.double(),
        lambda maps, scale: maps.double().sigmoid().float(),
        lambda maps, scale: maps.half(),
        lambda maps, scale: maps * scale.to(maps),
        lambda maps, scale: maps * scale.to(maps.device),
        lambda maps, scale: maps * scale.to(maps.dtype),
        lambda maps, scale: maps * scale.type_as(maps),
    ],
)
def test_programs_with_casts(cast: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = Cast(cast).eval()
    written = export_program(net, (1, 16, 20)).net
    for size in ((16, 20), (33, 17)):
        x = torch.randn(1, 1, *size)
        with torch.no_grad():
            assert torch.allclose(written(x), net(x), atol=1e-3)
            assert written(x).dtype == net(x).dtype


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_programs_whose_weights_are_computed(norm: Callable[[nn.Module], nn.Module]) -> None:
    net = nn.Sequential(norm(nn.Conv2d(1, 4, 3, padding=1)), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    written = export_program(net, (1, 16, 20)).net
    picture = torch.rand(1, 1, 33, 17)
    with torch.no_grad():
        whole = net(picture)
    assert torch.allclose(written(picture), whole, atol=1e-5)
    streamed = eyeshot.run(written, picture[0, 0].numpy())
    assert torch.allclose(torch.from_numpy(streamed), whole[0], atol=1e-5)
    assert written.state_dict().keys() == net.state_dict().keys()


FILE = """
from torch import nn
GAIN = 2  # of the training
UNUSED = 1
def inner(x):
    return x * 2
def outer(x):
    return inner(x) * GAIN
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
    def forward(self, x):
        return outer(self.conv(x)) if self.training else self.conv(x)
"""


def test_a_network_is_known_by_all_that_its_methods_use(tmp_path: Path) -> None:
    def named(text: str) -> str:
        path = tmp_path / "some_net.py"
        path.write_text(text)
        net = make_network(f"{path}:Net", lambda _: None)
        return network_fingerprint(net, export_program(net, (1, 8, 8)).net)

    first = named(FILE)
    for old, new in (("GAIN = 2", "GAIN = 3"), ("x * 2", "x * 3"), ("padding=1", "padding=0")):
        assert named(FILE.replace(old, new)) != first, new
    for old, new in (("  # of the training", ""), ("UNUSED = 1", "UNUSED = 2")):
        assert named(FILE.replace(old, new)) == first, new
