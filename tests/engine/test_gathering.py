"""A statistic over all positions may answer for several: adaptive pools of one column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.graph import Kind
from tests.engine.law import by_parts, cut, job_of, noise, whole


class Pooled(nn.Module):
    """A pool to a given size and a pad, so that something comes behind it."""

    def __init__(self, largest: bool, size: tuple[int, int]) -> None:
        super().__init__()
        self.pool = F.adaptive_max_pool2d if largest else F.adaptive_avg_pool2d
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(self.pool(x, self.size), (3, 2, 1, 1), value=0.5)


@pytest.mark.parametrize("strips", [1, 2, 3])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    ("size", "pooled"), [((41, 1), (1, 2)), ((5, 1), (1, 3)), ((1, 1), (1, 4))]
)
def test_one_column_may_answer_for_several(
    size: tuple[int, int], pooled: tuple[int, int], largest: bool, strips: int
) -> None:
    """Found by tools/random_networks.py, network 2049: the statistic has the width of its input."""
    net, x = Pooled(largest, pooled).eval(), noise(2, *size)
    (truth,) = whole(net, x)
    for band in (1, 7, 64):
        (found,), _ = by_parts(cut(job_of(net, x), band, strips))
        np.testing.assert_allclose(found, truth, atol=1e-6)


def _means(y: torch.Tensor) -> torch.Tensor:
    return y.mean(2, keepdim=True)


def _sums(y: torch.Tensor) -> torch.Tensor:
    return y.sum((1, 2), keepdim=True) / 100


def _largest(y: torch.Tensor) -> torch.Tensor:
    return y.amax(2)[:, :, None]


def _spreads(y: torch.Tensor) -> torch.Tensor:
    return y.std(2, keepdim=True) + y.var(2, keepdim=True)


def _norms(y: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.vector_norm(y, dim=2, keepdim=True)
    return found


def _log_sums(y: torch.Tensor) -> torch.Tensor:
    everywhere = torch.logsumexp(30 * y, (2, 3), keepdim=True)
    return torch.logsumexp(y, 2, keepdim=True) - everywhere / 30


def _pools(y: torch.Tensor) -> torch.Tensor:
    means: torch.Tensor = F.adaptive_avg_pool2d(y, (1, y.shape[3]))
    return means + F.adaptive_max_pool2d(y, (1, y.shape[3]))


def _softmax(y: torch.Tensor) -> torch.Tensor:
    weights = (y * 1e4).softmax(2) + y.softmax(2, dtype=torch.float64).float()
    return (y * weights).sum(2, keepdim=True) - torch.log_softmax(y, 2).mean(2, keepdim=True)


def _extremes(y: torch.Tensor) -> torch.Tensor:
    largest: torch.Tensor = y.max(2, keepdim=True)[0] - y.min(2, keepdim=True)[0]
    return largest + torch.aminmax(y, dim=2, keepdim=True)[1]


def _places(y: torch.Tensor) -> torch.Tensor:
    """Many numbers are equal, and the first of them counts."""
    largest, smallest = y.round().max(2, keepdim=True)[1], y.round().argmin(2, keepdim=True)
    return (largest - smallest) / y.shape[2]


def _counts(y: torch.Tensor) -> torch.Tensor:
    any_, all_ = (y > 1.5).any(2, keepdim=True), (y > -1.5).all(2, keepdim=True)
    return torch.count_nonzero(y > 1, dim=2)[:, :, None] / y.shape[2] + any_ - all_.float()


def _spreads_and_means(y: torch.Tensor) -> torch.Tensor:
    variance, mean = torch.var_mean(y, 2, keepdim=True)
    return variance + mean + torch.std_mean(y, 2, correction=0, keepdim=True)[0]


class Lines(nn.Module):
    """A line of columns beside the map that it is taken of, smoothed over neighbors."""

    def __init__(self, line: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.across, self.last = nn.LazyConv2d(4, (1, 5), padding=(0, 2)), nn.Conv2d(4, 2, 3)
        self.line = line

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        found: torch.Tensor = self.last(y * self.across(self.line(y)).sigmoid())
        return found


@pytest.mark.parametrize(
    "line",
    [
        *(_means, _sums, _largest, _spreads, _norms, _log_sums, _pools, _softmax),
        *(_extremes, _places, _counts, _spreads_and_means),
    ],
)
def test_a_statistic_of_rows_alone_is_a_line_of_columns(
    line: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Strip pooling and coordinate attention: the map waits, but no call takes all of it."""
    net, x = Lines(line).eval(), noise(2, 67, 83)
    with torch.no_grad():
        net(x[None])
    (truth,), whole_job = whole(net, x), job_of(net, x)
    for band in (1, 7, 256):
        for strips in (1, 2, 3):
            job = cut(whole_job, band, strips)
            read = {edge.source for node in job.graph for edge in node.edges}
            assert not any(node.kind is Kind.HELD and node.name in read for node in job.graph)
            (found,), _ = by_parts(job)
            np.testing.assert_allclose(found, truth, atol=2e-6, rtol=1e-5)


class Typed(nn.Module):
    """A statistic whose call names a type: each number is converted first."""

    def __init__(self, statistic: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.statistic = statistic

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.statistic(5 * x)
        return F.pad(x, (1, 1, 1, 1)).double() + found.double().reshape(1, 2, 1, -1)


@pytest.mark.parametrize(
    "statistic",
    [
        lambda x: x.sum((2, 3), dtype=torch.int64),
        lambda x: x.sum((2, 3), dtype=torch.int32),
        lambda x: F.pad(x, (1, 1)).sum(2, keepdim=True, dtype=torch.int64),
        lambda x: x.sum((2, 3), dtype=torch.float64),
        lambda x: x.mean((2, 3), dtype=torch.float64),
        lambda x: x.long().float().mean((2, 3), dtype=torch.float16).long(),
        lambda x: x.long().sum((2, 3), dtype=torch.float32),
        lambda x: torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float64),
    ],
)
def test_a_statistic_of_a_named_type_converts_each_number(
    statistic: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    net, x = Typed(statistic).eval(), noise(2, 41, 37)
    with torch.no_grad():
        truth = net(x[None])[0].numpy()
    for strips in (1, 2):
        (found,), _ = by_parts(cut(job_of(net, x, output_format="float64"), 7, strips))
        np.testing.assert_allclose(found, truth, rtol=1e-13, atol=1e-12)


class Coordinates(nn.Module):
    """Coordinate attention: a line of rows and a line of columns, joined, and taken apart again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.both = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.rows, self.columns = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        height, width = y.shape[2:]
        lines = torch.cat([y.mean(3, keepdim=True), y.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = self.both(lines).relu().split([height, width], 2)
        found: torch.Tensor = (
            y * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()
        )
        return found


@pytest.mark.parametrize("strips", [1, 2])
def test_coordinate_attention(strips: int) -> None:
    net, x = Coordinates().eval(), noise(2, 67, 83)
    (truth,) = whole(net, x)
    for band in (1, 7, 256):
        (found,), _ = by_parts(cut(job_of(net, x), band, strips))
        np.testing.assert_allclose(found, truth, atol=2e-6)


class Line(nn.Module):
    """A line of columns alone: a camera gives it when its rows have ended."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = F.layer_norm(x.mean(2, keepdim=True)[..., 1:], (82,))
        return found


def test_a_line_of_a_camera_comes_at_the_end() -> None:
    """Found by tools/random_networks.py, networks 900813 and 900975."""
    x = noise(2, 67, 83)
    (truth,) = whole(Line().eval(), x)
    rows = eyeshot.stream(Line().eval(), 83, channels=2)
    parts = [rows.push(x[:, top : top + 10].numpy()) for top in range(0, 67, 10)]
    np.testing.assert_allclose(np.concatenate([*parts, rows.finish()], 1), truth, atol=1e-5)


class Function(nn.Module):
    """A function of a map, so that rows pass."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(F.avg_pool2d(x, 3, 1, 1) * 4)


def _filled(y: torch.Tensor, where: torch.Tensor, value: float) -> torch.Tensor:
    return y.masked_fill(where, value)


_INFINITE = float("inf")


@pytest.mark.parametrize(
    "function",
    [
        lambda y: _filled(y, y < 0.2, -_INFINITE).softmax(2),
        lambda y: _filled(y, y > 2, _INFINITE).softmax(2),
        lambda y: torch.log_softmax(_filled(y, y > 2, float("nan")), 2),
        lambda y: torch.cat([y, torch.full_like(y, -_INFINITE)], 1).softmax(2),
        lambda y: y.half().softmax(2).float() / 100,
        lambda y: _filled(y, y > 2, float("nan")).argmax(2, keepdim=True) + 0 * y,
        lambda y: _filled(y, y > 2, float("nan")).min(2, keepdim=True)[0] + 0 * y,
        lambda y: y.round().argmax() + 0 * y,
        lambda y: y.round().argmin(),
        lambda y: y.max() - y.min() + y,
        lambda y: (1e30 * y).std((2, 3), keepdim=True) / 1e30 + 0 * y,
        lambda y: torch.var_mean(1e30 * y + 1e30, (2, 3), keepdim=True)[1] / 1e30 + 0 * y,
        lambda y: (1e-30 * y).std((2, 3), keepdim=True) * 1e30 + 0 * y,
        lambda y: (1e-30 * y) / (1e-30 * y).std(2, keepdim=True),
        lambda y: F.instance_norm(1e-21 * y, eps=0.0),
        lambda y: F.instance_norm(0 * y + 0.1, eps=0.0) + y,
        lambda y: (1000 + 1e-2 * y.round()).std((2, 3), keepdim=True) * 100 + 0 * y,
        lambda y: (0 * y + 0.1).std((2, 3), keepdim=True) * 1e9 + 0 * y,
    ],
    ids=[
        *("minus infinity", "infinity", "no number", "all minus infinity", "half"),
        *("place of no number", "smallest with no number", "first of equals", "place of all"),
        *("of all", "deviation of large numbers", "mean of large numbers"),
        *("deviation of tiny numbers", "tiny numbers by columns", "norm of tiny numbers"),
        *("norm of equal numbers", "deviation far from 0", "deviation of equal numbers"),
    ],
)
def test_hostile_numbers_are_gathered_as_torch_reduces_them(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    net, x = Function(function).eval(), noise(2, 67, 83)
    with torch.no_grad():
        truth = net(x[None])[0].numpy() if function(x[None]).ndim else net(x[None]).numpy()
    for band, strips in ((1, 1), (7, 2), (64, 3)):
        (found,), _ = by_parts(cut(job_of(net, x), band, strips if truth.ndim else 1))
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("place", [lambda y: y.argmax(), lambda y: y.round().argmin(2)])
def test_a_place_among_rows_whose_number_is_known_at_the_end(
    place: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    net, x = Function(place).eval(), noise(2, 67, 83)
    rows = eyeshot.stream(net, 83, channels=2, output_format="float64")
    parts = [rows.push(x[:, top : top + 10].numpy()) for top in range(0, 67, 10)]
    found = [part.ravel() for part in (*parts, rows.finish())]
    np.testing.assert_array_equal(np.concatenate(found), net(x[None]).numpy().ravel())
