"""A path that ``.data`` breaks, and constants that a ``forward`` writes to."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import Unsupported
from tests.frontends.forwards import PICTURE, SIZE, check_run, halo, net_of

Result = Callable[[Any, Tensor], Any]


def _skip(n: Any, x: Tensor) -> Tensor:
    short = nn.functional.avg_pool2d(n.a(x), 1)
    zeros = torch.zeros(1, 2, *x.shape[2:])
    result: Tensor = n.b(n.a(x)) + torch.cat([short.data[:, :2], zeros], 1)
    return result


READS: dict[str, Result] = {
    "x.data": lambda n, x: n.b(n.a(x).data),
    "in a skip": lambda n, x: n.a(x) + n.b(n.a(x).data),
    "a shortcut of MONAI": _skip,
    "of a clone": lambda n, x: n.b(n.a(x).clone().data),
    "Variable": lambda n, x: n.b(torch.autograd.Variable(n.a(x))),
    "torch.tensor": lambda n, x: n.b(torch.tensor(n.a(x))),
    "to a device": lambda n, x: n.b(n.a(x).to("cpu")),
    "torch.Tensor": lambda n, x: n.b(torch.Tensor(n.a(x))),
    "nn.Parameter": lambda n, x: n.b(nn.Parameter(n.a(x))),
    "a deep copy": lambda n, x: n.b(copy.deepcopy(n.a(x).detach())),
    "scaled in place": lambda n, x: (y := n.a(x), y.data.mul_(2), n.b(y))[2],
}


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("result", READS.values(), ids=READS)
def test_data_is_a_path_like_any_other(result: Result) -> None:
    assert halo(result) == [(2, 2), (2, 2)]
    check_run(result)


class _Called(nn.Conv2d):
    def __call__(self, x: Tensor) -> Any:
        return super().__call__(x.data * 2).data


def _hooked() -> nn.Module:
    net = nn.Conv2d(3, 2, 3)
    net.register_forward_pre_hook(lambda _, inputs: (inputs[0].data * 2,))
    net.register_forward_hook(lambda _, inputs, output: output.data + 1)
    return net


def _as_graph() -> nn.Module:
    return torch.fx.symbolic_trace(net_of(lambda n, x: n.b(n.a(x).data)))


@pytest.mark.parametrize(
    "net", [_hooked, lambda: _Called(3, 2, 3), _as_graph], ids=["hooks", "__call__", "a graph"]
)
def test_data_is_a_path_outside_forward_too(net: Callable[[], nn.Module]) -> None:
    made = net().eval()
    with torch.no_grad():
        expected = made(PICTURE[None])[0].numpy()
    np.testing.assert_allclose(eyeshot.run(made, PICTURE, band=5), expected, atol=1e-5)


@pytest.mark.parametrize("own", [False, True])
def test_forward_is_as_it_was_after_a_refusal(own: bool) -> None:
    net = net_of(lambda n, x: n.a(x) * x.mean().item())
    if own:
        vars(net)["forward"] = net.forward
    before = vars(net).copy()
    with pytest.raises(Unsupported):
        eyeshot.receptive_field(net, SIZE)
    assert vars(net).keys() == before.keys()
    assert vars(net).get("forward") is before.get("forward")


def _weight(n: Any, x: Tensor) -> Tensor:
    n.b.weight.data = n.b.weight.data * 2
    result: Tensor = n.b(n.a(x))
    return result


def _without_gradient(n: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        n.b.weight.copy_(n.b.weight * 3)
    result: Tensor = n.b(n.a(x))
    return result


def _by_views(n: Any, x: Tensor) -> Tensor:
    view = n.gain.view(4)
    view.mul_(3)
    view[1:3].add_(1)
    result: Tensor = n.a(x) * n.gain
    return result


def _view_read_later(n: Any, x: Tensor) -> Tensor:
    first = n.gain[:2]
    n.gain.mul_(3)
    result: Tensor = n.a(x)[:, :2] * first
    return result


def _counted(n: Any, x: Tensor) -> Tensor:
    n.calls += 1
    n.gain += 1
    n.plain += 1
    result: Tensor = n.a(x) * n.gain * n.plain * n.calls
    return result


def _filled(n: Any, x: Tensor) -> Tensor:
    kernel = torch.zeros(4, 1, 3, 3)
    kernel[:, :, 1, 1], kernel[:, :, 0, 1] = 4, -1
    return nn.functional.conv2d(n.a(x), kernel, padding=1, groups=4)


def _clamped(n: Any, x: Tensor) -> Tensor:
    n.b.weight.data.clamp_(-0.01, 0.01)
    result: Tensor = n.b(n.a(x))
    return result


WRITES: dict[str, Result] = {
    "weight.data =": _weight,
    "weight.data.clamp_": _clamped,
    "weight.copy_": _without_gradient,
    "views of a buffer": _by_views,
    "a view read later": _view_read_later,
    "counted": _counted,
    "a kernel filled in place": _filled,
}


@pytest.mark.parametrize("result", WRITES.values(), ids=WRITES)
def test_constants_that_are_written_to_have_their_new_values(result: Result) -> None:
    check_run(result)


REFUSED: dict[str, tuple[Result, str]] = {
    "as another class": (lambda n, x: n.b(n.a(x).as_subclass(Tensor)), "torch lost track"),
    "a number": (lambda n, x: n.a(x) * x.mean().item(), "turns a tensor's values into Python"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_a_path_is_lost_nothing_is_claimed_and_the_network_is_called(name: str) -> None:
    result, words = REFUSED[name]
    for call in (eyeshot.receptive_field, eyeshot.dense):
        with pytest.raises(Unsupported, match=words):
            call(net_of(result), SIZE)
    with pytest.warns(UserWarning, match=f"called on whole maps by PyTorch itself.*{words}"):
        check_run(result)


def test_data_of_another_shape_is_named_and_the_network_called() -> None:
    def result(n: Any, x: Tensor) -> Tensor:
        n.plain.data = torch.ones(x.shape[2:])
        y: Tensor = n.a(x) * n.plain
        return y

    words = r"sets the \.data of a tensor of shape \(4, 1, 1\)"
    with pytest.raises(Unsupported, match=words):
        eyeshot.inspect(net_of(result), SIZE)
    with pytest.warns(UserWarning, match=words):
        check_run(result)


def test_random_numbers_that_nothing_reads_are_no_matter() -> None:
    def unread(n: Any, x: Tensor) -> Tensor:
        torch.rand(3)
        y: Tensor = n.a(x)
        return y

    check_run(unread)
    with pytest.raises(Unsupported, match=r"^rand.*: other random numbers"):
        eyeshot.inspect(net_of(lambda n, x: n.a(x) + torch.rand(4, 1, 1)), SIZE)


def test_threads_leave_the_process_as_it_was() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3)).eval()

    nets, image, out = [make() for _ in range(6)], torch.randn(1, 20, 20), sys.stdout
    with torch.no_grad():
        truths = [net(image[None])[0].numpy() for net in nets]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda net: eyeshot.run(net, image), nets))
    for one, truth in zip(found, truths, strict=True):
        assert np.abs(one - truth).max() < 1e-5
    assert sys.stdout is out
