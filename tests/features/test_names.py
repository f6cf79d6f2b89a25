"""One set of names: what `inspect` prints, `see` shows and `explain` takes; the numbers are those
that hooks hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.errors import BadValue, UnknownName
from tests.features.networks import ByValues, Functional, Nested, Rewritten, Several


class Block(nn.Module):
    """A residual block with a projection on its skip, as in a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.down = nn.Sequential(nn.Conv2d(3, 6, 1, stride=2), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + self.down(x))
        return out


class Signal(nn.Module):
    """Over one axis: reflected, transposed, joined, resized, a linear layer at each position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 5, padding=2, padding_mode="reflect")
        self.up = nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.mix = nn.Linear(8, 3)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(self.conv(x))
        z = torch.cat([self.up(F.avg_pool1d(y, 2)), F.interpolate(y, scale_factor=1.0)], 1)
        return self.mix(z.movedim(1, -1)).movedim(-1, 1), y.amax(2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain": (lambda: nets.digit_cnn(size=(12, 12)), (1, 12, 12)),
    "functional": (Functional, (1, 8, 8)),
    "nested": (Nested, (2, 6, 6)),
    "several outputs": (Several, (3, 4, 4)),
    "unet": (lambda: nets.unet(depth=2, base=2), (1, 13, 10)),
    "residual": (Block, (3, 9, 8)),
    "signal": (Signal, (2, 12)),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.MaxPool3d(2)), (1, 5, 5, 5)),
    "bfloat16": (lambda: Block().bfloat16(), (3, 9, 8)),
    "float64": (lambda: Signal().double(), (2, 12)),
}


def _noisy(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = make()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor)
            tensor.data.copy_(noise.abs() + 0.5 if "var" in name else noise)
    return net


@pytest.fixture(params=NETWORKS)
def example(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    make, size = NETWORKS[request.param]
    return _noisy(make), size


def test_see_shows_the_layers_that_inspect_lists(
    example: tuple[nn.Module, tuple[int, ...]], recwarn: pytest.WarningsRecorder
) -> None:
    net, size = example
    rows = eyeshot.inspect(net.eval(), size).rows
    for batch in (1, 3):
        features = eyeshot.see(net.train(), torch.randn(batch, *size))
        assert list(features) == [row.name for row in rows if row.operator != "input"]
        assert [features[row.name].shape for row in rows[1:]] == [row.shape for row in rows[1:]]
        assert [layer.kind for layer in features.layers] == [row.operator for row in rows[1:]]
    named = eyeshot.see(net, torch.randn(size), [row.name for row in rows])
    assert {name: maps.shape for name, maps in named.items()} == {r.name: r.shape for r in rows}
    assert not [one for one in recwarn if "hooks" in str(one.message)]


@pytest.mark.parametrize("batch", [1, 3])
def test_every_module_has_the_numbers_that_hooks_hear_to_the_bit(
    example: tuple[nn.Module, tuple[int, ...]], batch: int
) -> None:
    net, size = example
    net.eval()
    heard: list[tuple[str, Tensor]] = []

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: heard.append((name, output.clone()))

    parts = [(name, part) for name, part in net.named_modules() if not [*part.children()]]
    handles = [part.register_forward_hook(keep(name)) for name, part in parts if _plain(part)]
    dtype = next((p.dtype for p in net.parameters()), torch.float32)
    x = torch.randn(batch, *size, dtype=dtype)
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    features = eyeshot.see(net, x)
    times: dict[str, int] = {}
    for name, output in heard:
        times[name] = times.get(name, 0) + 1
        label = name if times[name] == 1 else f"{name}#{times[name]}"
        wide = output.float() if output.dtype == torch.bfloat16 else output
        np.testing.assert_array_equal(features[label], wide[0].numpy(), err_msg=label)
        dead = (wide == 0).movedim(1, 0).flatten(1).all(1)
        assert features.layer(label).dead.tolist() == dead.tolist()
    assert len(heard) >= len(handles)


def _plain(part: nn.Module) -> bool:
    return type(part).__module__.startswith("torch.nn")


@pytest.mark.parametrize(
    ("net", "reason"),
    [(ByValues(), "branches on the values"), (Rewritten(), "gives other numbers")],
)
def test_a_network_without_a_graph_is_recorded_by_hooks_with_a_warning(
    net: nn.Module, reason: str
) -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 1, 6, 6)
    with pytest.warns(UserWarning, match=f"found by hooks.*{reason}"):
        features = eyeshot.see(net, x)
    with torch.no_grad():
        np.testing.assert_array_equal(features["conv"], net.get_submodule("conv")(x)[0].numpy())
    assert "relu" in features


def test_names_that_hooks_do_not_know_either_are_refused() -> None:
    net, x = ByValues(), torch.zeros(1, 1, 6, 6)
    with pytest.warns(UserWarning, match="hooks"), pytest.raises(UnknownName, match="'conv'"):
        eyeshot.see(net, x, ["cnov"])


def test_a_name_of_old_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'conv2d'"):
        eyeshot.see(nn.Conv2d(1, 1, 3), torch.zeros(1, 5, 5), ["Conv2d"])


def test_a_module_that_computes_nothing_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Identity())
    with pytest.raises(BadValue, match="layer '1' exists but computes nothing"):
        eyeshot.see(net, torch.zeros(1, 5, 5), ["1"])


def test_a_block_stands_for_what_leaves_it() -> None:
    net, x = _noisy(Block).eval(), torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        expected = net.get_submodule("down")(x)[0].numpy()
    features = eyeshot.see(net, x, ["down", "relu#2", "x"])
    assert list(features) == ["x", "down", "relu#2"]
    np.testing.assert_array_equal(features["down"], expected)
    assert features.layer("down").kind == "Sequential"
    np.testing.assert_array_equal(features["x"], x[0].numpy())


def test_an_input_is_not_written_to(recwarn: pytest.WarningsRecorder) -> None:
    x: Any = torch.randn(1, 2, 4, 4)
    before = x.clone()
    eyeshot.see(nn.Sequential(nn.ReLU(inplace=True)), x)
    assert torch.equal(x, before)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_a_network_of_two_inputs_is_refused_with_a_cure() -> None:
    with pytest.raises(BadValue, match="'y'; wrap it in a module that takes one tensor"):
        eyeshot.see(Two(), torch.zeros(1, 2, 4, 4))


class Rerun(nn.Module):
    """A block called on its own output, one under two paths, and layers with awkward names."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
        self.alias = self.block
        self.add = nn.Conv2d(2, 2, 1)
        self.odd = nn.ModuleDict({"a": nn.Conv2d(2, 2, 1), "a#2": nn.Conv2d(2, 2, 3)})

    def forward(self, mul: Tensor) -> Tensor:
        y = self.block(self.block(self.add(mul * 2) + mul)) + self.block(mul)
        y = self.odd["a#2"](self.odd["a"](self.odd["a"](y)))
        out: Tensor = self.alias(y)
        return out


def test_calls_of_one_block_are_counted_as_hooks_count_them() -> None:
    net, x = _noisy(Rerun).eval(), torch.randn(1, 2, 6, 6)
    heard: dict[str, list[Any]] = {"block": [], "add": []}

    def keep(found: list[Any]) -> Callable[..., None]:
        return lambda module, inputs, output: found.append(output[0].numpy().copy())

    handles = [
        net.get_submodule(name).register_forward_hook(keep(found)) for name, found in heard.items()
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    rows = [row.name for row in eyeshot.inspect(net, (2, 6, 6)).rows]
    assert rows[0] == "mul"
    assert rows[1:] == list(eyeshot.see(net, x))
    assert len(set(rows)) == 16
    features = eyeshot.see(net, x, ["block", "add", "alias", "odd.a"])
    assert list(features) == ["add", "block", "block#2", "block#3", "odd.a", "odd.a#3", "alias"]
    for place, label in enumerate(("block", "block#2", "block#3")):
        np.testing.assert_array_equal(features[label], heard["block"][place])
        at = (1, 2, 3)
        for trace in (
            eyeshot.explain(net, x, layer="block", unit=at, call=place),
            eyeshot.explain(net, x, layer=label, unit=at),
        ):
            assert trace.network_value == pytest.approx(float(heard["block"][place][at]))
    np.testing.assert_array_equal(features["add"], heard["add"][0])
    np.testing.assert_array_equal(features["alias"], heard["block"][3])


def test_the_field_of_a_block_is_that_of_its_output() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(x + 1)
            return out

    net = nn.Sequential(Shifted(), Shifted())
    fields = [eyeshot.receptive_field(net, (1, 9, 9), layer, (0, 0)) for layer in ("0", "1")]
    assert [field.seen.sizes for field in fields] == [(3, 3), (5, 5)]
