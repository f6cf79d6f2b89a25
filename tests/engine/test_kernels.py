"""Kernels of other libraries, held against float64 on the odd shapes that they are given."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
import torch
from tools.check_kernels import Case, draw, error, wrong
from torch import nn

import eyeshot
from eyeshot.operators import convolution_kernels as kernels
from tests.engine.law import noise, whole
from tests.engine.runner import fork, listen

ONE_COLUMN = Case(
    channels=(1,),
    outputs=8,
    groups=1,
    kernel=(5, 5),
    stride=(1, 2),
    dilation=(1, 1),
    padding=(0, 0),
    size=(24, 5),
    relu=False,
    layout="columns of a buffer",
    room=True,
    dtype=torch.float32,
    seed=0,
)


def test_random_convolutions_on_odd_shapes() -> None:
    tried, found = wrong(0, 800)
    assert tried == 800
    assert not found


def test_the_cases_are_odd_enough() -> None:
    cases = [draw(seed) for seed in range(800)]
    assert {len(case.size) for case in cases} == {1, 2, 3}
    assert sum(case.channels == (1,) for case in cases) > 50
    assert sum(case.stride[-1] > case.kernel[-1] for case in cases) > 20
    assert sum(1 in case.size for case in cases) > 50


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_channel_a_stride_along_the_width_and_one_column(
    kernel: int, dtype: torch.dtype
) -> None:
    net = nn.Conv2d(1, 8, kernel, stride=(1, 2)).to(dtype).eval()
    image = noise(1, 24, 20)
    with torch.no_grad():  # in float64, since bfloat16 is wrong in torch itself
        truth = net.double()(image.to(dtype).double()[None])[0]
    net.to(dtype)
    slack = 0.05 if dtype == torch.bfloat16 else 1e-5
    for column in range(truth.shape[2]):
        region = [(0, truth.shape[1]), (column, column + 1)]
        part = eyeshot.run(net, image.to(torch.float64).numpy(), region=region, layout="CHW")
        expected = truth[:, :, column : column + 1].numpy()
        np.testing.assert_allclose(part, expected, rtol=slack, atol=slack)


def run_blind(results: Connection) -> None:
    """Windows that see padding alone, by bands and in one piece."""
    for stride, padding, size in ((2, 1, (3, 1)), (2, 3, (1, 1)), (3, 2, (4, 1)), (2, 2, (2, 1))):
        for kernel in (1, 2):
            net = nn.Conv2d(1, 3, kernel, stride, padding, dilation=2).eval()
            x = torch.rand(1, *size)
            (truth,) = whole(net, x)
            for band in (1, 64):
                assert abs(eyeshot.run(net, x, band=band) - truth).max() < 1e-6
    results.send("alive")


def test_windows_that_see_padding_alone_do_not_end_the_process() -> None:
    """Network 124403 of tools/random_networks.py: a null pointer in oneDNN 3.12."""
    process, results = fork(run_blind)
    assert listen(results) == ["alive"]
    process.join()
    assert process.exitcode == 0


def test_a_window_sees_padding_alone_where_every_cell_lies_outside() -> None:
    for n, kernel, padding, stride, dilation in np.ndindex(5, 4, 5, 3, 4):
        n, kernel, stride, dilation = n + 1, kernel + 1, stride + 1, dilation + 1
        starts = range(-padding, n + padding - dilation * (kernel - 1), stride)
        cells = [range(first, first + dilation * kernel, dilation) for first in starts]
        if not starts:
            continue  # torch refuses it
        blind = any(not 0 <= min(one, key=lambda i: abs(2 * i - n + 1)) < n for one in cells)
        found = kernels._sees_padding_alone(n, kernel, padding, stride, dilation)
        assert found == blind, (n, kernel, padding, stride, dilation)


def test_a_convolution_by_pieces_of_rows_is_that_of_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch's own kernel of float64 is asked for a few rows at a time; here for one."""
    convolve_whole: Callable[..., torch.Tensor] = torch.nn.functional.conv2d
    stride, padding, dilation = [2, 1], [3, 2], [2, 1]
    value, weight = noise(1, 4, 13, 10, double=True), noise(6, 2, 3, 3, double=True)
    truth = convolve_whole(value, weight, None, stride, padding, dilation, 2)
    pieces = []

    def convolve(part: torch.Tensor, *rest: Any) -> torch.Tensor:
        pieces.append(part.shape[2])
        return convolve_whole(part, *rest)

    monkeypatch.setattr(kernels, "COLUMNS", 1)
    found = kernels._by_pieces(convolve, value, weight, None, stride, padding, dilation, 2)
    assert pieces == [5] * truth.shape[2]
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-12)


def test_a_kernel_that_is_wrong_on_one_column_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor whose faults nobody has met yet: here every single column is wrong."""
    honest = torch.ops.mkldnn._convolution_pointwise

    class Broken:
        binary = getattr(torch.ops.mkldnn, "_convolution_pointwise_", None)

        def __call__(self, value: torch.Tensor, *rest: object) -> torch.Tensor:
            result: torch.Tensor = honest(value, *rest)
            return result + 1 if result.shape[3] == 1 else result

    assert error(ONE_COLUMN) <= 1e-5
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", Broken())
    net, image = nn.Conv2d(3, 4, 3).eval(), noise(3, 9, 9)
    part = eyeshot.run(net, image, region=[(0, 7), (2, 3)])
    np.testing.assert_allclose(part, whole(net, image)[0][:, :, 2:3], rtol=0, atol=1e-5)
    assert kernels.has_onednn(net.weight)


@pytest.mark.parametrize(
    "last", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.2, 0.1), nn.LeakyReLU(0.3), nn.LeakyReLU(-2.0)]
)
@pytest.mark.parametrize("skip", [False, True])
def test_activations_are_computed_with_the_sum(last: nn.Module, skip: bool) -> None:
    """Strided, so that the padding of even sizes is uneven; and as two sums where one is joined."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, 2, 1)
            self.second = nn.Conv2d(16 if skip else 8, 8, 3, 1, 1)
            self.third = nn.Conv2d(8, 8, 5, 2, 2, groups=8)
            self.last = last

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.last(self.first(x))
            x = torch.cat([x, x * 2], 1) if skip else x
            return self.last(self.third(self.last(self.second(x))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    net = Net().eval()
    for size in ((20, 26), (21, 31)):
        image = noise(3, *size)
        with torch.no_grad():
            truth = net.double()(image.double()[None])[0].numpy()
        net.float()
        for band in (1, 5, 64):
            assert abs(eyeshot.run(net, image, band=band) - truth).max() <= 1e-5
