"""A whole module as one operator: called as PyTorch calls it, on whole inputs.

It stands for a module that no trace can follow, because its code decides by the values of a
tensor, leaves torch for NumPy, or is TorchScript. PyTorch itself runs such a module, so its output
is exact; its inputs and its output are held in memory as a whole.
:mod:`eyeshot.frontends.module_calls` finds these modules and puts the operator into the trace.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from eyeshot.errors import BadValue, Unsupported
from eyeshot.operators.call import Described, NoRule, Site
from eyeshot.operators.record import Operator, Work
from eyeshot.untouched import untouched

NAME = "eyeshot::call_module"


@dataclass(eq=False)
class ModuleCall:
    """One call of a module, with all that is not a tensor among its arguments.

    Attributes:
        module: the module.
        name: its dotted path and class, for messages.
        reason: why it cannot be traced.
        arguments: the leaves of (args, kwargs); None for each tensor.
        spec: how these leaves are put together.
        shapes: of the tensors that it is given.
        dtypes: of the tensors that it is given.
        outputs: one tensor without memory for each that it returns, of its shape and type.
        scratch: the most bytes that it uses in addition to its inputs and one output.
    """

    module: nn.Module
    name: str
    reason: str
    arguments: tuple[Any, ...]
    spec: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    outputs: tuple[torch.Tensor, ...] = ()
    scratch: int = 0
    _latest: tuple[list[torch.Tensor], list[torch.Tensor]] | None = field(default=None, repr=False)
    _read: set[int] = field(default_factory=set, repr=False)

    def measure(self, room: int | None) -> Any:
        """Call it on noise, once: the shapes of its outputs, the memory that it takes.

        Args:
            room: the most bytes that it may use; None for any number.

        Returns:
            What it returns, as it returns it; the tensors in it are only good for their shapes.

        Raises:
            BadValue: it needs more memory.
            Unsupported: it draws random numbers.
        """
        draw = torch.Generator().manual_seed(0)
        noise = [
            torch.rand(shape, generator=draw).to(dtype)
            if dtype.is_floating_point
            else torch.zeros(shape, dtype=dtype)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]
        counted = _Memory(room, self.name)
        with untouched(self.module), torch.no_grad(), counted:
            before = _random_state()
            result = self._called(noise)
            if _random_state() != before:
                raise Unsupported(
                    f"{self.name} draws other random numbers at each call",
                    cure="make them once in __init__ and keep them with register_buffer",
                )
        tensors = tensors_in(result)
        several = sum(one.nbytes for one in noise) + sum(one.nbytes for one in tensors)
        self.scratch = counted.most + (several if len(tensors) > 1 else 0)
        self.outputs = tuple(torch.empty_like(one, device="meta") for one in tensors)
        return result

    def _called(self, inputs: Sequence[torch.Tensor]) -> Any:
        tensors = iter(inputs)
        leaves = [next(tensors) if one is None else one for one in self.arguments]
        args, kwargs = tree_unflatten(
            [None if one is _NOTHING else one for one in leaves], self.spec
        )
        return self.module(*args, **kwargs)

    def at(self, place: int) -> ItemOfCall:
        """The call, with one of its outputs as the result."""
        return ItemOfCall(self, place)

    def compute(self, inputs: Sequence[torch.Tensor], place: int) -> torch.Tensor:
        """One output for these inputs; the others are kept until each of them was asked for.

        Raises:
            Unsupported: an output has another shape than for noise.
        """
        if self._latest is not None:
            known, outputs = self._latest
            if place not in self._read and all(map(torch.equal, known, inputs)):
                return self._handed(outputs, place)
            self._latest = None
        with torch.inference_mode(False), torch.no_grad(), untouched(self.module):
            # Copies, because forward may write into its inputs.
            own = [
                one.clone(memory_format=torch.contiguous_format).to(dtype)
                for one, dtype in zip(inputs, self.dtypes, strict=True)
            ]
            given = {one.untyped_storage().data_ptr() for one in own}
            outputs = [one.detach() for one in tensors_in(self._called(own))]
            outputs = [
                one.clone() if one.untyped_storage().data_ptr() in given else one.resolve_conj()
                for one in outputs
            ]
        self._check(outputs)
        self._read = set()
        if len(outputs) > 1:
            self._latest = [one.clone() for one in inputs], outputs
        return self._handed(outputs, place)

    def _handed(self, outputs: list[torch.Tensor], place: int) -> torch.Tensor:
        self._read.add(place)
        if len(self._read) == len(outputs):
            self._latest = None
        return outputs[place].clone() if self._latest is not None else outputs[place]

    def _check(self, outputs: Sequence[torch.Tensor]) -> None:
        said = [(tuple(one.shape), one.dtype) for one in self.outputs]
        found = [(tuple(one.shape), one.dtype) for one in outputs]
        if said != found:
            shown = ", ".join(str(shape) for shape, _ in found)
            expected = ", ".join(str(shape) for shape, _ in said)
            raise Unsupported(
                f"{self.name} returns tensors of shape {shown} for this image and {expected} for "
                "noise: as many values as the input's content says",
                cure="keep every size fixed: multiply by a mask in place of indexing with it",
            )


@dataclass(frozen=True)
class ItemOfCall:
    """A function of a list of tensors: one output of a call of a module."""

    call: ModuleCall
    place: int

    def __call__(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The output."""
        return self.call.compute(inputs, self.place)


class _Nothing:
    """Stands for an argument that is None, because None marks the place of a tensor."""


_NOTHING = _Nothing()


def call_of_module(
    module: nn.Module, name: str, reason: str, args: Any, kwargs: Any
) -> tuple[ModuleCall, list[torch.Tensor]]:
    """A call with these arguments, not yet measured, and the tensors among them."""
    leaves, spec = tree_flatten((args, kwargs), is_leaf=lambda one: one is None)
    tensors = [one for one in leaves if isinstance(one, torch.Tensor)]
    arguments = tuple(
        None if isinstance(one, torch.Tensor) else _NOTHING if one is None else one
        for one in leaves
    )
    shapes = tuple(tuple(int(n) for n in one.shape) for one in tensors)
    dtypes = tuple(one.dtype for one in tensors)
    return ModuleCall(module, name, reason, arguments, spec, shapes, dtypes), tensors


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor in what a ``forward`` returns, in order.

    Lists, tuples and dictionaries are opened, and objects of a class of the network's own, such as
    a dataclass: their attributes, in the order in which they were set.
    """
    found: list[torch.Tensor] = []
    for one in tree_flatten(value)[0]:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif hasattr(one, "__dict__") and not isinstance(one, (type, nn.Module)):
            found += tensors_in(dict(vars(one)))
    return found


class _Memory(TorchDispatchMode):
    """Counts the bytes of all tensors that are made in the block, and the most at one time."""

    supports_higher_order_operators = True

    def __init__(self, room: int | None, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room, self._name = room, name
        self._now = self.most = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_flatten(found)[0]:
            if isinstance(one, torch.Tensor) and one.layout is torch.strided:
                self._add(one.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, nbytes = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def freed(_: Any) -> None:
            self._now -= nbytes
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, freed)
        self._now += nbytes
        self.most = max(self.most, self._now)
        if self._room is not None and self._now > self._room:
            raise BadValue(
                f"{self._name} is called whole, and needs more than {self._room / 1e9:.2f} GB",
                cure="use a smaller image, or rewrite the module so that torch.export follows it",
            )


def _random_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    kind, keys, *others = state
    torch_state = torch.get_rng_state().numpy().tobytes()
    return torch_state, random.getstate(), kind, keys.tobytes(), *others


CALLS: weakref.WeakValueDictionary[str, ModuleCall] = weakref.WeakValueDictionary()
"""The calls in graphs that are being made, by the number that stands for each in a trace."""


def _geometry(site: Site) -> Described:
    call = CALLS.get(str(site.arguments["key"]))
    raise NoRule(call.reason if call is not None else "a module that cannot be traced")


def _scratch(work: Work) -> int:
    target = work.node.call.target if work.node.call is not None else None
    return target.call.scratch if isinstance(target, ItemOfCall) else 0


OPERATORS = (Operator(NAME, geometry=_geometry, whole_scratch=_scratch),)
