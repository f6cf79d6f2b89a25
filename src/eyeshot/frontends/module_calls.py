"""Modules that no trace can follow, in the trace as one operator each, which calls the module.

A trace has no values. ``if x.max() > 1:``, ``int(points[0, 1])``, ``y.numpy()``, a mask as an index
and TorchScript stop it, though PyTorch runs such a module. :class:`ModuleCalls` finds the smallest
module whose ``forward`` is at fault; a trace in which it is one operator
(:mod:`eyeshot.operators.module_calls`) then follows all others. If that does not help, the network
itself is that operator. A module is called on noise once, of the size that it gets in the trace,
because nothing else tells the shapes of what it returns.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from eyeshot.errors import Unsupported
from eyeshot.operators.module_calls import CALLS, NAME, ModuleCall, call_of_module

T = TypeVar("T")

_MOST_NAMES = 4
_MOST_ROUNDS = 6
"""Attempts with smaller modules, after which the whole network is called."""
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


class ModuleCalls:
    """The modules of a network that are called whole, and why.

    Args:
        net: the network.
        room: the most bytes that a module may use on noise; None for any number.
    """

    def __init__(self, net: nn.Module, room: int | None = None) -> None:
        self._net, self._room = net, room
        self._reasons: dict[nn.Module, str] = {}
        self._calls: dict[Any, tuple[ModuleCall, list[Any], Any]] = {}
        self._results: dict[Any, tuple[ModuleCall, list[Any], Any]] = {}
        self._waiting: ModuleCall | None = None
        self._rounds = 0

    @property
    def whole(self) -> bool:
        """Whether the network itself is called."""
        return self._net in self._reasons

    def notes(self) -> Iterator[str]:
        """A sentence for each reason for which modules are called whole."""
        names: dict[str, list[str]] = {}
        for path, module in self._net.named_modules():
            if module in self._reasons:
                kind = type(module).__name__
                shown = f"{path} ({kind})" if path else f"the network ({kind})"
                names.setdefault(self._reasons[module], []).append(shown)
        for reason, called in names.items():
            listed = ", ".join(called[:_MOST_NAMES]) + (" …" if len(called) > _MOST_NAMES else "")
            yield f"{listed}: called on whole maps by PyTorch itself, since {reason}"

    def choose(self, refusal: Unsupported) -> bool:
        """Call one more module whole, because of an error in a trace.

        Args:
            refusal: the error; its cause has the traceback.

        Returns:
            False if there is none left to choose.
        """
        if self.whole:
            return False
        self._rounds += 1
        module = _module_at_fault(self._net, refusal.__cause__)
        reason = refusal.fact
        if module is None or module in self._reasons or self._rounds > _MOST_ROUNDS:
            self._reasons = {self._net: reason}
            return True
        for one in self._net.modules():  # others of its class will not be followed either
            if type(one) is type(module) and one is not self._net:
                self._reasons.setdefault(one, reason)
        return True

    def traced(self, trace: Callable[[nn.Module], T]) -> T:
        """The result of a trace in which the chosen modules are operators.

        Args:
            trace: traces a module that stands for the network.
        """
        while True:
            try:
                with self._hidden() as shown:
                    return trace(shown)
            except _Stop:
                call = self._waiting
                assert call is not None
                result = (call, *tree_flatten(call.measure(self._room)))
                self._results[type(call.module), repr(call.module), *_alike(call)] = result
                self._calls[call.module, *_alike(call)] = result

    @contextmanager
    def _hidden(self) -> Iterator[nn.Module]:
        """In the block the chosen modules are replaced; gives the module to trace."""
        if self.whole:
            yield _Whole(self, self._net, "")
            return
        inside = {one for module in self._reasons for one in module.modules()}
        places = [
            (parent, name, child, f"{path}.{name}".lstrip("."))
            for path, parent in self._net.named_modules(remove_duplicate=False)
            if parent not in inside
            for name, child in parent._modules.items()
            if child is not None and child in self._reasons
        ]
        with ExitStack() as stack:
            for parent, name, child, path in places:
                stack.callback(parent._modules.__setitem__, name, child)
                parent._modules[name] = _Part(self, child, path)
            yield self._net

    def called(
        self, module: nn.Module, path: str, args: Any, kwargs: Any, *, all_of_it: bool
    ) -> Any:
        """What a module returns in a trace: an operator for each tensor.

        Args:
            module: the module.
            path: its dotted path.
            args: of its call; tensors have no values.
            kwargs: likewise.
            all_of_it: True for all tensors, in a tuple; False for what the module returns.
        """
        name = f"{path} ({type(module).__name__})" if path else type(module).__name__
        call, inputs = call_of_module(module, name, self._reasons[module], args, kwargs)
        key = (module, *_alike(call))
        if key not in self._calls:
            known = self._results.get((type(module), repr(module), *_alike(call)))
            if known is None:
                self._waiting = call
                raise _Stop
            call.outputs, call.scratch = known[0].outputs, known[0].scratch
            self._calls[key] = call, *known[1:]
        call, leaves, spec = self._calls[key]
        CALLS[str(id(call))] = call
        operator = _operator()
        values = [operator(inputs, str(id(call)), place) for place in range(len(call.outputs))]
        if all_of_it:
            return tuple(values)
        given = iter(values)
        found = [next(given) if isinstance(one, torch.Tensor) else one for one in leaves]
        if next(given, None) is not None:
            raise TypeError(f"{name} returns an object of a class of its own")
        return tree_unflatten(found, spec)


class _Stop(BaseException):
    """Ends a trace at a module that was not called on noise yet."""


def _alike(call: ModuleCall) -> tuple[Any, ...]:
    return call.shapes, call.dtypes, repr(call.arguments), str(call.spec)


class _Part(nn.Module):
    """Stands for a module of a network in a trace."""

    def __init__(self, calls: ModuleCalls, module: nn.Module, path: str) -> None:
        super().__init__()
        self.__dict__.update(_calls=calls, _module=module, _path=path, _made=True)
        self.__dict__["training"] = module.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, by operators that call it."""
        return self._calls.called(self._module, self._path, args, kwargs, all_of_it=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_made" in self.__dict__:
            raise AttributeError(f"{name} is set in a module that is called whole")
        super().__setattr__(name, value)


class _Whole(_Part):
    """Stands for a network in a trace; gives all its tensors in a tuple."""

    def forward(self, *args: Any) -> Any:
        """The tensors that the network returns, by operators that call it."""
        return self._calls.called(self._module, self._path, args, {}, all_of_it=True)


@functools.cache
def _operator() -> Any:
    """The operator; torch knows it from the first time on that a network needs it."""

    def compute(inputs: list[torch.Tensor], key: str, place: int) -> torch.Tensor:
        return CALLS[key].compute(inputs, place)

    def without_values(inputs: list[torch.Tensor], key: str, place: int) -> torch.Tensor:
        like = CALLS[key].outputs[place]
        device = inputs[0].device if inputs else "cpu"
        return torch.empty(like.shape, dtype=like.dtype, device=device)

    schema = "(Tensor[] inputs, str key, int place) -> Tensor"
    made = torch.library.custom_op(NAME, compute, mutates_args=(), schema=schema)
    made.register_fake(without_values)
    library, _, short = NAME.partition("::")
    return getattr(getattr(torch.ops, library), short)


def _module_at_fault(net: nn.Module, error: BaseException | None) -> nn.Module | None:
    """The innermost module of a network in whose ``forward`` an error was raised."""
    modules = set(net.modules())
    scripted = [one for one in modules if isinstance(one, torch.jit.ScriptModule)]
    inner = {child for one in scripted for child in one.children()}
    if scripted and net not in scripted and error is not None:
        return next(one for one in scripted if one not in inner)
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__ if error is not None else None):
        names = frame.f_code.co_varnames
        owner = frame.f_locals.get(names[0]) if names else None
        if frame.f_code.co_name != "forward" or not isinstance(owner, nn.Module):
            continue
        if owner in modules and not isinstance(owner, _CONTAINERS):
            found = owner
    return found
