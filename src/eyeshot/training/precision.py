"""In which precision a network learns, and when bfloat16 is not to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from eyeshot.errors import BadValue, UnknownName
from eyeshot.frontends.refusals import in_brief
from eyeshot.runs import RunConfig
from eyeshot.training.behavior import ask_once
from eyeshot.training.chance import generators_restored
from eyeshot.training.own_network import OwnNet
from eyeshot.training.tasks import build_learner

PRECISIONS = ("auto", "32-true", "bf16-mixed")
UNITS = ("amx_bf16", "avx512_bf16")
"""Of processors: training was measured to be faster in bfloat16 than in float32 with them."""
_BATCH = 2
_VOLUME_WEIGHT = 5  # axes of the weight of a convolution over volumes


def choose_precision(name: str, task: str, device: str) -> str:
    """The precision that "auto" means for a task on a device; any other name unchanged.

    If the processor multiplies matrices of bfloat16 (:data:`UNITS`), convolutions take a fraction
    of the time. Sums, weights and all evaluation stay in float32. On a GPU, classifiers of small
    pictures gain nothing.

    Raises:
        UnknownName: no such precision.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    if name != "auto":
        return name
    if device == "cuda":
        has_units = task != "classify" and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
        has_units = any(capabilities.get(unit) for unit in UNITS)
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
                cure="use 32-true, or larger pictures",
            )
        return config
    if fault is not None:
        reason = f"{fault} gives wrong gradients in bfloat16"
    elif own is not None and config.task in ("classify", "segment") and own.gives_shares[True]:
        reason = "it ends in a softmax, whose answers bfloat16 would round"
    elif own is not None and (error := _fault_in_bfloat16(own)) is not None:
        reason = f"it fails in bfloat16: {error}"
    else:
        return config
    say(f"{own.name if own else config.model} learns in float32, because {reason}")
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

    Over a map that is smaller than the kernel, the gradient of the weight is garbage: with a stride
    of 2 on processors with AVX-512 BF16, for volumes with any stride. With AMX, so are answers over
    volumes and with a single column.

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
            value, weight, _, _, _, dilation, transposed, *_ = args
            large, small = (result, value) if transposed else (value, result)
            kernel, map_size = weight.shape[2:], large.shape[2:]
            spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
            narrow = any(n < span for n, span in zip(map_size, spans, strict=True))
            if narrow or (self._amx and (weight.ndim == _VOLUME_WEIGHT or small.shape[-1] == 1)):
                self.wrong = f"a convolution of {_by(kernel)} over a map of {_by(map_size)}"
        return result


def _by(size: Iterable[int]) -> str:
    return "×".join(map(str, size))


def _fault_in_bfloat16(own: OwnNet) -> str | None:
    """What goes wrong if a network learns in mixed precision, in a line; None if nothing does.

    As Fabric does it: pictures in bfloat16, under an autocast.
    """
    noise = torch.rand(_BATCH, *own.example, generator=torch.Generator().manual_seed(0)).bfloat16()
    net = own.build().train()
    with generators_restored():
        try:
            with torch.autocast("cpu", torch.bfloat16):
                answer = ask_once(own, net, noise)
            answer.float().sum().backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # somebody's forward may raise anything
            return in_brief(error)
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    if not all(bool(tensor.isfinite().all()) for tensor in (answer, *gradients)):
        return "its answer or a gradient is not a finite number"
    return None
