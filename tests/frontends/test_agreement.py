"""The traced graph gives the network's own numbers, or nothing is claimed of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import Unsupported
from eyeshot.frontends import agreement
from eyeshot.frontends import torch as frontend
from eyeshot.graph import Graph
from tests.frontends.forwards import PICTURE, SIZE, Net, check_run, net_of

Result = Callable[[Any, Tensor], Any]


def _caught(n: Any, x: Tensor) -> Any:
    try:
        return n.a(x) * float(x.mean())
    except Exception:
        return n.a(x)


OTHERS: dict[str, Result] = {
    "asks whether it is exported": lambda n, x: (
        n.b(n.a(x)) if torch.compiler.is_exporting() else n.a(x)
    ),
    "asks for a tensor's class": lambda n, x: n.a(x) if type(x) is Tensor else n.b(n.a(x)),
    "catches an error of the trace": _caught,
    "gives another shape": lambda n, x: n.a(x)[:, :2] if torch.compiler.is_exporting() else n.a(x),
}


@pytest.mark.parametrize("result", OTHERS.values(), ids=OTHERS)
def test_a_network_that_is_another_when_traced_is_called_and_its_layers_are_refused(
    result: Result,
) -> None:
    another = "something else when traced than when called"
    calls: list[Callable[[Net], object]] = [
        lambda net: eyeshot.inspect(net, SIZE),
        lambda net: eyeshot.receptive_field(net, SIZE),
        lambda net: eyeshot.dense(net, SIZE),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match=another):
            call(net_of(result))
    with pytest.warns(UserWarning, match=f"called on whole maps by PyTorch itself.*{another}"):
        check_run(result)


def test_the_cure_works() -> None:
    """The same in both: without the question, without the catch."""
    check_run(lambda n, x: n.b(n.a(x)))
    check_run(lambda n, x: n.a(x) * x.mean())


def test_a_network_that_writes_into_its_input_is_compared_on_the_same_input() -> None:
    check_run(lambda n, x: n.a(x.mul_(2).add_(1)))


def _sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes at which networks are called."""
    seen: list[tuple[int, ...]] = []
    called = agreement._called

    def note(net: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        seen.append(tuple(inputs[0].shape[1:]))
        return called(net, inputs)

    monkeypatch.setattr(agreement, "_called", note)
    return seen


def test_a_small_picture_is_compared_at_its_size_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, net = _sizes(monkeypatch), net_of(lambda n, x: n.b(n.a(x)))
    for _ in range(2):
        eyeshot.inspect(net, SIZE)
        eyeshot.run(net, PICTURE)
    assert seen == [SIZE]


def test_a_huge_picture_is_compared_at_a_small_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, net = _sizes(monkeypatch), net_of(lambda n, x: n.b(n.a(x)))
    inspection = eyeshot.inspect(net, (3, 100_000, 100_003))
    assert set(seen) == {(3, 32, 35)}  # of the same place on a grid of 32
    assert not inspection.graph.unchecked


def test_a_smaller_size_that_is_refused_is_followed_by_a_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def result(n: Any, x: Tensor) -> Any:
        if x.shape[2] < 128:
            raise ValueError("at least 128 rows")
        return n.a(x)

    seen = _sizes(monkeypatch)
    inspection = eyeshot.inspect(net_of(result), (3, 20_000, 20_000))
    tried = dict.fromkeys(size[1] for size in seen if size[1] < 20_000)
    assert list(tried)[:3] == [32, 64, 128]
    assert not inspection.graph.unchecked


@pytest.mark.parametrize("huge", [True, False])
def test_where_they_cannot_be_compared_it_is_said(huge: bool) -> None:
    def fixed(n: Any, x: Tensor) -> Any:
        if x.shape[2] != 20_000:
            raise ValueError("20,000 rows alone")
        return n.a(x)

    if huge:
        net, size = net_of(fixed), (3, 20_000, 20_000)
    else:
        net, size = net_of(lambda n, x: n.a(x)).to("meta"), SIZE
        net.plain = net.plain.to("meta")
    (finding,) = [one for one in eyeshot.inspect(net, size).findings if one.title == "not compared"]
    assert ("too large" if huge else "meta device") in finding.cause


def test_a_network_that_cannot_be_called_is_run_with_a_warning() -> None:
    def uncalled(n: Any, x: Tensor) -> Any:
        if not torch.compiler.is_exporting():
            raise ValueError("no license")
        return n.a(x)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        eyeshot.run(net_of(uncalled), PICTURE)
    said = [str(one.message) for one in caught if "not compared" in str(one.message)]
    assert said == [
        "the traced network was not compared with the network itself: called on noise, it raises "
        "ValueError: no license"
    ]


def test_random_layers_and_other_outputs_are_compared_too() -> None:
    def several(n: Any, x: Tensor) -> Any:
        y = nn.functional.dropout(n.a(x), 0.5)
        return {"constant": torch.ones(3), "map": y, "label": y.argmax(1), "half": y.half()}

    inspection = eyeshot.inspect(net_of(several), SIZE)
    assert not inspection.graph.unchecked
    assert len(inspection.graph.outputs) == 3


def test_the_networks_random_state_is_not_drawn_from() -> None:
    state = torch.random.get_rng_state()
    eyeshot.inspect(net_of(lambda n, x: nn.functional.dropout(n.a(x))), SIZE)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("result", [*OTHERS.values(), None], ids=[*OTHERS, "the same"])
def test_a_large_picture_is_compared_without_another_trace(
    result: Result | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[object] = []
    trace = frontend.traced

    def counted(*args: Any) -> Graph:
        traced.append(args)
        return trace(*args)

    monkeypatch.setattr(frontend, "traced", counted)
    net = net_of(result or (lambda n, x: n.b(n.a(x))))
    if result is None:
        assert not frontend.graph_of(net, (SIZE[0], 20_000, 20_000)).unchecked
        assert len(traced) == 1
    else:
        with pytest.raises(Unsupported, match="something else when traced than when called"):
            frontend.graph_of(net, (SIZE[0], 20_000, 20_000))


def test_a_graph_that_names_its_size_is_traced_at_another() -> None:
    """A size among the arguments of a call: the graph of one size is none of another."""
    net = net_of(lambda n, x: n.a(x).reshape(1, -1, x.shape[2] * x.shape[3]).mean(1))
    assert not frontend.graph_of(net, (SIZE[0], 20_000, 20_000)).unchecked
