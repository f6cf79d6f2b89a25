"""Modules that no trace can follow are called whole, the smallest ones, as PyTorch calls them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import eyeshot
from eyeshot.engine.graph_file import graph_bytes
from eyeshot.errors import BadValue, Unsupported
from tests.engine.law import job_of

Forward = Callable[[nn.Module, Tensor], Any]


class Head(nn.Module):
    """A convolution, and a function that is given the module and the map."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(6, 4, 3, padding=1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.conv(x))


class Net(nn.Module):
    """A stem with a stride, a head, and what follows the head's map."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 5, 2, 2), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1))
        self.head, self.last = head, nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        found = self.head(self.stem(x))
        y = found["map"] if isinstance(found, dict) else found
        up = self.last(F.interpolate(y, size=x.shape[2:], mode="bilinear"))
        return (up, found["score"]) if isinstance(found, dict) else up


@dataclass
class Answer:
    """What a network may return."""

    mask: Tensor
    levels: list[Tensor]
    name: str = "answer"


def counted(net: Any, y: Tensor) -> Tensor:
    net.calls += 1
    net.latest = y
    return y * float(net.calls)


def coarse(net: nn.Module, y: Tensor) -> Tensor:
    with torch.autocast("cpu"):
        return F.conv2d(y, torch.ones(4, 4, 1, 1)).float()


def seeded(net: nn.Module, y: Tensor) -> Tensor:
    return y + torch.randn(y.shape, generator=torch.Generator().manual_seed(3))


def several(net: nn.Module, y: Tensor) -> dict[str, Any]:
    sure = y.flatten(2).max(-1)[0]
    return {"map": y if float(sure.min()) > 0 else -y, "score": sure, "none": None, "n": 3}


def points(net: nn.Module, y: Tensor) -> Tensor:
    row, column = divmod(int(y[0, 0].argmax()), y.shape[3])
    y[0, :, row, column] += 1
    return y


HEADS: dict[str, Forward] = {
    "a branch by values": lambda m, y: y * 2 if y.mean() > 0 else y.exp(),
    "a number of Python": points,
    "a loop that ends by values": lambda m, y: next(y / n for n in range(2, 9) if y.max() < n),
    "NumPy": lambda m, y: torch.from_numpy(np.sort(y.numpy(), axis=1)),
    "a mask as an index": lambda m, y: torch.zeros_like(y).index_put((y > 0,), y[y > 0] * 2),
    "autocast": coarse,
    "a generator with a seed": seeded,
    "a gradient": lambda m, y: torch.func.grad(lambda z: z.tanh().square().sum())(y),
    "state": lambda m, y: counted(m, y) if y.max() > -9 else y,
    "several outputs": several,
}


@pytest.mark.parametrize("name", HEADS)
def test_the_module_is_called_and_the_rest_streams(name: str) -> None:
    torch.manual_seed(0)
    net, x = Net(Head(HEADS[name])).eval(), torch.rand(3, 50, 44)
    state, chance = dict(net.state_dict()), torch.get_rng_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = eyeshot.run(net, x, band=8)
    notes = [str(one.message) for one in caught if "called on whole maps" in str(one.message)]
    assert len(notes) == 1
    assert notes[0].startswith(("head (Head)", "the network (Net)"))
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(state[key], one) for key, one in net.state_dict().items())
    assert not hasattr(net.head, "latest")
    with torch.no_grad():
        expected = net(x[None].clone())
    for one, other in zip(*(_listed(found), _listed(expected)), strict=True):
        assert torch.allclose(torch.as_tensor(one), other[0], atol=1e-5)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def test_only_the_map_before_the_module_is_held() -> None:
    net = Net(Head(HEADS["a branch by values"])).eval()
    plan = eyeshot.plan(net, torch.rand(3, 256, 64))
    held = {one.name: one.waits_for for one in plan.bands.buffers if "held whole" in one.waits_for}
    assert list(held) == ["stem.2"]
    assert held["stem.2"].startswith("head.call_module (")


def traced(net: nn.Module) -> nn.Module:
    make: Callable[..., nn.Module] = torch.jit.trace
    return make(net, torch.rand(1, 3, 9, 9))


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "a script": lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
    "a trace": lambda: traced(nn.Conv2d(3, 4, 3)),
    "a layer of TorchScript": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), torch.jit.script(nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU()))
    ),
    "a dataclass": lambda: Called(lambda x: Answer(x[:, :1] * 2, [x.amax((2, 3)), x])),
    "the network's own branch": lambda: Called(lambda x: x / 255 if x.max() > 2 else x * 3),
}


class Called(nn.Module):
    """A function of the input."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WHOLE)
def test_the_network_itself_is_called(name: str) -> None:
    net, x = WHOLE[name]().eval(), torch.rand(3, 20, 24)
    found = _listed(eyeshot.run(net, x, band=3))
    with torch.no_grad():
        result = net(x[None])
    expected = [result.mask, *result.levels] if isinstance(result, Answer) else [result]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(torch.as_tensor(one), other[0], atol=1e-6)


def test_what_cannot_be_called_whole_is_refused_for_the_first_reason() -> None:
    x = torch.rand(3, 20, 24)
    noisy = Net(Head(lambda m, y: y + torch.randn_like(y) if y.max() > 0 else y)).eval()
    with pytest.raises(Unsupported, match="branches on the values of a tensor"):
        eyeshot.run(noisy, x)
    picked = Called(lambda x: x[:, :, x[0, 0, :, 0] > 0.9]).eval()
    with pytest.raises(Unsupported, match="as many values as the input's content says"):
        eyeshot.run(picked, x)
    with pytest.raises(BadValue, match=r"1 MB are allowed; the least that can is [\d.]+ [MG]B"):
        eyeshot.run(Net(Head(HEADS["a number of Python"])).eval(), x, memory="1MB")


@pytest.mark.parametrize("late", [False, True], ids=["in the trace", "in a call"])
def test_an_alarm_of_the_caller_passes_through(late: bool) -> None:
    def stops(x: Tensor) -> Tensor:
        if isinstance(x, FakeTensor) is not late:
            raise TimeoutError("the caller's alarm")
        return x * float(x.max())

    with pytest.raises(TimeoutError, match="the caller's alarm"):
        eyeshot.run(Called(stops).eval(), torch.rand(3, 20, 24))


def test_workers_do_not_get_a_module() -> None:
    net = Net(Head(HEADS["NumPy"])).eval()
    job = job_of(net, torch.rand(3, 20, 24))
    with pytest.raises(Unsupported, match=r"head \(Head\) .* run it without a client"):
        graph_bytes(job.graph)


class CrissCross(nn.Module):
    """Attention over rows and columns; infinity keeps a position from counting itself twice."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        alone = torch.diag(torch.tensor(float("inf")).repeat(h)).repeat(w, 1, 1)
        rows = x.permute(0, 3, 2, 1).reshape(w, h, c)
        weights = (rows @ rows.mT - alone).softmax(-1)
        return (weights @ rows).view(n, w, h, c).permute(0, 3, 2, 1)


class Unsampled(nn.Module):
    """Computes a sample that nothing reads."""

    def forward(self, x: Tensor) -> Tensor:
        _ = x + torch.randn_like(x)
        return x * 2


@pytest.mark.parametrize("net", [CrissCross(), Unsampled()], ids=lambda net: type(net).__name__)
def test_constants_of_infinity_and_samples_that_nothing_reads(net: nn.Module) -> None:
    x = torch.rand(3, 20, 24)
    found = eyeshot.run(net.eval(), x, band=4, blank=True)
    assert np.allclose(found, net(x[None])[0], atol=1e-6)
