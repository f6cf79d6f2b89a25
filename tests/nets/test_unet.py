"""The U-Net: its shapes and channels, the sizes it takes, and how it is trained and shown."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.networks import examples
from torch import Tensor, nn
from torch.nn import functional

import eyeshot
from eyeshot import nets
from eyeshot.errors import BadValue, UnknownName
from eyeshot.frontends.net_geometry import InputSizes
from eyeshot.nets.unet import NORMS, UP_WAYS, UNet

UPS = st.sampled_from(UP_WAYS)


def noise(*shape: int) -> Tensor:
    """White noise, the same each time: smooth pictures hide leaks."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def named_shapes(net: nn.Module, x: Tensor) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of every layer called: the shapes of what it took and of what it gave."""
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda _layer, inputs, output, name=name: shapes.update(
                    {name: (tuple(inputs[0].shape), tuple(output.shape))}
                )
            )
    with torch.no_grad():
        net(x)
    return shapes


def test_without_padding_it_is_the_published_one() -> None:
    with torch.device("meta"):
        net = nets.unet(base=64, norm="none", padding="valid")
        shapes = named_shapes(net, torch.empty(1, 1, 572, 572))
    assert shapes["head"][1] == (1, 2, 388, 388)
    assert eyeshot.output_geometry(net).margin == (572 - 388) // 2
    figure = {  # the sizes and channels written into the drawing of the paper
        "first.conv2": (64, 568),
        "down1.conv2": (128, 280),
        "down2.conv2": (256, 136),
        "down3.conv2": (512, 64),
        "down4.conv1": (1024, 30),
        "down4.conv2": (1024, 28),
        "up4.conv2": (512, 52),
        "up3.conv2": (256, 100),
        "up2.conv2": (128, 196),
        "up1.conv2": (64, 388),
    }
    assert {name: shapes[name][1][1:3] for name in figure} == figure
    joined = {"up4": (1024, 56), "up3": (512, 104), "up2": (256, 200), "up1": (128, 392)}
    assert {name: shapes[f"{name}.conv1"][0][1:3] for name in joined} == joined
    counts = [1, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    down = sum(9 * a * b + b for a, b in pairwise(counts))
    up = sum(4 * 2 * c * c + c + 9 * 2 * c * c + c + 9 * c * c + c for c in (512, 256, 128, 64))
    assert sum(p.numel() for p in net.parameters()) == down + up + 64 * 2 + 2 == 31_030_658


@given(
    up=UPS,
    norm=st.sampled_from(NORMS),
    channels=st.integers(1, 4),
    classes=st.integers(1, 5),
    depth=st.integers(1, 4),
    base=st.integers(1, 5),
    height=st.integers(1, 37),
    width=st.integers(1, 37),
)
def test_any_size_gives_scores_for_each_of_its_pixels(
    up: Any, norm: Any, channels: int, classes: int, depth: int, base: int, height: int, width: int
) -> None:
    net = nets.unet(
        in_channels=channels, classes=classes, depth=depth, base=base, up=up, norm=norm
    ).eval()
    x = torch.randn(2, channels, height, width)
    with torch.no_grad():
        scores = net(x)
        assert scores.shape == (2, classes, height, width)
        grid = 2**depth
        whole = functional.pad(x, (0, -width % grid, 0, -height % grid))
        assert torch.equal(scores, net(whole)[:, :, :height, :width])
    for level in range(1, depth + 1):
        step, wide = net.get_submodule(f"up{level}"), base * 2 ** (level - 1)
        assert step.get_submodule("conv1").in_channels == 2 * wide
        assert step.get_submodule("conv1").out_channels == wide


@given(up=UPS, depth=st.integers(1, 3), height=st.integers(1, 90), width=st.integers(1, 90))
@examples(30)
def test_without_padding_the_accepted_sizes_are_known_beforehand(
    up: Any, depth: int, height: int, width: int
) -> None:
    net = nets.unet(depth=depth, base=1, up=up, padding="valid", norm="none").eval()
    x, sizes, margin = torch.randn(1, 1, height, width), InputSizes(net), 12 * 2**depth - 8
    if sizes.takes(height, width):
        assert net(x).shape == (1, 2, height - margin, width - margin)
        return
    with pytest.raises(BadValue, match=f"a picture of {height}×{width}: .* takes no") as raised:
        net(x)
    bad = width if sizes.takes_side(height) else height
    below, above = sizes.nearest(bad)
    assert above is not None
    assert str(above) in str(raised.value)
    assert net(torch.randn(1, 1, above, above)).numel()
    assert not any(sizes.takes_side(n) for n in range((below or 0) + 1, above))
    if below is not None:
        assert f"{below} or {above}" in str(raised.value)
        assert net(torch.randn(1, 1, below, below)).numel()


def shift_of_grids(depth: int) -> int:
    """Where a picture must be cut so that a network without padding pools the same pixels."""
    for shift in range(2**depth):
        place = shift
        for _ in range(depth):
            place += 2
            if place % 2:
                break
            place //= 2
        else:
            return shift
    raise AssertionError("one of them fits")


@pytest.mark.parametrize("up", UP_WAYS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_with_and_without_padding_agree_away_from_the_border(up: Any, depth: int) -> None:
    torch.manual_seed(0)
    same = nets.unet(depth=depth, base=2, up=up, norm="none").eval()
    valid = nets.unet(depth=depth, base=2, up=up, norm="none", padding="valid").eval()
    valid.load_state_dict(same.state_dict())
    geometry = eyeshot.output_geometry(same)
    shift, halo = shift_of_grids(depth), geometry.halo
    assert geometry.margin == 0
    _, size = InputSizes(valid).nearest(4 * halo)
    assert size is not None
    x = noise(1, 1, size + 2**depth, size + 2**depth)
    with torch.no_grad():
        wide, narrow = same(x), valid(x[:, :, shift : shift + size, shift : shift + size])
    lost = eyeshot.output_geometry(valid).margin
    edge = max(0, halo - lost) + 2**depth  # a bilinear resize repeats the edge of its map
    inner = narrow[:, :, edge:-edge, edge:-edge]
    start = shift + lost + edge
    beside = wide[:, :, start : start + inner.shape[2], start : start + inner.shape[3]]
    assert inner.numel() > 50
    torch.testing.assert_close(inner, beside, rtol=0, atol=1e-5 * float(beside.abs().max()))


@given(mode=st.sampled_from(["nearest", "bilinear"]), h=st.integers(1, 9), w=st.integers(1, 9))
def test_a_1x1_convolution_and_a_resize_may_change_places(mode: Any, h: int, w: int) -> None:
    step = nets.Up(6, 3, up=mode)
    halve, resize = step.get_submodule("halve"), step.get_submodule("resize")
    nn.init.normal_(halve.get_parameter("bias"))
    x = torch.randn(2, 6, h, w)
    resized = functional.interpolate(x, scale_factor=2, mode=mode)
    assert torch.equal(resize(x), resized)
    torch.testing.assert_close(resize(halve(x)), halve(resized))


def test_the_skip_stands_first_and_is_cropped_around_its_center() -> None:
    step = nets.Up(4, 2, skip_channels=3, norm="none").eval()
    joined: list[Tensor] = []
    conv1 = step.get_submodule("conv1")
    conv1.register_forward_pre_hook(lambda _layer, inputs: joined.append(inputs[0]))
    x, skip = torch.randn(1, 4, 5, 6), torch.randn(1, 3, 14, 13)
    assert step(x, skip).shape == (1, 2, 10, 12)
    assert torch.equal(joined[0][:, :3], skip[:, :, 2:12, 0:12])
    assert torch.equal(joined[0][:, 3:], step.get_submodule("transpose")(x))
    with pytest.raises(BadValue, match="a skip of 9×12 beside a map of 10×12"):
        step(x, skip[:, :, :9, :12])


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: nets.DoubleConv(3, 5), (2, 3, 9, 8), (2, 5, 9, 8)),
        (lambda: nets.DoubleConv(3, 5, padding="valid"), (2, 3, 9, 8), (2, 5, 5, 4)),
        (lambda: nets.Down(3, 5), (2, 3, 9, 8), (2, 5, 4, 4)),
        (lambda: nets.Down(3, 5, norm="none", padding="valid"), (2, 3, 18, 12), (2, 5, 5, 2)),
    ],
)
def test_the_pieces_can_be_used_alone(make: Any, shape: Any, expected: tuple[int, ...]) -> None:
    assert make()(torch.randn(shape)).shape == expected


def test_there_is_no_bias_before_a_batch_norm() -> None:
    with_norm, without = nets.unet(depth=2), nets.unet(depth=2, norm="none")
    for net, expected in ((with_norm, False), (without, True)):
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d) and name != "head":
                assert (module.bias is not None) is expected, name
    assert not any(isinstance(module, nn.BatchNorm2d) for module in without.modules())


@pytest.mark.parametrize("up", UP_WAYS)
def test_the_first_weights_keep_the_strength_of_what_passes(up: Any) -> None:
    torch.manual_seed(0)
    net = nets.unet(depth=3, base=16, up=up, norm="none")
    heard: dict[str, float] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda _layer, _taken, output, name=name: heard.update(
                    {name: float(output.square().mean())}
                )
            )
    with torch.no_grad():
        net(torch.randn(2, 1, 64, 64))
    strengths = np.array(list(heard.values()))
    assert strengths.min() > 0.2
    assert strengths.max() < 6
    for layer in (net.first.get_submodule("conv1"), net.head):
        assert torch.count_nonzero(layer.get_parameter("bias")) == 0


@given(up=UPS, value=st.floats(-2, 2, width=16), height=st.integers(1, 6), width=st.integers(1, 6))
@examples(20)
def test_a_flat_map_is_flat_after_a_step_up(up: Any, value: float, height: int, width: int) -> None:
    """No way up draws a pattern before it has learned one."""
    enlarging = list(nets.Up(6, 3, up=up).children())[: 1 if up == "transpose" else 2]
    x = torch.full((1, 6, height, width), value)
    with torch.no_grad():
        larger = nn.Sequential(*enlarging)(x)
    assert larger.shape == (1, 3, 2 * height, 2 * width)
    assert float((larger - larger[:, :, :1, :1]).abs().max()) <= 1e-5


def test_a_net_is_built_by_name_without_a_size() -> None:
    net = nets.build("unet", in_channels=3, classes=4, size=(1, 1), depth=1, up="nearest")
    assert isinstance(net, UNet)
    assert net(torch.zeros(1, 3, 7, 5)).shape == (1, 4, 7, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "unet: depth is 0; use 1 or more"),
        ({"base": -1}, "base is -1"),
        ({"classes": 0}, "classes is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"up": "transposed"}, "unknown way up 'transposed'; did you mean 'transpose'"),
        ({"up": 3}, "up is 3; use a word"),
        ({"norm": "layer"}, "unknown norm 'layer'"),
        ({"padding": "full"}, "unknown padding 'full'"),
        ({"width": 3}, "unknown argument of unet 'width'"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((BadValue, UnknownName), match=message):
        nets.build("unet", **arguments)


@pytest.mark.parametrize("up", UP_WAYS)
@pytest.mark.parametrize("size", [(32, 24), (29, 18)])
def test_training_in_bfloat16_keeps_type_and_layout(up: Any, size: tuple[int, int]) -> None:
    """No copy from one layout or type to the other, forwards or backwards."""
    net = nets.unet(depth=2, base=8, up=up).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layouts: list[tuple[str, bool, torch.dtype]] = []
    for name, module in net.named_modules():
        if not list(module.children()) and name != "crop":  # a view of what is there
            module.register_forward_hook(
                lambda _layer, _taken, output, name=name: layouts.append(
                    (name, output.is_contiguous(memory_format=torch.channels_last), output.dtype)
                )
            )
    x = torch.randn(2, 1, *size).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        scores = net(x)
    assert len(layouts) > 25
    assert [one for one in layouts if one[1:] != (True, torch.bfloat16)] == []
    scores.float().square().mean().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_a_relu_in_place_does_not_overwrite_the_maps() -> None:
    torch.manual_seed(0)
    net = nets.unet(depth=1, base=2).eval()
    x = torch.randn(1, 1, 9, 8)
    maps = eyeshot.see(net, x)
    first = net.first
    with torch.no_grad():
        padded = functional.pad(x, (0, 0, 0, 1))
        conv1 = first.get_submodule("conv1")(padded)
        norm1 = first.get_submodule("norm1")(conv1)
    np.testing.assert_allclose(maps["first.conv1"], conv1[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(maps["first.norm1"], norm1[0].numpy(), atol=1e-6)
    assert (maps["first.norm1"] < 0).any()
    np.testing.assert_allclose(maps["first.relu1"], norm1[0].relu().numpy(), atol=1e-6)
    assert maps["crop.slice"].shape == (2, 9, 8)


def test_a_net_can_be_learned_from() -> None:
    """A few steps on one noisy picture, and nearly every pixel of the disc in it is found."""
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(33), torch.arange(30), indexing="ij")
    disc = ((rows - 15) ** 2 + (columns - 13) ** 2 < 81).long()[None]
    picture = disc[:, None] + 0.5 * noise(1, 1, 33, 30)
    net = nets.unet(depth=2, base=4).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss: Tensor = functional.cross_entropy(net(picture), disc)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    right = (net(picture).argmax(1) == disc).float().mean()
    assert right > 0.97
    assert disc.float().mean() < 0.3


def test_a_depth_beyond_sense_is_refused_before_anything_is_built() -> None:
    with torch.device("meta"):
        deepest = nets.unet(depth=8, base=1)
    assert 2500 < eyeshot.output_geometry(deepest).receptive_field[0] < 3500
    with pytest.raises(BadValue, match=r"depth is 30: .*use 8 or less"):
        nets.unet(depth=30)
