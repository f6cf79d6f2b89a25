"""In which precision a network learns by default, and that bfloat16 gives no wrong gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eyeshot.errors import BadValue, Failure
from eyeshot.training import train
from eyeshot.training.configuration import Request, describe
from eyeshot.training.own_network import OwnNet
from eyeshot.training.precision import _Convolutions, settle_precision

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


def plain() -> Scores:
    return Scores()


def softmax() -> nn.Module:
    return nn.Sequential(Scores(), nn.Softmax(1))


def narrow() -> Scores:
    return Scores(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 3, stride=2, padding=1))


FAILS = "OneTypeOnly learns in float32, because it fails in bfloat16: "
WRONG = "a convolution of 3×3 over a map of 1×1 gives wrong gradients "


@pytest.mark.parametrize(
    ("net", "becomes", "note"),
    [
        (plain, "bf16-mixed", ""),
        (OneTypeOnly, "32-true", FAILS),
        (softmax, "32-true", "Sequential learns in float32, because it ends in a softmax"),
        (narrow, "32-true", f"Scores learns in float32, because {WRONG}in bfloat16"),
    ],
)
def test_a_network_that_bfloat16_does_not_suit_learns_in_float32(
    net: type[Scores],
    becomes: str,
    note: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    out = tmp_path / "run"
    run = train(blobs(), net=net(), out=out, epochs=1, device="cpu")
    assert run.config.recipe.precision == becomes
    said = capsys.readouterr().err
    assert note in said
    assert ("learns in float32" in said) == bool(note)
    again = train(blobs(), net=net(), out=out, epochs=1, device="cpu", resume=True, progress=False)
    assert again.config == run.config


def test_bfloat16_that_was_asked_for(tmp_path: Path) -> None:
    for net, error, said in (
        (narrow, BadValue, f"precision is bf16-mixed, and {WRONG}"),
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
