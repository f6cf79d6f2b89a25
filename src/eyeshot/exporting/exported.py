"""What is exported, the sizes it is tried at, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eyeshot.errors import BadValue, Unsupported
from eyeshot.findings.wording import by, counted
from eyeshot.frontends.net_geometry import InputSizes
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.trials import input_dtype, runs_on_shapes
from eyeshot.runs import Run, RunConfig
from eyeshot.untouched import untouched

TOLERANCE = 1e-4
"""Of the largest absolute value: what two libraries may differ by."""
_ROUNDINGS = 16
"""In half precision, as many of its rounding errors, where these are larger."""
_MOST_GROWTH = 64


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file, compared with its network.

    Attributes:
        path: of the file.
        kind: what it is.
        tried: (N, C, H, W) of the inputs at which both were compared.
        apart: the largest difference there, of the largest absolute value.
        notes: what else there is to know.
    """

    path: Path
    kind: str
    tried: tuple[tuple[int, ...], ...]
    apart: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "tried": [list(shape) for shape in self.tried],
            "relative_difference": self.apart,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        sizes = ", ".join(by(shape) for shape in self.tried)
        lines = [f"{self.path}: {self.kind}; {self.apart:.1g} from the network at {sizes}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is to be written; see :func:`eyeshot.export`."""

    opset: int
    license: str | None = None
    authors: tuple[str, ...] = ()


class _Normalized(nn.Module):
    """A run's network behind its own mean and deviation; it takes samples (N, C, …)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, config: RunConfig) -> None:
        super().__init__()
        self.net = net
        for name in ("mean", "std"):
            self.register_buffer(name, by_channel(getattr(config, name), len(config.size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.net((x - self.mean) / self.std)
        return y


def by_channel(numbers: Sequence[float], axes: int) -> torch.Tensor:
    """A number for each channel of samples (C, …) with so many axes of space."""
    return torch.tensor(numbers).view(-1, *(1,) * axes)


@dataclass(frozen=True, eq=False)
class Target:
    """A network that is to be exported.

    Attributes:
        net: the network itself, in eval mode.
        size: (C, H, W) that it takes.
        run: the run that it is of, if any.
    """

    net: nn.Module
    size: tuple[int, ...]
    run: Run | None = None
    name: str = field(default="network")

    @cached_property
    def from_unit(self) -> nn.Module:
        """The network as it takes samples in 0 … 1, or of the run's own scale."""
        return self.net if self.run is None else _Normalized(self.net, self.run.config).eval()

    @property
    def samples(self) -> str:
        """What the file of a run takes, in words."""
        in_unit = self.run is None or self.run.config.in_unit
        return "samples in 0 … 1" if in_unit else "samples of the training images' own scale"

    @cached_property
    def growths(self) -> list[int]:
        """By how many pixels every side may grow."""
        runs, (channels, *sides) = runs_on_shapes(self.net), self.size
        return [
            more
            for more in range(1, _MOST_GROWTH + 1)
            if runs((1, channels, *(n + more for n in sides)))
        ]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Three inputs (N, C, …) to be tried: of other batches, and of other sizes if it takes any.

        The last one has sides of different lengths where it takes that.
        """
        channels, *sides = self.size
        if not self.growths:
            return tuple((count, *self.size) for count in (1, 2, 3))
        least, most = self.growths[0], self.growths[-1]
        last = (3, channels, *sides[:-1], sides[-1] + most)
        if not runs_on_shapes(self.net)(last):
            last = (3, channels, *(n + most for n in sides))
        return (1, *self.size), (2, channels, *(n + least for n in sides)), last


def target_of(net: nn.Module | Run, size: Sequence[int] | None) -> Target:
    """What is to be exported, at a size that it takes.

    Raises:
        BadValue: it does not take the size; or it is in training mode.
    """
    run = net if isinstance(net, Run) else None
    module = net.net if isinstance(net, Run) else net
    check_module(module)
    if any(child.training for child in module.modules()):
        raise BadValue("the network is in training mode", cure="call net.eval() first")
    if size is None and run is not None:
        size = (run.config.channels, *run.config.size)
    if size is None:
        sizes = InputSizes(module)
        size = (sizes.channels, sizes.usual, sizes.usual)
    shape = (1, *map(int, size))
    if min(shape) < 1 or not runs_on_shapes(module)(shape):
        raise BadValue(
            f"size {by(size)}: the network does not take it",
            cure="give one that it takes (eyeshot inspect names the nearest)",
        )
    name = type(module).__name__ if run is None else run.path.name
    return Target(module, tuple(shape[1:]), run, name)


def noise(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Samples in 0 … 1."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tensors_of(answer: Any) -> list[torch.Tensor]:
    """What a network returned, as a list.

    Raises:
        Unsupported: it returns something else than tensors.
    """
    outputs = [answer] if isinstance(answer, torch.Tensor) else answer
    outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
    several = isinstance(outputs, list | tuple)
    if not several or not all(isinstance(one, torch.Tensor) for one in outputs):
        raise Unsupported(
            f"the network returns a {type(answer).__name__}", cure="return one or more tensors"
        )
    return list(outputs)


def compared(
    net: nn.Module,
    other: Callable[[torch.Tensor], Sequence[Any]],
    shapes: Sequence[Sequence[int]],
) -> float:
    """The largest difference of a written network from the network itself, of its largest value.

    Raises:
        Unsupported: they differ by more than two libraries may.
    """
    worst, dtype = 0.0, input_dtype(net)
    allowed = max(TOLERANCE, _ROUNDINGS * torch.finfo(dtype).eps)
    for shape in shapes:
        x = noise(shape).to(dtype)
        with untouched(net), torch.no_grad():
            expected = tensors_of(net(x.clone()))  # forward may write into it
            actual = [torch.as_tensor(one) for one in other(x)]
        if [one.shape for one in actual] != [one.shape for one in expected]:
            sizes = (joined_shapes(one) for one in (actual, expected))
            fact = "at {} the file gives {}, and the network {}".format(by(shape), *sizes)
            raise Unsupported(fact, cure="export it at another --size")
        for mine, theirs in zip(actual, expected, strict=True):
            scale = max(float(theirs.abs().max()), 1e-6) if theirs.numel() else 1.0
            apart = float((mine - theirs).abs().max()) / scale if theirs.numel() else 0.0
            if not apart <= allowed:
                raise Unsupported(
                    f"at {by(shape)} the file is {apart:.2g} of the largest value away from the "
                    "network",
                    cure="leave out what it draws at random, or export it at another --size",
                )
            worst = max(worst, apart)
    return worst


def joined_shapes(tensors: Sequence[torch.Tensor]) -> str:
    """``1x2x64x64 and 1x10``, or how many there are where they are many."""
    if len(tensors) > 4:
        return counted(len(tensors), "output")
    return " and ".join(by(tuple(one.shape)) for one in tensors) or "nothing"
