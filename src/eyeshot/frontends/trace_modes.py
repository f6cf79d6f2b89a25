"""What surrounds a call of ``torch.export``: paths that it would lose, and work that nobody reads.

In this file:

- :class:`KeptPaths`: replaces calls such as ``x.data``, at which a trace would lose the input;
- :func:`failures_leave_modules`: a call that fails, and whose error the network catches;
- :func:`without_extras`: leaves out most of what torch writes down for debugging.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from traceback import FrameSummary, StackSummary
from types import FrameType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import proxy as fx_proxy
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode

from eyeshot.errors import Unsupported
from eyeshot.frontends.refusals import not_the_network

_DATA: Any = torch.Tensor.data
_READ, _WRITE = _DATA.__get__, _DATA.__set__


class KeptPaths(TorchFunctionMode):
    """``x.data`` becomes ``x.detach()``, ``x.data = y`` a copy of y into x, a deep copy a clone."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make the call, or the call that replaces it."""
        if func == _READ:
            return args[0].detach()
        if func == _WRITE:
            return _overwrite(*args)
        if func == torch.Tensor.__deepcopy__ and isinstance(args[0], FakeTensor):
            return args[0].clone()
        return func(*args, **(kwargs or {}))


def _overwrite(tensor: torch.Tensor, value: torch.Tensor) -> None:
    if (tensor.shape, tensor.dtype) != (value.shape, value.dtype):
        raise Unsupported(
            f"forward sets the .data of a tensor of shape {tuple(tensor.shape)}, {tensor.dtype}, "
            f"to one of {tuple(value.shape)}, {value.dtype}",
            cure="keep the new tensor under a name of its own, and use that",
        )
    tensor.detach().copy_(value.detach())


@contextlib.contextmanager
def failures_leave_modules() -> Iterator[None]:
    """In the block, an error that passes through a module removes it from the trace's modules.

    torch puts a module there when it is called and takes it away when it returns. A network that
    tries one call and then another (``try: layer(x, lengths) except TypeError: layer(x)``) could
    not be traced.
    """
    usual = torch.fx.Tracer.call_module

    def call_module(tracer: Any, *args: Any, **kwargs: Any) -> Any:
        depth = len(tracer.module_stack)
        try:
            return usual(tracer, *args, **kwargs)
        except BaseException:
            while len(tracer.module_stack) > depth:
                tracer.module_stack.popitem()
            raise

    torch.fx.Tracer.call_module = call_module  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.fx.Tracer.call_module = usual  # type: ignore[method-assign]


class _OwnFrames:
    """The stack of a call, with the lines of the network's own code only.

    It takes the place of torch's ``CapturedTraceback``, which reads the source of a hundred frames
    for each operator.
    """

    @staticmethod
    def extract() -> _OwnFrames:
        """As torch's; nothing needs to be kept, because the summary is made at once."""
        return _OwnFrames()

    def summary(self) -> StackSummary:
        """The outermost ``forward``, by which torch finds the network, and the lines in it."""
        places: list[tuple[str, int, str]] = []
        entered = 0
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_name == "forward" or not not_the_network(code.co_filename):
                places.append((code.co_filename, frame.f_lineno, code.co_name))
                entered = len(places) if code.co_name == "forward" else entered
            frame = frame.f_back
        frames = (FrameSummary(*place, lookup_line=False) for place in reversed(places[:entered]))
        return StackSummary.from_list(list(frames))


def _described(*args: Any, **kwargs: Any) -> Any:
    """torch's ``track_tensor_tree``, with no mode called for each attribute that it reads."""
    with torch._C.DisableTorchFunction():
        return _USUAL["track_tensor_tree"](*args, **kwargs)


_LIGHTER: tuple[tuple[Any, str, Any], ...] = (
    (fx_proxy, "CapturedTraceback", _OwnFrames),
    (proxy_tensor, "track_tensor_tree", _described),
)
_USUAL = {name: getattr(module, name) for module, name, _ in _LIGHTER if hasattr(module, name)}
"""These are private: a torch that names them otherwise exports in full, and takes longer."""


@contextlib.contextmanager
def without_extras() -> Iterator[None]:
    """In the block, an export leaves out what takes a third of its time and is never read here.

    That is the Python code of each graph between two passes (it is written when somebody reads it),
    the frames of torch in the stack of each operator, and the calls of modes for attributes of
    weights.
    """
    known = [(module, name, lighter) for module, name, lighter in _LIGHTER if name in _USUAL]
    try:
        for module, name, lighter in known:
            setattr(module, name, lighter)
        with _lazy_graphs():
            yield
    finally:
        for module, name, _ in known:
            setattr(module, name, _USUAL[name])


def _lazy_graphs() -> AbstractContextManager[Any]:
    try:
        from torch.fx._lazy_graph_module import _use_lazy_graph_module
    except ImportError:  # private, too
        return contextlib.nullcontext()
    lazy: AbstractContextManager[Any] = _use_lazy_graph_module(True)
    return lazy
