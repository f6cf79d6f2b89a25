"""Why a network cannot be traced: the line of its code that fails, and what to change there.

:func:`check_values`, for exported programs read from a file, checks the shapes that the file
declares against those that the operators give.
"""

from __future__ import annotations

import math
import re
import sys
import sysconfig
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.export.graph_signature import InputSpec

from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.trials import nearest_accepted, runs_on_shapes, without_channels

_PYTHON = str(Path(traceback.__file__).parent)
_PACKAGES = tuple({sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")})
_EYESHOT = Path(__file__).parent.parent
_NOT_THE_NETWORK = (
    str(Path(torch.__file__).parent),
    *(str(_EYESHOT / room) for room in ("frontends", "inspection", "engine", "untouched", "cli")),
    "<",
)
_MOST_LETTERS = 300
_TRACED = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n([^\n]*)')
"""A frame in the stack trace that torch.fx stores as text for each call."""
_AT_ANY_SIZE = (NameError, ImportError, NotImplementedError, AttributeError, TypeError, KeyError)
_ASSERTIONS = ("_assert", "_check", "_check_with", "handle_torch_function", "__torch_function__")


def check_module(net: Any) -> None:
    """Refuse what is no network, before it is asked anything.

    Raises:
        BadValue: it is no ``nn.Module``.
    """
    if isinstance(net, torch.nn.Module):
        return
    if isinstance(net, (str, Path)):
        cure = "load it first: eyeshot.load_onnx(path) for ONNX, eyeshot.load(path) for a run"
        raise BadValue(f"{str(net)!r} is a path and no network", cure=cure)
    if isinstance(net, type):
        cure = f"make one of it: {net.__name__}(…)"
        raise BadValue(f"{net.__name__} is a class and no network", cure=cure)
    raise BadValue(f"{type(net).__name__} is no network", cure="give an nn.Module")


def refuse_autocast() -> None:
    """Refuse to compute inside ``torch.autocast``, which would change the numbers.

    Raises:
        BadValue: it is on.
    """
    if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")):
        raise BadValue(
            "torch.autocast is on, and eyeshot computes in the network's own precision",
            cure="call it outside of that block; for a run, precision='bf16' computes in bfloat16",
        )


def refuse_unreadable(net: torch.nn.Module) -> None:
    """Refuse modules that cannot be traced because they have no Python code.

    Raises:
        BadValue: ``net`` is not an ``nn.Module``.
        Unsupported: ``net`` is TorchScript; or it comes from ``ExportedProgram.module()``, which
            does not record whether it is in training or eval mode.
    """
    check_module(net)
    if isinstance(net, torch.jit.ScriptModule):
        raise Unsupported(
            f"{type(net).__name__} is TorchScript, scripted or traced: its layers cannot be read",
            cure="give the nn.Module itself, not a scripted or traced copy",
        )
    if isinstance(net, torch.fx.GraphModule) and "eval" in vars(net):
        raise Unsupported(
            "the module() of an exported program does not record whether it is in training or eval "
            "mode",
            cure="save the program with torch.export.save(program, 'net.pt2') and give that file, "
            "or give the nn.Module that was exported",
        )


def cannot_export(
    net: torch.nn.Module, error: BaseException, sizes: Sequence[Sequence[int]] = ()
) -> Unsupported:
    """An error of ``torch.export`` as one line: the place, the cause and the cure.

    Args:
        net: the network.
        error: the error.
        sizes: the inputs' sizes, without the batch. For a single input, other sizes are tried, so
            that the cure can name the nearest that work.

    Returns:
        The error to raise.
    """
    fact = f"{type(net).__name__} cannot be traced"
    line = _frame_at_fault(error, files=files_of(net))
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            fact = f"{fact}: layer {name} is TorchScript, which has no Python to follow"
            return Unsupported(fact, cure="give it the nn.Module that the layer was made from")
    if line is not None:
        fact += f": {_place(line)}"
    cause, cure = _cause(error, line.line or "" if line else "")
    return Unsupported(f"{fact}: {cause}", cure=cure or _by_trying(net, error, sizes))


def _by_trying(net: torch.nn.Module, error: BaseException, sizes: Sequence[Sequence[int]]) -> str:
    """The cure for an error in ``forward``: a size that works, or the line to correct."""
    if isinstance(error, _AT_ANY_SIZE) or len(sizes) != 1:
        return "correct that line"
    wrapped = without_channels(net, sizes[0])
    if wrapped:
        return wrapped
    if not _in_words(error):
        return "correct that line, or give another size"
    if runs_on_shapes(net)((1, *sizes[0])):
        return "torch.export cannot follow it, though it runs: write it with plain torch functions"
    nearest = nearest_accepted(net, sizes[0])
    if not nearest:
        return "no size was found at which it runs: correct that line"
    return "the nearest it takes: " + " or ".join("x".join(map(str, size)) for size in nearest)


def _in_words(error: BaseException) -> bool:
    """Whether the network's own code raised the error, such as a check of the size, not torch."""
    frames = traceback.extract_tb(error.__traceback__)
    innermost = next((one for one in reversed(frames) if one.name not in _ASSERTIONS), None)
    return innermost is not None and not not_the_network(innermost.filename)


def refuse_unknown_sizes(net: torch.nn.Module, graph: torch.fx.Graph) -> None:
    """Refuse a graph in which a tensor's size depends on the values of the input.

    Raises:
        Unsupported: there is one (``nonzero``, a mask as an index); the message names its line.
    """
    for fx_node in graph.nodes:
        value = fx_node.meta.get("val")
        if isinstance(value, torch.Tensor) and not all(isinstance(n, int) for n in value.shape):
            raise Unsupported(
                f"{type(net).__name__} cannot be traced: {where(fx_node)}gives as many values "
                "as the input's content says",
                cure="keep every size fixed: multiply by a mask in place of indexing with it",
            )


def where(fx_node: torch.fx.Node) -> str:
    """The line that made a call, as the start of a message: ``net.py:12, `x = y`: ``."""
    line = source_line(fx_node)
    return f"{line}: " if line else ""


def source_line(fx_node: torch.fx.Node) -> str:
    """The line that made a call in a traced network, as ``net.py:12, `x = y``` ; "" if unknown."""
    trace = str(fx_node.meta.get("stack_trace") or "")
    found = [
        (file, n, code) for file, n, code in _TRACED.findall(trace) if not not_the_network(file)
    ]
    if not found:
        return ""
    file, number, code = found[-1]
    return f"{Path(file).name}:{number}, `{code.strip()[:_MOST_LETTERS]}`"


def line_at_fault(error: BaseException, *, outermost: bool = False) -> str:
    """The innermost line of the network's own code, as ``net.py:12, `x = y``` ; "" if none is.

    Args:
        error: the error, with its traceback.
        outermost: True for the line at which that code was entered, not the one that failed.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        code = (error.text or "").strip()
        return f"{Path(error.filename).name}:{error.lineno}" + (f", `{code}`" if code else "")
    line = _frame_at_fault(error, outermost=outermost)
    return _place(line) if line is not None else ""


def in_brief(error: BaseException) -> str:
    """An error as ``NameError: name 'x' is not defined``: its type and its message's first line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    first = first.replace("FakeTensor", "Tensor")
    if len(first) > _MOST_LETTERS:
        first = first[: _MOST_LETTERS - 1] + "…"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def not_the_network(filename: str) -> bool:
    """Whether a file belongs to torch, Python or Eyeshot, so is not a part of a user's network."""
    python = filename.startswith(_PYTHON) and not filename.startswith(_PACKAGES)
    return python or filename.startswith(_NOT_THE_NETWORK)


def is_installed(filename: str) -> bool:
    """Whether a file belongs to an installed package."""
    parts = Path(filename).parts
    return filename.startswith(_PACKAGES) or "site-packages" in parts or "dist-packages" in parts


def _place(line: traceback.FrameSummary) -> str:
    # Only the file's name: a whole path would make the message hard to read.
    code = (line.line or "")[:_MOST_LETTERS]
    return f"{Path(line.filename).name}:{line.lineno}" + (f", `{code}`" if code else "")


def files_of(net: torch.nn.Module) -> frozenset[str]:
    """The files in which the classes of a network's modules are defined."""
    modules = {sys.modules.get(type(one).__module__) for one in net.modules()}
    files = (getattr(module, "__file__", None) for module in modules)
    return frozenset(file for file in files if file and not not_the_network(file))


def _frame_at_fault(
    error: BaseException, *, outermost: bool = False, files: frozenset[str] = frozenset()
) -> traceback.FrameSummary | None:
    """The innermost (or outermost) line that is not in torch, Python or Eyeshot.

    If ``files`` is given, a line in an installed package counts only if its file is among them, so
    that the message names the network and not a library that it calls. If no line is left, all
    lines count.
    """
    lines = [
        line
        for line in traceback.extract_tb(error.__traceback__)
        if not not_the_network(line.filename)
    ]
    own = [
        line
        for line in lines
        if not files or line.filename in files or not is_installed(line.filename)
    ]
    own = own or lines
    return own[0 if outermost else -1] if own else None


def _cause(error: BaseException, code: str) -> tuple[str, str]:
    """The cause in words, and the cure; "" if the cure depends on the size."""
    fact = in_brief(error)
    if "ScriptModule" in fact:
        return "is TorchScript, which has no Python to follow", "give the module it was made from"
    if "__obj_flatten__" in fact or "PackedParams" in fact:
        return "has packed quantized weights", "give the network from before quantization"
    if "numpy" in code or ".numpy()" in str(error):
        return "leaves torch for NumPy", "write it with torch functions"
    if asks_for_values(error):
        return _by_values(code)
    if not code and isinstance(error, TypeError) and "argument" in fact:
        return fact, "give one size for each argument of forward"
    return fact, ""


def asks_for_values(error: BaseException) -> bool:
    """Whether the trace failed at code that depends on the values of a tensor."""
    # Imported here, because torch loads SymPy with it: a third of a second for every command.
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    return isinstance(error, (GuardOnDataDependentSymNode, DataDependentOutputException))


def _by_values(code: str) -> tuple[str, str]:
    """The cause and the cure for code that depends on values, which a trace does not have."""
    if not code:
        return (
            "decides by the values of a tensor",
            "choose with torch.where, and keep values in tensors",
        )
    if code.startswith(("if ", "elif ", "while ", "assert ")) or " if " in code:
        return (
            "branches on the values of a tensor",
            "compute both and choose with torch.where(condition, a, b)",
        )
    return (
        "turns a tensor's values into Python numbers",
        "keep them in a tensor, or pass them in as settings of the network",
    )


_LARGEST_SIDE = 10_000_000
_MOST_PARTS = 1 << 16
"""The most tensors into which an operator may split one tensor."""
_MOST_MADE = 1 << 26
"""The most numbers that a program may compute from constants or weights alone."""


class Contradiction(Exception):
    """A program from a file contradicts itself. The front end always catches this."""


def check_values(
    graph: torch.fx.Graph, specs: Sequence[InputSpec], stored: Mapping[str, torch.Tensor]
) -> None:
    """Check the shape and type that a file declares for each value of its program.

    Args:
        graph: the program; ``val`` of each node has the declared shape, on the meta device.
        specs: describes the program's inputs.
        stored: its weights and constants.

    Raises:
        Contradiction: an operator or a weight has another shape or type than the file declares, or
            a size exceeds the limits above.
    """
    made: dict[torch.fx.Node, Any] = {}
    shown: set[torch.fx.Node] = set()
    places = {spec.arg.name: spec.target for spec in specs}
    budget = _MOST_MADE + sum(one.numel() for one in stored.values())
    for node in graph.nodes:
        if node.op == "placeholder":
            made[node] = _checked_input(node, places[node.name], stored)
            if places[node.name] is None:
                shown.add(node)
        elif node.op == "call_function":
            made[node] = _checked_call(node, made)
            if not shown.isdisjoint(node.all_input_nodes):
                shown.add(node)
            elif isinstance(made[node], torch.Tensor):
                budget -= made[node].numel()
        if budget < 0:
            raise _wrong(f"its constants have more than {_MOST_MADE:,} numbers in all")


def _checked_input(
    node: torch.fx.Node, target: str | None, stored: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    said: torch.Tensor = node.meta["val"]
    if target is not None:
        if target not in stored:
            raise _wrong(f"{target} is not among its weights")
        _check_same(target, said, stored[target])
    elif any(not 0 < side <= _LARGEST_SIDE for side in said.shape):
        raise _wrong(f"an input of {tuple(said.shape)}, beyond {_LARGEST_SIDE:,} along an axis")
    return said


def _checked_call(node: torch.fx.Node, made: Mapping[torch.fx.Node, Any]) -> Any:
    """The operator's output on the meta device, after it was compared with the declared one."""
    said = node.meta.get("val")
    if not isinstance(node.target, OpOverload):  # getitem, an item of a tuple
        return said
    args = list(torch.fx.node.map_arg(node.args, lambda one: made[one]))
    kwargs = dict(torch.fx.node.map_arg(node.kwargs, lambda one: made[one]))
    arguments = {argument.name: argument for argument in node.target._schema.arguments}
    if "device" in arguments:  # an operator that creates a tensor would allocate memory
        place = list(arguments).index("device")
        if place < len(args):
            args[place] = torch.device("meta")
        else:
            kwargs["device"] = torch.device("meta")
    _check_parts(node.target, args)
    try:
        with torch.no_grad():
            result = node.target(*args, **kwargs)
    except NotImplementedError:  # torch has no meta kernel for this operator
        return said
    results = result if isinstance(result, (list, tuple)) else (result,)
    values = said if isinstance(said, (list, tuple)) else (said,)
    if said is not None and len(results) != len(values):
        raise _wrong(f"{node.name} gives {len(results)} values, said to be {len(values)}")
    for one, value in zip(results, values, strict=False):
        if isinstance(one, torch.Tensor) and isinstance(value, torch.Tensor):
            _check_same(node.name, value, one)
    return result if said is not None else None


def _check_parts(target: OpOverload[..., Any], args: Any) -> None:
    """Refuse to split a tensor into more tensors than any real network does."""
    several = any(str(one.type) == "List[Tensor]" for one in target._schema.returns)
    sides = [max(one.shape, default=0) for one in args if isinstance(one, torch.Tensor)]
    if several and max(sides, default=0) > _MOST_PARTS:
        raise _wrong(f"{target._opname} over {max(sides):,} positions")


def _check_same(name: str, said: torch.Tensor, real: torch.Tensor) -> None:
    if (said.shape, said.dtype) != (real.shape, real.dtype):
        raise _wrong(
            f"{name} is said to be {_shape(said)} of {said.dtype}, but is {_shape(real)} "
            f"of {real.dtype}"
        )


def _shape(tensor: torch.Tensor) -> str:
    shown = " x ".join(map(str, tensor.shape[:6]))
    return shown or "one number" if math.prod(tensor.shape) else f"empty ({shown})"


def _wrong(fact: str) -> Contradiction:
    return Contradiction(f"its program contradicts itself: {fact}")
