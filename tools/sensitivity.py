"""How far rounding alone moves each number of a network's whole pass, asked of torch alone.

Two correct programs round differently: they add in another order, fold a batch norm, fuse a
product. By how much their answers may differ is a property of the network, and :class:`Reference`
measures it: it runs the network again with the operands and the result of each operator that rounds
off by a few units in the last place. A number that stays where it is has to be met to the
tolerance; one that sways may be missed by ten times as much as it sways. Where a network jumps (a
value that lies on the threshold it is compared with, a vector of length zero that is normalized), a
rounding decides, and a comparison says nothing: such numbers are counted apart, one by one (and
what is farther away than twice the jump is wrong all the same). Nothing of this looks at the result
that is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

Array = NDArray[Any]
SLACK = {torch.float32: 1e-5, torch.float64: 1e-11}
"""Relative to the largest number of an output, what two whole passes may always differ by."""
_ULPS = 4
"""The standard deviation of the changes, in units in the last place."""
_FEW, _MANY = 2, 40
"""Passes before a comparison, and where the comparison fails."""
_MARGIN, _JUMP = 10, 2
"""By how many times as much as it sways a number may be missed; and one that says nothing."""
_SILENT = 1e-2
"""Relative to the largest number of an output: what may be missed by more says nothing."""

EXACT = frozenset(
    (
        *("_to_copy", "_unsafe_view", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
        *("_upsample_nearest_exact3d", "abs", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        *("alias", "amax", "amin", "argmax", "argmin", "cat", "ceil", "channel_shuffle", "clamp"),
        *("clamp_max", "clamp_min", "clone", "constant_pad_nd", "empty", "eq", "flip", "floor"),
        *("gather", "ge", "gt", "hardshrink", "hardtanh", "index", "index_select", "le", "lt"),
        *("masked_fill", "max", "max_pool2d_with_indices", "max_pool3d_with_indices", "maximum"),
        *("min", "minimum", "ne", "neg", "new_empty", "pixel_shuffle", "pixel_unshuffle"),
        *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "relu", "repeat"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d", "roll", "round", "sign"),
        *("sort", "stack", "trunc", "upsample_nearest1d", "upsample_nearest2d"),
        *("upsample_nearest3d", "where"),
    )
)
"""Operators of aten that move, choose and compare numbers, and round none."""


class Perturbed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, each operator that rounds has its operands and its result changed by a few ulps."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """One operator of aten."""
        schema = func._schema
        exact = schema.name.removeprefix("aten::") in EXACT
        if exact or func.is_view or schema.is_mutable:
            return func(*args, **(kwargs or {}))
        changed = tree_map(self.change, (args, kwargs or {}))
        return tree_map(self.change, func(*changed[0], **changed[1]))

    def change(self, value: Any) -> Any:
        """A tensor of real numbers, each a few units in the last place away; the rest as it is."""
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        step = torch.randn(value.shape, generator=self._generator, dtype=value.dtype)
        return value * (1 + _ULPS * torch.finfo(value.dtype).eps * step)


def whole(net: nn.Module, images: Sequence[torch.Tensor]) -> list[Array]:
    """One whole pass: every output without its batch."""
    with torch.no_grad():
        given = net(*(image[None] for image in images))
    return [one[0].numpy() for one in (given if isinstance(given, tuple) else (given,))]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found.

    Attributes:
        why: what is wrong; empty if nothing is.
        numbers: how many were compared.
        silent: how many of them say nothing, as rounding alone moves them as far.
        jumped: how many of those differed by more than the tolerance.
    """

    why: str = ""
    numbers: int = 0
    silent: int = 0
    jumped: int = 0


class Reference:
    """The whole pass of a network, and how far rounding alone moves each of its numbers.

    Attributes:
        truth: every output of ``net(x)`` without its batch.
    """

    def __init__(self, net: nn.Module, images: Sequence[torch.Tensor], dtype: torch.dtype) -> None:
        self._net, self._images, self._slack = net, images, SLACK[dtype]
        self.truth = whole(net, images)
        self._sways = [np.zeros(one.shape) for one in self.truth]
        self._passes = 0

    def compare(
        self, found: Sequence[Array], region: Sequence[tuple[int, int]] | None = None
    ) -> Verdict:
        """Hold outputs, or a region of each, against the whole pass."""
        self._pass_again(_FEW)
        verdict = self._compared(found, region)
        if not verdict.why or self._passes >= _MANY:
            return verdict
        self._pass_again(_MANY)  # a jump shows in half of the passes alone
        return self._compared(found, region)

    def _pass_again(self, times: int) -> None:
        while self._passes < times:
            self._passes += 1
            perturbed = Perturbed(self._passes)
            images = [perturbed.change(image) for image in self._images]
            with perturbed:
                others = whole(self._net, images)
            for sway, one, other in zip(self._sways, self.truth, others, strict=True):
                np.maximum(sway, _apart(one, other), out=sway)

    def _compared(
        self, found: Sequence[Array], region: Sequence[tuple[int, int]] | None
    ) -> Verdict:
        numbers = silent = jumped = 0
        for i, (part, one, sway) in enumerate(zip(found, self.truth, self._sways, strict=True)):
            most = _SILENT * _largest(one)
            mute = _MARGIN * sway > most
            leeway = np.where(mute, np.maximum(most, _JUMP * sway), _MARGIN * sway)
            if region is not None:
                cut = (slice(None), *(slice(lo, hi) for lo, hi in region))
                one, leeway, mute = one[cut], leeway[cut], mute[cut]
            if part.shape != one.shape or part.dtype != one.dtype:
                return Verdict(
                    f"output {i}: {part.shape} {part.dtype}, not {one.shape} {one.dtype}"
                )
            error, slack = _apart(part, one), self._slack * _largest(one)
            wrong = error > slack + leeway
            if wrong.any():
                worst, count = error[wrong].max(), int(wrong.sum())
                return Verdict(f"output {i}: {worst:.2g} off, {count} numbers")
            numbers, silent = numbers + mute.size, silent + int(mute.sum())
            jumped += int((mute & (error > slack)).sum())
        return Verdict("", numbers, silent, jumped)


def _apart(one: Array, other: Array) -> Array:
    """How far numbers are apart: infinitely where one of them alone is no number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0.0, np.nan_to_num(apart, nan=np.inf, posinf=np.inf))


def _largest(one: Array) -> float:
    return float(np.abs(one.astype(np.float64)).max(initial=0.0))
