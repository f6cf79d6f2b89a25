"""The U-Net's figures against the graph's, and against poking; and the law: by parts as whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.law import LIMITS, enliven, noise, whole
from tests.networks import examples
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.frontends.net_geometry import InputSizes
from eyeshot.nets.unet import NORMS, PADDINGS, UP_WAYS, UNet

UPS, DEPTHS = st.sampled_from(UP_WAYS), st.integers(1, 3)


def accepted(net: UNet, n: int) -> int:
    """``n``, or the next size that the network takes."""
    sizes = InputSizes(net)
    if sizes.takes_side(n):
        return n
    above = sizes.nearest(n)[1]
    assert above is not None
    return above


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("up", UP_WAYS)
def test_the_geometry_is_what_inspect_says(up: Any, padding: Any) -> None:
    depth = 3  # gradients reach what is said at depths 1 and 2, below
    net = nets.unet(depth=depth, base=1, up=up, norm="none", padding=padding).eval()
    spec, size = eyeshot.output_geometry(net), accepted(net, 47 * depth)
    inspection = eyeshot.inspect(net, (1, size, size + 2**depth))
    (reach,) = inspection.reaches
    middle = inspection.field()
    for axis in (0, 1):
        field, phases = middle.layer_fields[axis], middle.phases[axis]
        assert (field.smallest, field.largest) == (
            spec.smallest_field[axis],
            spec.receptive_field[axis],
        )
        assert phases is not None
        assert spec.alignment % phases.inputs == 0
        before, after = reach.axes[axis].unit_halo
        assert (before + spec.margin, after - spec.margin) == (spec.before, spec.after)
    assert spec.halo == max(spec.before, spec.after)
    assert spec.alignment == 2**depth
    unit_field = eyeshot.receptive_field(net, (1, size, size + 2**depth))
    assert unit_field.box == middle.box
    assert all(
        small <= side <= large
        for small, side, large in zip(
            spec.smallest_field, unit_field.seen.sizes, spec.receptive_field, strict=True
        )
    )


def support(net: nn.Module, x: Tensor, unit: tuple[int, int]) -> list[tuple[int, int]]:
    """First and one past the last pixel, along each axis, that one output has a gradient for."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, 0][unit], x)
    mask = gradient[0, 0] != 0
    places = [torch.nonzero(mask.any(dim=1 - axis)).flatten() for axis in (0, 1)]
    return [(int(one[0]), int(one[-1]) + 1) for one in places]


def poked(net: UNet) -> UNet:
    """Every weight above 0, and the mean in place of the maximum: no field is hidden by a value."""
    for tensor in net.parameters():
        tensor.data.uniform_(0.5, 1.0).div_(max(1, tensor[0].numel()))
    for module in net.modules():
        if isinstance(module, nets.Down):
            module.pool = nn.AvgPool2d(2)
    return net.double()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("up", UP_WAYS)
@pytest.mark.parametrize("depth", [1, 2])
def test_the_geometry_is_what_gradients_reach(depth: int, up: Any, padding: Any) -> None:
    torch.manual_seed(0)
    net = poked(nets.unet(depth=depth, base=1, up=up, norm="none", padding=padding).eval())
    spec = eyeshot.output_geometry(net)
    size = accepted(net, 2 * spec.halo + 4 * 2**depth + 2 * spec.margin)
    x = torch.rand(1, 1, size, size, dtype=torch.float64)
    first = -(-size // 2 // 2**depth) * 2**depth - spec.margin  # on the grid, near the middle
    found = []
    for phase in range(2**depth):
        row, column = first + phase, first + 2**depth - 1 - phase
        for unit, (lo, hi) in zip((row, column), support(net, x, (row, column)), strict=True):
            own = unit + spec.margin
            found.append((hi - lo, own - lo, hi - own - 1))
    lengths, before, after = (np.array(figures) for figures in zip(*found, strict=True))
    assert (lengths.max(), lengths.min()) == (spec.receptive_field[0], spec.smallest_field[1])
    assert (before.max(), after.max()) == (spec.before, spec.after)


@given(
    up=UPS,
    norm=st.sampled_from(NORMS),
    padding=st.sampled_from(PADDINGS),
    depth=DEPTHS,
    base=st.integers(1, 5),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    band=st.integers(1, 24),
    double=st.booleans(),
)
@examples(8)
def test_the_law_holds_for_every_u_net(
    up: Any,
    norm: Any,
    padding: Any,
    depth: int,
    base: int,
    size: tuple[int, int],
    band: int,
    double: bool,
) -> None:
    net = nets.unet(
        in_channels=2, classes=3, depth=depth, base=base, up=up, norm=norm, padding=padding
    )
    height, width = (accepted(net, n) for n in size)
    x = noise(2, height, width, double=double)
    # Large enough that no channel's variance is zero, which would magnify every rounding.
    side = accepted(net, max(64, height, width))
    enliven(net.double() if double else net, noise(2, 2, side, side, seed=1, double=double))
    (truth,) = whole(net, x)
    parts = eyeshot.run(net, x, band=band, output_format="float64" if double else "float32")
    limit = LIMITS[x.dtype] * max(1e-3, float(np.abs(truth).max()))
    assert np.asarray(parts).shape == truth.shape
    assert np.abs(np.asarray(parts) - truth).max() <= limit


def test_inspect_shows_the_padding_of_odd_sizes() -> None:
    inspection = eyeshot.inspect(nets.unet(depth=3, base=1).eval(), (1, 45, 51))
    listed = {row.name: row for row in inspection.rows}
    assert listed["pad"].shape[-2:] == (48, 56)
    assert inspection.rows[-1].name.startswith("crop")
    assert inspection.rows[-1].shape[-2:] == (45, 51)
    assert [one.words for one in inspection.accepted] == ["every size from 1 on"] * 2


def test_inspect_lists_the_sizes_accepted_without_padding() -> None:
    inspection = eyeshot.inspect(nets.unet(depth=2, base=1, padding="valid").eval(), (1, 52, 60))
    assert [one.words for one in inspection.accepted] == ["multiples of 4 from 44 on"] * 2
    with pytest.raises(eyeshot.errors.BadValue, match="the nearest heights are 52 or 56"):
        eyeshot.inspect(nets.unet(depth=2, base=1, padding="valid").eval(), (1, 53, 60))


@pytest.mark.parametrize("up", UP_WAYS)
def test_a_net_can_be_exported(up: Any) -> None:
    net = nets.unet(depth=2, base=3, up=up).eval()
    x = torch.randn(1, 1, 17, 22)
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x))
