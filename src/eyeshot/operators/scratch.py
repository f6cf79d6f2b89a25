"""What a call of an operator takes beside what it reads and gives: copies, columns, indices.

Each figure is the most that was seen of torch's and oneDNN's own kernels on rectangles of every
kind, at a border (where padding is a copy) as well as inside; ``tests/engine/test_scratch.py``
holds them against the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from eyeshot.graph import Node
from eyeshot.operators.call import Tensors


@dataclass(frozen=True, slots=True)
class Work:
    """One call of an operator, as far as its memory goes.

    Attributes:
        node: what is computed.
        tensors: the network's weights.
        reads: bytes read of each input.
        gives: bytes given.
        itemsize: of one number.
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
        """Bytes read of all inputs."""
        return sum(self.reads)

    @property
    def numbers(self) -> int:
        """Numbers given."""
        return self.gives // self.itemsize


def borrows(node: Node) -> bool:
    """Whether a node gives a view of what it reads, as torch itself says of its operators."""
    schema = getattr(node.call.target, "_schema", None) if node.call is not None else None
    if schema is None or not schema.returns:
        return False
    alias = schema.returns[0].alias_info
    return alias is not None and not alias.is_write


def called(work: Work) -> int:
    """torch's pointwise operators take nothing; others may copy what they read."""
    target = work.node.call.target if work.node.call is not None else None
    if torch.Tag.pointwise in getattr(target, "tags", ()) or borrows(work.node):
        return 0
    return work.read


def nothing_more(work: Work) -> int:
    """Nothing but what any call takes."""
    return 0


def copied(work: Work) -> int:
    """One copy on the way, of the size of what is given."""
    return work.gives
