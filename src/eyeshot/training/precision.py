"""In which precision a network learns, and when bfloat16 is not to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import RunConfig
from eyeshot.training.chance import generators_restored
from eyeshot.training.own_network import OwnNet
from eyeshot.training.tasks import build_learner

PRECISIONS = ("auto", "32-true", "bf16-mixed")
UNITS = ("amx_bf16", "avx512_bf16")
"""Of processors: training was measured to be faster in bfloat16 than in float32 with them."""
_BATCH = 2
_VOLUME_WEIGHT = 5  # axes of the weight of a convolution over volumes


def choose_precision(name: str, task: str, device: str, *, own: bool = False) -> str:
    """The precision that "auto" means for a task on a device; any other name unchanged.

    If the processor multiplies matrices of bfloat16 (:data:`UNITS`), convolutions take a fraction
    of the time. Sums, weights and all evaluation stay in float32. On a GPU and with AMX,
    classifiers of small pictures gain nothing. On a processor, networks of the user's own learn in
    float32: oneDNN has faults in bfloat16 that are found by trying alone, and only the networks
    with a name have been tried.

    Raises:
        UnknownName: no such precision.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    if name != "auto":
        return name
    if device == "cuda":
        has_units = task != "classify" and torch.cuda.is_bf16_supported(including_emulation=False)
    elif device != "cpu" or own:
        has_units = False
    else:
        capabilities = torch.cpu.get_capabilities()
        has_units = any(capabilities.get(unit) for unit in UNITS)
        has_units &= task != "classify" or not capabilities.get("amx_bf16")
    return "bf16-mixed" if has_units else "32-true"


def settle_precision(
    config: RunConfig,
    own: OwnNet | None,
    asked: str | None,
    sizes: Iterable[tuple[int, ...]],
    say: Callable[[str], None],
) -> RunConfig:
    """The configuration, in float32 where bfloat16 was not asked for and would give wrong numbers.

    Args:
        config: of the run.
        own: the user's own network, if there is one.
        asked: the precision that the caller asked for; None or "auto" if it was chosen.
        sizes: of the pictures or crops to learn from.
        say: is given the reason.

    Raises:
        BadValue: bfloat16 was asked for, and would give wrong gradients.
    """
    recipe = config.recipe
    if recipe.precision != "bf16-mixed" or recipe.device != "cpu":
        return config
    fault = _wrong_convolution(config, own, sizes)
    if asked not in (None, "auto"):
        if fault is not None:
            raise BadValue(
                f"precision is {asked}, and {fault} gives wrong gradients on processors",
                cure="use 32-true",
            )
        return config
    if fault is None:
        return config
    say(f"{config.model} learns in float32, because {fault} gives wrong gradients in bfloat16")
    return replace(config, recipe=replace(recipe, precision="32-true"))


def _wrong_convolution(
    config: RunConfig, own: OwnNet | None, sizes: Iterable[tuple[int, ...]]
) -> str | None:
    """The first convolution of the network that is not to be trusted in bfloat16; None if all are.

    The smallest sizes are tried: larger ones have larger maps.
    """
    every = list(sizes)
    smallest = {min(every, key=lambda size, axis=axis: size[axis]) for axis in range(len(every[0]))}  # type: ignore[misc]
    # Somebody's own may need numbers; ours run without memory.
    with torch.device("cpu" if own else "meta"), generators_restored():
        net = (own.build() if own else build_learner(config)).train()
        for size in sorted(smallest):
            seen = _Convolutions()
            try:
                with seen:
                    net(torch.rand(_BATCH, config.channels, *size))
            except Exception:  # somebody's forward may raise anything
                if own is None:
                    raise
                return None  # the first step will name it
            if seen.wrong:
                return seen.wrong
    return None


class _Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks for convolutions of which oneDNN computes garbage in bfloat16 (seen in torch 2.13).

    On processors with AVX-512 BF16, the gradient of the weight is garbage over a map that is
    smaller than the kernel (with a stride of 2; for volumes with any stride), of dilated kernels
    (two axes, channels last) and of transposed ones with groups over volumes. With AMX, so are
    answers over volumes and with a single column.

    Attributes:
        wrong: the first of them, in words; empty if there was none.
    """

    wrong: str = ""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._amx = bool(torch.cpu.get_capabilities().get("amx_bf16"))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The call's result; a convolution's sizes are looked at."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and not self.wrong:
            value, weight, _, _, _, dilation, transposed, _, groups = args
            large, small = (result, value) if transposed else (value, result)
            kernel, map_size = weight.shape[2:], large.shape[2:]
            spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
            narrow = any(n < span for n, span in zip(map_size, spans, strict=True))
            volume, dilated = weight.ndim == _VOLUME_WEIGHT, len(kernel) > 1 and max(dilation) > 1
            grouped = volume and transposed and groups > 1
            if narrow or grouped or (self._amx and (volume or small.shape[-1] == 1)):
                self.wrong = f"a convolution of {_by(kernel)} over a map of {_by(map_size)}"
            elif dilated:
                self.wrong = f"a convolution of {_by(kernel)} with a dilation of {_by(dilation)}"
        return result


def _by(size: Iterable[int]) -> str:
    return "×".join(map(str, size))
