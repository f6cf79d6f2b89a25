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
        runs: a run calls the network as it is, and only what asks for its layers refuses it.
    """

    wrong: Forward
    words: tuple[str, ...]
    cured: Forward
    parts: Callable[[], list[nn.Module]] = list
    same: bool = True
    runs: bool = False


ALL = (1, 2, 3)


CASES: dict[str, Case] = {
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
        runs=True,
    ),
    "a number of Python": Case(
        lambda y, m: y * float(y.mean()),
        ("turns a tensor's values into Python numbers; keep them in a tensor",),
        lambda y, m: y * y.mean(),
        runs=True,
    ),
    "NumPy": Case(
        lambda y, m: torch.from_numpy(np.abs(y.detach().numpy())),
        ("leaves torch for NumPy; write it with torch functions",),
        lambda y, m: y.abs(),
        runs=True,
    ),
    "a mask as an index": Case(
        lambda y, m: y[y > 0].sum().view(1, 1),
        ("as many values as the input's content says", "multiply by a mask"),
        lambda y, m: (y * (y > 0)).sum(ALL)[:, None],
        runs=True,
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


def _refusal(net: nn.Module, x: Any, runs: bool = False) -> str:
    with pytest.raises(EyeshotError) as caught:
        if runs:
            eyeshot.inspect(net, tuple(x.shape))
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
    message = _refusal(wrong, x, case.runs)
    place = 0
    for word in case.words:
        assert word in message[place:], message
        place = message.index(word, place)
    with torch.no_grad():
        expected = cured(x[None])[0]
        before = wrong(x[None])[0] if case.same else expected
    assert torch.allclose(expected, before, atol=1e-5, rtol=1e-4)
    for net in (cured, wrong) if case.runs else (cured,):
        result = torch.from_numpy(np.asarray(eyeshot.run(net, x, band=5))).reshape(expected.shape)
        assert torch.allclose(result, expected, atol=1e-5, rtol=1e-4)


def test_channels_last_is_reported_with_what_to_leave_out() -> None:
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
    message = _refusal(Turned(last).eval(), image)
    assert "leave permute out of forward: an input has the layout (C, H, W)" in message
    cured = Turned(lambda x: x).eval()
    x = torch.from_numpy(image).permute(2, 0, 1)
    assert np.allclose(eyeshot.run(cured, image), cured(x[None])[0].detach(), atol=1e-6)


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
