"""What a run takes beside the rows that its line buffers hold: the costs that a plan counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eyeshot.engine.forms import Form
from eyeshot.engine.preparing import Preparation
from eyeshot.graph import Graph, Node
from eyeshot.images import Source
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.operators import beside
from eyeshot.operators.scratch import Work, borrows
from eyeshot.planning.work import itemsize

_FIRST_CALLS = 16 << 20
"""What comes with the first calls: pages of the libraries' code, threads' stacks."""
_KERNEL = 1 << 20
"""What oneDNN makes and keeps for a convolution: code for its shapes at a border and inside."""


@dataclass(frozen=True)
class RunCosts:
    """The costs of one run, as :class:`eyeshot.planning.Costs` asks for them.

    Attributes:
        graph: as it will be executed.
        sources: the image of each input, by the input's name.
        preparation: of samples.
        forms: of each output, by its name.
        sinks: of each output, the bytes that it holds where so many columns are written at a time.
        held: bytes that the process holds now.
        before: the most that it has held on the way here.
    """

    graph: Graph
    sources: Mapping[str, Source]
    preparation: Preparation
    forms: Mapping[str, Form]
    sinks: Mapping[str, Callable[[int], int]]
    held: int
    before: int

    @property
    def fixed(self) -> int:
        """Bytes that are there whatever the plan."""
        # What an array holds, or a picture that was decoded whole, is there already.
        sources = [one for one in self.sources.values() if not isinstance(one, ArraySource)]
        held = sum(source.memory for source in sources)
        return self.held + _FIRST_CALLS + _kernels(self.graph) + held

    def writing(self, name: str, columns: int) -> int:
        """What an output holds."""
        return self.sinks[name](columns) if name in self.sinks else 0

    def opening(self) -> int:
        """What the way here has taken: pictures that were decoded whole, the tracing."""
        return max(0, self.before - self.fixed)

    def reading(self, name: str, shape: tuple[int, ...]) -> int:
        """A window as it is stored, and its samples on their way to numbers of the network."""
        source = self.sources[name]
        numbers = _product(source.shape[0], *shape)
        window = source.window_memory(shape)
        return window + self.preparation.memory(source.dtype, numbers, source.shape[0])

    def entered(self, name: str, shape: tuple[int, ...]) -> int:
        """The numbers of a window."""
        return _product(self.sources[name].shape[0], *shape) * self.preparation.dtype.itemsize

    def leaving(self, name: str, numbers: int) -> int:
        """Scores on their way to samples, these, and a copy in the order of the file."""
        node = self.graph.nodes[name]
        positions = numbers // node.channels
        return self.forms[name].memory(positions, node.channels, itemsize(node))

    def scratch(self, node: Node, reads: Sequence[int], gives: int, kept: bool) -> int:
        """What a call of the node takes beside its rows."""
        sources = [self.graph.nodes[edge.source] for edge in node.edges]
        work = Work(node, self.graph.tensors, reads, gives, itemsize(node), sources)
        return beside(work, kept)

    def borrows(self, node: Node) -> bool:
        """Whether a node gives a view of what it reads."""
        return borrows(node)


def _kernels(graph: Graph) -> int:
    """Bytes that convolutions keep: code for each that differs, and their weights laid out.

    Weights may lie in memory twice more, laid out for a band and for the last one.
    """
    kinds = {repr((node.params, node.extents)) for node in graph if node.is_convolution}
    weights = [one for one in graph.tensors.values() if one.ndim > 2]
    laid_out = 2 * sum(one.numel() * one.element_size() for one in weights)
    return _KERNEL * len(kinds) + laid_out


def _product(*numbers: int) -> int:
    product = 1
    for n in numbers:
        product *= n
    return product
