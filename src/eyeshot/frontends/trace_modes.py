"""What surrounds a call of ``torch.export``: paths that it would lose, and work that nobody reads.

In this file:

- :func:`kept_paths`: replaces calls such as ``x.data``, at which a trace would lose the input;
- :func:`without_extras`: leaves out most of what torch writes down for debugging.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Iterator
from traceback import FrameSummary, StackSummary
from types import FrameType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import _lazy_graph_module as graph_modules
from torch.fx import proxy as fx_proxy
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode

from eyeshot.errors import Unsupported
from eyeshot.frontends.refusals import not_the_network

_DATA: Any = torch.Tensor.data
_READ, _WRITE = _DATA.__get__, _DATA.__set__


class _KeptPaths(TorchFunctionMode):
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
def kept_paths(net: torch.nn.Module) -> Iterator[None]:
    """In the block, ``net``'s forward reads ``x.data`` and deep copies without losing their path.

    Only calls inside ``forward`` are replaced where that is enough: ``torch.export`` itself reads
    hundreds of attributes of tensors, and a look at each of them took a tenth of its time.
    """
    if _computes_outside_forward(net) or _shares_layers(net):
        with _KeptPaths():
            yield
        return
    forward, members = net.forward, vars(net)
    own = "forward" in members

    @functools.wraps(forward)
    def with_paths(*args: Any, **kwargs: Any) -> Any:
        with _KeptPaths():
            return forward(*args, **kwargs)

    # functools.wraps would keep a __signature__ of forward, which still contains self.
    with_paths.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    members["forward"] = with_paths
    try:
        yield
    finally:
        if own:
            members["forward"] = forward
        else:
            del members["forward"]


def _computes_outside_forward(net: torch.nn.Module) -> bool:
    """Whether a call of ``net`` runs more than ``forward``: hooks, its own call, or a graph."""
    hooks = (*net._forward_pre_hooks.values(), *net._forward_hooks.values())
    own_call = type(net).__call__ is not torch.nn.Module.__call__
    return bool(hooks) or own_call or isinstance(net, torch.fx.GraphModule)


def _shares_layers(net: torch.nn.Module) -> bool:
    """Whether a layer has two paths; torch knows which one is called by the module it traces.

    A ``forward`` of the network itself, as a replaced one is, would read the layers past it.
    """
    paths = [id(member) for _, member in net.named_modules(remove_duplicate=False)]
    return len(paths) > len(set(paths))


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


_describe = proxy_tensor.track_tensor_tree


def _described(*args: Any, **kwargs: Any) -> Any:
    """torch's ``track_tensor_tree``, with no mode called for each attribute that it reads."""
    with torch._C.DisableTorchFunction():
        return _describe(*args, **kwargs)


_LIGHTER = (
    (fx_proxy, "CapturedTraceback", getattr(fx_proxy, "CapturedTraceback"), _OwnFrames),  # noqa: B009
    (proxy_tensor, "track_tensor_tree", _describe, _described),
)


@contextlib.contextmanager
def without_extras() -> Iterator[None]:
    """In the block, an export leaves out what takes a third of its time and is never read here.

    That is the Python code of each graph between two passes (it is written when somebody reads it),
    the frames of torch in the stack of each operator, and the calls of modes for attributes of
    weights.
    """
    try:
        for module, name, _, lighter in _LIGHTER:
            setattr(module, name, lighter)
        with graph_modules._use_lazy_graph_module(True):
            yield
    finally:
        for module, name, usual, _ in _LIGHTER:
            setattr(module, name, usual)
