"""The knowledge about each operator: a record for each, a file for each family, and one table.

Other packages check a node's family, or look up its record here. To add an operator, add a record
to the file of its family, and a test that changes one input position at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from eyeshot.graph import Family, Graph, Kind, Node
from eyeshot.operators import (
    compiled_blocks,
    convolution,
    module_calls,
    normalization,
    padding,
    pointwise,
    pooling,
    products,
    reductions,
    reshaping,
    resizing,
    shuffling,
    slicing,
    winograd,
)
from eyeshot.operators.call import Tensors, called_on_tile, called_whole
from eyeshot.operators.custom import Positions, custom_operator
from eyeshot.operators.ranges import bounds_of
from eyeshot.operators.record import Effort, Operator, Work, borrows, nothing
from eyeshot.operators.repaired import Repair
from eyeshot.operators.tile import Box, Computation, Tile, over_bands

__all__ = [
    "OPERATORS",
    "REPAIRS",
    "Box",
    "Computation",
    "Operator",
    "Prepared",
    "Tile",
    "beside",
    "effort",
    "has_own_form",
    "named",
    "of",
    "prepare",
    "register_operator",
]

_UNKNOWN = Operator("")
_ALL = (
    Operator("input", Family.INPUT, other_operations=nothing),
    *convolution.OPERATORS,
    *pooling.OPERATORS,
    *resizing.OPERATORS,
    *padding.OPERATORS,
    *slicing.OPERATORS,
    *reshaping.OPERATORS,
    *shuffling.OPERATORS,
    *pointwise.OPERATORS,
    *products.OPERATORS,
    *reductions.OPERATORS,
    *normalization.OPERATORS,
    *module_calls.OPERATORS,
)
OPERATORS: dict[str, Operator] = {name: one for one in _ALL for name in one.names.split()}
"""The record of every operator by its name."""

_BY_FAMILY = {(name.partition(".")[0], one.family): one for name, one in OPERATORS.items()}
_BY_FAMILY[compiled_blocks.NAME, Family.BLOCK] = compiled_blocks.RECORD

REPAIRS: Mapping[str, Repair] = {
    name: one.repair
    for one in _ALL
    if one.repair is not None
    for name in f"{one.names} {one.repair.also}".split()
}
"""How a call of a torch function is put right, by the function's name."""


def named(name: str, overload: str = "") -> Operator:
    """The record of an operator; one without geometry where nothing is known of it.

    Args:
        name: of the operator, such as ``max``.
        overload: the same with its overload, such as ``max.other``.
    """
    return OPERATORS.get(overload) or OPERATORS.get(name, _UNKNOWN)


def register_operator(
    name: str,
    positions: Positions | Callable[[Mapping[str, Any]], Positions],
    *,
    multiply_adds: int = 0,
) -> None:
    """Register the windows of your own operator, so that it is inspected and streamed.

    It is computed by calling it on tiles. At the image's border it may behave in any way, if its
    windows read no other positions there than elsewhere. If it is registered twice, the second
    registration is used.

    Args:
        name: ``library::name``, the name in ``torch.library.custom_op``. A fake implementation
            must be registered with torch, so that the network can be traced.
        positions: ``"pointwise"`` if an output depends only on the same position of its inputs;
            a :class:`eyeshot.axes.Window` for all spatial axes, or one for each; or a function
            that gets the operator's arguments by name and returns one of these.
        multiply_adds: the multiply-adds for each output number.

    Raises:
        BadValue: torch has no such operator, it is one of torch's own operators, or one of its
            windows can be entirely in the padding.
    """
    record = custom_operator(name, positions, multiply_adds)
    OPERATORS[name] = record
    _BY_FAMILY[name, Family.CUSTOM] = record


def of(node: Node) -> Operator:
    """The record of a node's operator."""
    return _BY_FAMILY.get((node.operator, node.family), _UNKNOWN)


def has_own_form(node: Node) -> bool:
    """Whether it has its own computation, and so is not called as the network calls it."""
    return of(node).compute is not None


_IN_0_TO_1 = frozenset({"sigmoid", "hardsigmoid", "softmax", "_softmax"})
_ROUNDING = 1e-6


def gives_probabilities(graph: Graph, name: str) -> bool:
    """Whether a node's values lie between 0 and 1 for every input.

    They are those of a sigmoid or a softmax, of ``1 - sigmoid``, of a clamp, or a mean of such
    answers: a sigmoid of them would never be below one half. No sigmoid and no softmax may be taken
    of them, by anybody.
    """
    low, high = bounds_of(graph, name)
    return low >= -_ROUNDING and high <= 1 + _ROUNDING


_HIDES_CURVATURE = frozenset({"detach", *_IN_0_TO_1})
"""Whose second derivative may be 0 although they are curved: nothing passes back, or too little."""


def hides_curvature(node: Node) -> bool:
    """Whether derivatives in float32 cannot tell that a node bends what passes through it."""
    return node.operator in _HIDES_CURVATURE


def prepare(node: Node, tensors: Tensors) -> Computation:
    """How to compute any tile of a node, giving the very numbers that the whole pass gives.

    Raises:
        Unsupported: the operator cannot be computed on a part of the image.
    """
    if node.kind is Kind.HELD:
        return called_whole(node, tensors)
    record = of(node)
    compute = (record.compute or called_on_tile)(node, tensors)
    return over_bands(node, compute) if record.slides else compute


class Prepared:
    """The computations of a network's nodes, for several passes over it.

    A convolution keeps its weights in the layout that its kernel takes, so that a later pass finds
    them. A node's computation is made again if the node or the weights have been replaced.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Node, Tensors, Computation]] = {}

    @property
    def names(self) -> list[str]:
        """The nodes whose computations are kept."""
        return list(self._made)

    def computation(self, node: Node, tensors: Tensors) -> Computation:
        """As :func:`prepare`."""
        last = self._made.get(node.name)
        if last is not None and last[0] is node and last[1] is tensors:
            return last[2]
        compute = prepare(node, tensors)
        self._made[node.name] = (node, tensors, compute)
        return compute

    def forget(self, node: Node, tensors: Tensors) -> None:
        """Free what a node's computation keeps: its weights, laid out and transformed."""
        self._made.pop(node.name, None)
        winograd.forget(node, tensors)


def effort(graph: Graph, node: Node) -> Effort:
    """The multiply-adds of a node, for each number that it reads or gives."""
    return of(node).effort(node, partial(_shapes, graph, node))


def _flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """Every argument, those in lists too."""
    for one in arguments:
        if isinstance(one, list | tuple):
            yield from _flat(one)
        else:
            yield one


def _shapes(graph: Graph, node: Node) -> list[tuple[int, ...]]:
    """The shapes of a call's tensors, in the order of its arguments."""
    shapes: list[tuple[int, ...]] = []
    for argument in _flat(node.call.args) if node.call else ():
        name = getattr(argument, "node", None)
        if name is not None:
            shapes.append(graph.nodes[name].shape)
        elif getattr(argument, "name", None) in graph.tensors:
            shapes.append(tuple(graph.tensors[argument.name].shape))
    return shapes


def beside(work: Work, keeps_output: bool) -> int:
    """Bytes that a call uses in addition to its inputs and its output rows.

    If it ``keeps_output``, some of its rows are stored already, and its output is copied after
    them, unless it writes there directly.
    """
    record = of(work.node)
    in_place = record.in_place is not None and record.in_place(work)
    if work.node.kind is Kind.GLOBAL_STATISTIC:  # running sums are taken in float64
        nbytes = 2 * work.read
    elif work.node.kind is Kind.HELD:  # one copy of all on the way, and what is given
        nbytes = record.whole_scratch(work) + (0 if borrows(work.node) else work.read)
        keeps_output = True
    else:
        nbytes = record.scratch(work)
    return nbytes + (work.gives if keeps_output and not in_place else 0)
