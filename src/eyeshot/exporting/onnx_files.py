"""A network as an ONNX file, run in onnxruntime before it is handed out; or as a ``.pt2``."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from eyeshot.errors import BadValue, EyeshotError, Unsupported, one_line
from eyeshot.exporting.exported import Exported, Options, Target, compared, tensors_of
from eyeshot.extras import extra
from eyeshot.files import write_aside
from eyeshot.findings.wording import by
from eyeshot.frontends.memory import hushed
from eyeshot.frontends.programs import export_program
from eyeshot.frontends.trials import input_dtype
from eyeshot.untouched import untouched

AXES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
"""What the axes of space are called in a file."""
_LARGEST = 2**31 - 1


def write_onnx(target: Target, path: Path, options: Options) -> Exported:
    """Write ``path``: a network for every batch and size, where it takes them.

    Raises:
        Unsupported: it cannot be exported, or no file of it computes what it does.
        Failure: the extra ``onnx`` is not installed.
    """
    content, shapes, apart, notes = onnx_of(target, target.from_unit, options.opset)
    with write_aside(path) as aside:
        aside.write_bytes(content)
    if target.run is not None:
        notes = (*notes, f"it takes {target.samples}: mean and deviation are in it")
    return Exported(path, f"ONNX, opset {options.opset}", shapes, apart, notes)


def write_program(target: Target, path: Path, options: Options) -> Exported:
    """Write ``path``: an exported program, read again and compared.

    Raises:
        Unsupported: it cannot be exported, or its program computes something else.
    """
    net = target.from_unit
    written = export_program(net, target.size)
    shapes, notes = _accepted(written.net, target)
    apart = compared(net, lambda x: tensors_of(written.net(x)), shapes)
    with write_aside(path) as aside:
        aside.write_bytes(written.content)
    return Exported(path, "a PyTorch program", shapes, apart, notes)


def _accepted(
    net: nn.Module, target: Target
) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """Three shapes that a program takes; why it does not take others that the network takes."""
    channels, *sides = target.size
    shapes: list[tuple[int, ...]] = [(1, *target.size)]
    notes: list[str] = []
    for more in target.growths:
        shape = (len(shapes) + 1, channels, *(n + more for n in sides))
        try:
            with torch.no_grad():
                net(torch.zeros(shape, dtype=input_dtype(target.net)))
        except EyeshotError as error:
            notes = notes or [f"it does not take every size: {error.fact}"]
        else:
            shapes.append(shape)
        if len(shapes) == 3:
            break
    if len(shapes) < 3:
        shapes += [(count, *target.size) for count in range(len(shapes) + 1, 4)]
    return tuple(shapes), tuple(notes)


def onnx_of(
    target: Target, net: nn.Module, opset: int
) -> tuple[bytes, tuple[tuple[int, ...], ...], float, tuple[str, ...]]:
    """The content of an ONNX file, the shapes at which it was compared, how far it is, and notes.

    Raises:
        Unsupported: the network cannot be exported, or no file of it computes what it does.
        Failure: the extra ``onnx`` is not installed.
    """
    refused: EyeshotError | None = None
    fixed = tuple((count, *target.size) for count in (1, 2, 3))
    attempts = [(base, True, target.shapes) for base in _bases(target)] if target.growths else []
    for base, sizes, shapes in [*attempts, (target.size, False, fixed)]:
        try:
            content = _exported(net, base, opset, sizes)
            apart = compared(net, runner(content), shapes)
        except Unsupported as error:
            refused = refused or error
            continue
        notes: tuple[str, ...] = ()
        if target.growths and not sizes:
            reason = (
                f"of another size it is not what the network is ({refused.fact})" if refused else ""
            )
            notes = (f"the file is for {by(target.size[1:])} alone: {reason}",)
        return content, shapes, apart, notes
    raise refused or Unsupported("nothing was exported")


def runner(content: bytes) -> Callable[[torch.Tensor], Sequence[Any]]:
    """The outputs of an ONNX file for an input, by onnxruntime on the CPU.

    Raises:
        Unsupported: onnxruntime does not load the file, or does not run it.
        Failure: the extra ``onnx`` is not installed.
    """
    with extra("onnx"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with _refusing("onnxruntime does not load the file"):
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: torch.Tensor) -> Sequence[Any]:
        with _refusing(f"onnxruntime does not run it at {by(tuple(x.shape))}"):
            outputs: Sequence[Any] = session.run(None, {name: x.numpy()})
        return outputs

    return run


def _bases(target: Target) -> list[tuple[int, ...]]:
    """Sizes to be traced at: one off every grid first, which no branch of ``forward`` is for."""
    channels, *sides = target.size
    odd = next((more for more in target.growths if more % 2 and len(target.growths) > 32), None)
    bases = [target.size]
    if odd is not None:
        bases.insert(0, (channels, *(n + odd if n % 2 == 0 else n for n in sides)))
    return bases


def _exported(net: nn.Module, size: Sequence[int], opset: int, sizes: bool) -> bytes:
    with extra("onnx"):
        import onnx
        import onnxruntime  # noqa: F401  # it would be missed later
        import onnxscript  # noqa: F401  # torch needs it

    example = torch.rand(2, *size, generator=torch.Generator().manual_seed(1))
    example = example.to(input_dtype(net))
    dims = range(2, example.ndim) if sizes else ()
    dynamic = {0: Dim.AUTO, **dict.fromkeys(dims, Dim.AUTO)}
    refusing = _refusing("PyTorch cannot export the network to ONNX")
    with refusing, hushed(), untouched(net, computes=False), torch.no_grad():
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            dynamic_shapes=(dynamic,),
            opset_version=opset,
            input_names=["image"],
            verbose=False,
        )
    if program is None:
        raise Unsupported("PyTorch gave no ONNX program", cure="use another size")
    model = program.model_proto
    _name_axes(model, example.ndim - 2)
    if model.ByteSize() > _LARGEST:
        raise BadValue("the network has more than 2 GB of weights", cure="use half precision")
    with _refusing("the file does not pass onnx.checker"):
        onnx.checker.check_model(model, full_check=True)
    content = io.BytesIO()
    onnx.save_model(model, content)
    return content.getvalue()


def _name_axes(model: Any, axes: int) -> None:
    """Names for the sizes that are free, N, H and W, in place of the exporter's own."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    names_by_place = ("N", "C", *AXES.get(axes, ()))
    pairs = zip(shape, names_by_place, strict=False)
    names = {dim.dim_param: name for dim, name in pairs if dim.dim_param}
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b") if names else None
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if pattern is not None and dim.dim_param:
                dim.dim_param = pattern.sub(lambda match: names[match[1]], dim.dim_param)


@contextmanager
def _refusing(fact: str) -> Iterator[None]:
    """Turn any error in the block into one line: torch and ONNX's libraries raise many types."""
    try:
        yield
    except EyeshotError:
        raise
    except Exception as error:  # the exporter and the checker have no common error class
        first = next(iter(str(error).strip().splitlines()), "")
        raise Unsupported(
            f"{fact}: {type(error).__name__}: {one_line(first, 200)}",
            cure="use operators that ONNX has, or another --size",
        ) from error
