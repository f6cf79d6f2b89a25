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
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from eyeshot.graph import Family, Graph, Kind, Node
from eyeshot.operators import effort, of
from eyeshot.operators.record import Effort


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
            c₁·h₁·w₁·c₂·h₂·w₂; zero for operators that have no such twin.
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

    def to_dict(self) -> dict[str, Any]:
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
    by_node = {}
    for node in graph:
        parameters, shared = _parameters(graph, node, counted)
        record = of(node)
        weighs = effort(graph, node)
        read = [math.prod(source.shape) for source in graph.sources(node)] or [0]
        gives = math.prod(node.shape)
        known = node.kind is not Kind.UNSUPPORTED
        by_node[node.name] = Cost(
            parameters=parameters,
            multiply_adds=weighs.of(read[0], gives),
            bias_adds=gives if node.params.bias else 0,
            other_operations=record.other_operations(node, max(read), gives) if known else 0,
            memory=0 if record.is_view else gives * width,
            linear_equal=_linear_equal(graph, node),
            shared=shared,
            uncounted=() if known or weighs != Effort() else (node.name,),
        )
    return by_node


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


def _linear_equal(graph: Graph, node: Node) -> int:
    """c₁·h₁·w₁·c₂·h₂·w₂: every input joined to every output, for one picture."""
    if not (node.is_convolution or node.family is Family.LINEAR):
        return 0
    source = graph.sources(node)[0]
    return math.prod(source.shape[1:]) * math.prod(node.shape[1:])
