"""What a second reader doubted of the engine: each network against one whole pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.errors import Unsupported
from tests.engine.law import by_parts, cut, job_of, largest_difference, noise, whole

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Written(nn.Module):
    """A forward written in one line, with one constant of its own."""

    def __init__(self, forward: Forward, *shape: int) -> None:
        super().__init__()
        self.register_buffer("constant", noise(*shape, seed=1))
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        constant = self.constant
        assert isinstance(constant, torch.Tensor)
        return self._forward(x, constant)


_NETWORKS: dict[str, tuple[Forward, tuple[int, ...]]] = {
    "channels padded": (lambda x, w: F.pad(x, (1, 2, 0, 3, 1, 2), value=1.5), (1,)),
    "channels cropped": (lambda x, w: F.pad(x, (1, 2, 0, 3, -1, 0)), (1,)),
    "a weight for each column": (lambda x, w: x * w, (17,)),
    "a weight for each place": (lambda x, w: x * w, (13, 17)),
    "stacked behind with a weight": (lambda x, w: torch.stack([x, w], -1).sum(-1), (1, 2, 13, 17)),
    "channels mixed by a product": (
        lambda x, w: (x.permute(0, 2, 3, 1) @ w).permute(0, 3, 1, 2),
        (2, 5),
    ),
    "channels mixed by an einsum": (lambda x, w: torch.einsum("nc...,oc->no...", x, w), (5, 2)),
    "channels mixed of two": (
        lambda x, w: torch.einsum("nchw,ndhw,ocd->nohw", x, F.max_pool2d(x, 3, 1, 1), w),
        (3, 2, 2),
    ),
    "one product by a gate": (
        lambda x, w: torch.einsum("nchw,ncuv->nchw", x, x.mean((2, 3), keepdim=True)),
        (1,),
    ),
    "channels summed by a vector": (lambda x, w: (x.permute(0, 2, 3, 1) @ w)[:, None], (2,)),
    "channels mixed by one matrix of a batch": (
        lambda x, w: (x.permute(0, 2, 3, 1) @ w).permute(0, 3, 1, 2),
        (1, 1, 2, 5),
    ),
    "a matrix for each half of the channels": (
        lambda x, w: (x[:, :, None].permute(0, 3, 1, 4, 2) @ w).sum(2).permute(0, 3, 1, 2),
        (2, 1, 5),
    ),
    "channels in order": (lambda x, w: x.sort(dim=1)[0].cumsum(1), (1,)),
    "a norm of one position": (
        lambda x, w: x * F.group_norm(F.adaptive_avg_pool2d(x, 1), 1).sigmoid(),
        (1,),
    ),
    "repeated from one place": (
        lambda x, w: x + x.mean((2, 3), keepdim=True).repeat(1, 1, 13, 17),
        (1,),
    ),
}


@pytest.mark.parametrize("name", _NETWORKS)
@pytest.mark.parametrize("band", [1, 4])
def test_strips_of_networks_in_one_line_equal_the_whole_pass(name: str, band: int) -> None:
    forward, shape = _NETWORKS[name]
    net, image = Written(forward, *shape).eval(), noise(2, 13, 17)
    parts, _ = by_parts(cut(job_of(net, image), band, strips=3))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


_SIGNALS: dict[str, tuple[Forward, tuple[int, ...]]] = {
    "a matrix of a batch of one": (lambda x, w: w @ x, (1, 5, 2)),
    "a matrix of more dimensions": (lambda x, w: (w @ x)[0], (1, 1, 5, 2)),
    "a batch of matrices": (lambda x, w: torch.bmm(w, x), (1, 5, 2)),
    "a vector first": (lambda x, w: (w @ x)[:, None], (2,)),
    "a vector last": (lambda x, w: (x.transpose(1, 2) @ w)[:, None], (2,)),
    "a bias for each channel": (lambda x, w: torch.addmm(w[0], x[0].t(), w).t()[None], (2, 5)),
    "a bias of a column": (lambda x, w: torch.addmm(w[:, :1], w, x[0])[None], (5, 2)),
}


@pytest.mark.parametrize("name", _SIGNALS)
def test_products_by_matrices_of_every_shape(name: str) -> None:
    forward, shape = _SIGNALS[name]
    net, signal = Written(forward, *shape).eval(), noise(2, 29)
    parts, _ = by_parts(cut(job_of(net, signal), 3))
    assert largest_difference(parts, whole(net, signal)) <= 1e-5


_PLACED: dict[str, tuple[Forward, tuple[int, ...]]] = {
    "a bias for each place": (
        lambda x, w: torch.addmm(w, x[0].t(), w[:2]).t()[None],
        (29, 5),
    ),
    "a bias for each place of a batch": (
        lambda x, w: torch.baddbmm(w, x.transpose(1, 2), w[:, :2]).transpose(1, 2),
        (1, 29, 5),
    ),
    "a matrix for each place": (
        lambda x, w: (x.transpose(1, 2)[:, :, None] @ w)[:, :, 0].transpose(1, 2),
        (29, 2, 5),
    ),
    "a matrix along": (lambda x, w: x @ w, (1, 29, 5)),
    "a vector along": (lambda x, w: x @ w, (29,)),
    "features in the place of positions": (
        lambda x, w: torch.einsum("ncl,nl->ncl", x, F.conv1d(x, w).mean(2)),
        (29, 2, 1),
    ),
}


@pytest.mark.parametrize("name", _PLACED)
def test_products_that_tell_positions_apart_are_called_whole(name: str) -> None:
    forward, shape = _PLACED[name]
    net, signal = Written(forward, *shape).eval(), noise(2, 29)
    parts, _ = by_parts(cut(job_of(net, signal), 3))
    assert largest_difference(parts, whole(net, signal)) <= 1e-5


def test_a_weight_for_each_sample_of_a_signal() -> None:
    net, signal = Written(lambda x, w: x * w, 29).eval(), noise(2, 29)
    parts, _ = by_parts(cut(job_of(net, signal), 3))
    assert largest_difference(parts, whole(net, signal)) <= 1e-5


@pytest.mark.parametrize("reduce", ["mean", "sum", "amax", "amin"])
def test_statistics_over_channels_and_positions(reduce: str) -> None:
    net = Written(lambda x, w: getattr(x, reduce)((1, 2, 3), keepdim=True), 1).eval()
    image = noise(3, 13, 17)
    parts, _ = by_parts(cut(job_of(net, image), 4))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_a_classifier_on_one_row_or_column(size: tuple[int, int]) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    image = noise(2, *size)
    parts, _ = by_parts(job_of(net, image))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


@pytest.mark.parametrize("size", [1, 3])
def test_places_of_maxima(size: int) -> None:
    net = Written(lambda x, w: F.adaptive_max_pool2d(x, size, return_indices=True)[1] * 1.0, 1)
    image = noise(2, 13, 17)
    parts, _ = by_parts(cut(job_of(net.eval(), image), 4))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


def test_wrapping_round_what_is_cropped() -> None:
    net = Written(lambda x, w: F.pad(x, (-2, 3, -1, 2), mode="circular"), 1).eval()
    image = noise(2, 13, 17)
    parts, _ = by_parts(cut(job_of(net, image), 4))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


def test_an_output_given_twice_comes_twice() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = x * 2
            return y, y

    image = np.ones((2, 5, 6), np.float32)
    results = eyeshot.run(Twice().eval(), image, layout="CHW")
    assert [one.shape for one in results] == [(2, 5, 6)] * 2


@pytest.mark.parametrize("forward", [lambda x, w: x / x.shape[2], lambda x, w: x + _ramp(x)])
def test_a_camera_refuses_numbers_that_follow_the_height(forward: Forward) -> None:
    with pytest.raises(Unsupported, match="another height"):
        eyeshot.stream(Written(forward, 1).eval(), 8, channels=1)


def _ramp(x: torch.Tensor) -> torch.Tensor:
    return torch.linspace(0, 1, x.shape[2])[:, None]


def test_a_camera_keeps_rows_that_a_rounded_scale_reads() -> None:
    net, image = nn.Upsample(scale_factor=41).eval(), noise(1, 9, 3)
    rows = eyeshot.stream(net, 3, channels=1)
    parts = [rows.push(image[:, i : i + 2].numpy()) for i in range(0, 9, 2)]
    actual = np.concatenate([*parts, rows.finish()], 1)
    assert np.array_equal(actual, whole(net, image)[0])


def test_samples_upside_down_and_in_another_byte_order() -> None:
    net, image = nn.Conv2d(1, 1, 3).eval(), noise(1, 9, 11)
    turned = image.numpy()[:, ::-1]
    truth = whole(net, torch.from_numpy(turned.copy()))
    assert largest_difference([eyeshot.run(net, turned, layout="CHW")], truth) <= 1e-5
    rows = eyeshot.stream(net, 11)
    actual = np.concatenate([rows.push(turned.astype(">f4")), rows.finish()], 1)
    assert largest_difference([actual], truth) <= 1e-5


def test_a_network_in_bfloat16_gives_float32() -> None:
    net = nn.Conv2d(1, 2, 3).to(torch.bfloat16).eval()
    assert eyeshot.run(net, np.ones((1, 5, 5), np.float32), layout="CHW").dtype == np.float32


def test_a_slope_is_part_of_what_a_resumed_run_compares() -> None:
    image = noise(1, 5, 5)
    names = {job_of(nn.LeakyReLU(s).eval(), image).settings["network"] for s in (0.1, 0.3)}
    assert len(names) == 2


@pytest.mark.parametrize("name", ["channels mixed by a product", "channels mixed of two"])
def test_products_are_counted_as_the_network_counts_them(name: str) -> None:
    forward, shape = _NETWORKS[name]
    net, image = Written(forward, *shape).eval(), noise(2, 13, 17)
    _, report = by_parts(cut(job_of(net, image), 4))
    assert report.multiply_adds == eyeshot.inspect(net, (2, 13, 17)).total.multiply_adds > 0
