"""Every refusal's cure is true: the network with the cure applied runs, and equals ``net(x)``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import EyeshotError

Forward = Callable[[Tensor, nn.ModuleList], Tensor]


class Net(nn.Module):
    """A convolution, a function of its map, and a convolution where that is a map."""

    def __init__(self, function: Forward, *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.first(x), self.parts)
        return self.last(y) if y.ndim == 4 and y.shape[1] == 8 else y


@dataclass(frozen=True)
class Case:
    """A network that is refused, words of the refusal, and the network as these words say.

    Attributes:
        wrong: as it was written.
        words: in the message, in their order.
        cured: as the message says.
        parts: layers that both use.
        same: the cure computes the same numbers.
    """

    wrong: Forward
    words: tuple[str, ...]
    cured: Forward
    parts: Callable[[], list[nn.Module]] = list
    same: bool = True


P = (2, 3)
ALL = (1, 2, 3)


def _variance(y: Tensor, dims: tuple[int, ...], keepdim: bool = True) -> Tensor:
    return (y * y).mean(dims, keepdim=keepdim) - y.mean(dims, keepdim=keepdim) ** 2


def _unbiased(y: Tensor) -> Tensor:
    n = y.shape[2] * y.shape[3]
    return _variance(y, P) * n / (n - 1)


def _normalized(x: Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    m = x.mean(dims, keepdim=True)
    v = (x * x).mean(dims, keepdim=True) - m * m
    return (x - m) * (v + eps).rsqrt()


def _by_groups(x: Tensor, groups: int) -> Tensor:
    grouped: Tensor = x.unflatten(1, (groups, -1))  # type: ignore[no-untyped-call]
    return _normalized(grouped, (2, 3, 4)).flatten(1, 2)


def _softmax(y: Tensor) -> Tensor:
    e = y.exp()
    return e / e.sum(P, keepdim=True)


CASES: dict[str, Case] = {
    "variance": Case(
        lambda y, m: y * y.var(P, keepdim=True),
        ("var (var), test_cures.py:", "var over all positions", "(x*x).mean((2, 3)) - x.mean("),
        lambda y, m: y * _unbiased(y),
    ),
    "deviation": Case(
        lambda y, m: m[0](y.std(P)),
        ("std (std), test_cures.py:", "the root of (x*x).mean((2, 3)) - x.mean((2, 3))**2"),
        lambda y, m: m[0](_unbiased(y).sqrt()[..., 0, 0]),
        lambda: [nn.Linear(8, 5)],
    ),
    "norm": Case(
        lambda y, m: y * y.norm(p=2, dim=P, keepdim=True),
        ("over all positions, which is not gathered", "(x*x).sum((2, 3)).sqrt()"),
        lambda y, m: y * (y * y).sum(P, keepdim=True).sqrt(),
    ),
    "logsumexp": Case(
        lambda y, m: torch.logsumexp(y, P),
        ("logsumexp over all positions", "x.exp().sum((2, 3)).log()"),
        lambda y, m: y.exp().sum(P).log(),
    ),
    "smallest of all": Case(
        lambda y, m: y - y.min(),
        ("min over all positions", "x.amin((1, 2, 3))"),
        lambda y, m: y - y.amin(ALL, keepdim=True),
    ),
    "largest of all": Case(
        lambda y, m: y - y.max(),
        ("max over all positions", "x.amax((1, 2, 3))"),
        lambda y, m: y - y.amax(ALL, keepdim=True),
    ),
    "group norm": Case(
        lambda y, m: m[0](y),
        ("parts.0 (group_norm)", "x.unflatten(1, (2, -1)), then over (2, 3, 4): m = x.mean((2,"),
        lambda y, m: _by_groups(y, 2),
        lambda: [nn.GroupNorm(2, 8)],
    ),
    "instance norm": Case(
        lambda y, m: F.instance_norm(y),
        ("instance_norm (instance_norm)", "m = x.mean((2, 3), keepdim=True), v = (x*x)"),
        lambda y, m: _normalized(y, P),
    ),
    "batch norm without statistics": Case(
        lambda y, m: m[0](y),
        ("parts.0 (batch_norm)", "m = x.mean((2, 3), keepdim=True), v = (x*x)"),
        lambda y, m: _normalized(y, P),
        lambda: [nn.BatchNorm2d(8, track_running_stats=False)],
    ),
    "layer norm": Case(
        lambda y, m: F.layer_norm(y, y.shape[1:]),
        ("layer_norm (layer_norm)", "m = x.mean((1, 2, 3), keepdim=True), v = (x*x)"),
        lambda y, m: _normalized(y, ALL),
    ),
    "softmax over positions": Case(
        lambda y, m: y * y.flatten(2).softmax(2).view_as(y),
        ("lays positions out in one line, for softmax", "e = x.exp(), e / e.sum((2, 3), keepdim"),
        lambda y, m: y * _softmax(y),
    ),
    "mean of a flattened map": Case(
        lambda y, m: m[0](y.flatten(2).mean(2)),
        ("flatten (flatten)", "in one line, for mean; take it over the map itself: x.mean((2, 3))"),
        lambda y, m: m[0](y.mean(P)),
        lambda: [nn.Linear(8, 5)],
    ),
    "largest of a viewed map": Case(
        lambda y, m: y * y.view(1, 8, -1).amax(2).view(1, 8, 1, 1),
        ("view (view)", "in one line, for amax; take it over the map itself: x.amax((2, 3))"),
        lambda y, m: y * y.amax(P, keepdim=True),
    ),
    "a mean after a mean": Case(
        lambda y, m: y * y.mean(3).mean(2)[:, :, None, None],
        ("mean over the columns alone", "take it over all of them at once: x.mean((2, 3))"),
        lambda y, m: y * y.mean(P)[:, :, None, None],
    ),
    "dropout that is always on": Case(
        lambda y, m: F.dropout(y, 0.5),
        ("dropout in training mode is random", "give it training=self.training"),
        lambda y, m: F.dropout(y, 0.5, training=m.training),
        same=False,
    ),
    "a branch by values": Case(
        lambda y, m: y if y.max() > 0 else -y,
        ("branches on the values of a tensor; compute both and choose with torch.where",),
        lambda y, m: torch.where(y.amax(ALL, keepdim=True) > 0, y, -y),
    ),
    "a number of Python": Case(
        lambda y, m: y * float(y.mean()),
        ("turns a tensor's values into Python numbers; keep them in a tensor",),
        lambda y, m: y * y.mean(),
    ),
    "NumPy": Case(
        lambda y, m: torch.from_numpy(np.abs(y.detach().numpy())),
        ("leaves torch for NumPy; write it with torch functions",),
        lambda y, m: y.abs(),
    ),
    "a mask as an index": Case(
        lambda y, m: y[y > 0].sum().view(1, 1),
        ("as many values as the input's content says", "multiply by a mask"),
        lambda y, m: (y * (y > 0)).sum(ALL)[:, None],
    ),
    "other numbers at each call": Case(
        lambda y, m: y + torch.randn(1, 8, 1, 1),
        ("randn, test_cures.py:", "make them once in __init__ and keep them with register_buffer"),
        lambda y, m: y + m[0](torch.ones(1, 1)).view(1, 8, 1, 1),
        lambda: [nn.Linear(1, 8)],
        same=False,
    ),
    "a name that is not there": Case(
        lambda y, m: y + undefined,  # type: ignore[name-defined]  # noqa: F821
        ("test_cures.py:", "NameError: name 'undefined' is not defined; correct that line"),
        lambda y, m: y + 1,
        same=False,
    ),
}
WHOLE: dict[str, tuple[Forward, str]] = {
    "a mean for each row": (
        lambda y, m: y * y.mean(3, keepdim=True),
        "mean over the columns alone, with an answer for each of the rows; it cannot be computed",
    ),
    "attention": (
        lambda y, m: (y.flatten(2) @ y.flatten(2).transpose(1, 2)).flatten(1),
        "flatten (flatten), test_cures.py:",
    ),
    "the largest three": (lambda y, m: y.flatten(2).topk(3, 2)[0].mean(2), "as features; it can"),
}


def _refusal(net: nn.Module, x: Tensor) -> str:
    with pytest.raises(EyeshotError) as caught:
        eyeshot.run(net, x, band=5)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _made(function: Forward, parts: list[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = Net(function).eval()
    net.parts = nn.ModuleList(parts).eval()
    return net


@pytest.mark.parametrize("name", CASES)
def test_a_cure_makes_the_network_run(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(1)
    x, parts = torch.rand(3, 14, 10), case.parts()
    wrong, cured = _made(case.wrong, parts), _made(case.cured, parts)
    message = _refusal(wrong, x)
    place = 0
    for word in case.words:
        assert word in message[place:], message
        place = message.index(word, place)
    with torch.no_grad():
        expected = cured(x[None])[0]
        before = wrong(x[None])[0] if case.same else expected
    assert torch.allclose(expected, before, atol=1e-5, rtol=1e-4)
    result = torch.from_numpy(np.asarray(eyeshot.run(cured, x, band=5))).reshape(expected.shape)
    assert torch.allclose(result, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_no_cure_says_to_call_the_network_itself(name: str) -> None:
    function, words = WHOLE[name]
    message = _refusal(_made(function, []), torch.rand(3, 14, 10))
    assert words in message
    assert message.endswith("call net(image) itself, where that fits into memory")


def _classifier(*head: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), *head).eval()


def test_a_classifiers_head_names_eyeshot_dense_only_where_that_works() -> None:
    net, x = _classifier(nn.Flatten(), nn.Linear(4 * 36, 5)), torch.rand(3, 14, 14)
    message = _refusal(net, x)
    assert "flattens a map of 144 numbers for layer 3, which has a weight for each" in message
    assert message.endswith(
        "eyeshot.dense(net, (3, 14, 14)) gives its scores at every place of a larger picture"
    )
    dense = eyeshot.dense(net, (3, 14, 14))
    page = torch.rand(3, 20, 16)
    scores = eyeshot.run(dense, page)
    assert np.allclose(scores[:, 0, 0], net(page[None, :, :14, :14]).detach()[0], atol=1e-5)
    other: Any = _classifier(nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 5))
    assert _refusal(other, x).endswith("call net(image) itself, where that fits into memory")


def test_channels_last_is_told_by_what_to_leave_out() -> None:
    def last(x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)

    class Turned(nn.Module):
        def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.turn, self.conv = turn, nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(self.turn(x))
            return out

    image = np.random.default_rng(0).random((24, 20, 3), dtype=np.float32)
    message = _refusal(Turned(last).eval(), image)  # type: ignore[arg-type]
    assert "leave permute out of forward: a picture is given as (C, H, W)" in message
    cured = Turned(lambda x: x).eval()
    x = torch.from_numpy(image).permute(2, 0, 1)
    assert np.allclose(eyeshot.run(cured, image), cured(x[None])[0].detach(), atol=1e-6)


def test_a_norm_over_channels_in_a_sequence_is_no_statistic_of_the_map() -> None:
    def windows(y: Tensor, parts: nn.ModuleList) -> Tensor:
        tokens = parts[0](y.flatten(2).transpose(1, 2))
        out: Tensor = (tokens @ tokens.transpose(1, 2)).flatten(1)
        return out

    message = _refusal(_made(windows, [nn.LayerNorm(8)]), torch.rand(3, 14, 10))
    assert "lays positions out as a sequence, and all of them meet in matmul" in message
    assert message.endswith("call net(image) itself, where that fits into memory")


def test_the_line_named_is_the_networks_own_and_not_a_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = "def checked(x):\n    raise ValueError('four axes wanted')\n"
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "some_library.py").write_text(library)
    (tmp_path / "some_network.py").write_text(
        "from some_library import checked\nfrom torch import nn\n\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return checked(x)\n"
    )
    monkeypatch.syspath_prepend(installed)
    monkeypatch.syspath_prepend(tmp_path)
    net = importlib.import_module("some_network").Net().eval()
    message = _refusal(net, torch.rand(3, 14, 10))
    assert "some_network.py:6, `return checked(x)`: ValueError: four axes wanted" in message
