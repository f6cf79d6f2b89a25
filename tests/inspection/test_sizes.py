"""Sizes said to be accepted are accepted by the network itself, and the others are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eyeshot.frontends.torch import graph_of
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import certainly_takes
from eyeshot.inspection.acceptance import AcceptedSizes, accepted_sizes
from tests import zoo


class _CropToSkip(nn.Module):
    """The up-sampled map is cropped to the skip's size: its slice holds the size traced."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 2, 3, stride=2)
        self.up = nn.ConvTranspose2d(2, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.down(x))
        cropped: Tensor = x[..., : y.shape[2], : y.shape[3]] + y
        return cropped


def _flattened(side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(side, 10)
    )


def _unpadded_unet() -> nn.Module:
    class Valid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(1, 2, 3)
            self.b = nn.Conv2d(2, 2, 3)
            self.up = nn.ConvTranspose2d(2, 2, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            skip = self.a(x)
            up = self.up(self.b(nn.functional.max_pool2d(skip, 2)))
            return torch.cat([skip[..., 2:-2, 2:-2], up], 1)

    return Valid()


class _Positions(nn.Module):
    """A learned map is added, which was made for 11×13."""

    def __init__(self, *, joined: bool = False, resized: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4 + 4 * joined, 2, 3)
        self.positions = nn.Parameter(torch.zeros(1, 4, 11, 13))
        self.joined, self.resized = joined, resized

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        positions: Tensor = self.positions
        if self.resized:
            positions = nn.functional.interpolate(positions, size=x.shape[2:])
        if self.joined:
            y: Tensor = self.last(torch.cat([x, positions.expand(len(x), -1, -1, -1)], 1))
        else:
            y = self.last(x + positions)
        return y


class _Unpooled(nn.Module):
    """Windows that overlap: an even size is put back into one row less than the indices name."""

    def forward(self, x: Tensor) -> Tensor:
        y, indices = nn.functional.max_pool2d(x, 3, 2, 1, return_indices=True)
        back: Tensor = nn.functional.max_unpool2d(y, indices, [3, 3], [2, 2], [1, 1])
        return back


class _Broadcast(nn.Module):
    """A map of one row is added to five rows by chance; maps of two to four rows are refused."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :5, :] + torch.ones(5, 1)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], str]] = {
    "U-Net": (lambda: zoo.UNet(3, 2), (1, 40, 40), "multiples of 8 from 8 on"),
    "pyramid": (zoo.FPN, (3, 32, 32), "sizes that leave 0 or 7 when divided by 8, from 7 on"),
    "flattened": (lambda: _flattened(196), (1, 28, 28), "28 to 31 only"),
    "linear": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(676, 2)),
        (1, 28, 28),
        "28 alone",
    ),
    "global pool": (zoo.se_net, (3, 32, 32), "every size from 1 on"),
    "unpadded": (lambda: nn.Conv2d(1, 1, 7), (1, 20, 20), "every size from 7 on"),
    "crop": (_CropToSkip, (1, 17, 17), "every size from 3 on"),
    "aspp": (zoo.ASPP, (3, 30, 30), "every size from 1 on"),
    "positions": (_Positions, (2, 11, 13), "11 alone"),
    "positions joined": (lambda: _Positions(joined=True), (2, 11, 13), "11 alone"),
    "positions resized": (
        lambda: _Positions(resized=True),
        (2, 11, 13),
        "every size from 3 on",
    ),
    "two pools": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, 2, 1), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8, 3)
        ),
        (1, 16, 19),
        "every size from 15 to 22",
    ),
    "resized to nothing": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 2), nn.Upsample(scale_factor=0.6, mode="bilinear")),
        (1, 10, 12),
        "every size from 3 on",
    ),
    "transposed to nothing": (
        lambda: nn.ConvTranspose2d(1, 1, 2, padding=1),
        (1, 10, 12),
        "every size from 2 on",
    ),
    "unpooled": (
        _Unpooled,
        (1, 9, 11),
        "sizes that leave 1 when divided by 2, from 1 on",
    ),
    "broadcast": (_Broadcast, (1, 7, 9), "every size from 5 on"),
    "valid U-Net": (
        _unpadded_unet,
        (1, 20, 20),
        "multiples of 2 from 8 on",
    ),
}


def _survey(name: str) -> tuple[nn.Module, AcceptedSizes]:
    make, size, _ = CASES[name]
    net = make().eval()
    graph = graph_of(net, size)
    return net, accepted_sizes(graph, net, Fields(graph))[0]


@pytest.mark.parametrize("name", CASES)
def test_the_words_are_those_expected(name: str) -> None:
    assert _survey(name)[1].words == CASES[name][2]


@pytest.mark.parametrize("name", CASES)
def test_a_real_forward_pass_agrees(name: str) -> None:
    net, sizes = _survey(name)
    channels, _, width = CASES[name][1]

    def runs(n: int) -> bool:
        with torch.no_grad():
            try:
                net(torch.arange(1.0, 1 + channels * n * width).reshape(1, channels, n, width))
            except RuntimeError:
                return False
        return True

    words = sizes.words
    for n in range(1, sizes.requested + 20):
        if "leave" in words:
            remainders, by = ((1,), 2) if name == "unpooled" else ((0, 7), 8)
            claimed = n >= (sizes.smallest or 0) and n % by in remainders
        elif sizes.step is None:
            claimed = (sizes.smallest or 0) <= n <= (sizes.largest or 0)
        else:
            claimed = (sizes.smallest or 0) <= n <= (sizes.largest or n)
            claimed = claimed and (n - sizes.requested) % sizes.step == 0
        if n <= {"positions": 1, "broadcast": 1, "pyramid": 2}.get(name, 0):
            continue  # one row is added to every row, which nobody means
        assert runs(n) == claimed, f"{n} of {words}"
    below, above = sizes.nearest
    assert below is None or (runs(below) and not any(map(runs, range(below + 1, sizes.requested))))
    assert above is None or (runs(above) and not any(map(runs, range(sizes.requested + 1, above))))


def test_sizes_of_a_flattened_net_are_not_known_by_maps_alone() -> None:
    net = _flattened(196).eval()
    graph = graph_of(net, (1, 28, 28))
    assert certainly_takes(graph, 0, 28) is True
    assert certainly_takes(graph, 0, 40) is None
    assert accepted_sizes(graph, None, Fields(graph)) == ()


def test_a_network_that_cannot_run_on_shapes_alone_is_not_guessed_at() -> None:
    class Fixed(nn.Module):
        """Its forward asks for a device that shapes alone have not."""

        def forward(self, x: Tensor) -> Tensor:
            if x.device.type != "cpu":
                raise RuntimeError("on the CPU only")
            return x[..., : x.shape[-1] // 2, :]

    net = Fixed()
    graph = graph_of(net, (1, 8, 8))
    assert accepted_sizes(graph, net, Fields(graph)) == ()


class _LookedUp(nn.Module):
    """It has a number for each of a few heights, and a plain KeyError for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = {20: 1.0, 24: 2.0}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gains[x.shape[2]]


def test_whatever_a_network_raises_it_does_not_take_the_size() -> None:
    runs = runs_on_shapes(_LookedUp().eval())
    assert [n for n in range(18, 27) if runs((1, 1, n, 5))] == [20, 24]


class _Refuses(nn.Module):
    """Takes only the heights that a rule allows, and says so in words, as many published ones."""

    def __init__(self, rule: Callable[[int], bool]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        if not self.rule(x.shape[2]):
            raise RuntimeError(f"a height of {x.shape[2]} is not possible")
        out: Tensor = self.conv(x)
        return out


@pytest.mark.parametrize(
    ("rule", "requested", "words", "nearest"),
    [
        (lambda n: n % 32 == 0, 64, "multiples of 32 from 32 on", (32, 96)),
        (lambda n: n >= 20, 64, "every size from 20 on", (63, 65)),
        (lambda n: n <= 90, 64, "every size from 1 to 90", (63, 65)),
        (lambda n: n % 8 == 4, 60, "sizes that leave 4 when divided by 8, from 4 on", (52, 68)),
        (lambda n: n == 64, 64, "64 alone", (None, None)),
        (lambda n: n % 8 == 0 and n <= 64, 64, "multiples of 8 from 8 to 64", (56, None)),
    ],
)
def test_sizes_that_forward_refuses_are_not_listed_as_accepted(
    rule: Callable[[int], bool], requested: int, words: str, nearest: tuple[int | None, int | None]
) -> None:
    net = _Refuses(rule).eval()
    graph = graph_of(net, (1, requested, 16))
    height, width = accepted_sizes(graph, net, Fields(graph))
    assert (height.words, height.nearest) == (words, nearest)
    assert width.words == "every size from 1 on"


class _Shared(nn.Module):
    """A U-Net's step with instance norm, whose one convolution has two names, as in nnU-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.steps = nn.ModuleList([self.first])
        self.norm = nn.InstanceNorm2d(2)
        self.down, self.up = nn.Conv2d(2, 2, 2, 2), nn.ConvTranspose2d(2, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.norm(self.steps[0](x))
        joined: Tensor = torch.cat([skip, self.up(self.down(skip))], 1)
        return joined


def test_where_no_field_is_bounded_the_distance_is_found_all_the_same() -> None:
    net = _Shared().eval()
    graph = graph_of(net, (1, 16, 16))
    height, width = accepted_sizes(graph, net, Fields(graph))
    assert height.words == width.words == "multiples of 2 from 2 on"
    runs = runs_on_shapes(net)
    assert [n for n in range(10, 20) if runs((1, 1, n, 16))] == [10, 12, 14, 16, 18]
