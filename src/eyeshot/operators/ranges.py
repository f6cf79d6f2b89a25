"""Between which bounds the values of a node lie, whatever the network's input and weights are.

A network whose answers lie between 0 and 1 gives probabilities: nobody may take another sigmoid or
softmax of them. Bounds are known after a sigmoid, a softmax, a clamp or a ReLU, and arithmetic
carries them on: ``1 - p``, ``(tanh(x) + 1) / 2``, the mean of several answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from eyeshot.graph import Call, Family, Graph, Node, Ref

Bounds = tuple[float, float]
"""The smallest and the largest value that may be."""

ANY: Bounds = (-math.inf, math.inf)
_SHARES: Bounds = (0.0, 1.0)
_POSITIVE: Bounds = (0.0, math.inf)

_FIXED: Mapping[str, Bounds] = {
    **dict.fromkeys(("sigmoid", "hardsigmoid", "softmax", "_softmax"), _SHARES),
    **dict.fromkeys(("abs", "square", "softplus"), _POSITIVE),
    **dict.fromkeys(("log_softmax", "_log_softmax", "log_sigmoid"), (-math.inf, 0.0)),
    "tanh": (-1.0, 1.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
}
"""The bounds of operators whatever they take."""

_KEEP = frozenset(
    {
        *(Family.ALIAS, Family.DROPOUT, Family.CROP, Family.SELECT, Family.RESHAPE),
        *(Family.PERMUTE, Family.SQUEEZE, Family.UNSQUEEZE, Family.EXPAND, Family.REPEAT),
        *(Family.REPEAT_EACH, Family.PIXEL_SHUFFLE, Family.CONCATENATE, Family.STACK),
        *(Family.MEAN, Family.LARGEST, Family.SMALLEST, Family.MAX_POOL),
        *(Family.ADAPTIVE_MAX_POOL, Family.ADAPTIVE_AVERAGE_POOL),
    }
)
"""Families whose values are some of those that they take, or means of them."""

_KEEPING = frozenset(("flip", "roll", "rot90", "to", "maximum", "minimum", "clone", "contiguous"))


def bounds_of(graph: Graph, name: str) -> Bounds:
    """The bounds of a node's values; infinite where nothing is known.

    Args:
        graph: the network.
        name: of the node.
    """
    asked, needed = [name], set[str]()
    while asked:
        one = asked.pop()
        if one not in needed:
            needed.add(one)
            asked += [edge.source for edge in graph.nodes[one].edges]
    known: dict[str, Bounds] = {}
    for node in graph:
        if node.name in needed:
            low, high = _bounds(graph, node, known)
            known[node.name] = ANY if math.isnan(low) or math.isnan(high) else (low, high)
    return known[name]


def _bounds(graph: Graph, node: Node, known: Mapping[str, Bounds]) -> Bounds:
    if node.call is None:
        return ANY
    if node.operator in _FIXED:
        return _FIXED[node.operator]
    read = [known[edge.source] for edge in node.edges]
    taken = (min(low for low, _ in read), max(high for _, high in read)) if read else ANY
    if node.family in _KEEP or node.operator in _KEEPING:
        return taken
    if node.family in (Family.AVERAGE_POOL, Family.PAD):
        return _bordered(node, node.call, taken)
    if node.family is Family.RESIZE:
        return ANY if "cubic" in str(node.call.arguments) + node.operator else taken
    if node.family is Family.SUM:
        return _summed(graph, node, taken)
    computed = _ARITHMETIC.get(node.operator)
    if computed is None:
        return ANY
    if node.operator == "div" and _divides_by_own_sum(graph, node.call, known):
        return _SHARES
    return computed(node.call, lambda value: _of_argument(value, known))


def _of_argument(value: Any, known: Mapping[str, Bounds]) -> Bounds:
    if isinstance(value, Ref):
        return known.get(value.node, ANY)
    return (float(value), float(value)) if isinstance(value, int | float) else ANY


def _bordered(node: Node, call: Call, taken: Bounds) -> Bounds:
    """After a border of a value is added; a divisor of one's own makes a mean something else."""
    if call.argument("divisor_override") is not None:
        return ANY
    if node.family is Family.PAD and call.argument("mode", "constant") != "constant":
        return taken
    value = call.argument("value") or 0.0
    return (min(taken[0], value), max(taken[1], value))


def _summed(graph: Graph, node: Node, taken: Bounds) -> Bounds:
    """A sum over dimensions that are no positions has as many terms as these are long."""
    (edge, *_) = node.edges
    source = graph.nodes[edge.source]
    named = node.call.argument("dim") if node.call is not None else None
    dims = [named] if isinstance(named, int) else list(named or range(len(source.shape)))
    if any(dim % len(source.shape) in source.dims for dim in dims):
        return (0.0 if taken[0] >= 0 else -math.inf, math.inf)
    count = math.prod(source.shape[dim] for dim in dims)
    return taken[0] * count, taken[1] * count


def _divides_by_own_sum(graph: Graph, call: Call, known: Mapping[str, Bounds]) -> bool:
    """Whether numbers that are not negative are divided by their sum: a softmax by hand."""
    above, below = call.argument("self"), call.argument("other")
    if not (isinstance(above, Ref) and isinstance(below, Ref)) or known[above.node][0] < 0:
        return False
    node = graph.nodes[below.node]
    while node.family in (Family.EXPAND, Family.ALIAS) or node.operator in ("clamp", "clamp_min"):
        if not node.edges:
            return False
        node = graph.nodes[node.edges[0].source]
    of_itself = bool(node.edges) and _equal(graph, Ref(node.edges[0].source), above)
    lengths = node.call is not None and node.call.argument("ord", node.call.argument("p")) == 1
    return of_itself and (
        node.family is Family.SUM or (node.family is Family.MAGNITUDE and lengths)
    )


def _equal(graph: Graph, one: Any, other: Any) -> bool:
    """Whether two arguments have the same value: the same number, or nodes of the same calls."""
    if not (isinstance(one, Ref) and isinstance(other, Ref)) or one == other:
        return bool(one == other)
    calls = graph.nodes[one.node].call, graph.nodes[other.node].call
    if calls[0] is None or calls[1] is None or calls[0].target != calls[1].target:
        return False
    pairs = zip(calls[0].leaves, calls[1].leaves, strict=False)
    same_length = len(calls[0].leaves) == len(calls[1].leaves)
    return same_length and all(_equal(graph, *pair) for pair in pairs)


Look = Callable[[Any], Bounds]


def _add(call: Call, look: Look, sign: int = 1) -> Bounds:
    alpha = call.argument("alpha", 1)
    low, high = look(call.argument("self"))
    other = _times(look(call.argument("other")), (sign * alpha, sign * alpha))
    return low + other[0], high + other[1]


def _subtract(call: Call, look: Look) -> Bounds:
    return _add(call, look, -1)


def _subtract_from(call: Call, look: Look) -> Bounds:
    alpha = call.argument("alpha", 1)
    low, high = look(call.argument("other"))
    less = _times(look(call.argument("self")), (-alpha, -alpha))
    return low + less[0], high + less[1]


def _times(one: Bounds, other: Bounds) -> Bounds:
    products = [0.0 if 0 in (a, b) else a * b for a in one for b in other]
    return min(products), max(products)


def _multiply(call: Call, look: Look) -> Bounds:
    one, other = call.argument("self"), call.argument("other")
    low, high = _times(look(one), look(other))
    return (max(low, 0.0), high) if one == other else (low, high)


def _divide(call: Call, look: Look) -> Bounds:
    low, high = look(call.argument("other"))
    if low <= 0 <= high or call.argument("rounding_mode"):
        return ANY
    return _times(look(call.argument("self")), (1 / high, 1 / low))


def _clamp(call: Call, look: Look) -> Bounds:
    low, high = look(call.argument("self"))
    names = (("min", "min_val"), ("max", "max_val"))
    first, last = (
        next((a for n in pair if (a := call.argument(n)) is not None), None) for pair in names
    )
    if first is not None:
        low, high = max(low, look(first)[0]), max(high, look(first)[1])
    if last is not None:
        low, high = min(low, look(last)[0]), min(high, look(last)[1])
    return low, high


def _relu(call: Call, look: Look) -> Bounds:
    low, high = look(call.argument("self"))
    return max(low, 0.0), max(high, 0.0)


def _relu6(call: Call, look: Look) -> Bounds:
    low, high = _relu(call, look)
    return min(low, 6.0), min(high, 6.0)


def _growing(function: Callable[[float], float]) -> Callable[[Call, Look], Bounds]:
    """The bounds after a function that grows, and is defined from the smallest value on."""

    def bounds(call: Call, look: Look) -> Bounds:
        low, high = look(call.argument("self"))
        try:
            return function(low), function(high)
        except (OverflowError, ValueError):
            return ANY

    return bounds


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _negate(call: Call, look: Look) -> Bounds:
    low, high = look(call.argument("self"))
    return -high, -low


def _power(call: Call, look: Look) -> Bounds:
    low, high = look(call.argument("self"))
    exponent = call.argument("exponent")
    if low < 0 or not isinstance(exponent, int | float) or exponent < 0 or math.isinf(high):
        return ANY
    return float(low**exponent), float(high**exponent)


def _lerp(call: Call, look: Look) -> Bounds:
    weight = look(call.argument("weight"))
    if weight[0] < 0 or weight[1] > 1:
        return ANY
    one, other = look(call.argument("self")), look(call.argument("end"))
    return min(one[0], other[0]), max(one[1], other[1])


def _where(call: Call, look: Look) -> Bounds:
    one, other = look(call.argument("self")), look(call.argument("other"))
    return min(one[0], other[0]), max(one[1], other[1])


_ARITHMETIC: Mapping[str, Callable[[Call, Look], Bounds]] = {
    "add": _add,
    "sub": _subtract,
    "rsub": _subtract_from,
    "mul": _multiply,
    "div": _divide,
    "neg": _negate,
    "clamp": _clamp,
    "clip": _clamp,
    "hardtanh": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "relu": _relu,
    "relu6": _relu6,
    "exp": _growing(_exp),
    "sqrt": _growing(math.sqrt),
    "pow": _power,
    "lerp": _lerp,
    "where": _where,
}
