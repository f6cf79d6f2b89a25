"""The law where an operator slides over bands or channels, and pads or strides there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.axes import Interval, Window
from eyeshot.frontends.torch import graph_of
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole
from tests.engine.odd_places import OPERATORS, case_of
from tests.frontends.poking import Apply, check
from tests.networks import examples

SEEDS = range(examples(7).max_examples)
Function = Callable[..., torch.Tensor]


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_gives_the_whole_pass_whatever_it_slides_over(operator: str) -> None:
    run = 0
    for seed in SEEDS:
        case = case_of(seed, operator)
        x = noise(*case.size, seed=seed, double=True)
        try:
            truth = whole(case.net, x)
        except RuntimeError:
            continue  # torch takes no such size
        net, layout = eyeshot.trace(case.net), {2: "CL", 3: "CHW", 4: "CDHW"}[x.ndim]
        for band in (1, 3, 100):
            answer = eyeshot.run(net, x, band=band, layout=layout)
            assert largest_difference([answer], truth) <= 1e-12, case.in_words
        run += 1
    assert run


BANDS: dict[str, tuple[Function, list[nn.Module]]] = {
    "conv3d": (lambda x, m: m(x[:, None]).mean(2), [nn.Conv3d(1, 4, 3, padding=1)]),
    "conv3d, bands as channels": (
        lambda x, m: m(x[:, None]).flatten(1, 2),
        [nn.Conv3d(1, 4, 3, padding=1, stride=(2, 1, 1))],
    ),
    "conv3d twice": (
        lambda x, m, n: n(m(x[:, None]).relu()).amax(2),
        [nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)],
    ),
    "conv3d, normed": (
        lambda x, m, n: n(m(x[:, None])).relu().sum(2),
        [nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)],
    ),
    "conv3d of two joined": (
        lambda x, m: m(torch.cat([x[:, None], x[:, None].abs()], 1)).mean(2),
        [nn.Conv3d(2, 4, 3, padding=1)],
    ),
    "transposed": (
        lambda x, m: m(x[:, None]).mean(2),
        [nn.ConvTranspose3d(1, 4, 3, stride=2, padding=1, output_padding=1)],
    ),
    "one plane of bands and a global pool": (
        lambda x, m: m(F.adaptive_avg_pool3d(x[:, None], (2, 1, 1)).flatten(1)),
        [nn.Linear(2, 3)],
    ),
    "global maximum over bands too": (
        lambda x: F.adaptive_max_pool3d(x[:, None], 1).flatten(1),
        [],
    ),
    "channel attention": (
        lambda x, m: x * m(x.mean((2, 3))[:, None])[:, 0, :, None, None].sigmoid(),
        [nn.Conv1d(1, 1, 3, padding=1)],
    ),
    "channel attention, transposed": (
        lambda x, m: (
            x
            * m(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
            .transpose(-1, -2)
            .unsqueeze(-1)
            .sigmoid()
        ),
        [nn.Conv1d(1, 1, 3, padding=1)],
    ),
    "channel attention, wider": (
        lambda x, m: (
            x
            * m(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
            .mean(1)[:, :, None, None]
            .sigmoid()
        ),
        [nn.Conv1d(1, 4, 3, padding=1)],
    ),
    "channel attention, circular": (
        lambda x, m: x * m(F.pad(x.mean((2, 3))[:, None], (1, 1), "circular")).view(1, -1, 1, 1),
        [nn.Conv1d(1, 1, 3)],
    ),
    "a linear layer on an axis of one position": (
        lambda x, m: x * m(x.mean((2, 3), keepdim=True)).sum(3, keepdim=True),
        [nn.Linear(1, 4)],
    ),
    "a response normed over channels": (lambda x, m: m(x), [nn.LocalResponseNorm(3)]),
    "the largest of two channels, without bands": (
        lambda x, m: m(F.max_pool3d(x, (2, 1, 1))),
        [nn.Conv2d(2, 3, 3)],
    ),
    "an instance norm of a map without a batch": (
        lambda x: F.instance_norm(x[0])[None],
        [],
    ),
    "an instance norm, rows as channels": (
        lambda x: F.instance_norm(x.transpose(1, 2)).transpose(1, 2),
        [],
    ),
    "a group norm, rows as channels": (
        lambda x: F.group_norm(x.transpose(1, 2), 2).transpose(1, 2),
        [],
    ),
    "a batch norm, rows as a batch": (
        lambda x: F.batch_norm(x.transpose(0, 2), None, None, training=True).transpose(0, 2),
        [],
    ),
    "a slope for each row": (
        lambda x: F.prelu(
            x.transpose(1, 2), torch.linspace(0.1, 0.9, x.shape[2], dtype=x.dtype)
        ).transpose(1, 2),
        [],
    ),
    "one slope for all, rows as channels": (
        lambda x, m: m(x.transpose(1, 2)).transpose(1, 2),
        [nn.PReLU()],
    ),
    "one filter for every channel, as a batch": (
        lambda x, m: m(x.reshape(-1, 1, *x.shape[2:])).view_as(x),
        [nn.Conv2d(1, 1, 3, padding=1)],
    ),
    "the sum of a batch made of channels": (
        lambda x, m: m(x.reshape(-1, 1, *x.shape[2:])).sum(0, keepdim=True),
        [nn.Conv2d(1, 1, (3, 2))],
    ),
    "a filter for each of two halves, as a batch": (
        lambda x, m: m(torch.cat([x, -x])[:, :2]).amax(0, keepdim=True),
        [nn.Conv2d(2, 2, 3, groups=2)],
    ),
    "means of the type of the picture": (
        lambda x: x - torch.arange(5.0).type_as(x)[None, :, None, None],
        [],
    ),
}


def net_of(name: str) -> nn.Module:
    function, parts = BANDS[name]
    return Apply(function, *copy.deepcopy(parts)).eval()


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", BANDS)
def test_bands_and_channels_are_padded(name: str, double: bool) -> None:
    torch.manual_seed(0)
    net = enliven(nn.Sequential(nn.Conv2d(5, 5, 1), net_of(name)), noise(1, 5, 12, 10))
    net = net.double() if double else net
    x = noise(5, 24, 20, double=double)
    truth = whole(net, x)
    job = job_of(net, x)
    for strips, band in ((1, 7), (3, 1)):
        part, _ = by_parts(cut(job, band, strips if truth[0].ndim > 1 else 1))
        assert largest_difference(part, truth) <= (1e-12 if double else 1e-5)


def test_a_camera_pads_bands() -> None:
    net = net_of("conv3d twice")
    x = noise(5, 24, 20)
    rows = eyeshot.stream(net, 20, channels=5)
    actual = [rows.push(x[:, y : y + 5].numpy()) for y in range(0, 24, 5)] + [rows.finish()]
    assert largest_difference([np.concatenate(actual, 1)], whole(net, x)) <= 1e-5


def test_a_region_pads_bands() -> None:
    net = net_of("transposed")
    x = noise(5, 12, 10)
    region = (Interval(3, 9), Interval(4, 20))
    part, _ = by_parts(cut(job_of(net, x), 2, region=region))
    assert largest_difference(part, [whole(net, x)[0][:, 3:9, 4:20]]) <= 1e-5


def test_the_graph_keeps_the_map_along_bands() -> None:
    graph = graph_of(net_of("conv3d"), (5, 8, 8))
    (edge,) = next(node for node in graph if node.operator == "conv3d").edges
    assert edge.beside == ((2, Window(3, 1, 1, 1)),)
    assert edge.axes == (Window(3, 1, 1, 1),) * 2


@pytest.mark.parametrize("name", ["conv3d twice", "transposed", "a response normed over channels"])
def test_fields_under_bands_are_what_poking_finds(name: str) -> None:
    check(net_of(name), 5, 5, 4)


FEATURES_OF_POSITIONS: dict[str, Function] = {
    "features added to columns": lambda x: x + x.mean((2, 3))[:, None, None],
    "features times rows": lambda x: x * x.mean((2, 3)).view(1, 1, -1, 1),
}


@pytest.mark.parametrize("name", FEATURES_OF_POSITIONS)
def test_features_that_belong_to_positions_are_called_whole(name: str) -> None:
    """On a square of as many columns as channels torch adds them up, and no strip could."""
    _is_called_whole(Apply(FEATURES_OF_POSITIONS[name]), noise(8, 8, 8))


def _is_called_whole(net: nn.Module, x: torch.Tensor) -> None:
    assert largest_difference([eyeshot.run(net.eval(), x)], whole(net.eval(), x)) <= 1e-6


def test_batch_norm_along_an_axis_is_called_whole() -> None:
    net = Apply(lambda x, m: m(x.transpose(1, 2)).transpose(1, 2), nn.BatchNorm2d(8))
    _is_called_whole(net, noise(3, 8, 8))


def test_axes_of_one_position_may_turn_into_features() -> None:
    """Outer product of one column and one row of features: no axis is left in it."""

    def outer(x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        table = pooled[:, :, :, 0] * pooled.reshape(1, 1, -1)
        return x * table.sum(2)[:, :, None, None]

    net, x = Apply(outer).eval(), noise(4, 9, 7)
    assert largest_difference(by_parts(cut(job_of(net, x), 2))[0], whole(net, x)) <= 1e-5


def test_einsum_of_flattened_windows_has_no_axes() -> None:
    """Positions that were laid out as rows belong to no axis; the whole is called."""

    def windows(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        rows = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        return torch.einsum("bic,bjc->bij", rows, rows)

    net = Apply(windows).eval()
    node = graph_of(net, (3, 16, 8))["einsum"]
    assert node.dims == (None, None)
    x = noise(3, 16, 8)
    with torch.no_grad():
        truth = net(x[None]).numpy()
    np.testing.assert_allclose(eyeshot.run(net, x), truth, rtol=0, atol=1e-5)
