"""Operators in the middle of a network: by parts they give what one whole pass gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.frontends.torch import graph_of
from eyeshot.graph import Kind
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole

Function = Callable[[torch.Tensor], torch.Tensor]
PICKED = torch.tensor([3, 1, 0])


def unshuffled(x: torch.Tensor) -> torch.Tensor:
    """``pixel_unshuffle`` by 2, spelt by hand."""
    n, c, h, w = x.shape
    x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(n, 4 * c, h // 2, w // 2)


def windows_as_channels(x: torch.Tensor) -> torch.Tensor:
    """What ``F.unfold`` gives, with rows and columns apart."""
    return x.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 1, 4, 5, 2, 3).flatten(1, 3)


def normed_by_root_mean_square(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)


FUNCTIONS: dict[str, Function] = {
    "masked_fill": lambda x: x.masked_fill(x > 0.1, -3.0),
    "index_select": lambda x: x.index_select(1, PICKED),
    "repeat_interleave of channels": lambda x: x.repeat_interleave(2, dim=1),
    "repeat_interleave of rows": lambda x: x.repeat_interleave(2, dim=2),
    "rms_norm": normed_by_root_mean_square,
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "pixel_unshuffle by hand": unshuffled,
    "unfold, and unfold": windows_as_channels,
}


class Behind(nn.Module):
    """A function behind a convolution."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.first, self.function = nn.Conv2d(1, 8, 3, padding=1), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.first(x))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("band", [1, 5])
def test_an_operator_by_parts_gives_the_whole_pass(name: str, band: int) -> None:
    net = Behind(FUNCTIONS[name]).eval()
    image = np.random.default_rng(0).random((1, 36, 28), dtype=np.float32)
    with torch.no_grad():
        whole = net(torch.from_numpy(image)[None])[0].numpy()
    found = np.asarray(eyeshot.run(net, image, output_format="float32", band=band))
    assert found.shape == whole.shape
    assert np.abs(found - whole).max() <= 1e-5 * np.abs(whole).max()


def test_the_cure_of_unfold_gives_the_same_numbers() -> None:
    x = torch.randn(1, 2, 9, 7)
    assert torch.equal(windows_as_channels(x).flatten(2), F.unfold(x, 3))


def sampled(x: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(x, torch.stack([x[:, 0], x[:, 1]], -1), align_corners=False)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: F.unfold(x, 3), "im2col"),
        (lambda x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2), "col2im"),
        (sampled, "grid_sampler"),
    ],
)
def test_what_has_no_rule_is_named_and_called_whole(function: Function, operator: str) -> None:
    net = Behind(function).eval()
    node = next(one for one in graph_of(net, (1, 8, 8)) if one.operator == operator)
    assert node.kind is not Kind.LOCAL
    assert node.reason
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        truth = net(image[None])[0].numpy()
    np.testing.assert_allclose(eyeshot.run(net, image), truth, rtol=0, atol=1e-6)


class _Between(nn.Module):
    """A pointwise function whose rows a convolution keeps, and so a buffer takes."""

    def __init__(self, function: Callable[[_Between, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 5, padding=2)
        self.scale, self.slope = nn.Parameter(torch.rand(8, 1, 1)), nn.PReLU(8)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.function(self, self.first(x)))
        return result


POINTWISE: dict[str, Callable[[_Between, torch.Tensor], torch.Tensor]] = {
    "a scale that learns": lambda net, x: x * net.scale,
    "slopes": lambda net, x: net.slope(x),
    "a number": lambda net, x: 1.5 - x,
    "a factor": lambda net, x: torch.add(x.sin(), x, alpha=0.5),
    "chosen": lambda net, x: torch.where(x > 0.1, x.exp(), -x),
    "one for all": lambda net, x: torch.maximum(x, x.amax((1, 2, 3), keepdim=True) / 2),
    "another type": lambda net, x: (x.double() + 1).float() * x.bfloat16(),
    "a channel for all": lambda net, x: x * x[:, :1] + x[:, 1:2],
    "with limits": lambda net, x: x.clamp(-0.3, 0.4),
    "more channels": lambda net, x: x[:, :1].tanh() + net.scale,
}


@pytest.mark.parametrize("name", POINTWISE)
def test_rows_written_where_they_are_kept_are_those_of_the_whole_pass(name: str) -> None:
    net, x = enliven(_Between(POINTWISE[name]), noise(1, 1, 40, 30)), noise(1, 40, 30)
    for band in (3, 16):
        parts, _ = by_parts(cut(job_of(net, x), band))
        assert largest_difference(parts, whole(net, x)) <= 1e-5
