"""What each operator costs: parameters, multiply-adds, memory; and its fully connected twin.

Conventions, the same for every row and so for the totals:

* *multiply-adds* are those of weighted sums: convolution, its transpose, linear layers, matrix
  products and attention. Padding counts as if it were there: a convolution is kernel x input
  channels / groups for each of its outputs, a transposed one kernel x output channels / groups
  for each of its inputs. *FLOPs* are twice that.
* *bias additions* stand apart: one for each output of a layer that has a bias.
* *other operations* stand apart too: one for each output of a pointwise operator, two in batch
  norm (scale and shift), one for each input that a pool, a mean, a norm or a resize reads.
* *memory* is that of the output of one picture, in the network's own precision; a view (flatten,
  permute, slice) shares its source's memory and takes none.
* a weight that is used twice is counted where it is first used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from eyeshot.graph import Graph, Kind, Node


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one operator, or of several added up (``cost + cost``).

    Attributes:
        parameters: trained numbers, each counted where it is first used.
        multiply_adds: of weighted sums.
        bias_adds: additions of a bias.
        other_operations: of everything that is no weighted sum.
        memory: bytes of the output for one picture.
        linear_equal: parameters of a fully connected layer with the same inputs and outputs,
            c₁·h₁·w₁·c₂·h₂·w₂; nought for operators that have no such twin.
        shared: weights used here that were counted before.
        uncounted: operators without a rule, whose operations are not known.
    """

    parameters: int = 0
    multiply_adds: int = 0
    bias_adds: int = 0
    other_operations: int = 0
    memory: int = 0
    linear_equal: int = 0
    shared: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        """Twice the multiply-adds; biases and other operations are not in it."""
        return 2 * self.multiply_adds

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(Cost)}
        return {
            **plain,
            "flops": self.flops,
            "shared": list(self.shared),
            "uncounted": list(self.uncounted),
        }


def total(costs: Iterable[Cost]) -> Cost:
    """All of them added up."""
    return sum(costs, Cost())


def costs(graph: Graph) -> dict[str, Cost]:
    """The cost of every node, by name, in execution order. Rows add up: see :func:`total`."""
    counted: dict[int, str] = {}
    width = _bytes_per_number(graph)
    found = {}
    for node in graph:
        parameters, shared = _parameters(graph, node, counted)
        known = node.kind is not Kind.UNSUPPORTED or node.operator in _PRODUCTS
        found[node.name] = Cost(
            parameters=parameters,
            multiply_adds=_PRODUCTS.get(node.operator, _none)(graph, node),
            bias_adds=math.prod(node.shape) if node.attributes.get("bias") else 0,
            other_operations=_other_operations(graph, node),
            memory=0 if node.operator in _VIEWS else math.prod(node.shape) * width,
            linear_equal=_linear_equal(graph, node),
            shared=shared,
            uncounted=() if known else (node.name,),
        )
    return found


def unused_parameters(graph: Graph) -> dict[str, int]:
    """Trained tensors that no operator reads, and how many numbers each holds."""
    used = {id(graph.tensors[own]) for node in graph for own in _own_tensors(graph, node)}
    return {
        name: graph.tensors[name].numel()
        for name in sorted(graph.parameters)
        if id(graph.tensors[name]) not in used
    }


def _own_tensors(graph: Graph, node: Node) -> list[str]:
    """The network's own tensors behind a node's weights."""
    return [own for name in node.weights for own in graph.made_of.get(name, (name,))]


def _parameters(graph: Graph, node: Node, counted: dict[int, str]) -> tuple[int, tuple[str, ...]]:
    """How many parameters are first used here, and the names of those counted before."""
    new, shared = 0, []
    for name in dict.fromkeys(_own_tensors(graph, node)):
        if name not in graph.parameters:
            continue
        tensor = graph.tensors[name]
        if id(tensor) in counted:
            shared.append(counted[id(tensor)])
        else:
            counted[id(tensor)] = name
            new += tensor.numel()
    return new, tuple(shared)


def _bytes_per_number(graph: Graph) -> int:
    """Of the network's precision: that of its first parameter, or 4."""
    for name in graph.tensors:
        if name in graph.parameters and graph.tensors[name].is_floating_point():
            return graph.tensors[name].element_size()
    return 4


def _none(graph: Graph, node: Node) -> int:
    return 0


def _convolution(graph: Graph, node: Node) -> int:
    a = node.attributes
    if "kernel" not in a:
        return 0
    terms: int = math.prod(a["kernel"]) * a["in_channels"] // a["groups"]
    return math.prod(node.shape) * terms


def _transposed(graph: Graph, node: Node) -> int:
    a = node.attributes
    if "kernel" not in a:
        return 0
    inputs = math.prod(graph.sources(node)[0].shape)
    terms: int = math.prod(a["kernel"]) * a["out_channels"] // a["groups"]
    return inputs * terms


def _linear(graph: Graph, node: Node) -> int:
    return math.prod(node.shape) * int(node.attributes.get("in_features", 0))


def _matrix_product(graph: Graph, node: Node) -> int:
    """Each output sums over the dimension that the factors share: the last of the first."""
    place = 1 if node.operator in ("addmm", "baddbmm") else 0
    first = _operands(graph, node)[place]
    return math.prod(node.shape) * first[-1]


def _attention(graph: Graph, node: Node) -> int:
    """Queries by keys, then weights by values."""
    query, key, value = _operands(graph, node)[:3]
    pairs = math.prod(query[:-1]) * key[-2]
    return pairs * (query[-1] + value[-1])


def _operands(graph: Graph, node: Node) -> list[tuple[int, ...]]:
    """The shapes of a call's tensors, in the order of its arguments."""
    shapes: list[tuple[int, ...]] = []
    for argument in node.call.args if node.call else ():
        name = getattr(argument, "node", None)
        if name is not None:
            shapes.append(graph.nodes[name].shape)
        elif getattr(argument, "name", None) in graph.tensors:
            shapes.append(tuple(graph.tensors[argument.name].shape))
    return shapes


_PRODUCTS: Mapping[str, Callable[[Graph, Node], int]] = {
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    **dict.fromkeys(("linear", "einsum"), _linear),
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm"), _matrix_product),
    "scaled_dot_product_attention": _attention,
}

_VIEW_WORDS = """
    view reshape flatten unflatten _unsafe_view permute transpose swapaxes swapdims t unsqueeze
    squeeze expand expand_as select unbind slice narrow chunk split split_with_sizes dropout
    feature_dropout alpha_dropout detach alias contiguous
"""
_VIEWS = frozenset(_VIEW_WORDS.split())

# They move numbers and work none out.
_MOVE_WORDS = """
    input clone cat concat concatenate stack pad constant_pad_nd pixel_shuffle pixel_unshuffle
    zeros_like ones_like full_like lift_fresh_copy type_as to _to_copy
"""
_MOVES = _VIEWS | frozenset(_MOVE_WORDS.split())


def _other_operations(graph: Graph, node: Node) -> int:
    if node.operator in _PRODUCTS or node.operator in _MOVES or node.kind is Kind.UNSUPPORTED:
        return 0
    outputs = math.prod(node.shape)
    if "pool" in node.operator and "kernel" in node.attributes:
        return outputs * int(math.prod(node.attributes["kernel"]))
    if node.operator == "batch_norm":
        return 2 * outputs
    if node.operator.startswith(("upsample_", "_upsample_")):
        taps = {"linear": 2, "cubic": 4}.get(str(node.attributes.get("mode")), 1)
        return int(outputs * taps ** len(node.attributes.get("factor") or node.attributes["size"]))
    inputs = max((math.prod(source.shape) for source in graph.sources(node)), default=0)
    return max(inputs, outputs)


def _linear_equal(graph: Graph, node: Node) -> int:
    """c₁·h₁·w₁·c₂·h₂·w₂: every input joined to every output, for one picture."""
    if not node.operator.startswith(("conv1", "conv2", "conv3", "conv_t", "linear")):
        return 0
    source = graph.sources(node)[0]
    return math.prod(source.shape[1:]) * math.prod(node.shape[1:])
