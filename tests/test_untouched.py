"""After any function of ours a network is bit for bit what it was."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import EyeshotError
from eyeshot.untouched import Snapshot, Writes, untouched
from tests import keepers
from tests.keepers import KEEPERS

SIZE = (3, 8, 7)
PICTURE = torch.linspace(0, 1, 3 * 8 * 7).reshape(1, *SIZE)


def _run(net: nn.Module) -> None:
    eyeshot.run(net, PICTURE[0])


def _stream(net: nn.Module) -> None:
    rows = eyeshot.stream(net, width=7)
    for row in range(8):
        rows.push(PICTURE[0, :, row : row + 1].numpy())
    rows.finish()


CALLS: dict[str, Callable[[nn.Module], object]] = {
    "inspect": lambda net: eyeshot.inspect(net, SIZE),
    "run": _run,
    "see": lambda net: eyeshot.see(net, PICTURE),
    "explain": lambda net: eyeshot.explain(net, PICTURE, layer=_first_conv(net), unit=(0, 1, 1)),
    "dense": lambda net: eyeshot.dense(net, SIZE),
    "stream": _stream,
    "receptive_field": lambda net: eyeshot.receptive_field(net, SIZE),
    "trace": lambda net: [eyeshot.run(eyeshot.trace(net), PICTURE[0]) for _ in range(2)],
    "run of other channels": lambda net: eyeshot.run(net, torch.zeros(5, 8, 7)),
    "inspect of other channels": lambda net: eyeshot.inspect(net, (5, 8, 7)),
    "see another shape": lambda net: eyeshot.see(net, torch.zeros(1, 5, 8, 7)),
    "explain no layer": lambda net: eyeshot.explain(net, PICTURE, layer="no", unit=(0, 1, 1)),
}


def _first_conv(net: nn.Module) -> str:
    names = [name for name, one in net.named_modules() if isinstance(one, nn.Conv2d)]
    return str(names[0])


def _all_of(net: nn.Module) -> tuple[Any, ...]:
    """Everything that makes the network what it is, as plain data."""
    world = (
        torch.random.get_rng_state().numpy().tobytes(),
        random.getstate(),
        str(np.random.get_state()),
        keepers._CALLS,
        tuple(map(id, keepers._SEEN)),
        keepers._grid.cache_info().currsize,
        torch.is_grad_enabled(),
    )
    holder = keepers.Holding
    seen: set[int] = set()
    kept = _plain(holder.forward.__defaults__, seen), _plain(holder.known, seen)
    return (*world, *kept, getattr(holder, "latest", None), _plain(net, seen))


def _plain(value: Any, seen: set[int]) -> Any:
    """An object's identity, and all that it holds."""
    if isinstance(value, (bool, int, float, str, bytes, type(None), torch.Size, type)):
        return value
    if id(value) in seen:
        return id(value)
    seen.add(id(value))
    if isinstance(value, Tensor):
        return _tensor(value, seen)
    if isinstance(value, np.ndarray):
        return (id(value), value.tobytes())
    if isinstance(value, (torch.Generator, random.Random, np.random.Generator)):
        state = value.get_state() if isinstance(value, torch.Generator) else None
        if state is not None:
            return (id(value), state.numpy().tobytes())
        own: Any = value
        source = own.getstate() if isinstance(value, random.Random) else own.bit_generator.state
        return (id(value), str(source))
    if isinstance(value, dict):
        return (id(value), tuple((key, _plain(one, seen)) for key, one in value.items()))
    if isinstance(value, (list, tuple, deque)):
        return (id(value), tuple(_plain(one, seen) for one in value))
    if isinstance(value, (set, frozenset)):
        return (id(value), frozenset(value))
    if isinstance(value, keepers.Slotted):
        return (id(value), value.steps, id(getattr(value, "last", None)))
    if isinstance(value, nn.Module) or dataclasses.is_dataclass(value):
        return (id(value), type(value), _plain(vars(value), seen))
    return id(value)


def _tensor(value: Tensor, seen: set[int]) -> Any:
    state: tuple[Any, ...] = (id(value), type(value), value.requires_grad)
    if nn.parameter.is_lazy(value):
        return state
    assert type(value) in (Tensor, nn.Parameter, nn.Buffer)
    numbers = value.detach().cpu().numpy().tobytes()
    layout = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
    gradient = _plain(value.grad, seen) if value.is_leaf else None
    return (*state, numbers, layout, value._backward_hooks, gradient)


def _made(name: str) -> nn.Module:
    """In eval mode, but for the network that has a mode of its own."""
    torch.manual_seed(0)
    keepers._grid.cache_clear()  # what another test has left there would be cleared with the rest
    net = KEEPERS[name]()
    return net if name == "classifier" else net.eval()


_ALL_CALLS = ("SharedActivation", "Counting", "Holding", "parametrized", "shared, sizes read")
"""Networks with which every function is called in every way; the others take the first of them."""


@pytest.mark.parametrize("name", KEEPERS)
def test_every_function_leaves_a_network_bit_for_bit_as_it_was(name: str) -> None:
    net = _made(name)
    for asked in CALLS if name in _ALL_CALLS else [*CALLS][:5]:
        before = _all_of(net)
        with contextlib.suppress(EyeshotError):
            CALLS[asked](net)
        after = _all_of(net)
        assert after == before, asked


@pytest.mark.parametrize("call", ["inspect", "run", "stream"])
@pytest.mark.parametrize(
    "norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm], ids=["hook", "new"]
)
def test_a_spectral_norm_in_training_mode_keeps_its_vectors(
    norm: Callable[[nn.Module], nn.Module], call: str
) -> None:
    """Its iteration writes with ``out=`` into its buffers, which depend on weights alone."""
    net = nn.Sequential(norm(nn.Conv2d(3, 2, 3))).train()
    before = _all_of(net)
    with contextlib.suppress(EyeshotError):
        CALLS[call](net)
    assert _all_of(net) == before


@pytest.mark.parametrize("call", ["inspect", "run", "see"])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError, ZeroDivisionError])
@pytest.mark.parametrize("name", ["Siamese", "Holding"])
def test_a_pass_that_breaks_off_leaves_it_as_it_was(
    name: str, call: str, raised: type[BaseException]
) -> None:
    inner = _made(name)

    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            self.inner(x)
            raise raised("here")

    net = Breaks().eval()
    before = _all_of(net)
    with pytest.raises((raised, EyeshotError)):
        CALLS[call](net)
        if call == "inspect":  # a failure behind the first layers is a finding
            raise raised
    assert _all_of(net) == before


def test_an_interrupt_while_all_is_put_back_waits_until_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, put_back = _made("Counting"), Snapshot.restore
    before, presses = _all_of(net), iter((True, True, False))

    def interrupted(self: Snapshot) -> None:
        if next(presses):
            raise KeyboardInterrupt
        put_back(self)

    monkeypatch.setattr(Snapshot, "restore", interrupted)
    with pytest.raises(KeyboardInterrupt), untouched(net):
        net(PICTURE)
    assert _all_of(net) == before


def test_within_the_block_the_network_keeps_what_it_keeps() -> None:
    net: Any = _made("Counting")
    with untouched(net), torch.inference_mode():
        net(PICTURE)
        net(PICTURE)
        assert (net.number, float(net.count), float(net.plain)) == (2, 2, 2)
    assert (net.number, float(net.count), float(net.plain)) == (0, 0, 0)


def test_weights_are_not_copied() -> None:
    """Only what is written to in place is."""
    net = nn.Sequential(keepers.conv(), keepers.norms()).eval()
    writes = Writes(Snapshot(net).tensors())
    with writes:
        net(PICTURE)
    names = [
        name
        for name, tensor in net.state_dict(keep_vars=True).items()
        if tensor.untyped_storage().data_ptr() in writes._saved
    ]
    assert names
    assert all("running" in name or name.startswith("1.2.") for name in names), names
    writes.restore()


def test_a_cache_of_shapes_holds_no_maps_without_numbers() -> None:
    net = _made("Holding")
    keepers._grid.cache_clear()
    eyeshot.inspect(net, SIZE)
    assert type(keepers._grid(8, 7)) is Tensor
    assert type(net(PICTURE)) is Tensor


@pytest.mark.parametrize(
    "name", [name for name in KEEPERS if name not in ("lazy", "norms", "Overwriting")]
)
def test_what_is_run_is_what_the_next_call_would_give(name: str) -> None:
    """A network that keeps a state is run from the state that it is in."""
    net = _made(name)
    net.eval()
    with untouched(net), torch.no_grad():
        expected = net(PICTURE)[0].numpy()
    np.testing.assert_allclose(eyeshot.run(net, PICTURE[0]), expected, atol=1e-5)
