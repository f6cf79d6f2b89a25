"""Said to be exact: MONAI gives the whole pass's answer. One pixel less: it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import eyeshot
from tests.tiling.test_audit import Skip

inferers: Any = pytest.importorskip("monai.inferers", reason="MONAI is not installed")


def patches() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 4, 4))


def unpadded() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 5))


def strided() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, 2, 1))


def unet() -> nn.Module:
    return eyeshot.nets.unet(in_channels=1, classes=2, base=4, depth=2)


NETS: list[Callable[[], nn.Module]] = [Skip, unet, patches, unpadded, strided]


@pytest.mark.parametrize("make", NETS, ids=lambda make: make.__name__)
def test_monai_gives_what_is_said(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().eval()
    image = torch.randn(1, 1, 128, 160)
    with torch.no_grad():
        whole = net(image)
    found = eyeshot.audit(net, image[0], tile=64, overlap=32)
    assert found.remedy is not None
    settings = found.settings["MONAI"]
    assert apart(settings, net, image, whole) <= 1e-5
    best = found.remedy
    stride = int(eyeshot.output_geometry(net).stride[0])
    for less in one_less(settings, best.tile[0], best.overlap[0], best.halo, stride):
        assert apart(less, net, image, whole) > 1e-3


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_the_error_of_monai_s_own_blending_is_what_is_measured(mode: str) -> None:
    net = Skip().eval()
    image = torch.randn(1, 1, 96, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = net(image)
        theirs = inferers.SlidingWindowInferer((32, 32), overlap=0.5, mode=mode)(image, net)
    measured = eyeshot.audit(net, image[0], tile=32, overlap=16)
    joint = measured.joint("averaged" if mode == "constant" else "gaussian")
    assert not joint.exact
    error = (theirs - whole).abs()
    assert float(error.max()) == pytest.approx(joint.measured.largest, rel=0.02)
    assert float(error.mean()) == pytest.approx(joint.measured.mean, rel=0.02)


def one_less(settings: str, tile: int, overlap: int, halo: int, stride: int) -> list[str]:
    """The same with one pixel less of overlap, and with one output less of what is cut off."""
    other = (overlap - 1 if overlap else 1) / tile
    found = [settings.replace(f"overlap={overlap / tile!r}", f"overlap={other!r}")]
    assert found != [settings]
    if halo:
        found.append(
            settings.replace(f", {halo})", f", {halo - stride})").replace(
                f"- {halo},", f"- {halo - stride},"
            )
        )
    return found


def apart(settings: str, net: nn.Module, image: torch.Tensor, whole: torch.Tensor) -> float:
    """The largest difference from the whole pass, of its largest value."""
    names: dict[str, Any] = {"net": net, "image": image, "torch": torch}
    names["SlidingWindowInferer"] = inferers.SlidingWindowInferer
    with torch.no_grad():
        if "\n" in settings:
            exec(settings, names)
            answer = names["answer"]
        else:
            answer = eval(settings, names)(image, net)
    worst = (answer - whole).abs().nan_to_num(nan=torch.inf).max()  # 0/0 where no tile is kept
    return float(worst / whole.abs().max())
