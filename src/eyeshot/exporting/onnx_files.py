"""A network as an ONNX file, run in onnxruntime before it is handed out; or as a ``.pt2``.

What is exported, the sizes at which it is tried, and the result are here too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from eyeshot.errors import BadValue, EyeshotError, Unsupported, one_line
from eyeshot.extras import extra
from eyeshot.files import write_aside
from eyeshot.frontends.aliasing import hushed
from eyeshot.frontends.net_geometry import InputSizes
from eyeshot.frontends.programs import export_program, widened
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.trials import input_dtype, runs_on_shapes
from eyeshot.language import by, counted
from eyeshot.runs import Run, RunConfig
from eyeshot.untouched import untouched

TOLERANCE = 1e-4
"""Of the largest absolute value: what two libraries may differ by."""
_ROUNDINGS = 16
"""In half precision, as many of its rounding errors, where these are larger."""
_MOST_GROWTH = 64


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file, compared with its network.

    Attributes:
        path: of the file.
        kind: what it is.
        tried: (N, C, H, W) of the inputs at which both were compared.
        apart: the largest difference there, of the largest absolute value.
        notes: what else there is to know.
    """

    path: Path
    kind: str
    tried: tuple[tuple[int, ...], ...]
    apart: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "tried": [list(shape) for shape in self.tried],
            "relative_difference": self.apart,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        sizes = ", ".join(by(shape) for shape in self.tried)
        lines = [f"{self.path}: {self.kind}; {self.apart:.1g} from the network at {sizes}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is to be written; see :func:`eyeshot.export`."""

    opset: int
    license: str | None = None
    authors: tuple[str, ...] = ()


class _Normalized(nn.Module):
    """A run's network behind its own mean and deviation; it takes samples (N, C, …)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, config: RunConfig) -> None:
        super().__init__()
        self.net = net
        for name in ("mean", "std"):
            self.register_buffer(name, by_channel(getattr(config, name), len(config.size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.net((x - self.mean) / self.std)
        return y


def by_channel(numbers: Sequence[float], axes: int) -> torch.Tensor:
    """A number for each channel of samples (C, …) with so many axes of space."""
    return torch.tensor(numbers).view(-1, *(1,) * axes)


@dataclass(frozen=True, eq=False)
class Target:
    """A network that is to be exported.

    Attributes:
        net: the network itself, in eval mode.
        size: (C, H, W) that it takes.
        run: the run that it is of, if any.
    """

    net: nn.Module
    size: tuple[int, ...]
    run: Run | None = None
    name: str = field(default="network")

    @cached_property
    def from_unit(self) -> nn.Module:
        """The network as it takes samples in 0 … 1, or of the run's own scale."""
        return self.net if self.run is None else _Normalized(self.net, self.run.config).eval()

    @property
    def samples(self) -> str:
        """What the file of a run takes, in words."""
        in_unit = self.run is None or self.run.config.in_unit
        return "samples in 0 … 1" if in_unit else "samples of the training images' own scale"

    @cached_property
    def growths(self) -> list[int]:
        """By how many pixels every side may grow."""
        runs, (channels, *sides) = runs_on_shapes(self.net), self.size
        return [
            more
            for more in range(1, _MOST_GROWTH + 1)
            if runs((1, channels, *(n + more for n in sides)))
        ]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Three inputs (N, C, …) to be tried: of other batches, and of other sizes if it takes any.

        The last one has sides of different lengths where it takes that.
        """
        channels, *sides = self.size
        if not self.growths:
            return tuple((count, *self.size) for count in (1, 2, 3))
        least, most = self.growths[0], self.growths[-1]
        last = (3, channels, *sides[:-1], sides[-1] + most)
        if not runs_on_shapes(self.net)(last):
            last = (3, channels, *(n + most for n in sides))
        return (1, *self.size), (2, channels, *(n + least for n in sides)), last


def target_of(net: nn.Module | Run, size: Sequence[int] | None) -> Target:
    """What is to be exported, at a size that it takes.

    Raises:
        BadValue: it does not take the size; or it is in training mode.
    """
    run = net if isinstance(net, Run) else None
    module = net.net if isinstance(net, Run) else net
    check_module(module)
    if any(child.training for child in module.modules()):
        raise BadValue("the network is in training mode", cure="call net.eval() first")
    if size is None and run is not None:
        size = (run.config.channels, *run.config.size)
    if size is None:
        sizes = InputSizes(module)
        size = (sizes.channels, sizes.usual, sizes.usual)
    shape = (1, *map(int, size))
    if min(shape) < 1 or not runs_on_shapes(module)(shape):
        raise BadValue(
            f"size {by(size)}: the network does not take it",
            cure="give one that it takes (eyeshot inspect names the nearest)",
        )
    name = type(module).__name__ if run is None else run.path.name
    return Target(module, tuple(shape[1:]), run, name)


def noise(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Samples in 0 … 1."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tensors_of(answer: Any) -> list[torch.Tensor]:
    """What a network returned, as a list.

    Raises:
        Unsupported: it returns something else than tensors.
    """
    outputs = [answer] if isinstance(answer, torch.Tensor) else answer
    outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
    several = isinstance(outputs, list | tuple)
    if not several or not all(isinstance(one, torch.Tensor) for one in outputs):
        raise Unsupported(
            f"the network returns a {type(answer).__name__}", cure="return one or more tensors"
        )
    return list(outputs)


def compared(
    net: nn.Module,
    other: Callable[[torch.Tensor], Sequence[Any]],
    shapes: Sequence[Sequence[int]],
) -> float:
    """The largest difference of a written network from the network itself, of its largest value.

    Raises:
        Unsupported: they differ by more than two libraries may.
    """
    worst, dtype = 0.0, input_dtype(net)
    allowed = max(TOLERANCE, _ROUNDINGS * torch.finfo(dtype).eps)
    for shape in shapes:
        x = noise(shape).to(dtype)
        with untouched(net), torch.no_grad():
            expected = tensors_of(net(x.clone()))  # forward may write into it
            actual = [torch.as_tensor(one) for one in other(x)]
        if [one.shape for one in actual] != [one.shape for one in expected]:
            sizes = (joined_shapes(one) for one in (actual, expected))
            fact = "at {} the file gives {}, and the network {}".format(by(shape), *sizes)
            raise Unsupported(fact, cure="export it at another --size")
        for mine, theirs in zip(map(widened, actual), map(widened, expected), strict=True):
            scale = max(float(theirs.abs().max()), 1e-6) if theirs.numel() else 1.0
            apart = float((mine - theirs).abs().max()) / scale if theirs.numel() else 0.0
            if not apart <= allowed:
                raise Unsupported(
                    f"at {by(shape)} the file is {apart:.2g} of the largest value away from the "
                    "network",
                    cure="leave out what it draws at random, or export it at another --size",
                )
            worst = max(worst, apart)
    return worst


def joined_shapes(tensors: Sequence[torch.Tensor]) -> str:
    """``1x2x64x64 and 1x10``, or how many there are where they are many."""
    if len(tensors) > 4:
        return counted(len(tensors), "output")
    return " and ".join(by(tuple(one.shape)) for one in tensors) or "nothing"


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
    notes += _normalization(target)
    return Exported(path, f"ONNX, opset {options.opset}", shapes, apart, notes)


def _normalization(target: Target) -> tuple[str, ...]:
    """A note that a run's file normalizes by itself."""
    if target.run is None:
        return ()
    return (f"it takes {target.samples}: mean and deviation are in it",)


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
    notes += _normalization(target)
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
