"""Contexts and calls of functions in a ``forward``: what stands inside is what is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import eyeshot
from eyeshot.errors import Unsupported
from tests.frontends.forwards import SIZE, check_run, halo, net_of

Result = Callable[[Any, Tensor], Any]
_HIGHER: Any = torch._higher_order_ops


def _within(context: Callable[[], Any], whole: bool = False) -> Result:
    """One layer, or both, inside a context."""

    def result(n: Any, x: Tensor) -> Any:
        with context():
            y = n.a(x)
            if whole:
                return n.b(y)
        return n.b(y)

    return result


def _nested(n: Any, x: Tensor) -> Any:
    with torch.no_grad():
        y = n.a(x)
        with torch.enable_grad(), torch.autocast("cuda", enabled=False):
            y = n.b(y)
    return y


INLINED: dict[str, Result] = {
    "no_grad": _within(torch.no_grad),
    "no_grad around all": _within(torch.no_grad, whole=True),
    "a decorator": lambda n, x: torch.no_grad()(lambda: n.b(n.a(x)))(),
    "enable_grad": _within(torch.enable_grad),
    "inference_mode": _within(torch.inference_mode, whole=True),
    "set_grad_enabled": _within(lambda: torch.set_grad_enabled(False)),
    "autocast of the GPU": _within(lambda: torch.autocast("cuda")),
    "autocast off": _within(lambda: torch.autocast("cpu", enabled=False)),
    "record_function": _within(lambda: torch.profiler.record_function("a")),
    "checkpoint": lambda n, x: checkpoint(n.b, n.a(x), use_reentrant=False),
    "the old checkpoint": lambda n, x: checkpoint(n.b, n.a(x), use_reentrant=True),
    "nested": _nested,
    "torch.cond of a size": lambda n, x: n.b(torch.cond(x.shape[2] > 5, n.a, lambda v: v, (x,))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("result", INLINED.values(), ids=INLINED)
def test_what_stands_inside_is_read(result: Result) -> None:
    assert halo(result) == [(2, 2), (2, 2)]
    check_run(result)


def test_map_is_written_out() -> None:
    mapped = lambda n, x: n.b(_HIGHER.map(lambda v: v * 2, n.a(x)[0])[None])  # noqa: E731
    assert halo(mapped) == [(2, 2), (2, 2)]
    check_run(mapped, like=lambda n, x: n.b(n.a(x) * 2))


def test_scan_is_written_out() -> None:
    def added_up(n: Any, x: Tensor) -> Tensor:
        y = n.a(x)
        start = torch.zeros_like(y[:, 0]).contiguous()
        _, sums = _HIGHER.scan(lambda c, v: (c + v, c + v), start, y.movedim(1, 0).contiguous())
        sums_of: Tensor = sums.movedim(0, 1)
        return sums_of

    check_run(added_up, like=lambda n, x: n.a(x).cumsum(1))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_condition_on_values_is_both_branches_and_a_choice(sign: int) -> None:
    def chosen(n: Any, x: Tensor) -> Any:
        return torch.cond(sign * x.sum() > 0, n.a, lambda v: n.a(v) * 2, (x,))

    check_run(chosen, like=lambda n, x: n.a(x) if sign > 0 else n.a(x) * 2)


CALLED: dict[str, tuple[Result, str]] = {
    "autocast": (
        _within(lambda: torch.autocast("cpu", torch.bfloat16), whole=True),
        "computes in bfloat16",
    ),
    "while_loop": (
        lambda n, x: _HIGHER.while_loop(lambda v: v.sum() > 0, lambda v: (v - 1,), (n.a(x),))[0],
        "while_loop in forward",
    ),
    "a long map": (lambda n, x: _HIGHER.map(lambda v: v * 2, x.movedim(2, 0)), "map over 99 items"),
    "vmap": (lambda n, x: torch.vmap(lambda v: v * 2)(n.a(x)), r"torch\.vmap cannot be read"),
}


@pytest.mark.parametrize("name", CALLED)
def test_the_rest_is_named_and_called_whole(name: str) -> None:
    result, words = CALLED[name]
    net, tall = net_of(result), torch.zeros(3, 99, 10)
    with pytest.raises(Unsupported, match=words):
        eyeshot.inspect(net, (3, 99, 10))
    with pytest.warns(UserWarning, match=f"called on whole maps .*{words}"):
        found = eyeshot.run(net, tall)
    if name == "while_loop":  # torch calls it without a trace in some processes only
        net = net_of(_looped)
    assert np.abs(found - net(tall[None])[0].detach().float().numpy()).max() <= 1e-5


def _looped(n: Any, x: Tensor) -> Tensor:
    y: Tensor = n.a(x)
    while y.sum() > 0:
        y = y - 1
    return y


def test_the_cure_for_a_branch_on_values_works() -> None:
    def branching(n: Any, x: Tensor) -> Any:
        if x.sum() > 0:
            return n.a(x)
        return n.a(x) * 2

    with pytest.raises(Unsupported, match=r"compute both and choose with torch\.where") as error:
        eyeshot.inspect(net_of(branching), SIZE)
    assert "torch.cond" not in str(error.value)
    check_run(lambda n, x: torch.where(x.sum() > 0, n.a(x), n.a(x) * 2))


def test_a_layer_inside_a_context_keeps_its_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), _NoGradient(nn.Conv2d(4, 4, 3)), nn.ReLU()).eval()
    names = [row.name for row in eyeshot.inspect(net, SIZE).rows]
    assert names[1:] == ["0", "1.inner", "2"]


class _NoGradient(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return self.inner(x)
