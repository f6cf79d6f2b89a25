"""Numbers in tensors that do not depend on the input, read by ``forward`` during a trace.

``int(self.kernel_size)`` of a buffer, ``torch.arange(2, x.ndim).tolist()``: a trace holds tensors
without values, so that such a line fails in it, though its number is the same for every input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from eyeshot.frontends.memory import FEW_NUMBERS
from eyeshot.untouched import memory_of

_READS = frozenset(
    ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__")
)
_MAKES = frozenset(
    ("arange", "eye", "full", "linspace", "logspace", "ones", "scalar_tensor", "tensor", "zeros")
)
_BY_CHANCE = (
    *("rand", "dropout", "bernoulli", "multinomial", "normal", "uniform", "exponential"),
    *("poisson", "geometric", "cauchy", "empty", "resize", "rrelu", "gumbel"),
)
_TAKE_SIZES = frozenset(
    [
        *("arange", "expand", "full", "interpolate", "narrow", "new_full", "new_ones"),
        *("new_zeros", "ones", "pad", "permute", "repeat", "reshape", "roll", "split"),
        *("unflatten", "view", "zeros"),
    ]
)
"""Functions that take a tensor of one whole number for a size or a position."""


class KnownNumbers(TorchFunctionMode):
    """Computes small tensors that depend on no input beside the trace, and answers reads of them.

    A tensor that was written to since (its version differs) is not known any more.
    """

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self._known: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}
        self._state = [
            (members, name, one, one.detach().clone())
            for module in net.modules()
            for members in (module._buffers, module._parameters)
            for name, one in members.items()
            if one is not None and _is_small(one) and memory_of(one) is not None
        ]
        self._places: dict[int, tuple[torch.Tensor | None, torch.Tensor]] = {}
        self._first: torch.Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make the call; a read of known numbers gives them."""
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", ""))
        if name in _READS and args and isinstance(args[0], torch.Tensor):
            known = self._value(args[0])
            if known is not None:
                with _disable_current_modes(), torch._C.DisableTorchFunction():
                    return func(known, *args[1:], **kwargs)
        if name in _TAKE_SIZES:
            args, kwargs = self._with_sizes(args, kwargs)
        result = func(*args, **kwargs)
        if name != "__get__":  # .shape and the like, which most calls are
            with torch._C.DisableTorchFunction():
                self._follow(func, name, args, kwargs, result)
        return result

    def _with_sizes(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with known whole numbers in place of tensors behind the first of many."""

        def number(value: Any) -> Any:
            whole = isinstance(value, torch.Tensor) and not value.ndim
            if not whole or value.is_floating_point() or value.dtype == torch.bool:
                return value
            known = self._value(value)
            if known is None:
                return value
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                return known.item()

        of_a_map = bool(args) and isinstance(args[0], torch.Tensor) and args[0].ndim > 0
        unchanged = args[:1] if of_a_map else ()
        others, named = tree_map(number, (list(args[len(unchanged) :]), kwargs))
        return (*unchanged, *others), named

    def _follow(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        """Compute the result from known numbers, if all that it depends on is known."""
        if isinstance(result, torch.Tensor) and not _is_small(result):
            return
        made = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
        if not made or not all(map(_is_small, made)) or any(word in name for word in _BY_CHANCE):
            return
        read = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        if not read and name not in _MAKES:
            return
        values: dict[int, torch.Tensor] = {}
        for one in read:
            before = self._before(one, made)
            if before is None:
                return
            values[id(one)] = before
        try:
            with _disable_current_modes():
                found = func(*tree_map(_put(values), args), **tree_map(_put(values), kwargs))
        except Exception:  # what a call of ours cannot compute is not known
            return
        numbers = [one for one in tree_leaves(found) if isinstance(one, torch.Tensor)]
        for one, number in zip(made, numbers, strict=False):
            alike = (one.shape, one.dtype) == (number.shape, number.dtype)
            if alike and not number.is_meta:
                self._known[id(one)] = (one, number, one._version)

    def _before(self, tensor: torch.Tensor, made: list[torch.Tensor]) -> torch.Tensor | None:
        """What an argument held before the call, which may have written to it and returned it."""
        entry = self._known.get(id(tensor))
        written = entry is not None and any(one is tensor for one in made)
        if entry is not None and written and tensor._version == entry[2] + 1:
            return entry[1]
        return self._value(tensor)

    def _value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The numbers of a tensor; None if they are not known, or depend on the input."""
        entry = self._known.get(id(tensor))
        if entry is None:
            entry = self._entry_of_state(tensor)
            if entry is None:
                return None
            self._known[id(tensor)] = entry
        return entry[1] if tensor._version == entry[2] else None

    def _entry_of_state(
        self, tensor: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, int] | None:
        """A buffer or a parameter of the network, for which the trace puts an empty one."""
        if not self._state or not _is_small(tensor):
            return None
        members, name, _, _ = self._state[0]
        if members.get(name) is not self._first:
            self._first = members.get(name)
            # Each tensor is kept, so that no other gets its id.
            places = [(one[0].get(one[1]), one[3]) for one in self._state]
            self._places = {id(one): (one, number) for one, number in places}
        _, number = self._places.get(id(tensor), (None, None))
        if number is None or number.shape != tensor.shape or tensor._version:
            return None
        return tensor, number, tensor._version


def _put(values: dict[int, torch.Tensor]) -> Any:
    """A function that puts numbers in place of tensors, and a device that has numbers."""

    def put(one: Any) -> Any:
        if isinstance(one, torch.device):
            return torch.device("cpu") if one.type == "meta" else one
        return values.get(id(one), one) if isinstance(one, torch.Tensor) else one

    return put


def _is_small(tensor: torch.Tensor) -> bool:
    count = tensor.numel()
    return isinstance(count, int) and count <= FEW_NUMBERS
