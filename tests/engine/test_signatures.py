"""What a graph hangs on: whatever of it changes, the network is traced again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot import nets
from eyeshot.engine import networks
from eyeshot.engine.networks import Traced, signature
from tests.engine.law import noise, whole

IMAGE = noise(1, 12, 13)


class Pair(nn.Module):
    """Two convolutions, which may be one or have one weight, and helpers of every sort."""

    gain = 2.0

    def __init__(self, gate: list[float]) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(1, 1, 3, padding=1) for _ in "ab")
        lows = [0.1]

        def bend(x: torch.Tensor, low: list[float] = lows) -> torch.Tensor:
            return nn.functional.leaky_relu(x, low[0]) * gate[0]

        self.bend = bend
        self.table: dict[str, Any] = {"sizes": [3, 3], "layers": [self.a, self.b]}

    @staticmethod
    def steep(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @property
    def offset(self) -> float:
        return 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.steep(self.bend(self.a(x))) * self.gain + self.offset
        bent: torch.Tensor = self.b(x)
        return bent


def pair() -> Pair:
    torch.manual_seed(0)
    return Pair([3.0]).eval()


def _share_weight(net: Pair) -> None:
    net.b.weight = net.a.weight


def _share_layer(net: Pair) -> None:
    net.b = net.a


def _part_weights(net: Pair) -> None:
    net.b.weight = nn.Parameter(noise(1, 1, 3, 3, seed=5))


def _part_layers(net: Pair) -> None:
    net.b = nn.Conv2d(1, 1, 3, padding=1).eval()


def agrees(traced: Traced) -> None:
    (truth,) = whole(traced.module, IMAGE)
    part = eyeshot.run(traced, IMAGE)
    assert np.abs(part - truth).max() <= 1e-5 * np.abs(truth).max()


@pytest.fixture
def restored() -> Iterator[None]:
    """The class as it was."""
    before = dict(vars(Pair))
    yield
    for name in ("gain", "steep", "offset"):
        setattr(Pair, name, before[name])


@pytest.mark.parametrize(
    ("share", "part"), [(_share_weight, _part_weights), (_share_layer, _part_layers)]
)
def test_what_is_no_longer_shared_has_numbers_of_its_own(
    share: Callable[[Pair], None], part: Callable[[Pair], None]
) -> None:
    net = pair()
    share(net)
    traced = eyeshot.trace(net)
    agrees(traced)
    part(net)
    agrees(traced)
    share(net)
    agrees(traced)


def _close_over(net: Pair) -> None:
    net.bend.__closure__[0].cell_contents[0] = 7.0  # type: ignore[index]


def _default(net: Pair) -> None:
    net.bend.__defaults__[0][0] = 0.9  # type: ignore[index]


CHANGES: dict[str, Callable[[Pair], object]] = {
    "what a function closes over": _close_over,
    "what an argument is unless told": _default,
    "a setting of the class": lambda _: setattr(Pair, "gain", 5.0),
    "a method": lambda _: setattr(Pair, "steep", staticmethod(lambda x: x * 3)),
    "a property": lambda _: setattr(Pair, "offset", property(lambda _: 0.25)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("restored")
def test_whatever_decides_the_graph_is_looked_into(name: str) -> None:
    net = pair()
    traced = eyeshot.trace(net)
    agrees(traced)
    before = signature(net)
    assert before is not None
    assert before == signature(net)
    CHANGES[name](net)
    agrees(traced)


def test_what_a_hook_closes_over() -> None:
    net, times = nn.Sequential(nn.Conv2d(1, 1, 3)).eval(), [1.0]
    net[0].register_forward_hook(lambda _m, _i, out: out * times[0])
    traced = eyeshot.trace(net)
    agrees(traced)
    times[0] = 5.0
    agrees(traced)


def test_a_hook_on_every_module() -> None:
    traced = eyeshot.trace(nn.Sequential(nn.Conv2d(1, 1, 3)).eval())
    agrees(traced)
    hook = nn.modules.module.register_module_forward_hook(lambda _m, _i, out: out * 2)
    try:
        agrees(traced)
    finally:
        hook.remove()
    agrees(traced)


def test_a_setting_that_holds_itself_is_looked_into_once() -> None:
    net = pair()
    net.table["itself"] = [net.table]
    one = signature(net)
    assert one is not None
    assert one == signature(net)
    net.table["itself"] = [net.table, 1]
    assert signature(net) != one


def test_a_layer_that_nobody_looks_at_leaves_no_signature() -> None:
    net = pair()
    net.table["hidden"] = nn.Conv2d(1, 1, 3)
    assert signature(net) is None


@pytest.mark.parametrize("name", nets.NAMES)
def test_our_own_networks_can_be_seen_through(name: str) -> None:
    net = nets.build(name, size=(32, 32))
    one = signature(net)
    assert one is not None
    assert one == signature(net)


def test_old_weights_are_let_go() -> None:
    net = pair()
    traced = eyeshot.trace(net)
    agrees(traced)
    old = weakref.ref(net.a.weight)
    state = {name: value + 1 for name, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    gc.collect()
    assert old() is None
    agrees(traced)


def test_a_plain_network_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is traced at every call: nothing is kept that could go stale."""

    def refuse(_: nn.Module) -> None:
        raise AssertionError

    monkeypatch.setattr(networks, "signature", refuse)
    assert eyeshot.run(pair(), IMAGE).shape == (1, 12, 13)
    with pytest.raises(AssertionError):
        eyeshot.run(eyeshot.trace(pair()), IMAGE)
