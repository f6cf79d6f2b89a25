"""Each finding on a network that has it and on one that has not, its numbers checked by hand."""

from __future__ import annotations

import copy
import itertools
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyeshot.findings import Finding, Severity, find
from eyeshot.findings.borders import touching
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry.sizes import takes
from eyeshot.nets import digit_cnn, small_vgg
from tests.findings.networks import Both, Through, UNet, findings_of, graph_and_findings, only


def test_pixels_dropped_at_a_pooling() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.MaxPool2d(3))
    finding = only(net, 1, 16, 12, title="pixels dropped")
    assert finding.severity is Severity.WARNING
    assert finding.layer == "2"
    assert "over 8×6 never read the last 2 of its rows (4 rows in input pixels)" in finding.cause
    assert "12×12 or 18×12" in finding.cure
    assert not findings_of(net, 1, 18, 12, title="pixels dropped")


@pytest.mark.parametrize(
    ("layer", "size", "dropped"),
    [
        (nn.MaxPool2d(2), 8, 0),
        (nn.MaxPool2d(2), 9, 1),
        (nn.MaxPool2d(2, ceil_mode=True), 9, 0),
        (nn.Conv2d(1, 1, 7, stride=2, padding=3), 224, 0),
        (nn.Conv2d(1, 1, 3, stride=4), 12, 0),  # a gap of one position, as between any two windows
        (nn.Conv2d(1, 1, 5, stride=4), 15, 2),
        (nn.Conv2d(1, 1, 1, stride=2), 8, 0),
        (nn.Conv2d(1, 1, 2, stride=3, dilation=2), 11, 2),
    ],
)
def test_what_is_dropped_is_what_no_window_reads(layer: nn.Module, size: int, dropped: int) -> None:
    findings = findings_of(layer, 1, size, size, title="pixels dropped")
    assert len(findings) == bool(dropped)
    x = torch.rand(1, 1, size, size, requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None
    unread = int((x.grad[0, 0].abs().sum(1) == 0).flip(0).cumprod(0).sum())
    if dropped:
        assert unread == dropped
    if findings:
        assert f"the last {dropped} of its rows" in findings[0].cause


def test_checkerboard() -> None:
    finding = only(Through(4, nn.ConvTranspose2d(4, 2, 3, stride=2)), 3, 8, 8, title="checkerboard")
    assert finding.layer == "then"
    assert "the sum of 1 to 4 inputs" in finding.cause
    assert "kernel of 4×4" in finding.cure
    for kernel, stride in [(2, 2), (4, 2), (6, 3), (3, 1)]:
        even = Through(4, nn.ConvTranspose2d(4, 2, kernel, stride=stride))
        assert not findings_of(even, 3, 8, 8, title="checkerboard")
    gaps = only(nn.ConvTranspose2d(3, 2, 1, stride=2), 3, 8, 8, title="checkerboard")
    assert "the sum of 0 to 1 input" in gaps.cause
    assert "only the bias" in gaps.cause


@pytest.mark.parametrize(("k", "s", "d"), list(itertools.product((1, 2, 3, 5), (1, 2, 3), (1, 2))))
def test_overlap_counts_are_those_of_ones_spread_by_ones(k: int, s: int, d: int) -> None:
    layer = nn.ConvTranspose2d(1, 1, (k, 1), stride=(s, 1), dilation=(d, 1), bias=False)
    nn.init.ones_(layer.weight)
    counts = layer(torch.ones(1, 1, 30, 1)).flatten()[12 : 12 + s]
    findings = findings_of(layer, 1, 30, 1, title="checkerboard")
    assert bool(findings) == (counts.min() != counts.max())
    if findings:
        assert f"the sum of {int(counts.min())} to {int(counts.max())} input" in findings[0].cause


def test_a_field_that_covers_the_input_already() -> None:
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(6)))
    finding = only(net, 1, 7, 7, title="field covers the input")
    assert finding.layer == "2"  # the third: 1 + 3·2 = 7
    assert (
        "field of 7×7 covers the 7×7 input, and so do the fields of 3 later layers" in finding.cause
    )
    assert finding.layers == ("2", "3", "4", "5")
    assert not findings_of(net, 1, 14, 14, title="field covers the input")


def test_a_classifier_whose_last_map_sees_less_than_the_picture() -> None:
    finding = only(digit_cnn(), 1, 28, 28, title="field smaller than the input")
    assert finding.layer == "pool2"
    assert "at most 10×10 of the 28×28" in finding.cause
    deep = nn.Sequential(
        *(nn.Conv2d(1 if i == 0 else 4, 4, 3, padding=1) for i in range(7)),
        nn.AdaptiveAvgPool2d(1),
    )
    assert not findings_of(deep, 1, 15, 15, title="field smaller than the input")
    assert findings_of(deep, 1, 16, 15, title="field smaller than the input")
    assert not findings_of(nn.Conv2d(1, 1, 3), 1, 9, 9, title="field smaller than the input")


def padded_by_nan(net: nn.Module, size: tuple[int, ...]) -> torch.Tensor:
    """Which output units move when zero padding is made to count: every conv pads with NaN."""
    torch.manual_seed(0)
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple):
            high, wide = module.padding
            module.padding = (0, 0)
            module.register_forward_pre_hook(
                lambda _, xs, p=(wide, wide, high, high): F.pad(xs[0], p, value=float("nan"))
            )
    return torch.isnan(net(torch.rand(1, *size)))[0].any(0)


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (nn.Conv2d(3, 2, 3, padding=1), (3, 8, 5)),
        (nn.Sequential(nn.Conv2d(3, 2, 5, padding=2, stride=2), nn.Conv2d(2, 2, 3)), (3, 20, 30)),
        (nn.Sequential(nn.Conv2d(3, 2, 3, padding=(0, 2), dilation=2), nn.Upsample(scale_factor=2),
                       nn.Conv2d(2, 1, 2)), (3, 11, 12)),
        (Both(nn.Conv2d(3, 2, (1, 7), padding=(0, 3)), nn.Conv2d(3, 2, (5, 1), padding=(2, 0))),
         (3, 12, 13)),
        (UNet(), (3, 48, 32)),
    ],
)  # fmt: skip
def test_units_that_touch_padding_are_those_that_nan_reaches(
    net: nn.Module, size: tuple[int, ...]
) -> None:
    reached = padded_by_nan(net, size)
    graph, findings = graph_and_findings(net, *size)
    rows, columns = touching(graph)[graph.outputs[0]]
    assert ((rows[:, None] | columns[None, :]) == reached.numpy()).all()
    (finding,) = [one for one in findings if one.title == "units touch zero padding"]
    assert finding.cause.startswith(f"{float(reached.float().mean()):.1%} of its")


def test_padding_that_is_not_of_zeros_is_not_counted() -> None:
    title = "units touch zero padding"
    assert not findings_of(nn.Conv2d(3, 2, 3), 3, 8, 8, title=title)
    assert not findings_of(
        nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"), 3, 8, 8, title=title
    )
    assert not findings_of(nn.MaxPool2d(3, 1, padding=1), 3, 8, 8, title=title)
    assert not findings_of(
        nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), 3, 8, 8, title=title
    )
    assert findings_of(nn.AvgPool2d(3, 1, padding=1), 3, 8, 8, title=title)
    assert findings_of(nn.ZeroPad2d(1), 3, 8, 8, title=title)
    edge = only(nn.ConvTranspose2d(3, 2, 4, 2, 1), 3, 8, 8, title=title)
    assert "14×14 do not" in edge.cause


def test_the_layer_that_holds_most_of_the_parameters() -> None:
    finding = only(digit_cnn(), 1, 28, 28, title="most of the parameters")
    assert finding.layer == "fc1"
    assert "200,832 of 206,922 parameters (97.1%)" in finding.cause
    assert "leaves 4,224 here and saves 196,608" in finding.cure
    pooled = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 128)
    )
    assert sum(p.numel() for p in pooled[3].parameters()) == 4224
    assert not findings_of(pooled, 1, 28, 28, title="most of the parameters")
    dense = nn.Sequential(nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 1, 1))
    finding = only(dense, 1, 28, 28, title="most of the parameters")
    assert finding.layer == "1"
    assert f"{64 * 9 + 64 * 64:,} weights" in finding.cure


def test_a_network_left_in_training_mode() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.ReLU())
    for findings in (
        find(graph_of(net, (1, 8, 8))),
        find(graph_of(net.eval(), (1, 8, 8)), net.train()),
    ):
        (finding,) = [one for one in findings if one.title == "training mode"]
        assert finding.layer == "1"
        assert finding.layers == ("1", "2")
        assert finding.cure == "call net.eval()"
    assert not findings_of(net.eval(), 1, 8, 8, title="training mode")
    plain = nn.Conv2d(1, 2, 3)  # in training mode, where it computes the same
    assert not [one for one in find(graph_of(plain, (1, 8, 8)), plain) if "mode" in one.title]


def test_batch_norm_with_one_value_per_channel() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    assert only(net, 1, 8, 8, title="one value per channel").layer == "2"
    assert not findings_of(Through(4, nn.BatchNorm2d(4)), 3, 8, 8, title="one value per channel")


def test_a_bias_before_batch_norm() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
    )
    finding = only(net, 1, 9, 9, title="bias before batch norm")
    assert finding.layers == ("0", "3")
    assert "cancels its 4 bias values, also for 1 more layer: 10 in all" in finding.cause
    assert not findings_of(small_vgg(), 1, 32, 32, title="bias before batch norm")
    between = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    assert not findings_of(between, 1, 9, 9, title="bias before batch norm")


def test_dead_filters_and_channels_scaled_away() -> None:
    conv, norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
    net = nn.Sequential(conv, norm, nn.ReLU(), nn.Conv2d(8, 8, 3))
    assert not findings_of(net, 1, 9, 9, title="dead channels")
    with torch.no_grad():
        conv.weight[[2, 5]] = 0
        norm.weight[3] = 1e-12
        norm.bias[3] = -0.1
    first, second = findings_of(net, 1, 9, 9, title="dead channels")
    assert (first.layer, second.layer) == ("0", "1")
    assert "filters 2, 5 (2 of 8) are zero" in first.cause
    assert "filter 3 (1 of 8) is zero" in second.cause
    assert "1 of them 0 after ReLU" in second.cause
    x = torch.rand(2, 1, 9, 9)
    net.eval()
    assert (conv(x)[:, [2, 5]].std(dim=(0, 2, 3)) < 1e-7).all()
    assert (net[:3](x)[:, 3] == 0).all()


def test_a_layer_of_zeros_only_was_so_initialized() -> None:
    conv, norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(norm.weight)
    net = nn.Sequential(conv, norm)
    assert not findings_of(net, 1, 9, 9, title="dead channels")
    assert not findings_of(net, 1, 9, 9, title="duplicate kernels")


def test_duplicate_kernels() -> None:
    net = nn.Conv2d(3, 40, 3)
    with torch.no_grad():
        net.weight[7] = net.weight[3]
        net.weight[30] = -net.weight[20] * 1.001
        net.weight[11] = 2 * net.weight[10]  # the same direction, and another scale
    finding = only(net, 3, 8, 8, title="duplicate kernels")
    assert "2 pairs of 40 filters" in finding.cause
    assert finding.cause.endswith("3 and 7, 20 and 30")
    grouped = nn.Conv2d(8, 8, 3, groups=8)  # equal kernels that read different channels
    nn.init.ones_(grouped.weight)
    assert not findings_of(grouped, 8, 8, 8, title="duplicate kernels")


def test_duplicates_across_blocks_of_a_wide_layer() -> None:
    linear = nn.Linear(48, 2100)
    with torch.no_grad():
        linear.weight[2050] = linear.weight[5]
        linear.weight[1500] = linear.weight[1100]
    finding = only(nn.Sequential(nn.Flatten(), linear), 3, 4, 4, title="duplicate kernels")
    assert finding.cause.endswith("5 and 2050, 1100 and 1500")


@pytest.mark.parametrize("seed", range(3))
def test_fresh_weights_have_no_findings(seed: int) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 512, 3),
        nn.BatchNorm2d(512),
        nn.ReLU(),
        nn.Conv2d(512, 64, 1),
        nn.Conv2d(64, 128, 3, groups=64),
        nn.ConvTranspose2d(128, 256, 2, 2),
    )
    titles = {one.title for one in findings_of(net, 1, 9, 9)}
    assert not titles & {"dead channels", "duplicate kernels"}


class _EverySecond(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 1::2]


def test_a_map_without_positions() -> None:
    finding = only(_EverySecond(), 3, 1, 8, title="nothing left")
    assert finding.cause == "its map is 0×8 at this input size"
    assert not findings_of(_EverySecond(), 3, 2, 8, title="nothing left")


class _Sorted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(-1)[0] + 1


def test_an_operator_without_a_rule_is_named() -> None:
    finding = only(Through(4, _Sorted()), 3, 8, 8, title="unsupported")
    assert finding.layer.startswith("then.")
    assert "sort" in finding.cause


def test_a_finding_is_one_line_and_plain_data() -> None:
    _, findings = graph_and_findings(UNet(joined=32), 3, 64, 64)
    assert [one.severity for one in findings] == sorted(
        (one.severity for one in findings), key=list(Severity).index
    )
    for one in findings:
        assert "\n" not in str(one)
        assert str(one).startswith(f"{one.severity}: {one.layer}: ")
        plain = one.to_dict()
        assert set(plain) == {"severity", "layer", "title", "cause", "cure", "layers"}
        assert Finding(**{**plain, "severity": one.severity, "layers": one.layers}) == one


def test_sizes_of_graphs_with_global_parts_and_joined_axes() -> None:
    class Joined(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.cat([x, x[:, :, 1:]], 2)
            gate: torch.Tensor = F.adaptive_avg_pool2d(y, 1)
            return F.pad(y * gate, (0, 0, 4, 4), mode="reflect")[:, :, :, :]

    graph = graph_of(Joined(), (2, 9, 6))
    for height in range(2, 14):
        try:
            Joined()(torch.zeros(1, 2, height, 6))
            works = True
        except RuntimeError:
            works = False
        assert takes(graph, 0, height) == works, height
    assert np.all([takes(graph, 1, n) for n in range(1, 9)])


def test_a_wide_layer_of_one_number_is_looked_at_in_no_time() -> None:
    """Every filter equals every other: 4.5 million pairs, of which 2,999 tell it all."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3000, bias=False))
    nn.init.constant_(net[1].get_parameter("weight"), 0.5)
    started = time.process_time()
    finding = only(net, 1, 4, 4, title="duplicate kernels")
    assert time.process_time() - started < 10  # 254 s when each pair was compared
    assert "2,999 pairs of 3000 filters" in finding.cause
    assert "0 and 1, 0 and 2" in finding.cause
