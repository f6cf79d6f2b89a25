"""A convolution, pool or linear layer that a ``forward`` calls as a function, heard as a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.errors import Unsupported
from eyeshot.features.recording import Recorder

Arguments = Mapping[str, Any]

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG_POOL = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")


class Ears(Recorder):
    """Hears every call under the name that ``see`` prints, and keeps one of them."""

    def __init__(self, batch: int, wanted: str) -> None:
        super().__init__(batch, frozenset())
        self.names: list[str] = []
        self.found: tuple[str, list[Any], dict[str, Any], Any] | None = None
        self._wanted = wanted
        self._times: Counter[str] = Counter()

    def keep(self, base: str, kind: str, came_in: Any, output: Any, parameters: int) -> None:
        """Note the call's name; keep copies of what it took and gave if it is the one."""
        self._times[base] += 1
        name = base if self._times[base] == 1 else f"{base}#{self._times[base]}"
        self.names.append(name)
        if name == self._wanted and isinstance(came_in, list):
            args, kwargs = came_in
            taken = [_copy(one) for one in args]
            self.found = kind, taken, {k: _copy(v) for k, v in kwargs.items()}, _copy(output)


def as_layer(
    name: str, kind: str, args: list[Any], kwargs: Mapping[str, Any]
) -> tuple[nn.Module, Tensor]:
    """The layer that does what a function was called to do, and what it was given.

    Raises:
        Unsupported: the function is not a convolution, pool or linear layer.
    """
    if kind not in _MAKERS:
        raise Unsupported(
            f"layer {name!r} is {kind}, which has no sum to show",
            cure="name a convolution, transposed convolution, pool or linear layer",
        )
    names, make = _MAKERS[kind]
    arguments = {**dict(zip(names, args, strict=False)), **kwargs}
    return make(kind, arguments), arguments["input"]


def _copy(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
        value = value[0]  # a pool that also returns indices
    return value.detach().clone() if isinstance(value, Tensor) else value


def _convolution(kind: str, arguments: Arguments) -> nn.Module:
    weight: Tensor = arguments["weight"]
    groups = arguments.get("groups", 1)
    transposed = kind.startswith("conv_transpose")
    first, second = weight.shape[0], weight.shape[1] * groups
    options = {
        key: arguments[key]
        for key in ("stride", "padding", "dilation", "output_padding", "groups")
        if key in arguments
    }
    made = _without_numbers(
        getattr(nn, ("ConvTranspose" if transposed else "Conv") + kind[-2:]),
        *((first, second) if transposed else (second, first)),
        tuple(weight.shape[2:]),
        bias=arguments.get("bias") is not None,
        device=weight.device,
        dtype=weight.dtype,
        **options,
    )
    return _filled(made, arguments)


_without_numbers: Callable[..., nn.Module] = torch.nn.utils.skip_init
"""Makes a layer, and draws no random numbers for its weights."""


def _linear(_: str, arguments: Arguments) -> nn.Module:
    weight: Tensor = arguments["weight"]
    made = _without_numbers(
        nn.Linear,
        weight.shape[1],
        weight.shape[0],
        bias=arguments.get("bias") is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    return _filled(made, arguments)


def _filled(layer: nn.Module, arguments: Arguments) -> nn.Module:
    for name in ("weight", "bias"):
        if arguments.get(name) is not None:
            setattr(layer, name, nn.Parameter(arguments[name], requires_grad=False))
    return layer


def _pool(kind: str, arguments: Arguments) -> nn.Module:
    words = [word.capitalize() for word in kind.split("_")]
    options = {key: value for key, value in arguments.items() if key not in _NOT_OPTIONS}
    if not options.get("stride", True):
        options["stride"] = None
    layer: nn.Module = getattr(nn, "".join(words))(**options)
    return layer


_NOT_OPTIONS = ("input", "return_indices")
_MAKERS: dict[str, tuple[tuple[str, ...], Callable[[str, Arguments], nn.Module]]] = {
    "linear": (_CONV[:3], _linear),
    **{f"conv{n}d": (_CONV, _convolution) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": ((*_TRANSPOSED, "dilation"), _convolution) for n in (1, 2, 3)},
    **{f"max_pool{n}d": (_MAX_POOL, _pool) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": ((*_AVG_POOL, "divisor_override"), _pool) for n in (1, 2, 3)},
    **{
        f"adaptive_{mean}_pool{n}d": (("input", "output_size"), _pool)
        for mean in ("avg", "max")
        for n in (1, 2, 3)
    },
}
