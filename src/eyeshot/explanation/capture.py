"""What went into one layer of a running network, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.explanation.functions import Ears, as_layer
from eyeshot.explanation.reading import count_spatial_axes
from eyeshot.features.recording import listening
from eyeshot.untouched import untouched


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one layer; ``input`` and ``output`` are copies, (N, C, *sizes) or (N, …, I)."""

    name: str
    layer: nn.Module
    input: Tensor
    output: Tensor


def record(net: nn.Module, x: Tensor, name: str, call: int = 0) -> Call:
    """Run ``net`` on ``x`` once and keep what the layer ``name`` took and gave.

    Names are those of modules, and those that ``see`` prints: ``conv#2`` for a second call,
    ``block.conv2d`` for a function that a ``forward`` calls.

    Raises:
        UnknownName: no such layer.
        BadValue: the network refuses ``x``, or does not call the layer that often.
        Unsupported: the layer does not map one batch of tensors to another.
    """
    layers = {
        dotted or type(net).__name__: module
        for dotted, module in net.named_modules(remove_duplicate=False)
    }
    if name not in layers:
        base, _, times = name.rpartition("#")
        if base not in layers or not times.isdigit():
            return _function(net, x, name, layers)
        return record(net, x, base, int(times) - 1)
    calls = _run(net, x, layers[name])
    if not 0 <= call < len(calls):
        raise BadValue(
            f"layer {name!r} is called {len(calls)} times for this input, and call {call} is asked "
            "for",
            cure="count from 0" if calls else "name a layer that the network uses",
        )
    taken, given = calls[call]
    if not isinstance(taken, Tensor) or not isinstance(given, Tensor):
        raise Unsupported(
            f"layer {name!r}, a {type(layers[name]).__name__}, does not map one tensor to another",
            cure="name a convolution, transposed convolution, pool or linear layer",
        )
    heard = Call(name, layers[name], taken, given)
    _check_batch(heard, len(x))
    return heard


def _function(net: nn.Module, x: Tensor, name: str, layers: Iterable[str]) -> Call:
    """What a function took and gave that is no module of the network."""
    ears = Ears(len(x), name)
    with _passing(net, x), listening(net, ears):
        net(x)
    if ears.found is None:
        raise UnknownName("layer", name, dict.fromkeys([*layers, *ears.names]))
    kind, args, kwargs, output = ears.found
    layer, given = as_layer(name, kind, args, kwargs)
    heard = Call(name, layer, given, output)
    _check_batch(heard, len(x))
    return heard


def _run(net: nn.Module, x: Tensor, layer: nn.Module) -> list[tuple[Any, Any]]:
    """What ``layer`` took and gave at each of its calls."""
    calls: list[tuple[Any, Any]] = []

    def keep(_: nn.Module, taken: tuple[Any, ...], given: Any) -> None:
        # Copies, since a ReLU in place after the layer would write over its output.
        calls.append((_copy(taken[0] if taken else None), _copy(given)))

    with _passing(net, x):
        layer.register_forward_hook(keep)
        net(x)
    return calls


@contextmanager
def _passing(net: nn.Module, x: Tensor) -> Iterator[None]:
    """One pass in eval mode, without gradients, which leaves the network as it was."""
    try:
        with untouched(net), full_precision(), torch.no_grad():
            net.eval()
            yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise BadValue(
            f"the network refused an input of shape {tuple(x.shape)}, {x.dtype}: {reason}",
            cure="give the size, channels and type that it was trained with",
        ) from error


def _check_batch(heard: Call, batch: int) -> None:
    """Refuse a layer whose input or output has not one entry for each picture."""
    axes = count_spatial_axes(heard.layer)
    kept = all(t.ndim > 1 and len(t) == batch for t in (heard.input, heard.output))
    if not kept or (axes and heard.input.ndim != axes + 2):
        raise Unsupported(
            f"layer {heard.name!r} takes {tuple(heard.input.shape)} and gives "
            f"{tuple(heard.output.shape)} for a batch of {batch}",
            cure="name a layer that keeps one entry for each picture",
        )


@contextmanager
def full_precision() -> Iterator[None]:
    """No TensorFloat-32 within the block: on a GPU it rounds factors to ten bits."""
    kinds = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    kept = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, kept, strict=True):
            kind.fp32_precision = precision


def _copy(value: Any) -> Any:
    if isinstance(value, tuple) and value:  # a pool that also returns indices
        value = value[0]
    return value.detach().clone() if isinstance(value, Tensor) else value
