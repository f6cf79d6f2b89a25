"""A network written as an exported program, which opens without the code that made it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from eyeshot.errors import EyeshotError, Unsupported
from eyeshot.frontends.hushing import hushed
from eyeshot.frontends.paths import KeptPaths
from eyeshot.frontends.programs import ProgramNet, as_module
from eyeshot.frontends.pt2 import read_program
from eyeshot.frontends.refusals import cannot_export, in_brief
from eyeshot.untouched import untouched

_EXAMPLE_BATCH = 2
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Written:
    """A network as an exported program.

    Attributes:
        content: of its ``.pt2`` file.
        net: what the file holds, as a network.
    """

    content: bytes
    net: ProgramNet


def export_program(net: nn.Module, size: Sequence[int]) -> Written:
    """A network as a ``.pt2`` file, for every size that it takes where that can be had.

    What was written is read again and held against the network.

    Args:
        net: the network, which is left as it was found; its eval mode is what is written.
        size: (C, H, W) of an input that shows what is usual: the conditions that its sizes meet
            are those that all sizes have to meet.

    Raises:
        Unsupported: ``torch.export`` cannot trace the network, or the program is not the network.
    """
    example = torch.zeros(_EXAMPLE_BATCH, *size)
    refused: EyeshotError | None = None
    for dims in ((0, 2, 3), (0,), ()):
        try:
            program = _exported(net, example, {dim: Dim.AUTO for dim in dims if dim < example.ndim})
            content = _saved(program)
            written = Written(content, as_module(read_program(io.BytesIO(content))))
            _compare(net, written.net, example.shape)
        except EyeshotError as error:
            refused = refused or error
            continue
        return written
    raise refused or Unsupported("nothing was exported")


def _exported(net: nn.Module, example: torch.Tensor, dynamic: dict[int, Any]) -> ExportedProgram:
    shapes = (dynamic or None,)
    try:
        with untouched(net, computes=False), hushed(), KeptPaths(), torch.no_grad():
            net.eval()
            return torch.export.export(net, (example,), dynamic_shapes=shapes, strict=False)
    except EyeshotError:
        raise
    except Exception as error:  # somebody's forward may raise anything
        raise cannot_export(net, error, [tuple(example.shape[1:])]) from error


def _saved(program: ExportedProgram) -> bytes:
    program.example_inputs = None  # which would be pickled
    content = io.BytesIO()
    try:
        torch.export.save(program, content)
    except Exception as error:  # what its serializer knows nothing of raises in many ways
        fact = f"the network cannot be written as a program ({in_brief(error)})"
        raise Unsupported(fact, cure="use PyTorch's own operators in its forward") from error
    return content.getvalue()


def _compare(net: nn.Module, written: ProgramNet, shape: Sequence[int]) -> None:
    """Hold what was written against the network, on noise."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    with untouched(net), torch.no_grad():
        net.eval()
        wanted, found = net(noise), written(noise)
    largest = float(wanted.abs().max()) if isinstance(wanted, torch.Tensor) else 0.0
    if not isinstance(found, torch.Tensor) or found.shape != wanted.shape:
        raise Unsupported("its program gives something else than it does", cure="see inspect")
    apart = float((found - wanted).abs().max())
    if not apart <= _TOLERANCE * max(largest, 1e-6):
        raise Unsupported(
            f"its program is {apart:.3g} away from it, of {largest:.3g}",
            cure="leave out what it draws at random in eval mode, or keeps from call to call",
        )


def network_fingerprint(net: nn.Module, program: ProgramNet) -> str:
    """16 hexadecimal digits that are others for any other network; its weights have no say.

    They are of the program, of the layers with their settings, and of the source of the classes, as
    far as that is at hand: comments and blanks aside.
    """
    digest = hashlib.sha256()
    for line in (
        *_spelled(program.script.steps),
        *program.script.conditions,
        *(f"{name} {tuple(one.shape)} {one.dtype}" for name, one in net.state_dict().items()),
        repr(net),
        *_sources(net),
    ):
        digest.update(f"{line}\n".encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def _spelled(steps: Sequence[Any]) -> Iterator[str]:
    for step in steps:
        if hasattr(step, "steps"):
            yield from _spelled(step.steps)
        else:
            yield f"{step.name} {step.target} {step.args} {sorted(step.kwargs.items())}"


def _sources(net: nn.Module) -> Iterator[str]:
    """The source of each class that is not PyTorch's, as it is parsed."""
    kinds = dict.fromkeys(kind for module in net.modules() for kind in type(module).__mro__)
    for kind in kinds:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if kind.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        try:
            yield ast.dump(ast.parse(textwrap.dedent(inspect.getsource(kind))))
        except (OSError, TypeError, SyntaxError):
            yield name
