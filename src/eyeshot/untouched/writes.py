"""Writes into a network's own memory: a tensor is copied before the write, and restored later."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

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
