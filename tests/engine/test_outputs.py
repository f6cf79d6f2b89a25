"""Every output lies as ``net(x)`` gives it, without the batch: in memory, in files, row by row."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
import zarr
from torch import nn

import eyeshot
from eyeshot.engine.executing import execute
from eyeshot.engine.networks import Traced
from eyeshot.engine.outputs import layout_of
from eyeshot.engine.running import finish, open_sinks
from eyeshot.errors import BadValue
from tests.engine.law import Array, by_parts, cut, job_of, noise
from tests.frontends.poking import Apply

Function = Callable[..., Any]
HEIGHT, WIDTH = 20, 32


def net_of(function: Function) -> nn.Module:
    """A convolution that tells rows from columns, and a function of its four channels."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 2, (5, 1), padding=(2, 0))
    return Apply(lambda x, a, b: function(a(x), b), first, second).eval()


def truth_of(net: nn.Module, x: torch.Tensor) -> Array:
    with torch.no_grad():
        y = net(x[None])
    actual: Array = y.numpy()
    return actual


# name -> (function, whether a batch of one is left to be dropped, its layout in words)
LAYOUTS: dict[str, tuple[Function, bool, str]] = {
    "as usual": (lambda y, d: y, True, "features, rows, columns"),
    "transposed": (lambda y, d: y.transpose(2, 3), True, "features, columns, rows"),
    "transposed, then slid over": (lambda y, d: d(y.mT), True, "features, columns, rows"),
    "and back again": (lambda y, d: d(y.mT).mT, True, "features, rows, columns"),
    "channels last": (lambda y, d: y.permute(0, 2, 3, 1), True, "rows, columns, features"),
    "columns first": (lambda y, d: y.permute(0, 3, 2, 1), True, "columns, rows, features"),
    "channels between": (lambda y, d: y.transpose(1, 2), True, "rows, features, columns"),
    "no channels": (lambda y, d: y.argmax(1), True, "rows, columns"),
    "one channel taken": (lambda y, d: y[:, 0], True, "rows, columns"),
    "one channel kept": (lambda y, d: y[:, :1], True, "features, rows, columns"),
    "no batch": (lambda y, d: y[0], False, "features, rows, columns"),
    "no batch, one channel": (lambda y, d: y[0, :1], False, "features, rows, columns"),
    "one plane": (lambda y, d: y[0, 0], False, "rows, columns"),
    "a second batch": (lambda y, d: y[None], True, "features, features, rows, columns"),
    "a batch at the end": (lambda y, d: y[..., None].transpose(0, 4)[0], False, ""),
    "two of a batch": (lambda y, d: torch.cat([y, -y]), False, ""),
    "features in two": (lambda y, d: y.unflatten(1, (2, 2)), True, ""),
    "each channel by itself": (
        lambda y, d: y.reshape(-1, 1, *y.shape[2:]).sin().reshape(len(y), 2, 2, *y.shape[2:]),
        True,
        "",
    ),
    "anchors": (
        lambda y, d: y.unflatten(1, (2, 2)).permute(0, 1, 3, 4, 2),
        True,
        "features, rows, columns, features",
    ),
    "one column": (lambda y, d: y[..., 3], True, "features, rows"),
    "one row": (lambda y, d: y[:, :, 3], True, "features, columns"),
    "classes": (lambda y, d: y.mean((2, 3)), True, "features"),
    "classes, no batch": (lambda y, d: y.mean((0, 2, 3)), False, "features"),
    "a scalar each": (lambda y, d: y.mean((1, 2, 3)), True, "one number"),
    "a scalar": (lambda y, d: y.mean(), False, "one number"),
    "products of features": (
        lambda y, d: y.mean((2, 3))[:, None] @ y.amax((2, 3))[:, :, None],
        True,
        "features, features",
    ),
}


@functools.cache
def laid_out(name: str) -> Traced:
    """A network of LAYOUTS, traced once for all tests: its size is one."""
    return eyeshot.trace(net_of(LAYOUTS[name][0]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_output_lies_as_the_network_gives_it(name: str) -> None:
    _, batch, words = LAYOUTS[name]
    net, x = laid_out(name), noise(3, HEIGHT, WIDTH)
    truth = truth_of(net.module, x)
    if name == "a batch at the end":
        truth = truth[..., 0]  # wherever it lies
    truth = truth[0] if batch else truth
    graph = net.graph(x.shape)
    if words:
        assert layout_of(graph, graph.outputs[0]) == words
    for band in (1, 7):
        actual = eyeshot.run(net, x, band=band)
        assert actual.shape == truth.shape
        np.testing.assert_allclose(actual, truth, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["transposed", "channels last", "no channels", "anchors", "one row"]
)
def test_a_region_is_of_the_outputs_own_axes(name: str) -> None:
    words = LAYOUTS[name][2]
    net, x = laid_out(name), noise(3, HEIGHT, WIDTH)
    sides = [word for word in words.split(", ") if word != "features"]
    region = [(2, 9), (4, 17)][: len(sides)]
    ranges = iter(region)
    where = tuple(
        slice(None) if word == "features" else slice(*next(ranges)) for word in words.split(", ")
    )
    actual = eyeshot.run(net, x, region=region, band=3)
    np.testing.assert_allclose(actual, truth_of(net.module, x)[0][where], atol=1e-5)


def test_a_region_of_other_axes_is_refused() -> None:
    net, x = net_of(lambda y, d: y[:, :, 3]), noise(3, HEIGHT, WIDTH)
    with pytest.raises(BadValue, match="a region of 2 axes; give 1"):
        eyeshot.run(net, x, region=[(0, 1), (0, 1)])
    with pytest.raises(BadValue, match="region 0:33 of an output of 32"):
        eyeshot.run(net, x, region=[(0, 33)])


def test_several_outputs_lie_each_in_its_own_way() -> None:
    def several(y: torch.Tensor, d: nn.Module) -> tuple[torch.Tensor, ...]:
        return y.mT, y.argmax(1), y.mean(), y.mean((2, 3)), y

    net, x = net_of(several), noise(3, HEIGHT, WIDTH)
    with torch.no_grad():
        truth = [one.numpy() for one in net(x[None])]
    truth = [one if one.ndim == 0 else one[0] for one in truth]
    for actual, expected in zip(eyeshot.run(net, x, band=5), truth, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=1e-5)


ONE_AXIS: dict[str, Function] = {
    "two features": lambda y: y.unflatten(1, (2, 2)),
    "time first": lambda y: y.transpose(1, 2),
    "features around": lambda y: y.unflatten(1, (2, 2)).permute(0, 1, 3, 2),
    "no channels": lambda y: y.sum(1),
}


@pytest.mark.parametrize("name", ONE_AXIS)
def test_signals_lie_as_the_network_gives_them(name: str) -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), Apply(ONE_AXIS[name])).eval()
    x = noise(1, 25)
    actual = eyeshot.run(net, x, band=4)
    truth = truth_of(net, x)[0]
    assert actual.shape == truth.shape
    np.testing.assert_allclose(actual, truth, atol=1e-5)


class Electrodes(nn.Module):
    """Channels of a signal laid out as rows of a plane, at one length only."""

    def __init__(self) -> None:
        super().__init__()
        self.over_time, self.over_space = nn.Conv2d(1, 2, (1, 5)), nn.Conv2d(2, 3, (4, 1))
        self.score = nn.Linear(3 * 21, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.over_space(self.over_time(x[:, None])).relu()
        score: torch.Tensor = self.score(y.flatten(1))
        return score


def test_an_array_is_a_signal_where_the_network_takes_no_plane() -> None:
    net, x = Electrodes().eval(), noise(4, 25)
    np.testing.assert_allclose(eyeshot.run(net, x), truth_of(net, x)[0], atol=1e-5)


def test_volumes_lie_as_the_network_gives_them() -> None:
    for order in itertools.permutations((1, 2, 3, 4)):
        module = Apply(lambda x, order=order: (2 * x).permute(0, *order)).eval()
        net, x = eyeshot.trace(module), noise(2, 5, 6, 7)
        actual = eyeshot.run(net, x, band=2, layout="CDHW")
        np.testing.assert_allclose(actual, truth_of(module, x)[0], atol=1e-6)
        region = [(1, n - 1) for n, dim in zip(actual.shape, order, strict=True) if dim != 1]
        where = tuple(slice(None) if dim == 1 else slice(1, -1) for dim in order)
        part = eyeshot.run(net, x, band=2, layout="CDHW", region=region)
        np.testing.assert_allclose(part, actual[where])


def read(path: Path) -> Array:
    """A file as others read it."""
    if path.suffix == ".npy":
        return np.load(path)  # type: ignore[no-any-return]
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(str(path), mode="r")[...])
    if path.suffix == ".tif":
        return tifffile.imread(path)
    return eyeshot.images.read(path)


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_arrays_lies_so_too(name: str, suffix: str, tmp_path: Path) -> None:
    net, x = laid_out(name), noise(3, HEIGHT, WIDTH)
    out = tmp_path / f"out{suffix}"
    job = job_of(net, x)
    expected = eyeshot.run(net, x)
    for strips in (1, 3) if all(n > 3 for n in job.shape(job.graph.outputs[0])[1:]) else (1,):
        part = cut(job, 3, strips)
        with ExitStack() as stack:
            sinks = open_sinks(part, [out], [], force=True, resume=False)
            for sink in sinks.values():
                stack.enter_context(sink)
            execute(part, sinks)
            finish(part, sinks)
        assert read(out).shape == expected.shape
        np.testing.assert_allclose(read(out), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("name", ["transposed", "columns first", "channels last", "no channels"])
def test_a_picture_turns_with_the_network(name: str, suffix: str, tmp_path: Path) -> None:
    function, _, words = LAYOUTS[name]

    def gray(y: torch.Tensor, d: nn.Module) -> torch.Tensor:
        made: torch.Tensor = function(y, d)
        return made.to(y.dtype).sigmoid()

    net, x = eyeshot.trace(net_of(gray)), noise(3, HEIGHT, WIDTH)
    out = tmp_path / f"out{suffix}"
    eyeshot.run(net, x, out, output_format="uint8", band=3)
    expected = eyeshot.run(net, x, output_format="uint8")
    last = words.split(", ").index("features") if "features" in words else None
    expected = expected if last is None else np.moveaxis(expected, last, -1)
    np.testing.assert_array_equal(read(out).reshape(expected.shape), expected)


def test_a_picture_has_one_dimension_of_channels(tmp_path: Path) -> None:
    net, x = net_of(LAYOUTS["anchors"][0]), noise(3, HEIGHT, WIDTH)
    with pytest.raises(BadValue, match=r"one channel dimension.*write \.npy or \.zarr"):
        eyeshot.run(net, x, tmp_path / "out.tif")


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".png", ".tif"])
def test_a_turned_output_is_resumed(suffix: str, tmp_path: Path) -> None:
    """Broken off after some bands, and resumed, it is the very same file."""
    net = net_of(lambda y, d: d(y).mT.sigmoid()[:, :1])
    x, outs = noise(3, 1100, 12), [tmp_path / f"{name}{suffix}" for name in ("whole", "part")]

    class Stop(Exception):
        pass

    def stop(report: Any) -> None:
        if report.rows > 700:
            raise Stop

    eyeshot.run(net, x, outs[0], output_format="uint8", band=32)
    with pytest.raises(Stop):
        eyeshot.run(net, x, outs[1], output_format="uint8", band=32, progress=stop)
    eyeshot.run(net, x, outs[1], output_format="uint8", band=32, resume=True)
    np.testing.assert_array_equal(read(outs[1]), read(outs[0]))
    assert eyeshot.run(net, x, output_format="uint8").shape == (1, 12, 1100)


def test_a_camera_gives_rows_where_the_network_puts_them() -> None:
    net, x = net_of(lambda y, d: d(y.mT)), noise(3, HEIGHT, WIDTH)
    rows = eyeshot.stream(net, WIDTH, channels=3)
    parts = [rows.push(x[:, y : y + 7].numpy()) for y in range(0, HEIGHT, 7)] + [rows.finish()]
    assert all(part.shape[:2] == (2, WIDTH) for part in parts)
    np.testing.assert_allclose(np.concatenate(parts, 2), truth_of(net, x)[0], atol=1e-5)


def test_a_form_of_classes_needs_to_know_which_features_they_are() -> None:
    net, x = net_of(LAYOUTS["features in two"][0]), noise(3, HEIGHT, WIDTH)
    with pytest.raises(BadValue, match=r"output_format 'argmax' of output .*; use float32"):
        eyeshot.run(net, x, output_format="argmax")
    last = net_of(LAYOUTS["channels last"][0])
    classes = eyeshot.run(last, x, output_format="argmax")
    np.testing.assert_array_equal(classes[..., 0], truth_of(last, x)[0].argmax(-1))


def test_an_array_to_write_into_lies_as_the_output(tmp_path: Path) -> None:
    net, x = net_of(LAYOUTS["columns first"][0]), noise(3, HEIGHT, WIDTH)
    array = np.empty((WIDTH, HEIGHT, 4), np.float32)
    assert eyeshot.run(net, x, array) is array
    np.testing.assert_allclose(array, truth_of(net, x)[0], atol=1e-5)
    with pytest.raises(BadValue, match=r"for \(32, 20, 4\) float32"):
        eyeshot.run(net, x, np.empty((4, HEIGHT, WIDTH), np.float32))


def test_what_the_engine_gives_is_features_first() -> None:
    net, x = net_of(LAYOUTS["columns first"][0]), noise(3, HEIGHT, WIDTH)
    (part,), _ = by_parts(job_of(net, x))
    np.testing.assert_allclose(part.transpose(2, 1, 0), truth_of(net, x)[0], atol=1e-5)


class Lost(nn.Module):
    """Laid out again, the one position that a pool leaves is a feature like any other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.adaptive_max_pool2d(x, 1)
        return F.pad(y.flatten(1).reshape(y.shape), (1, 2))


def test_a_region_of_what_has_no_positions_is_refused() -> None:
    """It would be given whole: four numbers where one was asked for."""
    net, x = Lost().eval(), torch.rand(1, 12, 9)
    with torch.no_grad():
        expected = net(x[None])[0].numpy()
    np.testing.assert_array_equal(eyeshot.run(net, x), expected)
    with pytest.raises(BadValue, match="no output has positions left; leave the region out"):
        eyeshot.run(net, x, region=((0, 1), (0, 1)))
