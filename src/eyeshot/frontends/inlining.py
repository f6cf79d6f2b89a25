"""Parts of a traced graph that are graphs of their own, put where they are called.

``torch.no_grad()`` in a ``forward`` makes ``torch.export`` wrap what stands inside it into a graph
that is called; so do ``autocast``, ``torch.cond``, ``map`` and ``scan``. For what a network
computes, and of which pixels, these calls are their contents, and they are read as such:

- a mode of gradients, a switched-off ``autocast``, a checkpoint: the contents;
- ``torch.cond``: both branches, and a choice between their results by ``torch.where``;
- ``map`` and ``scan`` over a few items: the contents, once an item.
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.fx import Graph, GraphModule, Node

from eyeshot.errors import Unsupported
from eyeshot.graph import substitute

_MOST_ITEMS = 64
"""Over which a ``map`` or a ``scan`` is written out."""

_aten = torch.ops.aten


def inlined(module: GraphModule) -> Graph:
    """The module's graph without calls of other graphs.

    Raises:
        Unsupported: one of the calls cannot be written out; it is named.
    """
    _leave_out_last_writes(module.graph)
    if not any(isinstance(node.target, HigherOrderOperator) for node in module.graph.nodes):
        return module.graph
    graph = Graph()
    return _Inliner(graph).whole(module)


def _leave_out_last_writes(graph: Graph) -> None:
    """Without what a network keeps for its next call, written when all outputs are computed.

    Where ``forward`` sets a buffer that was None, export writes it into an input by mistake.
    """
    *_, given = graph.nodes
    for node in list(reversed(graph.nodes))[1:]:
        source = node.args[0] if node.args else None
        if node.target is not _aten.copy_.default or node.users or not isinstance(source, Node):
            return
        if source.op != "placeholder" or source in given.all_input_nodes:
            return
        graph.erase_node(node)


class _Inliner:
    """Copies graphs into one.

    What a node has become is a node of the new graph; a sequence of such where it gave several.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def whole(self, module: GraphModule) -> Graph:
        """The graph of a module with its inputs and outputs."""
        inputs = []
        for node in module.graph.nodes:
            if node.op == "placeholder":
                inputs.append(self._graph.node_copy(node))
                inputs[-1].name = node.name  # by which its weight is found
        self._graph.output(self.contents(module, inputs))
        return self._graph

    def contents(self, module: GraphModule, inputs: Sequence[Any]) -> Any:
        """What the module gives for these inputs, computed by nodes of the new graph."""
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
        if node.target is python_operator.getitem and isinstance(arguments[0], (list, tuple)):
            return arguments[0][arguments[1]]
        if not isinstance(node.target, HigherOrderOperator):
            return self._graph.node_copy(node, lambda one: made[one])
        name = str(node.target._name)
        if name not in _WRITTEN_OUT:
            raise Unsupported(f"{name} in forward calls functions of its own", cure=_CURES[name])
        return _WRITTEN_OUT[name](self, node, arguments)

    def add(self, like: Node, target: Any, *args: Any) -> Node:
        """One more operator, at the place in the network of another."""
        made = self._graph.call_function(target, args)
        values = [torch.fx.node.map_arg(one, lambda node: node.meta["val"]) for one in args]
        made.meta = {**like.meta, "val": target(*values)}
        return made


def _put(value: Any, made: dict[Node, Any]) -> Any:
    """A value with what its nodes have become."""
    return substitute(value, lambda one: made[one] if isinstance(one, Node) else one)


def _module_first(inliner: _Inliner, node: Node, arguments: list[Any]) -> Any:
    """The first graph among the arguments is called with what stands behind it."""
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
        given = inliner.contents(body, [*carried, *items, *others])
        carried = given[:count]
        results.append(given[count:])
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
    """By the operator's name; one for all that are not listed."""

    def __missing__(self, name: str) -> str:
        return "write out what it does with plain torch functions"


_CURES = _Cures(
    while_loop="repeat a fixed number of times, with a Python loop",
    while_loop_stack_output="repeat a fixed number of times, with a Python loop",
    associative_scan="write it as torch.cumsum or torch.cumprod, or as a Python loop",
    flex_attention="use torch.nn.functional.scaled_dot_product_attention",
)
