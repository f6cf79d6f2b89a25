"""Shape mistakes: the call, who brought what, and the number to write instead, which must work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.errors import EyeshotError
from eyeshot.findings import Problem, Severity, find
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry.sizes import takes
from tests.findings.networks import (
    Both,
    LeNet,
    Through,
    UNet,
    findings_of,
    graph_and_findings,
    only,
)


def errors(net: nn.Module, *size: int) -> list[str]:
    return [str(one) for one in findings_of(net, *size) if one.severity is Severity.ERROR]


def test_a_skip_that_was_forgotten_in_the_channels() -> None:
    finding = only(UNet(joined=32), 3, 64, 64, title="channels do not match")
    assert finding.severity is Severity.ERROR
    assert finding.layer == "dec2"
    assert "built for 32 channels and gets 64" in finding.cause
    assert "enc2.1 brings 32 and up2 brings 32" in finding.cause
    assert "networks.py:" in finding.cause
    assert finding.cure == "dec2: in_channels=64"
    assert not errors(UNet(joined=64), 3, 64, 64)
    UNet(joined=64)(torch.zeros(1, 3, 64, 64))


def test_behind_the_mistake_the_graph_is_that_of_the_cured_network() -> None:
    graph, mismatches = trace(UNet(joined=32).eval(), (3, 64, 64))
    cured = graph_of(UNet(joined=64).eval(), (3, 64, 64))
    assert [(n.name, n.shape, n.operator) for n in graph] == [
        (n.name, n.shape, n.operator) for n in cured
    ]
    assert [one.problem for one in mismatches] == [Problem.CHANNELS]
    assert graph["dec2"].mismatch == "channels"
    behind = {node.name for node in graph if node.after_mismatch == "dec2"}
    assert behind == {"relu", "up1", "cat#2", "dec1", "relu#2"}


@pytest.mark.parametrize(("height", "below", "above"), [(50, 48, 52), (27, 24, 28), (63, 60, 64)])
def test_an_odd_size_at_a_skip(height: int, below: int, above: int) -> None:
    first = findings_of(UNet(), 3, height, 64, title="sizes do not match")[0]
    down = height // 2
    if down % 2:
        assert f"enc2.1 is {down}×32 and up2 is {down - 1}×32" in first.cause
        assert f"pool2 makes {down // 2} of {down} rows" in first.cause
    else:
        assert f"pool1 makes {down} of {height} rows" in first.cause
    assert f"{below}×64 or {above}×64" in first.cure
    for size in (below, above):
        assert UNet()(torch.zeros(1, 3, size, 64)).shape[2] == size
        assert not errors(UNet(), 3, size, 64)


@pytest.mark.parametrize("traced", [(16, 8), (17, 8)])
def test_exactly_the_suggested_sizes_work(traced: tuple[int, int]) -> None:
    net = UNet().eval()
    graph, _ = trace(net, (3, *traced))
    for height in range(1, 40):
        accepted = takes(graph, 0, height)
        try:
            net(torch.zeros(1, 3, height, 8))
            assert accepted, height
        except RuntimeError:
            assert not accepted, height


def test_a_linear_layer_for_another_size() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 36, 10))
    assert not errors(net, 1, 14, 14)
    finding = only(net, 1, 18, 18, title="features do not match")
    assert finding.layer == "3"
    assert "built for 144 features and gets 256: layer 1 gives 4×8×8" in finding.cause
    assert finding.cure == "layer 3: in_features=256, or an input of 14×14"


def test_a_linear_layer_on_a_map_that_was_not_flattened() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10))
    finding = only(net, 1, 8, 8, title="a map instead of features")
    assert "4×6×6 that is not flattened" in finding.cause
    assert "in_features=144" in finding.cure


def test_a_view_with_a_wrong_number() -> None:
    assert not errors(LeNet(), 1, 32, 32)
    finding = only(LeNet(), 1, 28, 28, title="a view that does not fit")
    assert "pool#2 gives 16×4×4 = 256 numbers" in finding.cause
    assert "view(-1, 400)" in finding.cause
    assert "flatten(1)" in finding.cure
    assert "fc: in_features=256" in finding.cure
    assert "an input of 32×32" in finding.cure


def test_a_view_that_cuts_a_picture_into_a_batch() -> None:
    finding = only(LeNet(), 1, 52, 52, title="picture cut into a batch")
    assert finding.severity is Severity.WARNING
    assert "1×16×10×10 becomes 4×400" in finding.cause
    assert "in_features is 1600" in finding.cure
    assert not findings_of(LeNet(), 1, 32, 32, title="picture cut into a batch")


NORMS: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "batch norm": (nn.BatchNorm2d, "then: num_features=8"),
    "group norm": (lambda n: nn.GroupNorm(2, n), "then: num_channels=8"),
    "prelu": (nn.PReLU, "then: num_parameters=8"),
    "layer norm": (lambda n: nn.LayerNorm([n, 5, 5]), "then: normalized_shape=[8, 5, 5]"),
    "transposed": (lambda n: nn.ConvTranspose2d(n, 4, 2, 2), "then: in_channels=8, or conv: out"),
    "conv": (lambda n: nn.Conv2d(n, 6, 3), "then: in_channels=8, or conv: out_channels=12"),
    "grouped": (lambda n: nn.Conv2d(n, 12, 3, groups=4), "then: in_channels=8, or conv: out"),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_layer_built_for_other_channels(name: str) -> None:
    build, cure = NORMS[name]
    (findings,) = errors(Through(8, build(12)), 3, 5, 5)
    assert "then" in findings
    assert "12" in findings
    assert cure in findings
    assert not errors(Through(8, build(8)), 3, 5, 5)


def test_a_picture_of_other_channels() -> None:
    finding = only(nn.Conv2d(3, 4, 3), 1, 8, 8, title="channels do not match")
    assert finding.cure == "an input of 3 channels, or conv2d: in_channels=1"


def test_groups_that_do_not_divide() -> None:
    finding = only(
        Through(8, nn.GroupNorm(3, 9)), 3, 5, 5, title="groups do not divide the channels"
    )
    assert "8 channels cannot be divided into 3 groups" in finding.cause
    assert "num_groups=1, 2 or 4" in finding.cure
    grouped = Through(8, nn.Conv2d(9, 9, 3, groups=3))
    finding = only(grouped, 3, 5, 5, title="groups do not divide the channels")
    assert "where then was built for 9" in finding.cause
    assert "bring 9 channels" in finding.cure


def test_a_pixel_shuffle_of_too_few_channels() -> None:
    finding = only(Through(10, nn.PixelShuffle(2)), 3, 5, 5, title="channels cannot be shuffled")
    assert "10 channels, which is not a multiple of 2² = 4" in finding.cause
    assert not errors(Through(8, nn.PixelShuffle(2)), 3, 5, 5)


def test_a_map_smaller_than_the_window() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(4), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2))
    finding = findings_of(net, 1, 9, 20, title="the map is too small")[0]
    assert finding.layer == "2"
    assert "window of 3×3 does not fit into the 1×4 map of layer 1" in finding.cause
    assert "at least 18×20" in finding.cure
    net(torch.zeros(1, 1, 18, 20))
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 1, 17, 20))


def test_residual_branches_of_different_channels_and_sizes() -> None:
    net = Both(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1))
    finding = only(net, 3, 6, 6, title="channels do not match")
    assert "one has 4 channels and other has 8" in finding.cause
    assert "1×1 convolution from 4 to 8 channels after one" in finding.cure
    net = Both(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 1), join=True)
    finding = only(net, 3, 6, 6, title="sizes do not match")
    assert "one is 4×4 and other is 6×6" in finding.cause
    assert "make the up-sampling undo the strides" in finding.cure


class Positions(nn.Module):
    """An embedding of positions, made for 6×8."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.positions = nn.Parameter(torch.randn(1, channels, 6, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.first(x)
        return y + self.positions


class Ones(Positions):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.cat([self.first(x), torch.ones(len(x), 2, 6, 8)], 1)
        return y


@pytest.mark.parametrize(
    ("net", "size", "title", "cause"),
    [
        (Positions(), (9, 8), "sizes", "first is 4×9×8 and positions is 4×6×8"),
        (Positions(), (5, 3), "sizes", "first is 4×5×3 and positions is 4×6×8"),
        (Positions(3), (6, 8), "channels", "first is 4×6×8 and positions is 3×6×8"),
        (Ones(), (9, 9), "sizes", "first is 4×9×9 and a tensor that forward makes is 2×6×8, and"),
    ],
)
def test_a_tensor_of_the_network_s_own_meets_another_size(
    net: nn.Module, size: tuple[int, int], title: str, cause: str
) -> None:
    finding = only(net, 1, *size, title=f"{title} do not match")
    assert cause in finding.cause
    with pytest.raises(EyeshotError, match=f"{title} do not match"):
        eyeshot.run(net, torch.zeros(1, *size))


def test_in_training_mode_one_value_has_no_variance() -> None:
    net = Through(4, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))).train()
    graph, mismatches = trace(net, (3, 5, 5))
    (finding,) = [one for one in find(graph, net, mismatches) if one.severity is Severity.ERROR]
    assert finding.title == "one value per channel"
    assert finding.layer == "then.1"


class _Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 5:
            raise ValueError(f"I want 5 channels and got {x.shape[1]}")
        return x


@pytest.mark.parametrize("broken", [_Raises(), nn.InstanceNorm2d(5, affine=True)])
def test_what_cannot_be_repaired_ends_the_graph_there(broken: nn.Module) -> None:
    net = Through(4, nn.Sequential(nn.ReLU(), broken, nn.Conv2d(5, 2, 1)))
    graph, findings = graph_and_findings(net, 3, 5, 5)
    assert list(graph.nodes) == ["x", "conv", "then.0"]
    assert graph.outputs == ("then.0",)
    assert findings[0].title == "forward fails"
    assert findings[0].layer == "then.1"
    assert "5" in findings[0].cause
    assert "got" in findings[0].cause
    assert "then.0 1×4×5×5" in findings[0].cause


class _Waves(nn.Module):
    """Takes samples without an axis of channels, (N, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(1, 2, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x[:, None])
        return y


def test_a_network_without_channels_has_a_wrapper_as_its_cure() -> None:
    _, findings = graph_and_findings(_Waves(), 1, 64)
    assert "wrap it in a module whose forward returns self.net(x[:, 0])" in findings[0].cure


def test_several_mistakes_are_reported_at_once() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Conv2d(16, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(100, 10),
    )
    findings = errors(net, 3, 6, 6)
    assert [one.split(": ")[1] for one in findings] == ["1", "2", "4"]
    assert "this shape assumes that 1 is corrected" in findings[1]
    assert "in_features=288" in findings[2]
