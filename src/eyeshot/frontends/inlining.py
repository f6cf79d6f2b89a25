"""Before and after ``torch.export``: what a trace would lose, and inner graphs written out.

Around the call of ``torch.export``:

- :class:`KeptPaths`: replaces calls such as ``x.data``, at which a trace would lose the input;
- :func:`failures_leave_modules`: a call that fails, and whose error the network catches;
- :func:`without_extras`: leaves out most of what torch writes down for debugging.

After it: for ``torch.no_grad()`` in a ``forward``, ``torch.export`` makes an inner graph of the
code inside it, and a call of that graph; likewise for ``autocast``, ``torch.cond``, ``map`` and
``scan``. The rules for operators cannot read such a call, so :func:`inlined` replaces it:

- a gradient mode, an ``autocast`` that is switched off, a checkpoint: by the inner graph;
- ``torch.cond``: by both branches, and a ``torch.where`` that chooses between their results;
- ``map`` and ``scan`` over a few items: by one copy of the inner graph for each item.

:func:`holds` evaluates the conditions on input sizes that ``torch.export`` writes into a program.
They are parsed as data, and no code is run.
"""

from __future__ import annotations

import ast
import contextlib
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from traceback import FrameSummary, StackSummary
from types import FrameType
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Graph, GraphModule, Node
from torch.fx import proxy as fx_proxy
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode

from eyeshot.errors import Unsupported
from eyeshot.frontends.refusals import not_the_network
from eyeshot.graph import substitute

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


_MOST_ITEMS = 64
"""The most items for which a ``map`` or a ``scan`` is written out."""

_aten = torch.ops.aten


def inlined(module: GraphModule) -> Graph:
    """The module's graph, with every call of an inner graph written out.

    Raises:
        Unsupported: a call cannot be written out; the message names it.
    """
    _leave_out_last_writes(module.graph)
    if not any(isinstance(node.target, HigherOrderOperator) for node in module.graph.nodes):
        return module.graph
    graph = Graph()
    return _Inliner(graph).whole(module)


def _leave_out_last_writes(graph: Graph) -> None:
    """Erase the final writes into inputs, which store state for the network's next call.

    If ``forward`` sets a buffer that was None, export writes it into an input by mistake.
    """
    *_, output = graph.nodes
    for node in list(reversed(graph.nodes))[1:]:
        source = node.args[0] if node.args else None
        if node.target is not _aten.copy_.default or node.users or not isinstance(source, Node):
            return
        if source.op != "placeholder" or source in output.all_input_nodes:
            return
        graph.erase_node(node)


class _Inliner:
    """Copies a graph and its inner graphs into one new graph.

    Each node maps to a node of the new graph, or to a sequence of nodes if it has several outputs.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def whole(self, module: GraphModule) -> Graph:
        """The graph of a module with its inputs and outputs."""
        inputs = []
        for node in module.graph.nodes:
            if node.op == "placeholder":
                inputs.append(self._graph.node_copy(node))
                inputs[-1].name = node.name  # the signature finds its weight by this name
        self._graph.output(self.contents(module, inputs))
        return self._graph

    def contents(self, module: GraphModule, inputs: Sequence[Any]) -> Any:
        """Copy the module's graph for these inputs; the nodes of its outputs."""
        made: dict[Node, Any] = {}
        waiting = iter(inputs)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                made[node] = next(waiting)
            elif node.op == "get_attr":
                made[node] = getattr(module, str(node.target))
            elif node.op == "output":
                return _put(node.args[0], made)
            else:
                made[node] = self._call(node, made)
        raise AssertionError("a graph without an output")

    def _call(self, node: Node, made: dict[Node, Any]) -> Any:
        arguments = [_put(one, made) for one in node.args]
        if node.target is operator.getitem and isinstance(arguments[0], (list, tuple)):
            return arguments[0][arguments[1]]
        if not isinstance(node.target, HigherOrderOperator):
            return self._graph.node_copy(node, lambda one: made[one])
        name = str(node.target._name)
        if name not in _WRITTEN_OUT:
            raise Unsupported(f"{name} in forward calls functions of its own", cure=_CURES[name])
        return _WRITTEN_OUT[name](self, node, arguments)

    def add(self, like: Node, target: Any, *args: Any) -> Node:
        """Add a call of ``target`` to the new graph, with the metadata of the node ``like``."""
        made = self._graph.call_function(target, args)
        values = [torch.fx.node.map_arg(one, lambda node: node.meta["val"]) for one in args]
        made.meta = {**like.meta, "val": target(*values)}
        return made


def _put(value: Any, made: dict[Node, Any]) -> Any:
    """The value with each node replaced by its counterpart in the new graph."""
    return substitute(value, lambda one: made[one] if isinstance(one, Node) else one)


def _module_first(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    """Write out the first graph among the arguments, for the arguments after it."""
    place = next(i for i, one in enumerate(arguments) if isinstance(one, GraphModule))
    behind = [one for one in arguments[place + 1 :] if not isinstance(one, str)]
    return inliner.contents(arguments[place], behind)


def _body(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    """``strict_mode`` and ``hints_wrapper``: a graph and the sequence of its inputs."""
    return inliner.contents(arguments[0], arguments[1])


def _autocast(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    kind, dtype, enabled = arguments[:3]
    tensors = [one.meta["val"] for one in arguments[5:] if isinstance(one, Node)]
    if enabled and any(tensor.device.type == kind for tensor in tensors):
        short = str(dtype or "a lower precision").removeprefix("torch.")
        raise Unsupported(
            f"forward computes in {short}, inside torch.autocast({kind!r})",
            cure="take autocast out of forward, or switch it off there with enabled=False",
        )
    return _module_first(inliner, node, arguments)


def _cond(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    chosen, yes, no, inputs = arguments
    if not (isinstance(chosen, Node) and isinstance(chosen.meta["val"], torch.Tensor)):
        raise Unsupported(
            "torch.cond decides by a number that is computed from the input's values",
            cure="compute both and choose with torch.where(condition, a, b)",
        )
    results = [inliner.contents(branch, inputs) for branch in (yes, no)]
    return [
        inliner.add(node, _aten.where.self, chosen, one, other)
        if isinstance(one, Node) and isinstance(other, Node)
        else one
        for one, other in zip(*results, strict=True)
    ]


def _map(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    body, sequences, others = arguments
    results = [
        inliner.contents(body, [*items, *others])
        for items in _items(inliner, node, "map", sequences)
    ]
    return _stacked(inliner, node, results)


def _scan(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    body, carried, sequences, others = arguments
    count, results = len(carried), []
    for items in _items(inliner, node, "scan", sequences):
        values = inliner.contents(body, [*carried, *items, *others])
        carried = values[:count]
        results.append(values[count:])
    return [*carried, *_stacked(inliner, node, results)]


def _items(inliner: _Inliner, node: Node, name: str, sequences: Sequence[Node]) -> list[list[Node]]:
    """For each step, its item of every sequence."""
    steps = int(sequences[0].meta["val"].shape[0])
    if steps > _MOST_ITEMS:
        raise Unsupported(
            f"torch's {name} over {steps} items, more than {_MOST_ITEMS}",
            cure="compute all of them at once, with an axis for the items",
        )
    return [
        [inliner.add(node, _aten.select.int, one, 0, step) for one in sequences]
        for step in range(steps)
    ]


def _stacked(inliner: _Inliner, node: Node, results: Sequence[Sequence[Any]]) -> list[Node]:
    return [
        inliner.add(node, _aten.stack.default, list(one), 0) for one in zip(*results, strict=True)
    ]


_WRITTEN_OUT: dict[str, Callable[[_Inliner, Node, list[Any]], Any]] = {
    "wrap_with_set_grad_enabled": _module_first,
    "wrap_with_autocast": _autocast,
    "tag_activation_checkpoint": _module_first,
    "wrap_activation_checkpoint": _module_first,
    "wrap": _module_first,
    "invoke_subgraph": _module_first,
    "strict_mode": _body,
    "hints_wrapper": _body,
    "cond": _cond,
    "map_impl": _map,
    "scan": _scan,
}


class _Cures(dict[str, str]):
    """Cures by the operator's name, with a default for names that are not listed."""

    def __missing__(self, name: str) -> str:
        return "write out what it does with plain torch functions"


_CURES = _Cures(
    while_loop="repeat a fixed number of times, with a Python loop",
    while_loop_stack_output="repeat a fixed number of times, with a Python loop",
    associative_scan="write it as torch.cumsum or torch.cumprod, or as a Python loop",
    flex_attention="use torch.nn.functional.scaled_dot_product_attention",
)


_LONGEST = 20_000
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CALLED: dict[str, Callable[..., Any]] = {"max": max, "min": min}
_NOT_ONE = {(ast.NotEq, 1), (ast.Gt, 1), (ast.GtE, 2)}
"""Comparisons that only say that a size is not 1: torch always adds them, and 1 does no harm."""

Sizes = Mapping[str, tuple[int, ...]]


def holds(condition: str, sizes: Sizes) -> bool:
    """Whether inputs of these sizes meet a condition.

    The condition that a size is not 1 counts as met. ``torch.export`` always adds it, because a
    dimension of 1 could be broadcast; here, such a map is computed by the same operators.

    Args:
        condition: one of a program's ``conditions``.
        sizes: the whole shape, with the batch, of each input by its name.

    Raises:
        Unsupported: the text is not a condition on sizes.
    """
    parsed = _parsed(condition)
    try:
        # torch writes max(1, side) in conditions on strides; with a side of 1, it may differ.
        return bool(_value(parsed, sizes)) or bool(_value(parsed, sizes, least=2))
    except (ArithmeticError, LookupError):
        return False  # division by a size of 0, or an axis that the input does not have


def check_condition(condition: str) -> None:
    """Refuse a condition that :func:`holds` could not evaluate.

    Raises:
        Unsupported: the text is not a condition on sizes.
    """
    for part in ast.walk(_parsed(condition)):
        if not isinstance(part, _KNOWN):
            raise _unknown(condition)
    holds(condition, {})


@lru_cache(1024)
def _parsed(condition: str) -> ast.expr:
    try:
        if len(condition) > _LONGEST:
            raise ValueError
        return ast.parse(condition, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _unknown(condition) from None


def _unknown(condition: str) -> Unsupported:
    shown = condition if len(condition) < 80 else f"{condition[:77]}…"
    return Unsupported(f"the condition on sizes {shown!r} cannot be read", cure="export it again")


def _value(part: ast.AST, sizes: Sizes, least: int = 1) -> Any:
    """The value of an expression; ``least`` replaces the 1 in ``max(1, side)``."""
    if isinstance(part, ast.Constant) and isinstance(part.value, (int, float)):
        return part.value
    if isinstance(part, ast.BoolOp):
        found = (_value(one, sizes, least) for one in part.values)
        return all(found) if isinstance(part.op, ast.And) else any(found)
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, (ast.USub, ast.Not)):
        value = _value(part.operand, sizes, least)
        return -value if isinstance(part.op, ast.USub) else not value
    if isinstance(part, ast.BinOp) and type(part.op) in _BINARY:
        return _BINARY[type(part.op)](
            _value(part.left, sizes, least), _value(part.right, sizes, least)
        )
    if isinstance(part, ast.Compare) and len(part.ops) == 1:
        kind, right = type(part.ops[0]), part.comparators[0]
        if isinstance(right, ast.Constant) and (kind, right.value) in _NOT_ONE:
            return True
        if kind in _COMPARED:
            return _COMPARED[kind](_value(part.left, sizes, least), _value(right, sizes, least))
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in _CALLED:
        arguments = [_value(one, sizes, least) for one in part.args]
        first = part.args[0] if part.args else None
        if part.func.id == "max" and isinstance(first, ast.Constant) and first.value == 1:
            arguments[0] = least
        return _CALLED[part.func.id](*arguments)
    if isinstance(part, ast.Subscript):
        name, axis = _axis(part)
        return sizes[name][axis]
    raise _unknown(ast.unparse(part) if isinstance(part, ast.expr) else type(part).__name__)


def _axis(part: ast.Subscript) -> tuple[str, int]:
    """``L['x'].size()[2]`` as ("x", 2)."""
    match part:
        case ast.Subscript(
            value=ast.Call(
                func=ast.Attribute(
                    value=ast.Subscript(
                        value=ast.Name(id="L"), slice=ast.Constant(value=str(name))
                    ),
                    attr="size",
                ),
                args=[],
            ),
            slice=ast.Constant(value=int(axis)),
        ):
            return name, axis
    raise _unknown(ast.unparse(part))


_KNOWN = (
    *(ast.Constant, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Subscript),
    *(ast.Name, ast.Attribute, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
