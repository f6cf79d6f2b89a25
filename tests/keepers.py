"""Networks that share, tie, count, cache and re-parameterise, as people's networks do."""

from __future__ import annotations

import functools
import random
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

CHANNELS = 3
_SEEN: list[Tensor] = []
_CALLS = 0


def conv(channels: int = CHANNELS, out: int = CHANNELS) -> nn.Conv2d:
    """3x3 with padding."""
    return nn.Conv2d(channels, out, 3, padding=1)


class Simple(nn.Module):
    """A convolution, and one thing that is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class SharedActivation(nn.Module):
    """One PReLU handed to every block."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.PReLU()
        self.a, self.b = nn.Sequential(conv(), act), nn.Sequential(conv(), act)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x))
        return y


class Siamese(nn.Module):
    """A layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv()
        self.both = nn.ModuleList([self.first, conv()])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.both[1](self.first(x))
        return y


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x))
        return y


class Reading(nn.Module):
    """Reads its input's size, so that sizes are asked by runs on shapes."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.body(x), size=x.shape[2:])


class Anchors(Simple):
    """Keeps anchors for the last size, as heads of detectors do."""

    shape: torch.Size | None = None
    anchors = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if self.shape != y.shape:
            self.shape = y.shape
            self.anchors = torch.arange(y.shape[3]).float().expand(y.shape[2], -1).contiguous()
        return y + self.anchors


class Last(Simple):
    """Keeps its last map."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        self.last = y.detach()
        return y


class Counting(Simple):
    """Counts its calls in a buffer, a plain tensor, a number, an array and a deque."""

    count: Tensor
    hidden: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.plain, self.number, self.array = torch.zeros(1), 0, np.zeros(3)
        self.recent: deque[int] = deque(maxlen=4)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.hidden.data.add_(1)
        self.plain.add_(1)
        self.number += 1
        self.array += 1
        self.recent.append(self.number)
        y: Tensor = self.conv(x)
        return y


class Lazily(Simple):
    """Makes a buffer when the first picture comes."""

    kernel: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel is None:
            self.kernel = torch.ones(CHANNELS, 1, 3, 3) / 9
        return nn.functional.conv2d(self.conv(x), self.kernel, padding=1, groups=CHANNELS)


@dataclass
class State:
    """What a network keeps in an object of its own."""

    steps: int = 0
    grids: dict[tuple[int, ...], Tensor] = field(default_factory=dict)


class Holding(Simple):
    """Keeps tensors in lists, dictionaries, a dataclass, a class, a global, a default, a cache."""

    known: dict[int, Tensor] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.scales = [torch.ones(1), torch.full((1,), 2.0)]
        self.state = State()

    def forward(self, x: Tensor, kept: list[Tensor] = []) -> Tensor:  # noqa: B006
        global _CALLS
        _CALLS += 1
        size = tuple(x.shape[2:])
        self.state.steps += 1
        if size not in self.state.grids:
            self.state.grids[size] = torch.zeros(size)
        self.known[size[0]] = torch.ones(1)
        type(self).latest = size  # type: ignore[attr-defined]
        y: Tensor = self.conv(x) + self.state.grids[size] + _grid(*size)
        kept.append(y)
        _SEEN.append(y)
        self.scales.append(self.scales.pop(0))
        return y * self.scales[0]


@functools.lru_cache
def _grid(height: int, width: int) -> Tensor:
    return torch.zeros(height, width)


class Reparameterised(nn.Module):
    """Makes a layer's weight from another's at every pass, as SPAN does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.e = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        self.e.weight.data = self.a.weight.data.clone() * 2
        y: Tensor = self.e(x)
        return y


class Overwriting(Simple):
    """Writes to its weight in place, by torch and by NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.ones(1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.conv.weight.clamp_(-0.1, 0.1)
        self.conv.weight.requires_grad_(False)
        self.gain.numpy()[0] *= 1.5
        y: Tensor = self.conv(x)
        return y


class Chancy(Simple):
    """Draws random numbers of every kind at each pass, and uses none."""

    def __init__(self) -> None:
        super().__init__()
        self.own = torch.Generator()
        self.python, self.numpy = random.Random(0), np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        random.random(), np.random.rand(), torch.rand(1)
        torch.rand(1, generator=self.own), self.python.random(), self.numpy.random()
        y: Tensor = self.conv(x)
        return y


class Hooked(Simple):
    """Hooks that fill a list outside, take themselves away, and put others in."""

    def __init__(self) -> None:
        super().__init__()
        features: list[Tensor] = []
        self.features = features
        self.conv.register_forward_hook(lambda *call: features.append(call[2]))
        once: Any = self.conv.register_forward_pre_hook(lambda *_: once.remove())

    def forward(self, x: Tensor) -> Tensor:
        self.conv.register_forward_hook(lambda *_: None)
        self.extra = nn.Identity()
        self.train(False)
        y: Tensor = self.extra(self.conv(x))
        return y


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("last", "steps")

    def __init__(self) -> None:
        self.steps = 0


class Odd(Simple):
    """Keeps its state in slots, and gradients beside its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slotted()
        self.conv(torch.ones(1, CHANNELS, 4, 4)).sum().backward()

    def forward(self, x: Tensor) -> Tensor:
        self.slots.steps += 1
        self.slots.last = x  # type: ignore[attr-defined]
        self.conv.bias.grad = None  # type: ignore[union-attr]
        y: Tensor = self.conv(x)
        return y


class Double(nn.Module):
    """A parametrization of one's own."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def parametrized() -> nn.Module:
    """Weights that are computed: by a function, by weight and by spectral norm, new and old."""
    layers = [conv() for _ in range(5)]
    parametrize.register_parametrization(layers[0], "weight", Double())
    parametrizations.weight_norm(layers[1])
    parametrizations.spectral_norm(layers[2])
    old: Any = nn.utils
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and in use
        old.spectral_norm(layers[3])
        old.weight_norm(layers[4])
    return nn.Sequential(*layers)


def norms() -> nn.Module:
    """Norms that write to their statistics, one of them whatever its mode."""

    class Always(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, training=True
            )

    return nn.Sequential(conv(), Always(CHANNELS), nn.BatchNorm2d(CHANNELS), nn.Dropout(0.5))


def classifier() -> nn.Module:
    """Ends in a linear layer over shared features; half of it in training mode."""
    net = nn.Sequential(SharedActivation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    net.eval()[0].train()
    return net


def lazy() -> nn.Module:
    """Layers that have no shape until the first picture comes."""
    return nn.Sequential(nn.LazyConv2d(3, 3, padding=1), nn.LazyBatchNorm2d())


KEEPERS: dict[str, Callable[[], nn.Module]] = {
    **{kind.__name__: kind for kind in (SharedActivation, Siamese, Tied, Anchors, Last, Counting)},
    **{kind.__name__: kind for kind in (Lazily, Holding, Reparameterised, Overwriting, Chancy)},
    **{kind.__name__: kind for kind in (Hooked, Odd)},
    "shared, sizes read": lambda: Reading(SharedActivation()),
    "siamese, sizes read": lambda: Reading(Siamese()),
    "anchors, sizes read": lambda: Reading(Anchors()),
    "counting, sizes read": lambda: Reading(Counting()),
    "parametrized": parametrized,
    "norms": norms,
    "classifier": classifier,
    "lazy": lazy,
}
