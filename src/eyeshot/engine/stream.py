"""A graph executed on rows as they come: each output computed once, from line buffers.

Rows enter in bands. Each node computes the rows that have become ready, from windows on the line
buffers of its inputs, and each buffer forgets the rows that no consumer will ask for again. What
is outside the picture is padding, and that happens at the picture's true border and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from eyeshot.axes import EMPTY, Everything, Interval
from eyeshot.engine.buffers import LineBuffer
from eyeshot.engine.gathering import Gatherer, gatherer, gathers, refusal
from eyeshot.engine.operators import ENDLESS, Operator, Rectangle, prepare
from eyeshot.engine.operators.windows import local_shape
from eyeshot.geometry import Region
from eyeshot.graph import Edge, Graph, Kind, Node


@dataclass(slots=True)
class _Station:
    """One node at work.

    ``box`` is what must be computed of it; ``size`` the rows of the whole (None: not yet known);
    ``done`` where the next row to compute lies; ``taken`` where the next row to gather lies.
    """

    node: Node
    box: Region
    size: int | None
    done: int
    buffer: LineBuffer
    operator: Operator | None
    gatherer: Gatherer | None
    taken: int = 0
    readers: list[tuple[_Station, Edge]] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Where its rows end; far away while the end is not known."""
        return self.box[0].hi if self.size is not None else ENDLESS


class Stream:
    """One pass over the rows of one region.

    Args:
        graph: a lowered graph.
        boxes: what must be computed of each node, from :func:`eyeshot.geometry.required`.
        outputs: the nodes whose rows are given back.
        open_ended: the height of ``graph`` is not that of the picture, which is not yet known.
    """

    def __init__(
        self,
        graph: Graph,
        boxes: Mapping[str, Region],
        outputs: tuple[str, ...],
        open_ended: bool = False,
    ) -> None:
        self.multiply_adds = 0
        self._graph = graph
        self._open = open_ended
        self._outputs = outputs
        self._stations: dict[str, _Station] = {}
        for node in graph:
            if node.name in boxes:
                self._stations[node.name] = self._station(node, boxes[node.name])
        for station in self._stations.values():
            for edge in station.node.edges:
                self._stations[edge.source].readers.append((station, edge))

    def push(self, rows: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take the next rows of each input; give the rows of each output that are now ready.

        Args:
            rows: (N, C, rows, …) for each input of the graph, the next ones in order. The widths
                are those of the input's box.

        Returns:
            For each output that has new rows, those rows. They are the caller's to keep.
        """
        ready: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for station in self._stations.values():
                value, borrowed = self._work(station, rows)
                if value is not None and station.node.name in self._outputs:
                    shared = borrowed or bool(station.readers)
                    ready[station.node.name] = value.clone() if shared else value
            self._release()
        return ready

    def held(self) -> dict[str, int]:
        """Bytes that each node's buffer takes now."""
        return {name: station.buffer.nbytes for name, station in self._stations.items()}

    def most_rows(self) -> dict[str, int]:
        """The most rows that each node has held at once."""
        return {name: station.buffer.most for name, station in self._stations.items()}

    def close(self, graph: Graph, boxes: Mapping[str, Region]) -> None:
        """The end is known now: ``graph`` and ``boxes`` are those of the real height."""
        self._open = False
        self._graph = graph
        for name, station in self._stations.items():
            station.box = boxes[name]
            station.size = graph.nodes[name].extents[0]
            station.node = graph.nodes[name]

    def _station(self, node: Node, box: Region) -> _Station:
        whole = gathers(node)
        if node.kind in (Kind.NEITHER, Kind.UNSUPPORTED):
            raise refusal(node)
        if node.kind is Kind.REDUCIBLE and not whole:
            raise refusal(node)
        operator = None if whole or not node.edges else prepare(node, self._graph.tensors)
        size = None if self._open and node.dims[0] is not None else node.extents[0]
        return _Station(
            node=node,
            box=box,
            size=size,
            done=box[0].lo,
            buffer=LineBuffer(node.dims[0], box[0].lo, self._empty(node, (EMPTY, *box[1:]))),
            operator=operator,
            gatherer=self._gatherer(node) if whole else None,
        )

    def _empty(self, node: Node, box: Region) -> torch.Tensor:
        """A value of no positions: what a reader is given that asks for padding alone."""
        like = next((t for t in self._graph.tensors.values() if t.is_floating_point()), None)
        shape = local_shape(node, box)
        return torch.empty(shape) if like is None else like.new_empty(shape)

    def _gatherer(self, node: Node) -> Gatherer:
        edge = node.edges[0]
        source = self._graph.nodes[edge.source]
        if len(node.edges) > 1 or not all(
            isinstance(axis, Everything) or n == 1
            for axis, n in zip(edge.axes, source.extents, strict=True)
        ):
            raise refusal(node)
        return gatherer(node, tuple(dim for dim in source.dims if dim is not None))

    def _work(
        self, station: _Station, rows: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor | None, bool]:
        """The station's new rows, if any are ready, and whether their memory is another's."""
        if not station.node.edges:
            given = rows.get(station.node.name)
            return self._append(station, given, borrowed=True), True
        if station.gatherer is not None:
            return self._append(station, self._gather(station, station.gatherer), False), False
        wanted = (Interval(station.done, self._target(station)), *station.box[1:])
        if not wanted[0] or station.operator is None:
            return None, False
        inputs = [self._rectangle(edge, wanted) for edge in station.node.edges]
        value = station.operator(inputs, wanted)
        memories = {given.value.untyped_storage().data_ptr() for given in inputs}
        borrowed = value.untyped_storage().data_ptr() in memories
        self.multiply_adds += multiply_adds(station.node, value, inputs)
        return self._append(station, value, borrowed), borrowed

    def _append(
        self, station: _Station, value: torch.Tensor | None, borrowed: bool
    ) -> torch.Tensor | None:
        if value is None:
            return None
        dim = station.node.dims[0]
        count = 1 if dim is None else value.shape[dim]
        if not count:
            return None
        station.buffer.append(value, count, borrowed)
        station.done += count
        return value

    def _target(self, station: _Station) -> int:
        """How many first rows of a node are ready, given those of its inputs."""
        target = station.end
        for edge in station.node.edges:
            source = self._stations[edge.source]
            if source.done < source.end:  # else all that is read of it is there
                target = min(target, edge.axes[0].ready(source.done, source.size))
        return target

    def _rectangle(self, edge: Edge, wanted: Region) -> Rectangle:
        """What one input gives for the wanted box: exactly what is read, as a view."""
        source = self._stations[edge.source]
        extents = tuple(
            ENDLESS if axis == 0 and source.size is None else n
            for axis, n in enumerate(source.node.extents)
        )
        reads = tuple(
            axis.reads(side, n) for axis, side, n in zip(edge.axes, wanted, extents, strict=True)
        )
        if not all(reads):
            value = self._empty(source.node, reads)
            return Rectangle(value, reads, extents, source.node.dims, edge.axes)
        value = source.buffer.window(reads[0])
        for dim, side, held in zip(source.node.dims[1:], reads[1:], source.box[1:], strict=True):
            if dim is not None and side != held:
                value = value.narrow(dim, side.lo - held.lo, len(side))
        return Rectangle(value, reads, extents, source.node.dims, edge.axes)

    def _gather(self, station: _Station, running: Gatherer) -> torch.Tensor | None:
        """Let the new rows of the input pass; the value itself when the last one has."""
        source = self._stations[station.node.edges[0].source]
        new = Interval(station.taken, source.done)
        if new:
            running.take(source.buffer.window(new))
            station.taken = source.done
        complete = source.size is not None and source.done >= source.size
        return running.result() if complete and station.done < station.end else None

    def _release(self) -> None:
        """Forget the rows that nobody will ask for again."""
        for station in self._stations.values():
            needed = [self._next_row(station, reader, edge) for reader, edge in station.readers]
            station.buffer.release(min(needed, default=station.done))

    def _next_row(self, source: _Station, reader: _Station, edge: Edge) -> int:
        """The first row of ``source`` that a reader may still ask for."""
        if reader.gatherer is not None:
            return reader.taken
        if source.size is None:
            return edge.axes[0].keeps(reader.done)
        remaining = Interval(reader.done, reader.end)
        reads = edge.axes[0].reads(remaining, source.size)
        return reads.lo if reads else source.done


def multiply_adds(node: Node, value: torch.Tensor, inputs: list[Rectangle]) -> int:
    """The multiply-adds spent on a rectangle, as the field counts them: padding counts too."""
    told = node.attributes
    if node.operator.startswith("conv_transpose"):
        each = int(math.prod(told["kernel"]) * told["out_channels"] // told["groups"])
        return inputs[0].value.numel() * each
    if node.operator.startswith("conv"):
        each = int(math.prod(told["kernel"]) * told["in_channels"] // told["groups"])
        return value.numel() * each
    if node.operator == "linear":
        return value.numel() * int(told["in_features"])
    return 0
