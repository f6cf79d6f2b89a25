"""Outputs chosen by name: of a dict, a named tuple or a dataclass that ``forward`` returns.

The network is wrapped in a module that returns only these, so what the others alone need is not
computed, and everything else treats it as any network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, UnknownName


class NamedOutputs(nn.Module):
    """A network that returns only some of its outputs.

    Args:
        net: the network; it is not changed.
        names: of the outputs, in the order in which to return them.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self._names = tuple(names)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inputs (N, C, …) -> the chosen outputs.

        Raises:
            UnknownName: the network returns nothing of that name.
            BadValue: two outputs have one name.
        """
        listed = list(_named(self.net(*inputs), ""))
        found = dict(listed)
        twice = next((name for name in found if [n for n, _ in listed].count(name) > 1), None)
        if twice is not None:
            raise BadValue(
                f"two outputs of the network have the name {twice}", cure="rename one of its keys"
            )
        unknown = next((name for name in self._names if name not in found), None)
        if unknown is not None:
            raise UnknownName("output", unknown, tuple(found))
        return tuple(found[name] for name in self._names)


def _named(value: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor with its name: keys, fields and places, joined by dots."""
    if isinstance(value, torch.Tensor):
        yield prefix or "0", value
        return
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [(str(key), one) for key, one in value.items()]
    elif is_dataclass(value):
        parts = [(one.name, getattr(value, one.name)) for one in fields(value)]
    elif isinstance(value, list | tuple):
        names = getattr(value, "_fields", None) or map(str, range(len(value)))
        parts = list(zip(names, value, strict=True))
    for name, one in parts:
        yield from _named(one, f"{prefix}.{name}" if prefix else name)


def only_outputs(traced: Traced, names: str | Sequence[str] | None) -> Traced:
    """The network with some of its outputs.

    Args:
        traced: the network.
        names: as in what ``forward`` returns: the key of a dict, the field of a named tuple or a
            dataclass, the place in a list (``"0"``), joined by dots (``"aux.mask"``); None for all.

    Raises:
        BadValue: no name, or one name twice.
    """
    if names is None:
        return traced
    listed = [names] if isinstance(names, str) else [str(name) for name in names]
    twice = next((name for name in listed if listed.count(name) > 1), None)
    if not listed or twice is not None:
        fact = "no name" if twice is None else f"{twice!r} twice"
        raise BadValue(f"outputs: {fact}", cure="give the name of each output once")
    return traced.around(NamedOutputs(traced.module, listed), "outputs")
