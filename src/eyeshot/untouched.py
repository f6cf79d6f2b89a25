"""Restore a network: :func:`untouched` undoes all changes that a pass made to it.

``torch.export`` replaces a network's weights by fake tensors and sometimes does not restore them
(a module with two names loses its weights). And ``forward`` is a user's code: it may count its
calls, keep its last map, or make a grid on first use. During a trace such saved tensors contain no
numbers. So Eyeshot runs every pass inside this block. Another thread would see the network without
its weights meanwhile, and torch traces in one thread only: a thread that reads a network waits for
:data:`ONE_AT_A_TIME`.
"""

from __future__ import annotations

import functools
import operator
import random
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from eyeshot.errors import BadValue

__all__ = ["ONE_AT_A_TIME", "Snapshot", "one_at_a_time", "untouched"]

ONE_AT_A_TIME = threading.RLock()
"""Held by the thread that traces or runs a network, or reads its weights."""


P = ParamSpec("P")
R = TypeVar("R")


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """A function that reads a network: other threads wait until it returns."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with ONE_AT_A_TIME:
            return function(*args, **kwargs)

    return alone


Found = tuple["Record | None", Iterable[object]]
"""An object's record, if it can change, and the objects that it refers to."""

_ATOMS = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, slice, types.ModuleType),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
        *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
    }
)
_ELSEWHERE = frozenset({"torch", "numpy", "eyeshot", "functorch"})
"""Packages whose own functions and classes keep nothing of a network."""
_LARGEST_ARRAY = 1 << 26
"""Bytes of a NumPy array whose numbers are copied; torch's tensors are watched instead."""
_MISSING = object()


class Record(Protocol):
    """The saved contents of one object."""

    def restore(self) -> None:
        """Make the object hold it again."""


def record_of(value: object) -> Found:
    """The present contents of an object, and the objects that it refers to."""
    kind = type(value)
    if kind in _ATOMS:
        return None, ()
    if isinstance(value, torch.Tensor):
        return _of_tensor(value)
    for kinds, make in _MAKERS:
        if isinstance(value, kinds):
            return make(value)
    if isinstance(value, nn.Module) or not _is_foreign(kind.__module__):
        return _of_instance(value)
    return None, ()


class OfTensor:
    """A tensor: which memory it looks at, how, and its gradient. Its numbers are not copied."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value
        self._look = _look(value)
        self._alias = value.detach()
        self._needs = value.requires_grad
        self._gradient = value.grad if value.is_leaf else None

    def restore(self) -> None:
        """Look at the same memory again."""
        if _look(self.value) != self._look:
            self.value.data = self._alias
        if self.value.is_leaf:
            if self.value.requires_grad != self._needs:
                self.value.requires_grad_(self._needs)
            if self.value.grad is not self._gradient:
                self.value.grad = self._gradient


class OfDict:
    """A dictionary: its items, in their order."""

    def __init__(self, value: dict[Any, Any]) -> None:
        self._dict = value
        self._keys, self._values = [*dict.keys(value)], [*dict.values(value)]

    def restore(self) -> None:
        """The same keys with the same objects."""
        now = self._dict
        if _same(dict.keys(now), self._keys) and _same(dict.values(now), self._values):
            return
        kind: Any = OrderedDict if isinstance(now, OrderedDict) else dict
        kind.clear(now)
        for key, one in zip(self._keys, self._values, strict=True):
            kind.__setitem__(now, key, one)


class OfList:
    """A list or a deque."""

    def __init__(self, value: list[Any] | deque[Any]) -> None:
        self._list, self._items = value, [*value]

    def restore(self) -> None:
        """The same objects in their order."""
        if not _same(self._list, self._items):
            self._list.clear()
            self._list.extend(self._items)


class OfSet:
    """A set."""

    def __init__(self, value: set[Any]) -> None:
        self._set, self._items = value, frozenset(value)

    def restore(self) -> None:
        """The same members."""
        if self._set != self._items:
            self._set.clear()
            self._set.update(self._items)


class Named:
    """Named values; each subclass defines how to get, set and delete them."""

    def __init__(self, holder: Any, names: Iterable[str]) -> None:
        self._holder = holder
        self._saved = {name: self.get(name) for name in names}

    def get(self, name: str) -> Any:
        """The value of a name, or ``_MISSING``."""
        return self._holder.get(name, _MISSING)

    def put(self, name: str, value: Any) -> None:
        """Set the value of a name."""
        self._holder[name] = value

    def drop(self, name: str) -> None:
        """Delete a name."""
        self._holder.pop(name, None)

    def names(self) -> Iterable[str]:
        """The names to be looked at when all is put back."""
        return self._saved

    def values(self) -> Iterator[object]:
        """The saved values of the names."""
        return (value for value in self._saved.values() if value is not _MISSING)

    def restore(self) -> None:
        """Restore the same objects under the same names."""
        for name in list(self.names()):
            value = self._saved.get(name, _MISSING)
            if self.get(name) is value:
                continue
            if value is _MISSING:
                self.drop(name)
            else:
                self.put(name, value)


class OfSlots(Named):
    """The attributes of an object that has ``__slots__``."""

    def get(self, name: str) -> Any:
        """The attribute, if it is set."""
        try:
            return object.__getattribute__(self._holder, name)
        except AttributeError:
            return _MISSING

    def put(self, name: str, value: Any) -> None:
        """Set the attribute, of a frozen object too."""
        object.__setattr__(self._holder, name, value)

    def drop(self, name: str) -> None:
        """Take the attribute away."""
        object.__delattr__(self._holder, name)


class OfClass(Named):
    """The attributes of a class."""

    def get(self, name: str) -> Any:
        """The class's own attribute."""
        return vars(self._holder).get(name, _MISSING)

    def put(self, name: str, value: Any) -> None:
        """Set it."""
        type.__setattr__(self._holder, name, value)

    def drop(self, name: str) -> None:
        """Take it away."""
        type.__delattr__(self._holder, name)

    def names(self) -> Iterable[str]:
        """Those of now, too."""
        return {*self._saved, *_attributes_of(self._holder)}


class OfCell(Named):
    """A variable that a function closes over."""

    def get(self, name: str) -> Any:
        """What it holds, if it is filled yet."""
        try:
            return self._holder.cell_contents
        except ValueError:
            return _MISSING

    def put(self, name: str, value: Any) -> None:
        """Fill it."""
        self._holder.cell_contents = value

    def drop(self, name: str) -> None:
        """Empty it."""
        del self._holder.cell_contents


class OfState:
    """An object with a state that can be read and set, such as a generator."""

    def __init__(self, state: Any, put: Callable[[Any], Any]) -> None:
        self._state, self._put = state, put

    def restore(self) -> None:
        """Set the state."""
        self._put(self._state)


class OfCache:
    """``functools.lru_cache``: it is cleared if it has new entries.

    A grid that was made during a trace has no numbers, and must not stay in the cache.
    """

    def __init__(self, value: functools._lru_cache_wrapper[Any]) -> None:
        self._cache, self._misses = value, value.cache_info().misses

    def restore(self) -> None:
        """Empty it if anything was put in."""
        if self._cache.cache_info().misses != self._misses:
            self._cache.cache_clear()


def _of_tensor(value: torch.Tensor) -> Found:
    record = OfTensor(value)
    return record, (vars(value), value.grad if value.is_leaf else None)


def _of_instance(value: object) -> Found:
    fields = getattr(value, "__dict__", None)
    parts = (*([fields] if isinstance(fields, dict) else []), type(value))
    names = [
        name
        for kind in type(value).__mro__
        for name in _listed(vars(kind).get("__slots__", ()))
        if not name.startswith("__")
    ]
    if not names:
        return None, parts
    slots = OfSlots(value, names)
    return slots, (*parts, *slots.values())


def _listed(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _of_class(value: type) -> Found:
    if _is_foreign(value.__module__):
        return None, ()
    attributes = OfClass(value, _attributes_of(value))
    return attributes, (*attributes.values(), *value.__bases__)


def _attributes_of(value: type) -> list[str]:
    """Those that its author gave it; Python's own are no part of a network."""
    return [name for name in vars(value) if not name.startswith(("__", "_abc_"))]


def _of_function(value: types.FunctionType) -> Found:
    if _is_foreign(value.__module__ or ""):
        return None, ()
    known = Named(value.__globals__, _names(value.__code__))
    parts = (*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__, vars(value))
    return known, (*known.values(), *parts)


def _of_cell(value: types.CellType) -> Found:
    cell = OfCell(value, ("",))
    return cell, cell.values()


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that a function, and those written inside it, may look up among its globals."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _of_array(value: Any) -> Found:
    if value.nbytes > _LARGEST_ARRAY or not value.flags.writeable:
        return None, ()
    return OfState(value.copy(), lambda saved: value.__setitem__(..., saved)), ()


def _numpy_generator(value: Any) -> Found:
    source = value.bit_generator

    def put(state: Any) -> None:
        source.state = state

    return OfState(source.state, put), ()


def _makers() -> list[tuple[Any, Callable[[Any], Found]]]:
    """By kind, the first that fits; what is in none is an instance of some class."""
    numpy: Any = sys.modules.get("numpy")
    of_numpy: list[tuple[Any, Callable[[Any], Found]]] = (
        [
            (numpy.ndarray, _of_array),
            (numpy.random.Generator, _numpy_generator),
            (numpy.random.RandomState, lambda one: (OfState(one.get_state(), one.set_state), ())),
        ]
        if numpy
        else []
    )
    return [
        (dict, lambda one: (OfDict(one), (*dict.values(one), *_attributes(one)))),
        ((list, deque), lambda one: (OfList(one), (*one, *_attributes(one)))),
        ((tuple, frozenset), lambda one: (None, one)),
        (set, lambda one: (OfSet(one), (*one, *_attributes(one)))),
        (types.FunctionType, _of_function),
        (types.CellType, _of_cell),
        (types.MethodType, lambda one: (None, (one.__func__, one.__self__))),
        (functools.partial, lambda one: (None, (one.func, one.args, one.keywords))),
        (functools._lru_cache_wrapper, lambda one: (OfCache(one), (one.__wrapped__,))),
        ((staticmethod, classmethod), lambda one: (None, (one.__func__,))),
        (property, lambda one: (None, (one.fget, one.fset))),
        (types.MappingProxyType, lambda one: (None, one.values())),
        (types.SimpleNamespace, lambda one: (None, (vars(one),))),
        (type, _of_class),
        (torch.Generator, lambda one: (OfState(one.get_state(), one.set_state), ())),
        (random.Random, lambda one: (OfState(one.getstate(), one.setstate), ())),
        *of_numpy,
    ]


def _attributes(value: Any) -> tuple[object, ...]:
    """The attributes of a container of a user's class, in addition to its items."""
    if _is_foreign(type(value).__module__):
        return ()
    fields = getattr(value, "__dict__", None)
    return (fields, type(value)) if isinstance(fields, dict) else ()


def _is_foreign(module: str) -> bool:
    """Whether a function or class is torch's, NumPy's, Python's or ours, and so no network's."""
    first = module.partition(".")[0]
    return first in _ELSEWHERE or (first in sys.stdlib_module_names and first != "__main__")


def _look(tensor: torch.Tensor) -> tuple[Any, ...]:
    """The memory and the layout of a tensor."""
    if tensor.layout is not torch.strided:
        return (tensor.shape, tensor.dtype, tensor.device)
    try:
        with torch._C.DisableTorchFunction():
            place = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a subclass without memory of its own
        place = 0
    return (
        *(place, tensor.storage_offset(), tensor.shape, tensor.stride()),
        *(tensor.dtype, tensor.device),
    )


def _same(one: Iterable[object], other: list[object]) -> bool:
    """Whether both hold the very same objects in the same order."""
    now = [*one]
    return len(now) == len(other) and all(map(operator.is_, now, other))


_MAKERS = _makers()


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
            seen[id(value)] = value  # kept alive, so that no other object gets its id
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
        tensors = (*module._parameters.values(), *module._buffers.values())
        if any(one is not None and nn.parameter.is_lazy(one) for one in tensors):
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
        options: Mapping[str, Any] = kwargs or {}
        for place, name in _written(func):
            self.save(args[place] if place < len(args) else options.get(name))
        return func(*args, **options)


@functools.cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Place and name of each argument that an operator writes to."""
    # Some batch norms write to their statistics, and their schema does not say so.
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


@contextmanager
def untouched(
    net: nn.Module, *, computes: bool = True, found: Snapshot | None = None
) -> Iterator[None]:
    """In the block the network may run; after it everything is as before, bit for bit.

    It restores weights, buffers and plain attributes, both values and objects; lists, dictionaries
    and objects in which ``forward`` saves data, including closures and global variables of its
    functions; hooks, modes, gradients; and the state of the random generators. It does not copy the
    weights: a tensor is copied only before an in-place write.

    Args:
        net: the network.
        computes: whether the block computes with the network's own weights and buffers. False if
            fake tensors replace them, as in a trace.
        found: the snapshot to restore, if it was already made.

    Raises:
        BadValue: a layer of the network has no weights yet.
    """
    with ONE_AT_A_TIME, _untouched(net, computes, found):
        yield


@contextmanager
def _untouched(net: nn.Module, computes: bool, found: Snapshot | None) -> Iterator[None]:
    chance = Chance()
    found = found or Snapshot(net)
    writes = Writes(found.tensors())
    try:
        with ExitStack() as stack:
            if computes or found.holds_much:
                stack.enter_context(Handed(writes))
            if computes:
                stack.enter_context(writes)
            else:
                writes.save(found.loose)
            yield
    finally:
        _insist(found, writes, chance)


def _insist(found: Snapshot, writes: Writes, chance: Chance) -> None:
    """Restore all, and only then let an interrupt (^C) through."""
    interrupt: KeyboardInterrupt | None = None
    for _ in range(_MOST_INTERRUPTS):
        try:
            found.restore()
            writes.restore()
            chance.restore()
            break
        except KeyboardInterrupt as pressed:
            interrupt = pressed
    if interrupt is not None:
        raise interrupt


_MOST_INTERRUPTS = 100
