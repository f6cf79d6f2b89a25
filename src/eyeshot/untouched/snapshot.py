"""A snapshot of a network: every object that its forward can reach, and its contents.

Objects are kept by reference and compared by identity; nothing large is copied. Each kind of
object has its own record (:mod:`eyeshot.untouched.records`).

It also saves the state of every random generator that the network may draw from. Before a write
into the network's own memory the tensor is copied, and it is restored later.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

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


class Chance:
    """Python's, NumPy's and torch's global random states, as they were when it was made."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._torch = torch.random.get_rng_state()
        numpy: Any = sys.modules.get("numpy")
        self._numpy = numpy.random.get_state() if numpy else None
        started = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda = torch.cuda.get_rng_state_all() if started else None

    def restore(self) -> None:
        """Put them back."""
        random.setstate(self._python)
        torch.random.set_rng_state(self._torch)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


_HANDS_OUT = frozenset(
    {
        *("numpy", "__array__", "__dlpack__", "data_ptr"),
        *("untyped_storage", "storage", "_typed_storage"),
    }
)
"""Tensor methods that expose its memory: later writes to it cannot be observed."""


class Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operator before it runs, and copies the memory that it writes to."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own: dict[int, torch.UntypedStorage] = {}
        self._saved: dict[int, torch.UntypedStorage] = {}
        for tensor in tensors:
            storage = memory_of(tensor)
            if storage is not None:
                self._own[storage.data_ptr()] = storage

    def save(self, value: Any) -> None:
        """Copy the memory of a tensor, or of several, if it is the network's and not saved yet."""
        for one in value if isinstance(value, (list, tuple)) else (value,):
            storage = memory_of(one) if isinstance(one, torch.Tensor) else None
            place = storage.data_ptr() if storage is not None else 0
            if place in self._own and place not in self._saved:
                with _disable_current_modes():  # in a trace even a copy would have no numbers
                    self._saved[place] = self._own[place].clone()  # type: ignore[no-untyped-call]

    def restore(self) -> None:
        """Restore the saved values."""
        for place, saved in self._saved.items():
            storage = self._own[place]
            if storage.nbytes() != saved.nbytes():
                storage.resize_(saved.nbytes())
            storage.copy_(saved)
        self._saved.clear()

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: no compiler is loaded (for two seconds) on behalf of this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Save the tensors that the operator writes to by its schema, and run it."""
        given: Mapping[str, Any] = kwargs or {}
        for place, name in _written(func):
            self.save(args[place] if place < len(args) else given.get(name))
        return func(*args, **given)


@functools.cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Place and name of each argument that an operator writes to."""
    # Batch norms of some kinds write to their statistics without a word in their schema.
    silent = "batch_norm" in getattr(func, "_opname", "")
    schema = getattr(func, "_schema", None)  # an operator that calls functions has none
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments if schema else ())
        if silent or (argument.alias_info is not None and argument.alias_info.is_write)
    )


class Handed(TorchFunctionMode):
    """Sees a tensor's memory handed to NumPy and the like, and copies it before."""

    def __init__(self, writes: Writes) -> None:
        super().__init__()
        self._writes = writes

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Save the exposed tensor, and make the call."""
        if args and getattr(func, "__name__", "") in _HANDS_OUT:
            self._writes.save(args[0])
        return func(*args, **(kwargs or {}))


def memory_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """The memory of a tensor's numbers; None if it has no memory of its own."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return None
    try:
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
            return storage if storage.nbytes() and storage.data_ptr() else None
    except (RuntimeError, NotImplementedError):  # a fake one, or one made of others
        return None
