"""What a network's outputs see and which sizes it takes, against the network itself."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import eyeshot
from eyeshot import nets
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry
from eyeshot.nets.unet import PADDINGS, UP_WAYS

# Of U-Nets: depth and way up → smallest field, largest field, halo; worked out by hand for 1 and 2.
SEEN = {
    (1, "transpose"): (18, 18, 9),
    (1, "bilinear"): (20, 20, 10),
    (2, "transpose"): (44, 44, 23),
    (2, "bilinear"): (48, 52, 26),
    (3, "transpose"): (92, 100, 51),
    (3, "bilinear"): (108, 116, 58),
    (4, "transpose"): (188, 204, 107),
    (4, "bilinear"): (220, 236, 122),
    (5, "transpose"): (380, 412, 219),
    (5, "bilinear"): (444, 476, 250),
}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("up", UP_WAYS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_of_a_u_net(depth: int, up: Any, padding: Any) -> None:
    with torch.device("meta"):
        net = nets.unet(depth=depth, base=1, up=up, padding=padding)
    found = eyeshot.output_geometry(net)
    assert net.training
    smallest, largest, halo = SEEN[depth, "transpose" if up == "nearest" else up]
    assert (found.smallest_field, found.receptive_field) == ((smallest,) * 2, (largest,) * 2)
    assert (found.before, found.after, found.halo) == (halo, halo, halo)
    assert found.alignment == 2**depth
    assert found.margin == (0 if padding == "same" else 6 * 2**depth - 4)
    assert found.stride == (Fraction(1),) * 2
    assert found.padded == (padding == "same" or up == "bilinear")


class Skipping(nn.Module):
    """A wide path beside a pooled one: the wide one hides the grid of the other from the field."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.fine = nn.Conv2d(1, 2, 21, padding=10), nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, 2, H, W), for even sizes."""
        coarse = functional.avg_pool2d(self.fine(x), 2)
        found: Tensor = self.wide(x) + functional.interpolate(coarse, scale_factor=2.0)
        return found


def test_the_alignment_is_that_of_every_path() -> None:
    found = NetGeometry(Skipping().eval())
    assert found.output.receptive_field == (21, 21)
    assert found.output.alignment == 2
    assert not found.sizes.every
    assert found.sizes.takes(64, 32)
    assert found.sizes.nearest(33) == (32, 34)
    assert found.sizes.nearest(32, axis=1) == (32, 34)


class Uneven(nn.Module):
    """All fields begin one column before the last one, and every second is a column wider."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 1, (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, 1, H, W), for an even W."""
        coarse = functional.avg_pool2d(x, (1, 2))
        fine: Tensor = self.fine(functional.pad(x, (1, 0)))
        return fine + functional.interpolate(coarse, scale_factor=(1.0, 2.0))


def test_fields_that_differ_at_one_end_are_not_of_one_size() -> None:
    found = eyeshot.output_geometry(Uneven().eval())
    assert (found.smallest_field, found.receptive_field) == ((1, 2), (1, 3))


class Resized(nn.Module):
    """Resized by a factor of each size's own: 129 rows for 64, and 131 for 65."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, 1, 2H + 1, 2W + 1)."""
        height, width = x.shape[2:]
        return functional.interpolate(self.conv(x), size=(2 * height + 1, 2 * width + 1))


def test_a_resize_by_a_factor_of_each_size_is_taken_as_one_factor_for_crops() -> None:
    found = NetGeometry(Resized().eval())
    assert found.statistics == ("upsample_nearest2d",)
    assert found.output.receptive_field == (3, 3)
    assert found.output.stride == (Fraction(64, 129),) * 2
    with pytest.raises(Unsupported, match="no bounded patch"):
        _ = found.exact


def test_of_axes_that_differ() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 7)), nn.Conv2d(1, 1, (3, 1), padding=(1, 0)))
    found = eyeshot.output_geometry(net.eval())
    assert found.receptive_field == (3, 7)
    assert (found.before, found.after, found.margin) == (3, 3, 3)
    assert found.padded
    assert InputSizes(net).nearest(3, axis=1) == (None, 7)
    assert InputSizes(net).takes_side(1, axis=0)


def test_of_a_network_that_answers_with_a_smaller_map() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(4)).eval()
    found = eyeshot.output_geometry(net)
    assert found.stride == (Fraction(4),) * 2
    assert (found.before, found.after, found.alignment) == (1, 1, 4)


def test_without_a_patch_there_is_no_geometry() -> None:
    with pytest.raises(Unsupported, match="no bounded patch of the image decides an output"):
        eyeshot.output_geometry(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1)).eval())
    with pytest.raises(BadValue, match="no square image of 64 to 4096 pixels with 1 channels"):
        eyeshot.output_geometry(nets.digit_cnn().eval())


def test_small_images_are_asked_about_one_by_one() -> None:
    net = nn.Conv2d(1, 1, 9, padding=4, padding_mode="reflect").eval()
    sizes = InputSizes(net)
    assert sizes.every
    assert [n for n in range(1, 9) if sizes.takes_side(n)] == [5, 6, 7, 8]
    assert not sizes.takes(0, 64)
    assert sizes.nearest(3) == (None, 5)
