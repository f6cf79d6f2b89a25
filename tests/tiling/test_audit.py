"""What an audit says of tiles is what is measured on them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot import images
from eyeshot.cli import main
from eyeshot.errors import BadValue, Unsupported
from eyeshot.tiling.breaks import ratios_of

NET = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
"""


class Skip(nn.Module):
    """A pool and back beside a skip: fields differ by phase, and tiles must keep to a grid."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 3, padding=1)
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        y: torch.Tensor = self.last(torch.cat([x, self.up(self.deep(self.pool(x)))], 1))
        return y


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Skip().eval()


@pytest.fixture(scope="module")
def found(net: nn.Module) -> eyeshot.Audit:
    return eyeshot.audit(net, tile=32, overlap=8, size=(1, 80, 80))


def test_the_least_overlap_is_exact_and_a_step_less_is_not(
    net: nn.Module, found: eyeshot.Audit
) -> None:
    assert not found.exact
    best = found.remedy
    assert best is not None
    assert best.grid == 2
    exact = eyeshot.audit(net, tile=best.tile, overlap=best.overlap, size=(1, 80, 80))
    assert exact.exact
    assert exact.joint("cropped").measured.largest <= 1e-5 * exact.joints[0].measured.scale
    for less in (1, best.grid):
        overlap = [shared - less for shared in best.overlap]
        worse = eyeshot.audit(net, tile=best.tile, overlap=overlap, size=(1, 80, 80))
        assert not worse.exact
        assert worse.joint("cropped").measured.wrong > 0


def test_what_is_said_to_be_right_is_measured_right(found: eyeshot.Audit) -> None:
    for joint in found.joints:
        assert joint.measured.unexpected == 0
        assert 0 < joint.measured.wrong <= joint.wrong
        assert joint.measured.mean < joint.measured.largest <= 2 * joint.measured.scale


def test_the_margin_is_that_of_the_layers(found: eyeshot.Audit) -> None:
    assert found.margins is not None
    by_layer = [one for one in found.breaks if one.cause in ("padding", "spread")]
    for axis, (before, after) in enumerate(found.margins):
        assert sum(one.sides[axis][0] for one in by_layer) == before
        assert sum(one.sides[axis][1] for one in by_layer) == after
    causes = {one.layer: one.cause for one in by_layer}
    assert causes == {"first": "padding", "pool": "spread", "deep": "padding", "last": "padding"}


def test_a_tile_off_the_grid_is_named_with_its_layer(net: nn.Module) -> None:
    found = eyeshot.audit(net, tile=32, overlap=9, size=(1, 78, 78))
    off = [one for one in found.breaks if one.cause == "grid"]
    assert [(one.layer, one.step) for one in off] == [("pool", 2)]
    assert "start on multiples of 2" in str(found)


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (nn.GroupNorm(2, 4), "statistic"),
        (nn.InstanceNorm2d(4), "statistic"),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "size"),
    ],
    ids=["group norm", "instance norm", "align corners"],
)
def test_what_no_overlap_helps_is_said(layer: nn.Module, cause: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), layer).eval()
    found = eyeshot.audit(net, tile=16, overlap=8, size=(1, 32, 32))
    assert [one.cause for one in found.breaks if one.layer == "1"] == [cause]
    assert (found.remedy, found.costs, found.margins) == (None, (), None)
    assert all(joint.measured.wrong > 0.5 for joint in found.joints)
    assert "no overlap makes tiles of this network exact" in str(found)


@pytest.mark.parametrize("by_size", ["division", "bound"])
def test_a_number_that_follows_the_size_is_another_function(by_size: str) -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            width = x.shape[-1]
            return x / width if by_size == "division" else x.clamp(max=width / 100)

    found = eyeshot.audit(Scaled().eval(), tile=32, overlap=8, size=(1, 100, 100))
    assert not found.exact
    assert found.margins is None
    assert not any(joint.exact for joint in found.joints)
    assert any("the network computes otherwise from" in note for note in found.notes)


def test_patches_need_no_overlap_and_may_be_blended() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ConvTranspose2d(4, 1, 4, 4)).eval()
    found = eyeshot.audit(net, tile=16, overlap=0, size=(1, 40, 48))
    assert [joint.exact for joint in found.joints] == [True] * 3
    assert "cropped or blended" in str(found)
    moved = eyeshot.audit(net, tile=16, overlap=0, size=(1, 42, 48))
    assert not moved.exact, "the last tile, moved back into the image, starts off the grid of 4"


def test_without_padding_the_overlap_is_the_field_less_one() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 5)).eval()
    assert eyeshot.audit(net, tile=16, overlap=6, size=(1, 36, 36)).exact
    less = eyeshot.audit(net, tile=16, overlap=5, size=(1, 38, 38))
    assert not less.exact
    assert less.remedy is not None
    assert less.remedy.overlap == (6, 6)


@pytest.mark.parametrize("axes", [1, 3])
def test_signals_and_volumes(axes: int) -> None:
    torch.manual_seed(0)
    kind = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
    net = kind(1, 2, 3, padding=1).eval()
    found = eyeshot.audit(net, tile=8, overlap=2)
    assert found.exact
    assert found.size == (1, *[20] * axes)
    assert not found.joint("averaged").exact
    assert "SAHI" not in found.settings


def test_an_odd_image_that_the_network_pads_itself() -> None:
    torch.manual_seed(0)
    net = eyeshot.nets.unet(in_channels=1, classes=2, base=2, depth=1).eval()
    found = eyeshot.audit(net, tile=32, overlap=24, size=(1, 61, 64))
    assert not found.exact, "the last tile starts on an odd row"
    best = found.remedy
    assert best is not None
    assert best.tile[0] % 2 == 1
    assert eyeshot.audit(net, tile=best.tile, overlap=best.overlap, size=(1, 61, 64)).exact


def test_the_costs_are_those_of_the_least_overlap(found: eyeshot.Audit) -> None:
    assert found.remedy is not None
    for cost in found.costs:
        assert cost.overlap == found.remedy.overlap[0]
        assert cost.work == pytest.approx((cost.tile / (cost.tile - cost.overlap)) ** 2)
    count = math.prod(len(one) for one in found.starts)
    assert found.work == pytest.approx(count * 32 * 32 / 80 / 80)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("image", [None, np.linspace(0, 1, 1 * 24 * 32).reshape(1, 24, 32)])
def test_a_network_of_other_numbers(dtype: torch.dtype, image: Any) -> None:
    net = Skip().eval().to(dtype)
    size = None if image is not None else (1, 24, 32)
    found = eyeshot.audit(net, image, tile=24, overlap=20, size=size)
    assert found.joints[0].measured.wrong == 0


def test_the_network_is_left_as_it_was(net: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    eyeshot.audit(net, tile=16, overlap=4, size=(1, 32, 32))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(child.training for child in net.modules())


def test_shares_of_a_tile_come_out_as_the_step_that_is_meant() -> None:
    for tile in range(2, 300, 7):
        for overlap in range(tile):
            (ratio,) = ratios_of([tile], [overlap])
            assert int(tile * (1 - ratio)) == tile - overlap


def test_an_image_is_measured_on_and_its_middle_if_asked(net: nn.Module, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images.write(tmp_path / "gray.png", rng.integers(0, 255, (64, 70), dtype=np.uint8))
    found = eyeshot.audit(net, tmp_path / "gray.png", tile=32, overlap=16, size=(1, 48, 64))
    assert found.size == (1, 48, 64)
    assert found.joints[0].measured.scale < 5
    with pytest.raises(BadValue, match="is 1x64x70"):
        eyeshot.audit(net, tmp_path / "gray.png", tile=32, overlap=16, size=(1, 65, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 16, "overlap": 16}, "overlap 16 of a tile of 16"),
        ({"tile": 16, "overlap": -1}, "overlap -1"),
        ({"tile": (16, 16, 16), "overlap": 0}, "2 spatial axes"),
        ({"tile": 15, "overlap": 0}, "a tile is 15x15"),
        ({"tile": 16, "overlap": 0, "size": (1, 20000, 20000)}, "too many"),
        ({"tile": 16, "overlap": 0, "size": (20, 20)}, "size 20x20"),
    ],
)
def test_what_cannot_be_audited_is_said_in_one_line(
    net: nn.Module, options: dict[str, object], message: str
) -> None:
    settings: Any = {"size": (1, 32, 32), **options}
    with pytest.raises(BadValue, match=message):
        eyeshot.audit(net, **settings)


def test_a_classifier_has_no_tiles() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(Unsupported, match="no map"):
        eyeshot.audit(net, tile=16, overlap=4, size=(1, 32, 32))


class Heads(nn.Module):
    """Three outputs: a map that needs no overlap, a map that does, and a number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Conv2d(1, 4, 1)
        self.near, self.far = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 5, padding=2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.first(x).relu()
        return self.near(x), self.far(x), x.mean((2, 3))


class Anchored(nn.Module):
    """A map between two tensors that do not depend on the image."""

    anchors: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.last = nn.Conv2d(1, 2, 3, padding=1)
        self.register_buffer("anchors", torch.arange(6.0).reshape(1, 6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.anchors, self.last(x), self.anchors + 1


def test_what_is_the_same_for_every_image_is_left_out() -> None:
    net = Anchored().eval()
    found = eyeshot.audit(net, tile=16, overlap=2, size=(1, 40, 44))
    assert (found.output, found.exact, found.others) == ("last", True, ())
    assert not eyeshot.audit(net, tile=16, overlap=0, size=(1, 40, 44)).exact


def test_every_output_is_audited_or_the_one_that_is_named() -> None:
    net = Heads().eval()
    found = eyeshot.audit(net, tile=16, overlap=2, size=(1, 40, 44))
    assert (found.output, found.exact) == ("far", False)
    assert found.remedy is not None
    assert found.remedy.overlap == (4, 4)
    (other,) = found.others
    assert (other.output, other.exact) == ("near", True)
    assert not other.joint("averaged").measured.wrong
    assert other.breaks == ()
    text = str(found)
    assert "all this is of output far, the worst" in text
    assert "near: cut in the middle exact" in text
    assert "output mean is no map" in text
    assert [one["output"] for one in found.to_dict()["others"]] == ["near"]
    assert eyeshot.audit(net, tile=16, overlap=4, size=(1, 40, 44)).exact
    for name in ("near", 0):
        alone = eyeshot.audit(net, tile=16, overlap=2, size=(1, 40, 44), output=name)
        assert (alone.output, alone.exact, alone.others) == ("near", True, ())
    with pytest.raises(Unsupported, match="output mean is no map"):
        eyeshot.audit(net, tile=16, overlap=2, size=(1, 40, 44), output="mean")
    for wrong in ("nearer", 3):
        with pytest.raises(BadValue, match=r"there is none; give one of: near, far, mean"):
            eyeshot.audit(net, tile=16, overlap=2, size=(1, 40, 44), output=wrong)


def test_the_command_prints_one_screen_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made.py"
    file.write_text(NET)
    asked = ["audit", f"{file}:build", "--tile", "16x32", "--size", "1x40x64"]
    assert main([*asked, "--overlap", "4"]) == 0
    screen = capsys.readouterr().out
    assert "EXACT if cut in the middle, and not otherwise" in screen
    assert len(screen.splitlines()) < 50
    assert main([*asked, "--overlap", "3", "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert plain["remedy"]["overlap"] == [4, 4]
    assert not plain["exact"]
    assert {"MONAI", "BioImage.IO", "QuPath InstanSeg", "SAHI", "napari"} == set(plain["settings"])
    assert main([*asked, "--overlap", "x"]) == 2
