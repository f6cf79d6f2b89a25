"""An exported program as an ``nn.Module`` that computes the same at any size.

A run folder opens without the Python code that defined the network. It holds the program that
``torch.export`` made from the network (``net.pt2``), and :mod:`eyeshot.frontends.pt2` reads that
file as data. Here it becomes an ``nn.Module`` again, with the layers, names and weights of the
original, so that it can be used wherever a network can.

In this file:

- :class:`ProgramNet` and :func:`as_module`: a program as a module;
- :func:`export_program`: a network written as a ``.pt2`` file;
- :func:`network_fingerprint`: an identifier of a network's code and structure, not its weights.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import math
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from itertools import groupby
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.frontends.aliasing import hushed
from eyeshot.frontends.inlining import KeptPaths, check_condition, holds
from eyeshot.frontends.pt2 import ON_WEIGHTS, Program, read_program
from eyeshot.frontends.refusals import (
    cannot_export,
    in_brief,
    is_installed,
    not_the_network,
    where,
)
from eyeshot.frontends.trials import input_dtype
from eyeshot.graph import Ref, substitute
from eyeshot.operators import OPERATORS
from eyeshot.untouched import untouched

_Called = tuple["Operation", list[tuple[str, str]]]
"""An operator, and the layer calls that contain it, outermost first: (key, dotted path)."""
_ON_NUMBERS = frozenset(("sym_size", "sym_numel", "sym_stride", "_assert_scalar"))


@dataclass(frozen=True)
class Operation:
    """One operator of a program.

    Attributes:
        name: the name of its value.
        target: the function that computes it.
        args: its positional arguments, with a Ref for each value.
        kwargs: its keyword arguments, likewise.
        ending: the values that no later operator reads.
    """

    name: str
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    ending: tuple[str, ...] = ()

    def compute(self, values: dict[str, Any]) -> None:
        """Add its value to ``values``, and delete the values that no later operator reads."""

        def put(one: Any) -> Any:
            return values[one.node] if isinstance(one, Ref) else one

        args, kwargs = substitute(self.args, put), substitute(dict(self.kwargs), put)
        values[self.name] = self.target(*args, **kwargs)
        for name in self.ending:
            del values[name]


@dataclass(frozen=True)
class Visit:
    """Consecutive operators that belong to one layer and to the layers inside it."""

    layer: nn.Module
    steps: tuple[Operation | Visit, ...]


@dataclass(frozen=True)
class Script:
    """What a :class:`ProgramNet` computes.

    Attributes:
        inputs: the names of the inputs.
        example: the size of each input at export, without the batch.
        weights: for each weight, its name in the program and its dotted name.
        steps: the operators, grouped by layer.
        outputs: the names of the output values.
        conditions: the program is valid only for input sizes that meet these.
    """

    inputs: tuple[str, ...]
    example: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[str, str], ...]
    steps: tuple[Operation | Visit, ...]
    outputs: tuple[str, ...]
    conditions: tuple[str, ...]


class Part(nn.Module):
    """A layer of a program: it has the original's weights and computes its operators."""

    def forward(self, values: dict[str, Any], steps: Sequence[Operation | Visit]) -> None:
        """Compute ``steps`` on ``values``."""
        for step in steps:
            if isinstance(step, Operation):
                step.compute(values)
            else:
                step.layer(values, step.steps)


class ProgramNet(nn.Module):
    """A network that is an exported program.

    It computes what the original computes in eval mode, whatever mode it is put in.

    Args:
        program: from :func:`eyeshot.frontends.pt2.read_program`.

    Attributes:
        script: what it computes.

    Raises:
        Unsupported: an operator is not known to be harmless, or a condition on sizes cannot be
            read.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        for condition in program.conditions:
            check_condition(condition)
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
        shown = [node for node in placeholders if specs[node.name].kind == InputKind.USER_INPUT]
        weights = [node.name for node in placeholders if node not in shown]
        parameters = {
            str(spec.target) for spec in specs.values() if spec.kind == InputKind.PARAMETER
        }
        layers = _Layers(self, program.graph)
        for name, tensor in program.state_dict.items():
            layers.take_weight(name, tensor, learned=name in parameters)
        for name, tensor in program.constants.items():
            layers.take_constant(name, tensor)
        example = [node.meta["val"].shape[2:] for node in shown]
        self._sized = "" if program.any_size else _first_sized(program.graph, example)
        self._any_size = program.any_size
        operations, outputs = _operations(program)
        self.script = Script(
            tuple(node.name for node in shown),
            tuple(tuple(int(n) for n in node.meta["val"].shape[1:]) for node in shown),
            tuple((name, str(specs[name].target)) for name in weights),
            layers.folded(operations),
            outputs,
            program.conditions,
        )
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The program's output for inputs (N, C, …); a tuple if it has several outputs.

        Raises:
            BadValue: the number or the sizes of the inputs are not those it was exported for.
        """
        script = self.script
        if len(inputs) != len(script.inputs):
            fact = f"{len(inputs)} inputs for a network that takes {len(script.inputs)}"
            raise BadValue(fact, cure=f"give {', '.join(script.inputs)}")
        _check_sizes(script, inputs)
        if self._sized:
            self._check_size(inputs)
        values: dict[str, Any] = dict(zip(script.inputs, inputs, strict=True))
        for name, path in script.weights:
            owner, _, last = path.rpartition(".")
            values[name] = getattr(self.get_submodule(owner), last)
        Part.forward(self, values, script.steps)  # type: ignore[arg-type]
        found = tuple(values[name] for name in script.outputs)
        return found[0] if len(found) == 1 else found

    @property
    def declared(self) -> tuple[tuple[int | None, ...], ...]:
        """For each input (C, None, …): its channels at export; None for each spatial axis."""
        return tuple((*size[:1], *(None for _ in size[1:])) for size in self.script.example)

    @property
    def one_size(self) -> tuple[tuple[int, ...], ...] | None:
        """The sizes (C, H, W) that it was exported for; None if it was exported for others too."""
        return None if self._any_size else self.script.example

    def _check_size(self, inputs: Sequence[torch.Tensor]) -> None:
        """Refuse any size other than the export's, because an operator has that size in it."""
        actual = tuple(tuple(int(n) for n in one.shape[1:]) for one in inputs)
        if actual != self.script.example:
            expected, used = (
                ", ".join("x".join(map(str, size)) for size in sizes)
                for sizes in (self.script.example, actual)
            )
            raise BadValue(
                f"an input of {used}, but the network was exported for {expected} only: operator "
                f"{self._sized} has that size in it",
                cure="export it with dynamic_shapes",
            )


def as_module(program: Program) -> ProgramNet:
    """A program as a network; its class and its arguments have the names of the original.

    Raises:
        Unsupported: an operator in it is not known to be harmless, or a condition cannot be read.
    """
    specs = program.graph_signature.input_specs
    names = [spec.arg.name for spec in specs if spec.kind == InputKind.USER_INPUT]
    stacks = (node.meta.get("nn_module_stack") or {} for node in program.graph.nodes)
    roots = (kind for stack in stacks for path, kind in stack.values() if not path)
    name = str(next(roots, "")).rpartition(".")[2] or ProgramNet.__name__

    def forward(self: ProgramNet, *inputs: torch.Tensor) -> Any:
        return ProgramNet.forward(self, *inputs)

    if all(map(str.isidentifier, names)):
        kind = Parameter.POSITIONAL_OR_KEYWORD
        parameters = [Parameter(one, kind) for one in ("self", *names)]
        forward.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    made: type[ProgramNet] = type(name, (ProgramNet,), {"forward": forward})
    return made(program)


_SIZED = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "expand", "unflatten", "as_strided", "full", "zeros"),
        *("ones", "arange", "linspace", "eye", "new_zeros", "new_ones", "new_full"),
        *("split", "split_with_sizes", "chunk"),
    )
)
"""Operators whose arguments may hold a number computed from the input's size during the trace."""
_CUTS = frozenset(("slice", "narrow", "select"))
_ENDLESS = 1 << 62


_ARITHMETIC = frozenset(
    (
        *("add", "sub", "rsub", "mul", "div", "floor_divide", "remainder", "fmod", "pow"),
        *("clamp", "clamp_min", "clamp_max", "minimum", "maximum", "avg_pool1d", "avg_pool2d"),
        *("avg_pool3d", "gt", "ge", "lt", "le", "eq", "ne", "fill", "masked_fill", "roll"),
    )
)
"""Operators with numbers that a ``forward`` may have computed from the input's size."""
_SMALLEST_SIZE = 8


def is_size(number: Any, shapes: Iterable[Sequence[int]]) -> bool:
    """Whether a number is the length of an axis of these sizes (D, H, W), or the product of one.

    Smaller numbers than 8 are not: half of all constants would be.
    """
    sizes = {int(n) for shape in shapes for n in (*shape, math.prod(shape))}
    return isinstance(number, int | float) and number in {n for n in sizes if n >= _SMALLEST_SIZE}


def _first_sized(graph: torch.fx.Graph, example: Sequence[Sequence[int]]) -> str:
    """The first operator that may have the example's size as a constant in it; "" for none."""
    for node in graph.nodes:
        name = getattr(node.target, "_opname", "")
        args = [*node.args, *node.kwargs.values()]
        if name.rstrip("_") in _ARITHMETIC and any(is_size(one, example) for one in args):
            return str(node.name)
        sizes = [one for one in args[1:] if isinstance(one, int | list | tuple)]
        cuts = name in _CUTS and len(args) > 1 and args[1] not in (0, 1)
        ends = [one for one in args[2:4] if isinstance(one, int)]
        resized = name.startswith("upsample_") and isinstance(args[1], list | tuple)
        if resized or (name in _SIZED and sizes) or (cuts and any(0 < n < _ENDLESS for n in ends)):
            return str(node.name)
    return ""


def _check_sizes(script: Script, inputs: Sequence[torch.Tensor]) -> None:
    # Not as plain numbers: a symbol that is made one is a constant in the next export.
    sizes = {name: tuple(one.shape) for name, one in zip(script.inputs, inputs, strict=True)}
    for condition in script.conditions:
        if not holds(condition, sizes):
            listed = ", ".join("x".join(map(str, size)) for size in sizes.values())
            raise BadValue(
                f"an input of {listed}, but the network was exported for sizes with {condition}",
                cure="give an input of such a size",
            )


def _operations(program: Program) -> tuple[list[_Called], tuple[str, ...]]:
    """The operators in order, each with its layers (outermost first), and the output names."""
    found: list[_Called] = []
    outputs: tuple[str, ...] = ()
    last: dict[str, int] = {}

    def put(node: torch.fx.Node) -> Any:
        last[node.name] = len(found)
        return Ref(node.name)

    for node in program.graph.nodes:
        if node.op == "output":
            (flat,) = node.args
            outputs = tuple(one.name for one in flat)
        elif node.op == "call_function":
            _check_harmless(program, node)
            args = torch.fx.node.map_arg(node.args, put)
            kwargs = torch.fx.node.map_arg(node.kwargs, put)
            target = _insist if node.target is _CHECK else node.target
            last.setdefault(node.name, len(found))
            found.append((Operation(node.name, target, tuple(args), dict(kwargs)), _calls(node)))
    ending: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in outputs:
            ending.setdefault(index, []).append(name)
    ended = [
        (replace(one, ending=tuple(ending.get(index, ()))), paths)
        for index, (one, paths) in enumerate(found)
    ]
    return ended, outputs


def _calls(node: torch.fx.Node) -> list[tuple[str, str]]:
    """The layer calls that contain an operator, outermost first: (key, dotted path)."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack and node.args and isinstance(node.args[0], torch.fx.Node):
        stack = node.args[0].meta.get("nn_module_stack") or {}
    return [(key, path) for key, (path, _) in stack.items() if path]


_CHECK = torch.ops.aten._assert_scalar.default


def _insist(holding: Any, message: str = "") -> None:
    if not holding:
        raise BadValue(
            f"the input's size is not one that the network was exported for ({message})",
            cure="give another size, or export the network with dynamic_shapes",
        )


def _check_harmless(program: Program, node: torch.fx.Node) -> None:
    """Refuse an operator that we have no rule for: the file may come from anyone."""
    if not isinstance(node.target, OpOverload):
        return
    name = node.target._opname
    if name.rstrip("_") not in OPERATORS and name not in ON_WEIGHTS and name not in _ON_NUMBERS:
        raise Unsupported(
            f"{program.path}: the operator {name} has no rule", cure="use the network's own code"
        )


class _Layers:
    """Makes the program's layers into modules with the original's names and class names."""

    def __init__(self, net: ProgramNet, graph: torch.fx.Graph) -> None:
        self._net = net
        self._kinds = {
            path: str(kind)
            for node in graph.nodes
            for path, kind in (node.meta.get("nn_module_stack") or {}).values()
        }
        self._tied: dict[tuple[Any, ...], nn.Parameter] = {}

    def take_weight(self, name: str, tensor: torch.Tensor, *, learned: bool) -> None:
        """Register a parameter or a buffer; parameters that share memory stay tied."""
        owner, last = self._place(name)
        if not learned:
            owner.register_buffer(last, tensor)
            return
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        parameter = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        owner.register_parameter(last, self._tied.setdefault(key, parameter))

    def take_constant(self, name: str, tensor: torch.Tensor) -> None:
        """Register a constant that is not in the state_dict, as a non-persistent buffer."""
        owner, last = self._place(name)
        if last not in owner._buffers:
            owner.register_buffer(last, tensor, persistent=False)

    def folded(
        self, operations: Sequence[_Called], depth: int = 0
    ) -> tuple[Operation | Visit, ...]:
        """The steps, with each run of consecutive operators of one layer made into a Visit."""
        steps: list[Operation | Visit] = []
        for path, stretch in _stretches(operations, depth):
            if path is None:
                steps += [operation for operation, _ in stretch]
            else:
                steps.append(Visit(self._module(path), self.folded(stretch, depth + 1)))
        return tuple(steps)

    def _place(self, name: str) -> tuple[nn.Module, str]:
        path, _, last = name.rpartition(".")
        return self._module(path), last

    def _module(self, path: str) -> nn.Module:
        """The module at a dotted path; it is created if it does not exist yet."""
        module: nn.Module = self._net
        parts = path.split(".") if path else []
        for index, part in enumerate(parts):
            if part not in module._modules:
                module.add_module(part, _made(self._kinds.get(".".join(parts[: index + 1]), "")))
            module = module._modules[part] or self._net
        return module


def _stretches(
    operations: Sequence[_Called], depth: int
) -> Iterator[tuple[str | None, list[_Called]]]:
    """Runs of operators that one layer call at ``depth`` contains, each with the layer's path.

    The path is None for operators that no layer at this depth contains.
    """

    def call(one: _Called) -> tuple[str, str | None]:
        return one[1][depth] if len(one[1]) > depth else ("", None)

    for (_, path), stretch in groupby(operations, call):
        yield path, list(stretch)


def _made(kind: str) -> Part:
    """A layer with the original's class name; the original's code is not available."""
    module, _, name = kind.rpartition(".")
    made: type[Part] = type(name or "Part", (Part,), {"__module__": module or Part.__module__})
    return made()


def refuse_lost_paths(net: torch.nn.Module, program: Program) -> None:
    """Refuse a graph that reads a constant without numbers: it was computed from the input.

    Raises:
        Unsupported: there is one; the message names the line that reads it.
    """
    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    stored = {**program.constants, **program.state_dict}
    for node in program.graph.nodes:
        value = stored.get(str(targets.get(node.name)))
        if node.op == "placeholder" and node.users and isinstance(value, FakeTensor):
            raise Unsupported(
                f"{type(net).__name__} cannot be traced: {where(next(iter(node.users)))}torch lost "
                f"track of how a tensor of shape {tuple(value.shape)} is computed from the input",
                cure="use x.detach() where a new tensor is made from the memory of x, such as "
                "torch.Tensor(x) or nn.Parameter(x)",
            )


_EXAMPLE_BATCH = 2
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Written:
    """A network as an exported program.

    Attributes:
        content: the bytes of its ``.pt2`` file.
        net: the network that the file holds, read back.
    """

    content: bytes
    net: ProgramNet


def export_program(net: nn.Module, size: Sequence[int]) -> Written:
    """A network as a ``.pt2`` file, for every size if torch can export that, else for this one.

    The file is read back, and its output on noise is compared with the network's.

    Args:
        net: the network; it does not change. It is exported in eval mode.
        size: (C, H, W) of a typical input. The program takes the sizes that meet the same
            conditions (such as a multiple of 8) as this one.

    Raises:
        Unsupported: ``torch.export`` cannot trace the network, or the program's output differs
            from the network's.
    """
    example = torch.zeros(_EXAMPLE_BATCH, *size, dtype=input_dtype(net))
    refused: EyeshotError | None = None
    for dims in ((0, *range(2, example.ndim)), (0,), ()):
        try:
            program = _exported(net, example, dict.fromkeys(dims, Dim.AUTO))
            _refuse_state(program)
            content = _saved(program)
            written = Written(content, as_module(read_program(io.BytesIO(content))))
            _compare(net, written.net, example.shape)
        except EyeshotError as error:
            refused = refused or error
            continue
        return written
    raise refused or Unsupported("nothing was exported")


def _refuse_state(program: ExportedProgram) -> None:
    """Refuse a network that changes a buffer in eval mode: its answers depend on earlier calls.

    Raises:
        Unsupported: it does.
    """
    buffers = program.graph_signature.inputs_to_buffers
    changed = [
        buffers[node.args[0].name]
        for node in program.graph.nodes
        if isinstance(node.target, OpOverload)
        and node.target._opname.endswith("_")
        and isinstance(node.args[0], torch.fx.Node)
        and node.args[0].name in buffers
    ]
    if changed:
        raise Unsupported(
            f"the network changes its buffer {changed[0]} when it runs in eval mode, so its answer "
            "depends on the calls before",
            cure="change buffers only while self.training",
        )


def _exported(net: nn.Module, example: torch.Tensor, dynamic: dict[int, Any]) -> ExportedProgram:
    shapes = (dynamic or None,)
    try:
        with hushed(), untouched(net, computes=False), KeptPaths(), torch.no_grad():
            net.eval()
            return torch.export.export(net, (example,), dynamic_shapes=shapes, strict=False)
    except EyeshotError:
        raise
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception as error:  # somebody's forward may raise anything
        raise cannot_export(net, error, [tuple(example.shape[1:])]) from error


def _saved(program: ExportedProgram) -> bytes:
    program.example_inputs = None  # torch would pickle them
    content = io.BytesIO()
    try:
        torch.export.save(program, content)
    except Exception as error:  # torch's serializer raises many types for what it cannot write
        fact = f"the network cannot be written as a program ({in_brief(error)})"
        raise Unsupported(fact, cure="use PyTorch's own operators in its forward") from error
    return content.getvalue()


def _compare(net: nn.Module, written: ProgramNet, shape: Sequence[int]) -> None:
    """Compare the written program's output on noise with the network's."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(input_dtype(net))
    with untouched(net), torch.no_grad():
        net.eval()
        expected, actual = net(noise.clone()), written(noise)  # forward may write into it
    largest = float(widened(expected).abs().max()) if isinstance(expected, torch.Tensor) else 0.0
    both = isinstance(expected, torch.Tensor) and isinstance(actual, torch.Tensor)
    if not both or actual.shape != expected.shape:
        kind = (
            tuple(expected.shape) if isinstance(expected, torch.Tensor) else type(expected).__name__
        )
        raise Unsupported(
            f"the exported program's output differs from the network's, {kind}",
            cure="make forward give one tensor, of the same shape when traced as when called",
        )
    if not expected.isfinite().all():
        raise Unsupported(
            f"the network gives {float(expected[~expected.isfinite()].flatten()[0])} for noise",
            cure="look for a division by 0, or a logarithm or root of numbers below 0",
        )
    apart = float((widened(actual) - widened(expected)).abs().max())
    if not apart <= _TOLERANCE * max(largest, 1e-6):
        raise Unsupported(
            f"the exported program's output differs from the network's by {apart:.3g} (largest "
            f"value {largest:.3g})",
            cure="remove random numbers in eval mode, and state that is kept between calls",
        )


def widened(numbers: torch.Tensor) -> torch.Tensor:
    """As float64 or complex128: masks have no difference, and that of bytes wraps."""
    return numbers.to(torch.complex128 if numbers.is_complex() else torch.float64)


def network_fingerprint(net: nn.Module, program: ProgramNet) -> str:
    """16 hexadecimal digits that identify a network's structure and code, not its weights' values.

    They are a hash of the program, of the layers with their settings, and of the source of the
    classes if it is available, without comments and blank space.
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
    """The parsed source of each class that is not PyTorch's, and of what its methods use.

    That is the functions of their modules, and the constants there by their values. Where there is
    no source, it is the name.
    """
    kinds = dict.fromkeys(kind for module in net.modules() for kind in type(module).__mro__)
    waiting: list[Any] = [
        one for one in kinds if one.__module__.partition(".")[0] not in ("torch", "builtins")
    ]
    done: set[Any] = set()
    while waiting:
        one = waiting.pop(0)
        if one in done:
            continue
        done.add(one)
        try:
            yield ast.dump(ast.parse(textwrap.dedent(inspect.getsource(one))))
        except (OSError, TypeError, SyntaxError):
            yield f"{one.__module__}.{one.__qualname__}"
        for function in _functions(one) if _is_own(one) else ():
            for name, value in _globals_used(function):
                if isinstance(value, (FunctionType, type)):
                    waiting += [value] if _is_own(value) else []
                elif isinstance(value, _CONSTANTS):
                    yield f"{one.__qualname__} {name} {value!r}"


_CONSTANTS = (bool, int, float, complex, str, bytes)


def _is_own(one: type | FunctionType) -> bool:
    """Whether a class or function is the user's: no part of torch, of Python or of a package."""
    if one.__module__ == "__main__":
        return True
    file = getattr(sys.modules.get(one.__module__), "__file__", None)
    return file is not None and not not_the_network(file) and not is_installed(file)


def _functions(one: type | FunctionType) -> Iterator[FunctionType]:
    """A function, or the methods of a class."""
    members = [one] if isinstance(one, FunctionType) else vars(one).values()
    for member in members:
        inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(inner, FunctionType):
            yield inspect.unwrap(inner)


def _globals_used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The names of its module that a function uses, with their values."""
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [one for one in code.co_consts if isinstance(one, CodeType)]
        for name in code.co_names:
            if name in function.__globals__:
                yield name, function.__globals__[name]
