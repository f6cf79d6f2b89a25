"""1×1 and depthwise convolutions as machine code, against the sum of products in float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot.engine.graph_file import graph_bytes, read_graph
from eyeshot.engine.job import Job, make_job, settings_of
from eyeshot.errors import EyeshotError
from eyeshot.images import open_source
from eyeshot.operators import compiled_blocks, compiled_layers, convolution_kernels
from eyeshot.operators.compiled_blocks import Block, layers_of
from eyeshot.operators.compiled_layers import Depthwise, Pointwise, uses_it
from eyeshot.operators.methods import without_methods
from eyeshot.operators.winograd_compiled import is_compiled
from tests.engine.law import enliven, noise
from tests.engine.test_resuming import Killed, killed_after

pytestmark = pytest.mark.skipif(not is_compiled(), reason="llvmlite is not installed")

LAST = torch.channels_last
ACTIVATIONS: list[tuple[str | None, tuple[float, ...]]] = [
    (None, ()), ("relu", ()), ("hardtanh", (0.0, 6.0)), ("hardtanh", ()),
]  # fmt: skip


def activated(value: Tensor, activation: str | None, scalars: tuple[float, ...]) -> Tensor:
    """By torch."""
    if activation is None:
        return value
    low, high = scalars or (-1.0, 1.0)
    return value.relu() if activation == "relu" else F.hardtanh(value, low, high)


def drawn(*shape: int) -> Tensor:
    """Noise with the channels last in memory."""
    return torch.randn(shape).contiguous(memory_format=LAST)


def same(found: Tensor, truth: Tensor) -> bool:
    """Whether they differ by rounding alone."""
    return found.shape == truth.shape and bool(
        (found - truth).abs().max() <= 2e-6 * max(1.0, float(truth.abs().max()))
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize(("activation", "scalars"), ACTIVATIONS)
@pytest.mark.parametrize(
    ("channels", "outputs", "size"),
    [
        (1, 16, (1, 1)), (3, 17, (1, 7)), (40, 24, (3, 5)), (7, 33, (5, 37)), (96, 48, (9, 8)),
        (24, 144, (13, 11)), (144, 31, (6, 19)),
        (40, 96, (5, 47)),
    ],
)  # fmt: skip
def test_every_pixel_is_a_product(
    channels: int,
    outputs: int,
    size: tuple[int, int],
    activation: str | None,
    scalars: tuple[float, ...],
    adds: bool,
    stride: int,
) -> None:
    value, bias = drawn(1, channels, *size), torch.randn(outputs)
    weight = torch.randn(outputs, channels, 1, 1) / math.sqrt(channels)
    truth = F.conv2d(value.double(), weight.double(), bias.double(), stride)
    added = drawn(*truth.shape) if adds else None
    truth = activated(truth if added is None else truth + added, activation, scalars)
    room = torch.full(truth.shape, math.nan).contiguous(memory_format=LAST)
    convolve = Pointwise(weight, bias, activation, scalars, stride)
    found = convolve(value, room, added)
    assert found.data_ptr() == room.data_ptr()
    assert same(found, truth)
    assert torch.equal(convolve(value.contiguous(), None, added), found)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("channels", "size", "padding"),
    [
        (16, (1, 1), (2, 2)), (19, (2, 9), (1, 1)), (40, (7, 3), (2, 2)), (33, (9, 12), (0, 0)),
        (96, (6, 21), (2, 1)), (17, (5, 37), (0, 2)),
    ],
)  # fmt: skip
def test_every_channel_is_filtered(
    channels: int, size: tuple[int, int], padding: tuple[int, int], kernel: int, stride: int
) -> None:
    if any(n + 2 * p < kernel for n, p in zip(size, padding, strict=True)):
        padding = (2, 2)
    value, weight = drawn(1, channels, *size), torch.randn(channels, 1, kernel, kernel) / kernel
    bias = torch.randn(channels)
    truth = F.conv2d(value.double(), weight.double(), bias.double(), stride, padding, 1, channels)
    room = torch.full(truth.shape, math.nan).contiguous(memory_format=LAST)
    for activation, scalars in ACTIVATIONS:
        convolve = Depthwise(weight, bias, stride, activation, scalars)
        found = convolve(value, padding, room)
        assert found.data_ptr() == room.data_ptr()
        assert same(found, activated(truth, activation, scalars))
        assert torch.equal(convolve(value.contiguous(), padding, None), found)


def test_columns_of_a_wider_map_are_read_where_they_lie() -> None:
    value, weight = drawn(2, 20, 9, 30), torch.randn(20, 1, 3, 3)
    part = value[..., 5:18]
    truth = F.conv2d(part.double(), weight.double(), None, 1, 1, 1, 20)
    assert same(Depthwise(weight, None, 1, None, ())(part, [1, 1], None), truth)
    weight = torch.randn(40, 20, 1, 1) / 4
    truth = F.conv2d(part.double(), weight.double())
    assert same(Pointwise(weight, None, None, ())(part, None, None), truth)


def test_channels_that_share_their_memory_are_read_as_such() -> None:
    value = torch.randn(1, 1, 9, 50).expand(1, 16, 9, 50)
    weight = torch.randn(32, 16, 1, 1) / 4
    for stride in (1, 2):
        truth = F.conv2d(value.double(), weight.double(), None, stride)
        assert same(Pointwise(weight, None, None, (), stride)(value, None, None), truth)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_so(bad: float) -> None:
    value = drawn(1, 16, 6, 9)
    value[0, 3, 2, 4] = bad
    wide, deep = torch.randn(32, 16, 1, 1), torch.randn(16, 1, 3, 3)
    for activation, scalars in ACTIVATIONS:
        truth = activated(F.conv2d(value, wide), activation, scalars)
        found = Pointwise(wide, None, activation, scalars)(value, None, None)
        assert torch.equal(found.isnan(), truth.isnan())
        assert torch.allclose(found, truth, equal_nan=True, atol=1e-5)
        truth = activated(F.conv2d(value, deep, None, 1, 1, 1, 16), activation, scalars)
        found = Depthwise(deep, None, 1, activation, scalars)(value, [1, 1], None)
        assert torch.equal(found.isnan(), truth.isnan())
        assert torch.allclose(found, truth, equal_nan=True, atol=1e-5)


def test_a_row_is_the_same_in_every_band_and_on_every_thread() -> None:
    value = drawn(1, 40, 30, 41)
    wide = Pointwise(torch.randn(56, 40, 1, 1), torch.randn(56), "relu", ())
    deep = Depthwise(torch.randn(40, 1, 3, 3), None, 1, None, ())
    products, filtered = wide(value, None, None), deep(value, [0, 1], None)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for top, rows in ((0, 5), (3, 1), (11, 19)):
                part = value[:, :, top : top + rows]
                assert torch.equal(wide(part, None, None), products[:, :, top : top + rows])
                part = value[:, :, top : top + rows + 2]
                assert torch.equal(deep(part, [0, 1], None), filtered[:, :, top : top + rows])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize(
    ("channels", "size", "padding"),
    [
        ((16, 96, 24), (9, 40), (1, 1)), ((19, 52, 33), (13, 131), (0, 2)),
        ((19, 240, 80), (7, 64), (2, 1)), ((16, 33, 17), (12, 24), (2, 2)),
        ((40, 18, 35), (26, 5), (2, 2)), ((40, 18, 35), (1, 50), (2, 0)),
    ],
)  # fmt: skip
def test_a_block_is_its_layers_to_the_bit(
    channels: tuple[int, int, int],
    size: tuple[int, int],
    padding: tuple[int, int],
    kernel: int,
    stride: int,
    threads: int,
) -> None:
    (first, inner, last), (height, width) = channels, size
    expand = Pointwise(torch.randn(inner, first, 1, 1), torch.randn(inner), "hardtanh", (0.0, 6.0))
    weight = torch.randn(inner, 1, kernel, kernel)
    filter_ = Depthwise(weight, torch.randn(inner), stride, "relu", ())
    project = Pointwise(torch.randn(last, inner, 1, 1), torch.randn(last), None, ())
    value, added = drawn(2, first, height, width), None
    value[0, 0, 0, 0] = math.nan
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for makes, given in ((expand, value), (None, drawn(2, inner, height, width))):
            wide = given if makes is None else makes(given, None, None)
            filtered = filter_(wide, padding, None)
            added = drawn(2, last, *filtered.shape[2:]) if added is None else None
            truth = project(filtered, None, added)
            block, (high, across) = Block(makes, filter_, project), truth.shape[2:]
            found = block(given, padding, (high, across), None, added)
            assert torch.equal(found.nan_to_num(7.0), truth.nan_to_num(7.0))
            # Bands, with less or no padding at the end.
            for top, rows in ((0, 1), (1, high - 1), (high - 1, 1)):
                above = top * stride - padding[0]
                lo, hi = max(0, above), min(height, above + (rows - 1) * stride + kernel)
                part, other = given[:, :, lo:hi], None
                if added is not None:
                    other = added[:, :, top : top + rows]
                if rows > 0 and hi > lo:
                    some = block(part, (lo - above, padding[1]), (rows, across), None, other)
                    assert torch.equal(
                        some.nan_to_num(7.0), found[:, :, top : top + rows].nan_to_num(7.0)
                    )
    finally:
        torch.set_num_threads(before)


class Inverted(nn.Module):
    """The block of a MobileNet, with its input added."""

    def __init__(self, channels: int, inner: int, kernel: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner, bias=False),
            nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.body(x) + x
        return total


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 18, 3, 2, 1), nn.ReLU6(), Inverted(18, 52),
        nn.Conv2d(18, 18, 3, 2, 1, groups=18), nn.Conv2d(18, 35, 1), nn.Hardtanh(),
        Inverted(35, 40, 5), nn.Conv2d(35, 20, 1),
    ]  # fmt: skip
    return enliven(nn.Sequential(*layers), noise(1, 3, 32, 32))


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few multiply-adds a network has."""
    monkeypatch.setattr(compiled_layers, "LEAST_MULTIPLY_ADDS", 0)


def compiled_nodes(job: Job) -> int:
    """How many of its layers are."""
    return sum(uses_it(layer) for node in job.graph for layer in layers_of(node))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("size", [(61, 47), (33, 90)])
def test_a_run_is_the_whole_pass(
    net: nn.Module, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(3, *size)
    with torch.no_grad():
        truth = net(image[None])[0].numpy()
    job = make_job(net, [open_source(image.numpy())])
    assert compiled_nodes(job) == 9
    for band in (None, 1, 8, 20):
        found = eyeshot.run(net, image.numpy(), band=band)
        assert np.abs(found - truth).max() <= 1e-5 * np.abs(truth).max()
    region = [(3, 9), (4, 11)]
    part = eyeshot.run(net, image.numpy(), region=region)
    assert np.abs(part - truth[:, 3:9, 4:11]).max() <= 1e-5 * np.abs(truth).max()
    # A graph may come from a machine that compiles to one that cannot.
    for module in (convolution_kernels, compiled_blocks):
        monkeypatch.setattr(module, "is_compiled", lambda: False)
    plain = eyeshot.run(net, image.numpy())
    assert np.abs(plain - truth).max() <= 1e-5 * np.abs(truth).max()


@pytest.mark.usefixtures("always")
def test_blocks_are_one_node_where_nobody_reads_between(net: nn.Module, tmp_path: Path) -> None:
    source = open_source(noise(3, 61, 47).numpy())
    graph = make_job(net, [source]).graph
    assert [len(list(layers_of(node))) for node in graph] == [1, 1, 3, 2, 3, 1]
    file = tmp_path / "graph"
    file.write_bytes(graph_bytes(graph))
    assert list(read_graph(file)) == list(graph)
    apart = {node.name for node in without_methods(graph)}
    assert len(apart) == 11


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("width", [16, 71])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.Conv2d(3, 33, 3, 2, 1), nn.Conv2d(33, 33, 3, 1, 1, groups=33)),
        (nn.Conv2d(3, 33, (4, 3), (1, 2), (2, 0)), nn.Conv2d(33, 33, 5, 2, 2, groups=33)),
        (nn.Conv2d(3, 33, 3, 1, 2, dilation=2), nn.Conv2d(33, 33, 3, 2, 0, groups=33)),
        (nn.Conv2d(3, 33, 2, 2, bias=False), nn.Conv2d(33, 33, 3, 1, 2, groups=33)),
    ],
)
def test_the_first_layer_of_an_image_is_part_of_a_block(
    first: nn.Module, second: nn.Module, width: int
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(first, nn.ReLU6(), second, nn.ReLU(), nn.Conv2d(33, 20, 1)).eval()
    image = noise(3, 53, width)
    graph = make_job(net, [open_source(image.numpy())]).graph
    assert [len(list(layers_of(node))) for node in graph] == [1, 3]
    assert [node.name for node in without_methods(graph)][1:] == ["1", "3", "4"]
    with torch.no_grad():
        truth = net.double()(image[None].double())[0].numpy()
    net.float()
    for band in (None, 1, 8, 20):
        found = eyeshot.run(net, image.numpy(), band=band)
        assert np.abs(found - truth).max() <= 1e-5 * np.abs(truth).max()
    part = eyeshot.run(net, image.numpy(), region=[(3, 9), (1, 3)])
    assert np.array_equal(part, found[:, 3:9, 1:3])
    light = eyeshot.run(net, np.moveaxis(image.numpy(), 0, 2)[..., :3].copy(), band=7)
    assert np.array_equal(light, found)


@pytest.mark.usefixtures("always")
def test_what_another_layer_reads_stays_a_node() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Conv2d(18, 18, 3, padding=1, groups=18)
            self.one, self.two = nn.Conv2d(18, 18, 1), nn.Conv2d(18, 18, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            seen = self.filter(x)
            return self.one(seen), self.two(seen) + seen

    image = noise(18, 9, 30)
    net = Twice().eval()
    job = make_job(net, [open_source(image.numpy(), space=2)])
    assert compiled_nodes(job) == len(job.graph) - 1 == 3
    with torch.no_grad():
        truth = net(image[None])
    for found, expected in zip(eyeshot.run(net, image.numpy()), truth, strict=True):
        assert same(torch.from_numpy(found)[None], expected)


def test_few_products_and_direct_sums_are_not_compiled(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(noise(3, 64, 64).numpy())
    assert compiled_nodes(make_job(net, [source])) == 0
    monkeypatch.setattr(compiled_layers, "LEAST_MULTIPLY_ADDS", 0)
    assert compiled_nodes(make_job(net, [source], exact="direct")) == 0
    job = make_job(net, [source])
    assert "compiled layers" in settings_of(job)["arithmetic"]
    assert settings_of(job)["exact"] == "1e-5"
    assert compiled_nodes(make_job(net.to(torch.bfloat16), [source])) == 0


@pytest.mark.usefixtures("always")
def test_a_killed_run_is_resumed_byte_by_byte(net: nn.Module, tmp_path: Path) -> None:
    path, options = tmp_path / "image.npy", dict[str, Any](band=8)
    np.save(path, noise(3, 96, 40).numpy())
    with pytest.raises(Killed):
        eyeshot.run(net, path, tmp_path / "out.npy", progress=killed_after(5), **options)
    eyeshot.run(net, path, tmp_path / "out.npy", resume=True, **options)
    assert np.array_equal(np.load(tmp_path / "out.npy"), eyeshot.run(net, path, **options))


@pytest.mark.usefixtures("always")
def test_a_run_is_not_resumed_without_the_compiler(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.npy"
    np.save(path, noise(3, 96, 40).numpy())
    with pytest.raises(Killed):
        eyeshot.run(net, path, tmp_path / "out.npy", band=8, progress=killed_after(5))
    monkeypatch.setattr(compiled_layers, "is_compiled", lambda: False)
    with pytest.raises(EyeshotError, match="cannot resume"):
        eyeshot.run(net, path, tmp_path / "out.npy", band=8, resume=True)
