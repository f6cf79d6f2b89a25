"""Scratch memory of operators: the bytes that a call uses in addition to its inputs and output.

Each figure is the largest measured for torch's and oneDNN's kernels on many kinds of tiles, at a
border (where padding needs a copy) and inside. ``tests/engine/test_scratch.py`` compares the
figures with the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from eyeshot.graph import Node
from eyeshot.operators.call import Tensors


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
