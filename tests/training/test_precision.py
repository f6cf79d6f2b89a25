"""In which precision a network learns by default, and that bfloat16 gives no wrong gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eyeshot.errors import BadValue, Failure
from eyeshot.training import precision, train
from eyeshot.training.configuration import Request, describe
from eyeshot.training.own_network import OwnNet
from eyeshot.training.precision import _Convolutions, choose_precision, settle_precision

from .blobs import blobs


class Scores(nn.Module):
    """Of three classes, for blobs of 12×12."""

    def __init__(self, *last: nn.Module) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), *last)
        self.head = nn.Linear(16, 3)
        self.register_buffer("still", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.maps(x).mean((2, 3)))
        return found


class OneTypeOnly(Scores):
    still: Tensor

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)  # bfloat16 under an autocast, and lerp takes one type
        found: Tensor = self.head(torch.lerp(maps, self.still.expand_as(maps), 0.5).mean((2, 3)))
        return found


def narrow() -> Scores:
    return Scores(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 3, stride=2, padding=1))


def dilated() -> Scores:
    return Scores(nn.Conv2d(16, 16, 3, dilation=2))


@pytest.mark.parametrize(
    ("units", "task", "own", "chosen"),
    [
        (["avx512_bf16"], "classify", False, "bf16-mixed"),
        (["avx512_bf16"], "segment", False, "bf16-mixed"),
        (["avx512_bf16"], "segment", True, "32-true"),
        (["avx512_bf16", "amx_bf16"], "segment", False, "bf16-mixed"),
        (["avx512_bf16", "amx_bf16"], "segment", True, "32-true"),
        (["avx512_bf16", "amx_bf16"], "classify", False, "32-true"),
        ([], "segment", False, "32-true"),
    ],
)
def test_what_was_tried_learns_in_bfloat16(
    units: list[str], task: str, own: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True))
    assert choose_precision("auto", task, "cpu", own=own) == chosen
    assert choose_precision("auto", task, "mps", own=own) == "32-true"


def test_a_network_with_a_name_learns_in_float32_where_bfloat16_would_be_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    config = describe(Request("classify", blobs(), "digit_cnn", {}, {"device": "cpu"}), blobs())
    assert config.recipe.precision == "bf16-mixed"
    assert settle_precision(config, None, None, [config.size], print) == config
    monkeypatch.setattr(precision, "_wrong_convolution", lambda *_: "a convolution")
    settled = settle_precision(config, None, None, [config.size], print)
    assert settled.recipe.precision == "32-true"
    assert "digit_cnn learns in float32, because a convolution" in capsys.readouterr().out


def test_bfloat16_that_was_asked_for(tmp_path: Path) -> None:
    for net, error, said in (
        (narrow, BadValue, "bf16-mixed, and a convolution of 3×3 over a map of 1×1 gives wrong"),
        (dilated, BadValue, "bf16-mixed, and a convolution of 3×3 with a dilation of 2×2 gives"),
        (OneTypeOnly, Failure, "OneTypeOnly failed in epoch 1, step 1: "),
    ):
        out = tmp_path / net.__name__
        with pytest.raises(error, match=said):
            train(blobs(), net=net(), out=out, epochs=1, precision="bf16-mixed", progress=False)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_that_are_trusted_give_the_gradients_of_float32(
    dims: int, transposed: bool, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are not trusted, this processor may get some right; they are not looked at."""
    convolve = getattr(functional, f"conv{'_transpose' * transposed}{dims}d")
    found: dict[bool, int] = {True: 0, False: 0}
    for side in (1, 2, 3, 4, 5):
        for kernel, padding in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (5, 2)):
            size = (side - 1) * stride + kernel if transposed else side + 2 * padding - kernel + 1
            if size - 2 * padding * transposed < 1:
                continue
            generator = torch.Generator().manual_seed(side)
            value = torch.randn(4, 16, *[side] * dims, generator=generator).bfloat16()
            weight = torch.randn(16, 16, *[kernel] * dims, generator=generator).bfloat16()
            with monkeypatch.context() as patch, _Convolutions() as seen:
                patch.setattr(torch.cpu, "get_capabilities", dict)
                answer = convolve(value, weight, None, stride, padding)
            found[bool(seen.wrong)] += 1
            if seen.wrong:
                continue
            slope = torch.randn(answer.shape, generator=generator).bfloat16()
            both = []
            for kind in (torch.float32, torch.bfloat16):
                inputs = [one.to(kind).requires_grad_() for one in (value, weight)]
                convolve(*inputs, None, stride, padding).backward(slope.to(kind))
                both.append([one.grad for one in inputs])
            for exact, other in zip(*both, strict=True):
                assert exact is not None
                assert other is not None
                assert (exact - other).abs().max() <= 0.03 * exact.abs().max()
    assert min(found.values()) > 2


def test_what_amx_gets_wrong_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=amx: {"amx_bf16": amx})
        for convolution, size in ((nn.Conv3d, (6, 6, 6)), (nn.Conv2d, (6, 3)), (nn.Conv2d, (6, 4))):
            with torch.device("meta"), _Convolutions() as seen:
                convolution(2, 2, 3)(torch.zeros(1, 2, *size))
            assert bool(seen.wrong) == (amx and size != (6, 4))


def test_a_forward_that_raises_is_left_to_the_first_step() -> None:
    class Raises(Scores):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("never")

    asked = Request("classify", blobs(), None, {}, {"precision": "bf16-mixed", "device": "cpu"})
    config = describe(asked, blobs())
    own = OwnNet(Raises())
    assert settle_precision(config, own, "bf16-mixed", [config.size], print) == config
