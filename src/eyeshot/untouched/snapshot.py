"""A snapshot of a network: every object that its forward can reach, and its contents.

Objects are kept by reference and compared by identity; nothing large is copied. Each kind of
object has its own record (:mod:`eyeshot.untouched.records`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import nn

from eyeshot.errors import BadValue
from eyeshot.untouched.records import OfTensor, Record, record_of

_MOST_OBJECTS = 200_000
"""Beyond so many, what a network refers to is data (a trainer's dataset), not its state."""
_MUCH = 1 << 22
_SMALLEST = 16
"""Numbers; more than torch.fx.experimental.proxy_tensor.CONSTANT_NUMEL_LIMIT."""


class Snapshot:
    """Everything reachable from a network, at the time of the snapshot.

    Attributes:
        holds_much: whether it has many numbers in tensors that are neither weights nor buffers.
        loose: these tensors; only the smallest of them if there are many numbers.

    Raises:
        BadValue: a layer of the network has no weights yet.
    """

    def __init__(self, net: nn.Module) -> None:
        _refuse_lazy(net)
        self._records: list[Record] = []
        seen: dict[int, object] = {}
        # A compiled module (TorchScript) shows its weights in no other way.
        waiting: deque[object] = deque((net, [*net.parameters(), *net.buffers()]))
        while waiting and len(seen) < _MOST_OBJECTS:
            value = waiting.popleft()
            if id(value) in seen:
                continue
            seen[id(value)] = value  # held, so that no other object takes its number
            record, parts = record_of(value)
            if record is not None:
                self._records.append(record)
            waiting.extend(parts)
        members = {id(one) for one in (*net.parameters(), *net.buffers())}
        loose = [one for one in self.tensors() if id(one) not in members]
        self.holds_much = sum(one.numel() for one in loose) > _MUCH
        # Export reckons with the numbers of the smallest tensors, and writes to them.
        self.loose = [one for one in loose if not self.holds_much or one.numel() <= _SMALLEST]

    def restore(self) -> None:
        """Restore everything."""
        for record in self._records:
            record.restore()

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor in the snapshot."""
        for record in self._records:
            if isinstance(record, OfTensor):
                yield record.value


def _refuse_lazy(net: nn.Module) -> None:
    """A lazy layer becomes another one at its first pass, which is not ours to make."""
    for name, module in net.named_modules():
        held = (*module._parameters.values(), *module._buffers.values())
        if any(one is not None and nn.parameter.is_lazy(one) for one in held):
            raise BadValue(
                f"layer {name or type(net).__name__} ({type(module).__name__}) has no weights yet",
                cure="call the network once on a picture of its size, net(x), to make them",
            )
