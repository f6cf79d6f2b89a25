"""One unit inside a network: the sum is the network's own value, for every kind of layer."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

import eyeshot
from eyeshot import reference as ref
from eyeshot.errors import BadValue, Failure, UnknownName, Unsupported
from eyeshot.explanation import explain_unit
from eyeshot.explanation.explaining import check_total, explain_seen
from eyeshot.explanation.traces import see_operator
from eyeshot.nets import digit_cnn
from tests.networks import examples

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, 3, padding=1), (4, 7, 8)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 2), dilation=2, groups=2), (4, 9, 8)),
    (nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect", groups=4, bias=False), (4, 6, 5)),
    (nn.Conv2d(4, 2, 4, padding="same", padding_mode="circular"), (4, 6, 5)),
    (nn.Conv2d(4, 2, 3, padding=2, padding_mode="replicate"), (4, 6, 5)),
    (nn.Conv2d(4, 2, 3, padding="valid"), (4, 6, 5)),
    (nn.Conv1d(4, 2, 5, stride=2, padding=3), (4, 9)),
    (nn.Conv3d(2, 3, 2, padding=1), (2, 3, 4, 3)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 4, 5)),
    (nn.ConvTranspose2d(4, 6, (2, 3), stride=(1, 3), dilation=2, groups=2), (4, 4, 5)),
    (nn.ConvTranspose1d(4, 3, 4, stride=2, bias=False), (4, 5)),
    (nn.ConvTranspose3d(2, 2, 2, stride=2), (2, 2, 3, 2)),
    (nn.MaxPool2d(3, stride=2, padding=1), (4, 7, 8)),
    (nn.MaxPool2d((2, 3), dilation=(2, 1), ceil_mode=True), (4, 8, 8)),
    (nn.MaxPool1d(2), (4, 7)),
    (nn.MaxPool2d(2, return_indices=True), (4, 6, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (4, 8, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False), (4, 8, 6)),
    (nn.AvgPool2d((2, 3), divisor_override=5), (4, 8, 6)),
    (nn.AvgPool1d(3, padding=1), (4, 8)),
    (nn.AvgPool3d(2), (2, 4, 4, 5)),
    (nn.AdaptiveAvgPool2d(1), (4, 7, 5)),
    (nn.AdaptiveAvgPool2d((3, 2)), (4, 7, 5)),
    (nn.AdaptiveMaxPool2d((3, None)), (4, 7, 5)),
    (nn.Linear(9, 5), (9,)),
    (nn.Linear(4, 3, bias=False), (5, 4)),
]


def run_once(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = net(x)
    first: Tensor = (y[0] if isinstance(y, tuple) else y)[0]
    return first


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: str(v) if v else None)
def test_every_unit_of_every_kind_of_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, *shape)
    y = run_once(layer, x)
    net = nn.Sequential(layer)
    units = list(np.ndindex(*y.shape))
    assert explain_unit(net, x, layer="0", unit=units[0]).network_value == y[units[0]].item()
    seen, _ = see_operator(net, x, "0")
    assert seen is not None
    for unit in [units[0], units[-1], *units[1 :: max(1, len(units) // 12)]]:
        trace = explain_seen(seen, unit)
        assert trace.network_value == y[unit].item()
        assert trace.total == pytest.approx(y[unit].item(), abs=1e-5)
        assert trace.total == pytest.approx(
            sum(part.sum for part in trace.parts) + (trace.bias or 0), abs=1e-12
        )


@pytest.mark.parametrize("name", ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2"])
def test_any_unit_inside_the_digit_network(name: str) -> None:
    torch.manual_seed(0)
    seen, _ = see_operator(digit_cnn(), torch.randn(1, 1, 28, 28), name)
    assert seen is not None
    shape, operator = tuple(seen.output.shape[1:]), seen

    @given(st.tuples(*(st.integers(0, n - 1) for n in shape)))
    @examples(15)
    def holds(unit: tuple[int, ...]) -> None:
        trace = explain_seen(operator, unit)
        assert trace.network_value == operator.output[0][unit].item()
        assert trace.total == pytest.approx(trace.network_value, abs=1e-5)

    holds()


def test_the_parts_are_the_channels_of_the_reference() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1).double()
    x = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    trace = explain_unit(nn.Sequential(layer), x, layer="0", unit=(2, 0, 5))
    weight = layer.weight.detach().numpy()[2:3]
    for channel, part in enumerate(trace.parts):
        alone = ref.conv(x.numpy()[:, [channel]], weight[:, [channel]], padding=1)
        assert part.sum == pytest.approx(alone[0, 0, 0, 5], abs=1e-12)
        assert part.channel == channel
        assert part.kernel is not None
        assert part.kernel.tolist() == weight[0, channel].tolist()
        assert part.outside.tolist() == [[True] * 3, [False, False, True], [False, False, True]]


def test_a_group_sees_its_own_channels_only() -> None:
    net = nn.Sequential(nn.Conv2d(6, 4, 1, groups=2))
    trace = explain_unit(net, torch.randn(1, 6, 2, 2), layer="0", unit=(2, 0, 0))
    assert [part.channel for part in trace.parts] == [3, 4, 5]


class Changed(nn.Module):
    """An activation in place, a layer used twice, a layer not used, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.idle = nn.Conv2d(2, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.relu(self.conv(self.drop(x)))
        y: Tensor = self.norm(x)
        return y


def test_what_happens_around_the_layer_does_not_matter() -> None:
    torch.manual_seed(0)
    net, x = Changed(), torch.randn(1, 2, 5, 5)
    net.norm.eval()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    drawn = torch.get_rng_state()
    units = [(c, 2, 2) for c in (0, 1)]
    first = [explain_unit(net, x, layer="conv", unit=unit).network_value for unit in units]
    second = explain_unit(net, x, layer="conv", unit=(0, 2, 2), call=1)

    assert first == run_once(net.conv, x)[:, 2, 2].tolist()  # before the ReLU, without dropout
    assert (second.parts[0].patch >= 0).all()  # its input is after the ReLU
    assert net.training
    assert net.drop.training
    assert not net.norm.training
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not net.conv._forward_hooks


def test_products_are_not_rounded_to_ten_bits_and_the_setting_is_kept() -> None:
    kinds = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    within: list[str] = []

    def watch(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, nn.Conv2d):
            within.extend(kind.fp32_precision for kind in kinds)

    net = nn.Sequential(nn.Conv2d(1, 1, 2))
    # A global hook: what the network itself can reach is put back after the pass.
    handle = torch.nn.modules.module.register_module_forward_pre_hook(watch)
    try:
        explain_unit(net, torch.randn(1, 1, 3, 3), layer="0", unit=(0, 0, 0))
    finally:
        handle.remove()
    assert within[:2] == ["ieee", "ieee"]  # of the pass; the trace behind it computes nothing
    assert within[2:] == before
    assert [kind.fp32_precision for kind in kinds] == before


def test_large_sums_that_cancel_are_not_refused() -> None:
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1e6, -1e6, 1.0]])
    trace = explain_unit(nn.Sequential(layer), torch.tensor([[1.1, 1.1, 0.3]]), layer="0", unit=[0])
    assert trace.total == pytest.approx(trace.network_value, abs=1.0)


def test_half_precision_is_allowed_its_rounding() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 2, 3)).bfloat16()
    x = torch.randn(1, 8, 4, 4, dtype=torch.bfloat16)
    assert explain_unit(net, x, layer="0", unit=(1, 1, 1)).total != 0


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_what_a_layer_of_ones_own_does_beside_the_sum_is_explained_too() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(Doubled(1, 1, 3)), torch.randn(1, 1, 4, 4)
    inner = explain_unit(net, x, layer="0.conv2d", unit=(0, 0, 0))
    outer = explain_unit(net, x, layer="0", unit=(0, 0, 0))  # what leaves it
    assert outer.layer == "0"
    assert outer.parts[0].source == "0.conv2d"
    assert outer.parts[0].kernel == 2
    assert outer.total == pytest.approx(2 * inner.total, abs=1e-6)


def test_a_sum_that_is_not_the_networks_own_value_is_a_failure() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3))
    good = explain_unit(net, torch.randn(1, 1, 4, 4), layer="0", unit=(0, 0, 0))
    check_total(good, 0.0)
    with pytest.raises(Failure, match="the sum comes to"):
        check_total(replace(good, total=good.total + 1e-3), 0.0)


@pytest.mark.parametrize(
    ("layer", "unit", "kind", "message"),
    [
        ("conv3", (0, 0, 0), UnknownName, "did you mean 'conv2'"),
        ("conv2", (32, 0, 0), BadValue, r"unit 32,0,0 is outside the map .* shape \(32, 14, 14\)"),
        ("conv2", (0, -1, 0), BadValue, "at most 31,13,13"),
        ("conv2", (0, 0), BadValue, "unit 0,0 has 2 of the 3 numbers .*; give channel,row,column"),
        ("fc2", (10,), BadValue, r"shape \(10,\)"),
        ("relu1", (0, 28, 0), BadValue, "'relu1'"),
        ("x", (0, 0, 0), Unsupported, "'x' is input, which has no sum"),
    ],
)
def test_what_cannot_be_explained_is_reported(
    layer: str, unit: tuple[int, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        eyeshot.explain(digit_cnn(), torch.zeros(1, 28, 28), layer=layer, unit=unit)


def test_what_the_network_does_not_do_is_reported() -> None:
    net, x = Changed(), torch.randn(1, 2, 5, 5)
    with pytest.raises(BadValue, match="'idle' exists but computes nothing"):
        explain_unit(net, x, layer="idle", unit=(0, 0, 0))
    with pytest.raises(BadValue, match="'conv' is called 2 times"):
        explain_unit(net, x, layer="conv", unit=(0, 0, 0), call=2)
    with pytest.raises(BadValue, match="refused an input of shape"):
        explain_unit(net, x[:, :1], layer="conv", unit=(0, 0, 0))


class Rearranged(nn.Module):
    """Layers that get something other than the batch that the network got."""

    def __init__(self) -> None:
        super().__init__()
        self.folded = nn.Conv2d(1, 1, 2)
        self.alone = nn.Conv2d(1, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.folded(x.flatten(0, 1)[:, None]).sum() + self.alone(x[0, :1]).sum()
        return y


@pytest.mark.parametrize(("layer", "unit"), [("folded", (0, 0, 0)), ("alone", (0, 0)), ("add", ())])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_layer_that_does_not_see_the_batch_is_refused(
    layer: str, unit: tuple[int, ...], batch: int
) -> None:
    with pytest.raises(Unsupported, match=repr(layer)):
        explain_unit(Rearranged(), torch.randn(batch, 2, 3, 3), layer=layer, unit=unit)


@pytest.mark.parametrize("image", ["seven.png", torch.zeros(1, 28, 28, dtype=torch.uint8)])
def test_an_input_that_is_not_ready_is_reported(image: Any) -> None:
    with pytest.raises(BadValue):
        eyeshot.explain(digit_cnn(), image, layer="conv1", unit=(0, 0, 0))


def drawn(thing: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=120, color_system=None).print(thing)
    return file.getvalue()


def test_the_drawing_names_every_channel_and_the_total() -> None:
    torch.manual_seed(0)
    trace = eyeshot.explain(digit_cnn(), torch.randn(1, 28, 28), layer="conv2", unit=(3, 0, 12))
    text = drawn(trace)
    assert "conv2" in text
    for part in trace.parts:
        assert f"{part.sum:.6f}" in text
    assert f"{trace.bias:.6f}" in text
    assert f"{trace.total:.6f}" in text
    assert " · " in text  # the padding above row 0


def test_a_wide_layer_is_drawn_by_its_largest_parts() -> None:
    torch.manual_seed(0)
    trace = eyeshot.explain(digit_cnn(), torch.randn(1, 28, 28), layer="fc1", unit=[5])
    text = drawn(trace)
    sizes = sorted((abs(part.sum) for part in trace.parts), reverse=True)
    assert f"{sizes[0]:.6f}" in text
    assert "1536 smaller ones" in text


def test_windows_over_one_and_three_axes_are_drawn() -> None:
    line = explain_unit(
        nn.Sequential(nn.MaxPool1d(2)), torch.tensor([[[1.0, 2.0]]]), layer="0", unit=(0, 0)
    )
    assert "2.000000" in drawn(line)
    cube = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    net = nn.Sequential(nn.AvgPool3d(2))
    assert "3.500000" in drawn(explain_unit(net, cube, layer="0", unit=(0, 0, 0, 0)))


def test_everything_goes_into_json_even_what_is_not_a_number() -> None:
    x = torch.full((1, 1, 2, 2), torch.nan)
    trace = explain_unit(nn.Sequential(nn.MaxPool2d(2)), x, layer="0", unit=(0, 0, 0))
    data = json.loads(json.dumps(trace.to_dict(), allow_nan=False))
    assert data["total"] is None
    assert data["parts"][0]["patch"] == [[None, None], [None, None]]
    assert data["unit"] == [0, 0, 0]


class Functions(nn.Module):
    """Layers written as functions, and one that is called twice, over one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(self.conv(x)))
        y = F.conv1d(y, self.weight, stride=2, padding=1)
        y = F.max_pool1d(y, 2)
        out: Tensor = F.avg_pool1d(y, 2, 1) + 1
        return out


@pytest.mark.parametrize(
    ("layer", "unit"),
    [("conv", (2, 0)), ("conv#2", (1, 15)), ("conv1d", (3, 7)), ("max_pool1d", (0, 3))],
)
@pytest.mark.parametrize("batched", [False, True])
def test_a_signal_and_every_name_that_see_prints(
    layer: str, unit: tuple[int, int], batched: bool
) -> None:
    torch.manual_seed(0)
    net, x = Functions(), torch.randn(3, 16)
    maps = eyeshot.see(net, x[None])[layer]
    found = eyeshot.explain(net, x[None] if batched else x, layer=layer, unit=unit)
    assert found.network_value == pytest.approx(float(maps[unit]))
    assert found.total == pytest.approx(float(maps[unit]), abs=1e-5)


def test_names_that_no_layer_has_are_offered_those_of_see() -> None:
    with pytest.raises(UnknownName, match="did you mean 'max_pool1d'"):
        eyeshot.explain(Functions(), torch.randn(3, 16), layer="maxpool1d", unit=(0, 0))
    softmax = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Softmax(1))
    with pytest.raises(Unsupported, match="'1' is softmax, which has no sum to show"):
        eyeshot.explain(softmax, torch.randn(1, 3, 3), layer="1", unit=(0, 0, 0))
    with pytest.raises(BadValue, match=r"3 of the 2 numbers .*; give channel,position"):
        eyeshot.explain(Functions(), torch.randn(3, 16), layer="conv", unit=(0, 0, 0))
