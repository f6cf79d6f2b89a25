"""Operators that mix positions: held whole, called as the network calls them, exact behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot.engine.executing import RunReport
from eyeshot.errors import BadValue, Unsupported
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole

Forward = Callable[..., Tensor]


class Net(nn.Module):
    """A convolution, a function of its map, and a convolution where that is a map again."""

    def __init__(self, function: Forward, *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.first(x), *self.parts)
        return self.last(y) if y.ndim == 4 and y.shape[1] == 8 else y


def _attended(y: Tensor, attention: nn.Module) -> Tensor:
    tokens = y.flatten(2).transpose(1, 2)
    attended: Tensor = tokens + attention(tokens, tokens, tokens)[0]
    return attended.transpose(1, 2).reshape(y.shape)


def _windows(y: Tensor, layer: nn.Module) -> Tensor:
    """Attention within windows of 4×4, as in Swin."""
    _, c, h, w = y.shape
    grid = y.permute(0, 2, 3, 1).reshape(1, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5)
    tokens: Tensor = layer(grid.reshape(-1, 16, c)).reshape(1, h // 4, w // 4, 4, 4, c)
    return tokens.permute(0, 1, 3, 2, 4, 5).reshape(1, h, w, c).permute(0, 3, 1, 2)


def _beside_a_skip(y: Tensor, down: nn.Module, attention: nn.Module, up: nn.Module) -> Tensor:
    above: Tensor = up(_attended(down(y), attention))
    return y + above


def _attention() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True)


NETS: dict[str, tuple[Forward, Callable[[], list[nn.Module]]]] = {
    "attention": (_attended, lambda: [_attention()]),
    "attention below a skip": (
        _beside_a_skip,
        lambda: [nn.Conv2d(8, 8, 4, 4), _attention(), nn.ConvTranspose2d(8, 8, 4, 4)],
    ),
    "windows": (_windows, lambda: [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)]),
    "flatten and linear": (lambda y, f: f(y.flatten(1)), lambda: [nn.Linear(8 * 16 * 12, 5)]),
    "viewed as one line and back": (
        lambda y, f: f(y.relu().view(len(y), -1)).view(y.shape),
        lambda: [nn.Linear(8 * 16 * 12, 8 * 16 * 12)],
    ),
    "flip": (lambda y: y.flip(3), list),
    "roll": (lambda y: y.roll(3, 2), list),
    "cumsum": (lambda y: y.cumsum(2) / 8, list),
    "sort": (lambda y: y.sort(dim=3)[0], list),
    "the largest three": (lambda y: y.flatten(2).topk(3, 2)[0].mean(2), list),
    "fft": (lambda y: torch.fft.irfft2(torch.fft.rfft2(y) * 2.0, s=y.shape[-2:]), list),
    "lstm over rows": (lambda y, f: f(y[:, 0])[0][:, None], lambda: [nn.LSTM(12, 12)]),
    "lstm along rows, both ways": (
        lambda y, f: f(y[0].permute(1, 2, 0))[0].permute(2, 0, 1)[None],
        lambda: [nn.LSTM(8, 4, batch_first=True, bidirectional=True)],
    ),
    "along columns": (lambda y, f: f(y), lambda: [nn.Linear(12, 12)]),
    "softmax over columns": (lambda y: y.softmax(3), list),
    "softmax over rows": (lambda y: y.softmax(2), list),
    "strips": (lambda y: y * y.mean(3, keepdim=True) + y.mean(2, keepdim=True), list),
    "instance norm": (lambda y: F.instance_norm(y), list),
    "group norm": (lambda y, m: m(y), lambda: [nn.GroupNorm(2, 8)]),
    "layer norm": (lambda y, m: m(y), lambda: [nn.LayerNorm((8, 16, 12))]),
    "batch norm that keeps nothing": (
        lambda y, m: m(y),
        lambda: [nn.BatchNorm2d(8, track_running_stats=False)],
    ),
    "variance": (lambda y: y * y.var((2, 3), keepdim=True), list),
    "logsumexp": (lambda y: torch.logsumexp(y, (2, 3)), list),
    "softmax over the map": (lambda y: y * y.flatten(2).softmax(2).view_as(y), list),
    "unpooled": (
        lambda y: F.max_unpool2d(*F.max_pool2d(y, 2, return_indices=True), (2, 2)),
        list,
    ),
    "sampled where the map says": (
        lambda y: F.grid_sample(y, y[:, :2].tanh().permute(0, 2, 3, 1), align_corners=False),
        list,
    ),
    "unfolded and folded": (
        lambda y: F.fold(F.unfold(y, 3, padding=1), y.shape[2:], 3, padding=1) / 9,
        list,
    ),
    "means one after the other": (
        lambda y: y * y.mean(2, True).mean(3, True) + y.amax(2, True).amin(3, True),
        list,
    ),
    "columns of means": (lambda y: y * y.std(2, keepdim=True).sum(3, keepdim=True), list),
    "an operator that views": (lambda y: torch.kron(y, y.new_ones(1, 1, 2, 2)), list),
    "read by strides": (lambda y: y.relu().as_strided((1, 8, 8, 9), (192, 99, 5, 2), 1), list),
    "without the batch": (lambda y, m: m(y[0])[None], lambda: [nn.Conv2d(8, 8, 3, padding=1)]),
    "channels for depth": (lambda y, m: m(y), lambda: [nn.Conv3d(1, 1, 3, padding=1)]),
    "adaptive pools one way": (lambda y: y * F.adaptive_avg_pool2d(y, (1, None)), list),
    "adaptive pools of each row": (lambda y: y * F.adaptive_avg_pool2d(y, (None, 1)), list),
    "largest of each row": (lambda y: y * F.adaptive_max_pool2d(y, (y.shape[2], 1)), list),
}


def _built(name: str, double: bool = True) -> tuple[nn.Module, Tensor]:
    function, parts = NETS[name]
    torch.manual_seed(0)
    image = noise(3, 16, 12, double=double)
    net = Net(function, *parts())
    return enliven(net.to(image.dtype), image[None]), image


@pytest.mark.parametrize("name", NETS)
def test_an_operator_called_whole_gives_the_whole_pass(name: str) -> None:
    net, image = _built(name)
    job, truth = job_of(net, image), whole(net, image)
    for band, strips in ((3, 1), (100, 1), (5, 2)):
        if strips > 1 and truth[0].ndim < 3:
            continue
        assert largest_difference(by_parts(cut(job, band, strips))[0], truth) <= 1e-12
    if truth[0].ndim == 3:
        part = eyeshot.run(net, image, region=((3, 4), (2, 9)), output_format="float64")
        assert np.abs(part - truth[0][:, 3:4, 2:9]).max() <= 1e-12 * np.abs(truth[0]).max()


class Flattened(nn.Module):
    """A function of the input itself, and the input."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(x), x


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flatten(1).reshape(x.shape) * 1.5,
        lambda x: x.flatten(2).softmax(2).reshape(x.shape),
        lambda x: x.flatten(2).flip(2).view_as(x),
    ],
    ids=["as one line and back", "softmax", "turned"],
)
def test_an_input_is_a_grid_too_on_which_a_map_may_lie(function: Forward) -> None:
    """A region was of the second output alone, and the first was given whole."""
    net, image = Flattened(function).eval(), noise(3, 16, 12, double=True)
    actual = eyeshot.run(net, image, region=((3, 4), (2, 9)))
    for part, truth in zip(actual, whole(net, image), strict=True):
        np.testing.assert_allclose(part, truth[:, 3:4, 2:9], rtol=1e-12)


class Turned(nn.Module):
    """A map whose rows and columns changed places, mixed as one line and laid out again."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        turned = F.avg_pool2d(x, 2).mT
        return turned.flatten(2).softmax(2).reshape(turned.shape), turned


@pytest.mark.parametrize("size", [(16, 12), (12, 12)])
def test_a_turned_map_is_a_grid_too(size: tuple[int, int]) -> None:
    """The grid was looked for in the order of the axes, and the map has them turned."""
    net, image = Turned().eval(), noise(3, *size, double=True)
    actual = eyeshot.run(net, image, region=((3, 4), (2, 5)))
    for part, truth in zip(actual, whole(net, image), strict=True):
        np.testing.assert_allclose(part, truth[:, 3:4, 2:5], rtol=1e-12)


def test_the_plan_says_what_is_held_for_which_call() -> None:
    net, image = _built("attention below a skip")
    reported = {one.name: one for one in job_of(net, image, band=4).plan.buffers}
    assert reported["first"].rows == 16
    assert reported["parts.0"].rows == 4
    assert reported["parts.0"].waits_for.endswith("held whole, for one call of flatten")


def test_along_columns_rows_still_stream() -> None:
    for name in ("along columns", "softmax over columns"):
        net, image = _built(name)
        assert max(one.rows for one in job_of(net, image, band=2).plan.buffers) <= 6, name
        camera = eyeshot.stream(net, 12, output_format="float64")
        rows = [camera.push(image[:, i : i + 1].numpy()) for i in range(16)]
        answer = np.concatenate([*rows, camera.finish()], 1)
        assert np.abs(answer - whole(net, image)[0]).max() <= 1e-12


@pytest.mark.parametrize("name", ["attention", "instance norm", "cumsum"])
def test_a_camera_refuses_what_reads_every_row(name: str) -> None:
    net, _ = _built(name, double=False)
    with pytest.raises(Unsupported, match=r"a camera's rows have no end; use eyeshot\.run"):
        eyeshot.stream(net, 12)


def test_what_does_not_fit_is_refused_with_the_memory_that_would_do(tmp_path: Path) -> None:
    net = Net(*NETS["roll"][:1]).eval()
    image = np.zeros((3, 1024, 512), np.uint8)
    with pytest.raises(BadValue) as caught:
        eyeshot.run(net, image, tmp_path / "out.npy", memory=48 << 20)
    assert str(caught.value).startswith(
        "roll (roll) reads every row in one call, so all rows of first are held, and "
    )
    assert "the least that can is" in str(caught.value)


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    net, image = _built("attention below a skip", double=False)
    eyeshot.run(net, image, tmp_path / "whole.npy", band=2)

    def give_up(report: RunReport) -> None:
        if report.rows > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, image, tmp_path / "parts.npy", band=2, progress=give_up)
    eyeshot.run(net, image, tmp_path / "parts.npy", band=2, resume=True)
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
