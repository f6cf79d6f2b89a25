"""Sums of products over features: linear layers, matrix products, einsum, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from eyeshot.axes import (
    Broadcast,
    Global,
    Identity,
)
from eyeshot.graph import Edge, Family, Kind, LinearParams, Node, ProductParams, Weight
from eyeshot.language import tr
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    along,
    mixes_positions,
    vanished,
)
from eyeshot.operators.record import Effort, Operator, Shapes, Work, nothing
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    shape_of,
)

_FACTORS = {
    "matmul": ("self", "other"),
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


_BIAS = {"addmm": "self", "baddbmm": "self"}


_EACH_ITS_OWN = "it has a weight for each position"


_FREE = "\u0100"
"""The first of the letters that stand for the dimensions of an ellipsis: none that einsum takes."""


def linear_geometry(site: Site) -> Described:
    """A linear layer on the last dimension."""
    source, weight = site.node("input"), site.shape_of("weight")
    last = len(source.shape) - 1
    params = LinearParams(
        in_features=weight[1],
        out_features=weight[0],
        bias=site.arguments["bias"] is not None,
    )
    over: dict[int, int | None] = {last: weight[0]}
    if not mixes_positions(source, over):
        return Described((along(source, {}),), vanished(source, over), params=params)
    edge = along(source, {}, over)
    reason = tr("a linear layer along a spatial axis weighs every position")
    return Described((edge,), source.dims, Kind.NONLOCAL, params, reason)


def product(site: Site) -> Described:
    """``matmul`` and similar: with a matrix of weights, or over features only.

    A product between positions is nonlocal, as in attention.
    """
    local = _by_weights(site)
    if local is not None:
        return local
    if any(extent > 1 for source in site.sources for extent in source.extents):
        return _whole(site, tr("multiplies positions with one another"))
    edges = tuple(Edge(s.name, (Identity(),) * len(s.dims)) for s in site.sources)
    places = [_among_products(site, source) for source in site.sources]
    agreed = (set(column) - {None} for column in zip(*places, strict=True))
    dims = tuple(one.pop() if len(one) == 1 else None for one in agreed)
    return Described(edges, dims)


def _among_products(site: Site, source: Node) -> tuple[int | None, ...]:
    """The dimensions of axes of one position in a batch of matrix products, if they index it."""
    shift = len(site.shape) - len(source.shape)
    return tuple(
        None
        if dim is None or dim >= len(source.shape) - 2 or site.shape[dim + shift] > 1
        else dim + shift
        for dim in source.dims
    )


def _by_weights(site: Site) -> Described | None:
    """``x @ W`` and ``W @ x``, if the dimension that is summed over holds no positions."""
    first, second = (site.arguments[name] for name in _FACTORS[site.operator])
    left = isinstance(first, Node)
    source, factor = (first, second) if left else (second, first)
    if len(site.sources) != 1 or not isinstance(source, Node) or not isinstance(factor, Weight):
        return None
    weight, rank = site.weight_shapes[factor.name], len(source.shape)
    if rank < 2:
        return None
    summed = rank - 1 if left else rank - 2
    dims = _after_product(site, source, summed, vector=len(weight) == 1)
    if _by_position(site, dims, (*weight[:-2], 1, 1)):
        raise NoRule(_EACH_ITS_OWN)
    made = 1 if len(weight) == 1 else site.shape[summed - rank]
    if summed in source.dims and source.shape[summed] > 1:
        reason = tr("a matrix product along a spatial axis weighs every position")
        edge = along(source, {}, {summed: made})
        return Described((edge,), dims, Kind.NONLOCAL, reason=reason)
    bias = site.arguments.get(_BIAS.get(site.operator, ""))
    if isinstance(bias, Weight) and _by_position(site, dims, site.weight_shapes[bias.name]):
        raise NoRule(_EACH_ITS_OWN)
    params = ProductParams(in_features=source.shape[summed])
    return Described((along(source, {}),), dims, params=params)


def _after_product(
    site: Site, source: Node, summed: int, *, vector: bool
) -> tuple[int | None, ...]:
    """The dimension of each of the source's axes in the product.

    A product with a vector removes the dimension that is summed over. An axis of one position
    vanishes if it is summed over.
    """
    one = vector or source.shape[summed] == 1
    dims = vanished(source, [summed] if one else [])
    if vector:
        return tuple(None if dim is None else dim - (dim > summed) for dim in dims)
    shift = len(site.shape) - len(source.shape)
    return tuple(None if dim is None else dim + shift for dim in dims)


def _by_position(site: Site, dims: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor broadcast to the output has a number for each position along an axis."""
    shift = len(site.shape) - len(shape)
    return any(dim is not None and dim >= shift and shape[dim - shift] > 1 for dim in dims)


def einstein_sum(site: Site) -> Described:
    """``einsum`` whose spatial axes keep their letters: a sum over features at each position."""
    letters, output = _spelled(site)
    sources = [one for one in letters if isinstance(one[0], Node)]
    places = [_places(node, word) for node, word in sources if isinstance(node, Node)]
    # With one position, any letter could be the axis; an operand with more positions decides.
    axes = [max(column, key=lambda one: one[1]) for column in zip(*places, strict=True)]
    sizes = {letter: n for letter, n in axes if letter}
    if any(n > 1 and letter not in output for letter, n in sizes.items()):
        return _whole(site, tr("sums products over positions"))
    for (letter, n), *others in zip(axes, *places, strict=True):
        if n > 1 and any(other not in (letter, "") and m > 1 for other, m in others):
            return _whole(site, tr("multiplies positions with one another"))
    if any(sizes.get(c, 1) > 1 for one, word in letters if isinstance(one, Weight) for c in word):
        raise NoRule(_EACH_ITS_OWN)
    if any(_by_features(node, word, sizes) for node, word in sources if isinstance(node, Node)):
        raise NoRule("it multiplies each position by a feature of its own")
    edges = tuple(
        Edge(
            node.name,
            tuple(
                Identity() if have[1] == n else Broadcast(n)
                for have, (_, n) in zip(place, axes, strict=True)
            ),
        )
        for (node, _), place in zip(sources, places, strict=True)
        if isinstance(node, Node)
    )
    dims = tuple(output.index(one) if one and one in output else None for one, _ in axes)
    return Described(edges, dims, params=ProductParams(in_features=_summed(site, letters, output)))


Spelled = list[tuple[Node | Weight, str]]


def _spelled(site: Site) -> tuple[Spelled, str]:
    """Each operand with a letter for each of its dimensions, and the output's letters."""
    equation = str(site.arguments["equation"]).replace(" ", "")
    left, arrow, output = equation.partition("->")
    operands = list(site.arguments["tensors"])
    words = left.split(",")
    if not arrow or len(words) != len(operands):
        raise NoRule(f"{equation} does not say which letters come out")
    ranks = [
        len(one.shape) if isinstance(one, Node) else len(site.weight_shapes[one.name])
        for one in operands
    ]
    spelled = [_without_dots(word, rank) for word, rank in zip(words, ranks, strict=True)]
    if any(len(set(word)) != len(word) for word in spelled):
        raise NoRule(f"{equation} takes a diagonal")
    return list(zip(operands, spelled, strict=True)), _without_dots(output, len(site.shape))


def _without_dots(word: str, rank: int) -> str:
    """The word with its ellipsis replaced by letters, aligned at its end as in broadcasting."""
    count = rank - len(word.replace("...", ""))
    return word.replace("...", "".join(chr(ord(_FREE) + i) for i in reversed(range(count))))


def _places(node: Node, word: str) -> list[tuple[str, int]]:
    """For each spatial axis, its letter and its number of positions; "" if it has vanished."""
    return [("", 1) if dim is None else (word[dim], node.shape[dim]) for dim in node.dims]


def _by_features(node: Node, word: str, sizes: Mapping[str, int]) -> bool:
    """Whether this operand has features under the letter of an axis, one for each position."""
    return any(
        n > 1 and dim not in node.dims and sizes.get(letter, 1) > 1
        for dim, (letter, n) in enumerate(zip(word, node.shape, strict=True))
    )


def _summed(site: Site, letters: Spelled, output: str) -> int:
    """The number of products that are summed for each output."""
    sizes: dict[str, int] = {}
    for one, word in letters:
        shape = one.shape if isinstance(one, Node) else site.weight_shapes[one.name]
        sizes.update(zip(word, shape, strict=True))
    return math.prod(n for letter, n in sizes.items() if letter not in output)


def attention(site: Site) -> Described:
    """Scaled dot-product attention: every query looks at every key."""
    return _whole(site, tr("attention: every position looks at every other"))


def _whole(site: Site, reason: str) -> Described:
    """A description in which each output depends on every input, and no axis is left."""
    sources = site.sources
    edges = tuple(Edge(s.name, (Global(1),) * len(s.dims)) for s in sources)
    return Described(edges, (None,) * len(sources[0].dims), Kind.NONLOCAL, reason=reason)


def features_effort(node: Node, shapes: Shapes) -> Effort:
    """Multiply-adds: one for each feature of the input, for each output."""
    return Effort(per_output=node.params.in_features)


def einsum_effort(node: Node, shapes: Shapes) -> Effort:
    """Multiply-adds of ``einsum``, which multiplies two operands at a time.

    The operands are taken from left to right, or by the path that the call holds; a letter is
    summed as soon as nothing behind needs it. One operand alone is moved or added up.
    """
    arguments = {} if node.call is None else node.call.arguments
    left, arrow, output = str(arguments.get("equation", "")).replace(" ", "").partition("->")
    words = left.split(",")
    if not arrow or len(words) != len(shapes()):
        return features_effort(node, shapes)
    sizes: dict[str, int] = {}
    waiting: list[set[str]] = []
    for word, shape in zip(words, shapes(), strict=True):
        spelled = _without_dots(word, len(shape))
        waiting.append(set(spelled))
        for letter, n in zip(spelled, shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, 1))
    result, path = set(_without_dots(output, len(node.shape))), arguments.get("path") or []
    products = 0
    while len(waiting) > 1:
        pair, path = (path[:2] or [0, 1]), path[2:]
        one, other = (waiting.pop(at) for at in sorted(pair, reverse=True))
        products += math.prod(sizes[letter] for letter in one | other)
        joined = (one | other) & result.union(*waiting)
        waiting = [*waiting, joined] if arguments.get("path") else [joined, *waiting]
    return Effort(per_output=Fraction(products, max(1, math.prod(node.shape))))


def product_effort(node: Node, shapes: Shapes) -> Effort:
    """Multiply-adds of a product: each output sums over the last dimension of the first factor."""
    return Effort(per_output=shapes()[0][-1])


def added_product_effort(node: Node, shapes: Shapes) -> Effort:
    """Multiply-adds of ``addmm`` and similar, whose first argument is the summand."""
    return Effort(per_output=shapes()[1][-1])


def attention_effort(node: Node, shapes: Shapes) -> Effort:
    """Multiply-adds of attention: queries by keys, then weights by values."""
    query, key, value = shapes()[:3]
    return Effort(per_output=Fraction(key[-2] * (query[-1] + value[-1]), value[-1]))


def attention_scratch(work: Work) -> int:
    """Scratch bytes: torch's fast kernel takes four dimensions only.

    For other inputs, all products are in memory twice, and a mask of a byte for each, which says
    whether it is minus infinity.
    """
    if len(work.node.shape) == 4:
        return 0
    keys = max(source.shape[-2] for source in work.sources)
    return math.prod(work.node.shape[:-1]) * keys * (2 * work.itemsize + 1)


def repaired_linear(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs a linear layer built for other features, or applied to a map without a flatten."""
    x, weight = arguments["input"], arguments["weight"]
    shape = shape_of(x)
    if x.dim() > 3 or (x.dim() == 3 and x.shape[1] * x.shape[2] == weight.shape[1]):
        x = x.flatten(1)
    changed = {**arguments, "input": x, "weight": weight.new_zeros((weight.shape[0], x.shape[-1]))}
    return Repaired(Problem.FEATURES, (shape,), call(**changed), tuple(weight.shape))


OPERATORS = (
    Operator(
        "linear",
        Family.LINEAR,
        linear_geometry,
        effort=features_effort,
        other_operations=nothing,
        repair=Repair("input weight bias", repaired_linear),
    ),
    Operator(
        "matmul mm bmm", Family.PRODUCT, product, effort=product_effort, other_operations=nothing
    ),
    Operator(
        "addmm baddbmm",
        Family.PRODUCT,
        product,
        effort=added_product_effort,
        other_operations=nothing,
    ),
    Operator(
        "einsum",
        Family.PRODUCT,
        einstein_sum,
        effort=einsum_effort,
        other_operations=nothing,
    ),
    Operator(
        "scaled_dot_product_attention",
        Family.ATTENTION,
        attention,
        effort=attention_effort,
        whole_scratch=attention_scratch,
        other_operations=nothing,
    ),
)
