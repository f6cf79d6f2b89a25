"""The path from input to output, kept where a trace would lose it.

``torch.export`` follows a tensor from call to call; ``.data`` steps aside of that. Read, it gives
a tensor of which nothing is known, which export takes for a constant. Written, it is not seen.
While a network is traced, both are done in ways that are seen and give the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from eyeshot.errors import Unsupported
from eyeshot.frontends.pt2 import Program
from eyeshot.frontends.refusals import where

_DATA: Any = torch.Tensor.data
_READ, _WRITE = _DATA.__get__, _DATA.__set__


class KeptPaths(TorchFunctionMode):
    """``x.data`` becomes ``x.detach()``, ``x.data = y`` a copy of y into x, a deep copy a clone."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make the call, or what stands for it."""
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


def refuse_lost_paths(net: torch.nn.Module, program: Program) -> None:
    """Refuse a graph with a constant that has no numbers: it was computed from the input.

    Raises:
        Unsupported: there is one that is read; the line that reads it is named.
    """
    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    stored = {**program.constants, **program.state_dict}
    for node in program.graph.nodes:
        value = stored.get(str(targets.get(node.name)))
        if node.op == "placeholder" and node.users and isinstance(value, FakeTensor):
            raise Unsupported(
                f"{type(net).__name__} cannot be traced: {where(next(iter(node.users)))}here "
                f"it is not known how a tensor of shape {tuple(value.shape)} came from the input",
                cure="use x.detach() where a new tensor is made of the memory of x, such as "
                "torch.Tensor(x) or nn.Parameter(x)",
            )
