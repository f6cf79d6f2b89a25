"""The record that holds everything about one operator: its rules, multiply-adds and scratch memory.

Scratch memory is what a call uses in addition to its inputs and output. Each figure is the largest
measured for torch's and oneDNN's kernels on many kinds of tiles, at a border (where padding needs a
copy) and inside. ``tests/engine/test_scratch.py`` compares the figures with the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn

from eyeshot.graph import Family, Node
from eyeshot.operators.call import Rule, Tensors
from eyeshot.operators.repaired import Repair
from eyeshot.operators.tile import Computation


@dataclass(frozen=True, slots=True)
class Work:
    """The memory of one call of an operator.

    Attributes:
        node: the node that is computed.
        tensors: the network's weights by name.
        reads: the bytes of each input tile.
        gives: the bytes of the output.
        itemsize: the bytes of one number.
        sources: the nodes of its inputs.
    """

    node: Node
    tensors: Tensors
    reads: Sequence[int]
    gives: int
    itemsize: int
    sources: Sequence[Node] = ()

    @property
    def read(self) -> int:
        """The bytes of all input tiles."""
        return sum(self.reads)

    @property
    def numbers(self) -> int:
        """Numbers given."""
        return self.gives // self.itemsize


def borrows(node: Node) -> bool:
    """Whether a node's output is a view of its input, by torch's schema of the operator."""
    schema = getattr(node.call.target, "_schema", None) if node.call is not None else None
    if schema is None or not schema.returns:
        return False
    alias = schema.returns[0].alias_info
    return alias is not None and not alias.is_write


def called(work: Work) -> int:
    """None for torch's pointwise operators; a copy of the inputs for others."""
    target = work.node.call.target if work.node.call is not None else None
    if torch.Tag.pointwise in getattr(target, "tags", ()) or borrows(work.node):
        return 0
    return work.read


def nothing_more(work: Work) -> int:
    """No scratch memory."""
    return 0


def copied(work: Work) -> int:
    """One intermediate copy of the size of the output."""
    return work.gives


Shapes = Callable[[], Sequence[tuple[int, ...]]]
"""Gives the shapes of a call's tensors, in the order of its arguments."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Multiply-adds of a weighted sum. Padding counts as if it were there.

    Attributes:
        per_input: for each number read of the first input.
        per_output: for each number given.
    """

    per_input: int = 0
    per_output: int | Fraction = 0

    def of(self, read: int, gives: int) -> int:
        """The multiply-adds where so many numbers are read of the first input, and given."""
        return int(read * self.per_input + gives * self.per_output)


def no_effort(node: Node, shapes: Shapes) -> Effort:
    """No multiply-adds: for every operator that is not a weighted sum."""
    return Effort()


def one_each(node: Node, read: int, gives: int) -> int:
    """One operation for each number of the largest input, or of the output if it has more."""
    return max(read, gives)


def nothing(node: Node, read: int, gives: int) -> int:
    """No other operations: the operator moves numbers, or does multiply-adds only."""
    return 0


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator, or several operators that differ only in their names.

    Attributes:
        names: without library and overload, separated by spaces. A name with its overload
            (``max.other``) has priority over the plain name.
        family: its kind, which other packages check.
        geometry: the rule for its axis maps; None if there is no rule.
        compute: makes its computation on a tile; None if it is called as the network calls it,
            which is right if no position reads another.
        slides: whether it slides over the last dimensions, which may hold positions or bands.
        effort: its multiply-adds.
        other_operations: from the number of values in a node's largest input and its output.
        is_view: whether its output shares its input's memory.
        scratch: bytes that a call uses in addition to its input and output.
        whole_scratch: the same for a call on the whole inputs, in addition to a copy of them.
        in_place: whether a call writes directly into the buffer of its rows; None if it never does.
        repair: how to repair a call whose shapes do not match.
        layer: the module without settings that computes it.
        no_rule: why it has no geometry.
    """

    names: str
    family: Family = Family.UNKNOWN
    geometry: Rule | None = None
    compute: Callable[[Node, Tensors], Computation] | None = None
    slides: bool = False
    effort: Callable[[Node, Shapes], Effort] = no_effort
    other_operations: Callable[[Node, int, int], int] = one_each
    is_view: bool = False
    scratch: Callable[[Work], int] = called
    whole_scratch: Callable[[Work], int] = nothing_more
    in_place: Callable[[Work], bool] | None = None
    repair: Repair | None = None
    layer: Callable[[], nn.Module] | None = None
    no_rule: str = "no rule for this operator"
