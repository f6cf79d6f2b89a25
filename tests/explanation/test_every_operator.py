"""Every operator is explained under its name in `inspect`, and the total is its value."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.errors import Unsupported
from eyeshot.explanation import UnitTrace, explain_unit
from eyeshot.explanation.explaining import explain_seen
from eyeshot.explanation.traces import Part, see_operator
from eyeshot.frontends.torch import traced
from tests.features.networks import ByValues, Functional
from tests.features.test_names import example  # noqa: F401  (a fixture)

Example = tuple[nn.Module, tuple[int, ...]]


def test_every_operator_of_inspect_is_explained_with_the_numbers_of_see(
    example: Example,  # noqa: F811
) -> None:
    net, size = example
    every = eyeshot.inspect(net.eval(), size).rows[1:]
    rows = {row.operator: row for row in every}.values()  # each explanation is a trace of its own
    dtype = next((p.dtype for p in net.parameters()), torch.float32)
    x = torch.randn(2, *size, dtype=dtype)
    maps = eyeshot.see(net, x)
    draw = np.random.default_rng(0)
    for row in rows:
        if row.operator == "group_norm":
            continue  # refused, as the test below says
        unit = tuple(int(draw.integers(n)) for n in row.shape)
        trace = eyeshot.explain(net, x, layer=row.name, unit=unit)
        assert trace.layer == row.name
        assert trace.shape == row.shape
        assert trace.network_value == pytest.approx(float(maps[row.name][unit]), abs=1e-6)


class Pointwise(nn.Module):
    """One operator on one or two maps, with constants and weights on either side."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.gain = nn.Parameter(torch.tensor([2.0, -3.0]).view(1, 2, 1, 1))
        self.slope = nn.Parameter(torch.tensor([0.1, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        y, z = x[:, :2], x[:, 2:]
        made: dict[str, Any] = {
            "add": lambda: torch.add(y, z, alpha=3),
            "add.constant": lambda: y + 2,
            "add.weight": lambda: self.gain + y,
            "sub": lambda: y - z,
            "sub.from": lambda: 2 - y,
            "sub.weight": lambda: self.gain - y,
            "mul": lambda: y * z,
            "mul.constant": lambda: y * 0.25,
            "mul.weight": lambda: self.gain * y,
            "mul.gate": lambda: y * z.mean((2, 3), keepdim=True),
            "mul.self": lambda: y * y,
            "div": lambda: y / z,
            "div.constant": lambda: y / 8,
            "div.floor": lambda: torch.div(y, 0.3, rounding_mode="floor"),
            "relu": lambda: F.relu(y),
            "gelu": lambda: F.gelu(y),
            "hardtanh": lambda: F.hardtanh(y, -0.5, 0.5),
            "leaky": lambda: F.leaky_relu(y, 0.2),
            "prelu": lambda: F.prelu(y, self.slope),
            "prelu.one": lambda: F.prelu(y, self.slope[:1]),
            "where": lambda: torch.where(y > z, y, z),
            "maximum": lambda: torch.maximum(y, z),
            "lerp": lambda: torch.lerp(y, z, 0.25),
            "to": lambda: y.to(torch.bfloat16),
        }
        out: Tensor = made[self.name]()
        return out


POINTWISE = [
    *("add", "add.constant", "add.weight", "sub", "sub.from", "sub.weight", "mul", "mul.constant"),
    *("mul.weight", "mul.gate", "mul.self", "div", "div.constant", "div.floor", "relu", "gelu"),
    *("hardtanh", "leaky", "prelu", "prelu.one", "where", "maximum", "lerp", "to"),
]


def _last(net: nn.Module, x: Tensor) -> str:
    return traced(net, [tuple(x.shape[1:])]).outputs[0]


@pytest.mark.parametrize("name", POINTWISE)
def test_operators_on_single_numbers(name: str) -> None:
    torch.manual_seed(0)
    net, x = Pointwise(name).eval(), torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        y = net(x)[0]
    layer = _last(net, x)
    seen, _ = see_operator(net, x, layer)
    assert seen is not None
    for unit in [(0, 0, 0), (1, 2, 1)]:
        trace = explain_seen(seen, unit)
        assert trace.network_value == y[unit].item()
        assert trace.total == pytest.approx(y[unit].item(), rel=4e-3 if name == "to" else 1e-5)
        assert all(part.source for part in trace.parts)


@pytest.mark.parametrize(
    ("name", "rule", "weights", "bias"),
    [
        ("add", "sum", [1, 3], None),
        ("add.constant", "sum", [1], 2),
        ("add.weight", "sum", [1], -3),
        ("sub", "sum", [1, -1], None),
        ("sub.weight", "sum", [-1], -3),
        ("mul", "product", [None, None], None),
        ("mul.weight", "sum", [-3], None),
        ("mul.self", "product", [None, None], None),
        ("div.constant", "sum", [0.125], None),
        ("relu", "value", [None], None),
        ("where", "value", [None, None, None], None),
    ],
)
def test_what_is_shown_of_them(
    name: str, rule: str, weights: list[float | None], bias: float | None
) -> None:
    net, x = Pointwise(name).eval(), torch.randn(1, 4, 3, 3)
    trace = explain_unit(net, x, layer=_last(net, x), unit=(1, 0, 2))
    assert (trace.rule, trace.bias) == (rule, bias)
    kernels = [None if part.kernel is None else float(part.kernel) for part in trace.parts]
    assert kernels == weights


def test_a_sum_of_a_skip_names_where_each_number_comes_from() -> None:
    net, x = Functional().eval(), torch.randn(1, 1, 8, 8)
    maps = eyeshot.see(net, x)
    trace = eyeshot.explain(net, x, layer="add", unit=(2, 1, 3))
    assert [part.source for part in trace.parts] == ["conv2", "pool"]
    assert [float(part.patch) for part in trace.parts] == pytest.approx(
        [float(maps[name][2, 1, 3]) for name in ("conv2", "pool")]
    )


def test_a_concatenation_says_which_map_is_copied() -> None:
    torch.manual_seed(0)
    net, x = nets.unet(depth=1, base=2).eval(), torch.randn(2, 1, 8, 8)
    maps = eyeshot.see(net, x)
    for channel, source, at in [(0, "first.relu2", 0), (3, "up1.transpose", 1)]:
        trace = eyeshot.explain(net, x, layer="up1.cat", unit=(channel, 5, 6))
        (part,) = trace.parts
        assert (trace.rule, part.source, part.at) == ("copy", source, (at, 5, 6))
        assert trace.total == pytest.approx(float(maps[source][at, 5, 6]))


MOVES: dict[str, Any] = {
    "flatten": lambda x: x.flatten(1),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "pad reflect": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
    "crop": lambda x: x[:, 1:, ::2, 1:],
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2.5),
    "bilinear": lambda x: F.interpolate(x, size=(7, 3), mode="bilinear"),
    "corners": lambda x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "stack": lambda x: torch.stack([x, x + 1], 2),
    "constant": lambda x: torch.cat([x, torch.full((len(x), 1, 4, 4), 0.25)], 1),
    "twice": lambda x: torch.cat([x, x], 1),
    "flip": lambda x: x.flip(2),
    "index": lambda x: x[:, [2, 0]],
    "expand": lambda x: x[:, :, :1].expand(-1, -1, 5, -1),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "unfold": lambda x: x.unfold(2, 2, 1),
    "mean": lambda x: x.mean((2, 3)),
    "mean channels": lambda x: x.mean(1, keepdim=True),
    "mean of columns": lambda x: x.mean(1),
    "sum": lambda x: x.sum((1, 3)),
    "sum of rows": lambda x: x.sum(3, keepdim=True),
    "largest of all": lambda x: x.flatten(2).amax(1),
    "broadcast": lambda x: x[:, 1:2, :, :1] - x,
    "linear": lambda x: F.linear(x, torch.arange(12.0).view(3, 4)),
    "largest": lambda x: x.amax((2, 3), keepdim=True),
    "smallest": lambda x: x.amin(1),
    "matmul": lambda x: x.flatten(2).movedim(1, 2) @ torch.arange(8.0).view(4, 2),
    "from the left": lambda x: torch.arange(8.0).view(2, 4) @ x.flatten(2),
    "vector": lambda x: x @ torch.arange(4.0),
    "addmm": lambda x: torch.addmm(torch.ones(3), x[:, :, 0, 0], torch.ones(4, 3), alpha=2, beta=5),
    "attention": lambda x: x.flatten(2) @ x.flatten(2).mT,
    "of weights": lambda x: F.conv2d(x, torch.ones(2, 2, 3, 3), groups=2, padding="same"),
    "transposed": lambda x: F.conv_transpose2d(x, torch.ones(4, 1, 3, 3), stride=2, padding=1),
    "pool": lambda x: F.max_pool2d(x, 2, 1, 1),
    "mean pool": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "divided": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, 3),
    "gate": lambda x: F.glu(x, 1),
    "gate of columns": lambda x: F.glu(x - 200 * (x > 1)),
    "batch norm": lambda x: F.batch_norm(x, torch.arange(4.0), torch.arange(1.0, 5.0)),
    "dropout": lambda x: F.dropout(x, 0.5, False),
}


class Called(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = MOVES[self.name](x)
        return out


@pytest.mark.parametrize("name", MOVES)
def test_functions_that_move_reduce_and_weigh(name: str) -> None:
    torch.manual_seed(0)
    net, x = Called(name).eval(), torch.randn(2, 4, 4, 4)
    y = net(x)[0]
    layer = _last(net, x)
    units = list(np.ndindex(*y.shape))
    seen, _ = see_operator(net, x, layer)
    assert seen is not None
    for unit in [units[0], units[-1], units[len(units) // 2]]:
        trace = explain_seen(seen, unit)
        assert trace.network_value == y[unit].item()
        assert trace.total == pytest.approx(y[unit].item(), abs=1e-5)
        for part in trace.parts:
            read = _read(part, seen.values[part.source or seen.node.edges[0].source][0], unit)
            np.testing.assert_allclose(np.where(part.outside, 0, read), part.patch, rtol=1e-6)
        assert json.loads(json.dumps(trace.to_dict(), allow_nan=False))["layer"] == layer
        assert f"{trace.total:.6f}" in _drawn(trace)
        assert layer in trace._repr_html_()


def _read(part: Part, maps: Tensor, unit: tuple[int, ...]) -> Any:
    """What a map holds where a part says that it reads."""
    if part.cells:
        return maps.numpy()[part.channel][np.ix_(*part.cells)]
    if not part.patch.shape:
        return maps[part.at or unit].item()
    sides = zip(part.at[1:], part.patch.shape, strict=True)
    return maps.numpy()[part.at[0]][tuple(slice(lo, lo + n) for lo, n in sides)]


def _drawn(trace: UnitTrace) -> str:
    file = io.StringIO()
    Console(file=file, width=140, color_system=None).print(trace)
    return file.getvalue()


def test_a_gate_shows_both_numbers() -> None:
    net, x = Called("gate").eval(), torch.full((1, 4, 4, 4), 50.0)  # an open gate is no copy
    trace = explain_unit(net, x, layer=_last(net, x), unit=(1, 2, 3))
    assert [part.at for part in trace.parts] == [(1, 2, 3), (3, 2, 3)]
    assert trace.rule == "value"


def test_a_copy_names_the_first_dimension_too_where_it_is_not_the_batch() -> None:
    class Stacked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            queries, keys = (x * 3).reshape(1, 2, 2, 4, 4).permute(1, 0, 2, 3, 4)
            return torch.cat([queries, keys], 1)

    x = torch.randn(1, 4, 4, 4)
    maps = eyeshot.see(Stacked(), x)
    trace = eyeshot.explain(Stacked(), x, layer="unbind#2", unit=(1, 2, 3))
    (part,) = trace.parts
    assert part.at == (1, 0, 1, 2, 3)
    assert maps[part.source][part.at] == part.patch == trace.network_value
    assert trace.network_value == pytest.approx(3 * float(x[0, 3, 2, 3]))


def test_complex_numbers_are_refused() -> None:
    class Magnitude(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x, x + 1).abs()

    net, x = Magnitude().eval(), torch.randn(1, 2, 3, 3)
    with pytest.raises(Unsupported, match="'abs' reads or gives complex numbers"):
        explain_unit(net, x, layer="abs", unit=(0, 0, 0))


def test_a_padded_cell_is_a_constant_that_is_a_copy_of_nothing() -> None:
    net, x = Called("pad").eval(), torch.randn(1, 4, 4, 4)
    trace = explain_unit(net, x, layer="pad", unit=(0, 0, 0))
    assert (trace.parts, trace.bias, trace.total) == ((), 0.5, 0.5)


def test_a_bilinear_resize_weighs_four_neighbors() -> None:
    net, x = Called("corners").eval(), torch.randn(1, 4, 4, 4)
    (part,) = explain_unit(net, x, layer=_last(net, x), unit=(3, 1, 1)).parts
    assert part.kernel is not None
    assert part.patch.shape == (2, 2)
    assert part.kernel.sum() == pytest.approx(1)
    assert part.at == (3, 0, 0)
    np.testing.assert_allclose(part.patch, x[0, 3, :2, :2])


@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (nn.Sequential(nn.GroupNorm(2, 4)), "0"),
        (nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "0"),
        (nn.Sequential(nn.Softmax(1)), "0"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "0.max_pool2d_with_indices"),
    ],
)
def test_what_is_no_sum_is_refused_by_its_name(net: nn.Module, layer: str) -> None:
    with pytest.raises(Unsupported, match=f"layer '{layer}'"):
        explain_unit(net, torch.randn(1, 4, 4, 4), layer=layer, unit=(0, 0, 0))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("layer", "unit"),
    [
        *[("conv", (1, 2, 3)), ("relu", (0, 1, 1)), ("max_pool2d", (1, 0, 1)), ("add", (1, 1, 1))],
        *[("fc", (1,)), ("mean", (0,))],
    ],
)
def test_a_network_without_a_graph_is_explained_by_hooks_and_that_is_said(
    layer: str, unit: tuple[int, ...], batched: bool
) -> None:
    torch.manual_seed(0)
    net, x = ByValues(), torch.randn(2, 1, 6, 6)
    x = x if batched else x[:1]
    with pytest.warns(UserWarning, match="found by hooks"):
        maps = eyeshot.see(net, x)
    with pytest.warns(UserWarning, match="found by hooks.*branches on the values"):
        trace = eyeshot.explain(net, x, layer=layer, unit=unit)
    assert trace.layer == layer
    assert trace.network_value == pytest.approx(float(maps[layer][unit]), abs=1e-6)
    assert trace.total == pytest.approx(float(maps[layer][unit]), abs=1e-5)
