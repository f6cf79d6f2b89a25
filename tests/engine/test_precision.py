"""A run in bfloat16 is no further from the exact answer than torch's own pass, and says how far."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.cli import main
from eyeshot.engine import precision
from eyeshot.errors import BadValue, Unsupported


@pytest.fixture(autouse=True)
def units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor can compute in bfloat16, if slowly: the numbers are tested on all."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.norm(self.first(x))))
        return scores


def _unet() -> nn.Module:
    return nets.unet(in_channels=3, base=8, depth=2)


@pytest.mark.parametrize("make", [_unet, Normed])
@pytest.mark.parametrize("band", [8, None])
def test_no_further_from_the_exact_answer_than_torch_in_bfloat16(make: Any, band: Any) -> None:
    net = make().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    image = torch.randn(3, 48, 64)
    with torch.no_grad():
        exact = copy.deepcopy(net).double()(image[None].double())[0].numpy()
        whole = copy.deepcopy(net).bfloat16()(image[None].bfloat16())[0].double().numpy()
    found = eyeshot.run(net, image, precision="bf16", band=band)
    assert found.dtype == np.float32
    for far in (np.max, np.mean):
        assert far(np.abs(found - exact)) <= 1.5 * far(np.abs(whole - exact))
    assert np.abs(found - exact).max() > 1e-4  # it was not computed in float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert {tensor.dtype for tensor in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("size", [(40, 48), (300, 600)])
def test_the_last_report_says_how_far_it_is_from_the_network_s_own(size: tuple[int, int]) -> None:
    net = _unet().eval()
    reports: list[Any] = []
    image = np.random.default_rng(0).integers(0, 256, (3, *size), np.uint8)
    found = eyeshot.run(net, image, precision="bf16", progress=reports.append)
    assert not any(report.rounding for report in reports[:-1])
    said = re.fullmatch(
        r"bfloat16 differs from float32 by at most (\S+) and (\S+) on average, of values up to "
        r"(\S+) \(on a crop of (\d+)×(\d+)\)",
        reports[-1].rounding,
    )
    assert said, reports[-1].rounding
    crop = tuple(min(n, 256) for n in size)
    assert (int(said[4]), int(said[5])) == crop
    if crop == size:
        apart = np.abs(found - eyeshot.run(net, image))
        assert float(said[1]) == pytest.approx(apart.max(), rel=0.05)
        assert float(said[2]) == pytest.approx(apart.mean(), rel=0.05)


def test_slices_volumes_signals_and_several_outputs_are_compared() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            return y, y.mean((2, 3))

    cases: list[tuple[nn.Module, tuple[int, ...], dict[str, Any], str]] = [
        (nn.Conv2d(1, 2, 3), (1, 5, 20, 30), {"per_slice": True}, "on a crop of 20×30"),
        (nn.Conv3d(1, 2, 3), (1, 9, 70, 30), {}, "on a crop of 9×40×30"),
        (nn.Conv1d(1, 2, 3), (1, 900), {}, "on a crop of 900"),
        (Two(), (1, 20, 30), {"pad": "reflect"}, "; by at most"),
    ]
    for net, size, options, words in cases:
        reports: list[Any] = []
        image = torch.randn(size)
        eyeshot.run(net.eval(), image, precision="bf16", progress=reports.append, **options)
        assert words in reports[-1].rounding


def test_samples_are_normalized_before_they_are_rounded() -> None:
    net = eyeshot.trace(nn.Conv2d(1, 1, 1, bias=False).eval(), mean=(100.0,), std=(0.5,))
    nn.init.ones_(net.module.weight)  # type: ignore[arg-type]
    image = 100 + torch.randn(1, 20, 30)
    exact = (image.numpy() - 100) / 0.5
    found = eyeshot.run(net, image, precision="bf16")
    assert np.abs(found - exact).max() <= 2**-8 * np.abs(exact).max()


class Anchored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.register_buffer("anchors", torch.tensor([257.0, 1001.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return self.conv(x), self.anchors


@pytest.mark.parametrize("options", [{}, {"pad": "reflect"}])
def test_what_does_not_depend_on_the_image_is_not_rounded(options: Any) -> None:
    reports: list[Any] = []
    image = torch.randn(1, 20, 30)
    net = Anchored().eval()
    _, anchors = eyeshot.run(net, image, precision="bf16", progress=reports.append, **options)
    assert anchors.tolist() == [257.0, 1001.0]
    assert reports[-1].rounding.count("at most") == 1  # of the map alone


class Mixed(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(x) * torch.full((1,), 0.5, dtype=torch.float32))
        return scores


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_two_types_is_refused(bias: bool) -> None:
    net, image = Mixed(bias=bias).eval(), torch.rand(1, 9, 12)
    assert eyeshot.run(net, image).shape == (2, 5, 8)
    with pytest.raises(Unsupported, match=r"^--precision bf16: .*; leave --precision out$"):
        eyeshot.run(net, image, precision="bf16")


def test_a_network_that_stays_in_its_type_is_refused() -> None:
    with pytest.raises(BadValue, match="no weights in floating point and computes in float32"):
        eyeshot.run(nn.MaxPool2d(2).eval(), torch.rand(1, 8, 8), precision="bf16")


def test_a_processor_without_units_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    with pytest.raises(BadValue, match="no units for bfloat16"):
        eyeshot.run(nn.Conv2d(1, 1, 3).eval(), torch.rand(1, 8, 8), precision="bf16")
    with pytest.raises(BadValue, match="precision 'half'; use own or bf16"):
        eyeshot.run(nn.Conv2d(1, 1, 3).eval(), torch.rand(1, 8, 8), precision="half")


def test_the_units_are_asked_for_by_names_that_torch_knows() -> None:
    assert {"avx512_bf16", "amx_bf16"} <= set(precision.UNITS)


def test_on_the_command_line(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((1, 28, 28)))
    rest = ["--precision", "bf16", "-o", str(tmp_path / "out.npy")]
    code = main(["run", str(digits_run), str(tmp_path / "image.npy"), *rest])
    said = capsys.readouterr().err
    assert code == 0, said
    assert "bfloat16 differs from float32 by at most" in said
    assert np.load(tmp_path / "out.npy").shape == (10,)
