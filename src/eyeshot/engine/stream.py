"""A graph executed on bands of rows: each output is computed once, from line buffers.

Rows enter in bands. Each node computes the rows that have become ready, from windows of its inputs'
line buffers, and each buffer drops the rows that no node will read again. Padding is added only at
the true borders of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from eyeshot.axes import EMPTY, Interval
from eyeshot.engine.buffers import (
    Gatherer,
    LineBuffer,
    gatherer,
    gathers,
    keeps_an_axis,
    refusal,
)
from eyeshot.engine.memory import ScratchBuffer, ScratchFiles
from eyeshot.errors import Failure
from eyeshot.geometry import Region
from eyeshot.graph import Edge, Graph, Kind, Node
from eyeshot.operators import Computation, Prepared, Tile, effort
from eyeshot.operators.record import Effort
from eyeshot.operators.tile import cut, local_shape
from eyeshot.planning.holding import names_held_whole
from eyeshot.planning.schedule import ENDLESS, Progress, Schedule


class Stream:
    """One pass over the rows of one region.

    Args:
        graph: a lowered graph.
        boxes: the region of each node to compute, from :func:`eyeshot.geometry.required`.
        outputs: the nodes whose rows are returned.
        open_ended: the height of ``graph`` is not that of the picture, which is not yet known.
        band: the most rows of the input that one step of work may correspond to, so that much work
            is done in parts; None for no limit.
        first: the first row of each node to compute, from
            :func:`eyeshot.planning.schedule.first_rows`; all rows before it are skipped.
        scratch: files for the nodes whose rows are on disk.
        watch: called each time that every node has computed its ready rows, a band at most.
        prepared: the computations of other passes over the graph, and afterwards of this one.
        once: no pass follows soon, so what a node prepared is freed when it has computed all rows.

    Raises:
        Unsupported: a node cannot be run by parts; it is named.

    Attributes:
        multiply_adds: the number of multiply-adds computed so far.
    """

    def __init__(
        self,
        graph: Graph,
        boxes: Mapping[str, Region],
        outputs: tuple[str, ...],
        open_ended: bool = False,
        band: int | None = None,
        first: Mapping[str, int] | None = None,
        scratch: ScratchFiles | None = None,
        watch: Callable[[], None] | None = None,
        prepared: Prepared | None = None,
        once: bool = False,
    ) -> None:
        self.multiply_adds = 0
        self._once = once
        self._first = first or {}
        self._across: dict[tuple[str, int], Region] = {}  # the ranges read along other axes
        self._graph = graph
        self._outputs = outputs
        self._schedule = Schedule(graph, boxes, open_ended, band)
        self._buffers: dict[str, LineBuffer | ScratchBuffer] = {}
        self._scratch, self._watch = scratch, watch
        self._prepared = prepared or Prepared()
        self._operators: dict[str, Computation] = {}
        self._efforts: dict[str, Effort] = {}
        self._gatherers: dict[str, Gatherer] = {}
        whole = names_held_whole(graph) if not open_ended else frozenset()
        for progress in self._schedule:
            self._prepare(progress, progress.node.name in whole)

    def push(self, rows: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Push the next rows of each input, and return the output rows that are now ready.

        Args:
            rows: (N, C, rows, …) for each input of the graph, the next rows in order. The widths
                are those of the input's box. Rows to skip come from :meth:`passed`.

        Returns:
            For each output with new rows, those rows. The stream does not use their memory again.
        """
        ready: dict[str, list[torch.Tensor]] = {}
        for step in self.steps(rows):
            for name, value in step.items():
                ready.setdefault(name, []).append(value)
        return {
            name: parts[0] if len(parts) == 1 else torch.cat(parts, self._row_dim(name))
            for name, parts in ready.items()
        }

    def steps(self, rows: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        """As :meth:`push`, but yields output rows as soon as there are some.

        Work that waited for the last input row is done in bands too, so that an output is never in
        memory as a whole.
        """
        moved = True
        while moved:
            ready: dict[str, torch.Tensor] = {}
            with torch.no_grad():
                moved = self._round(rows, ready)
            if self._watch is not None:
                self._watch()
            rows = {}
            if ready:
                yield ready

    def _round(self, rows: Mapping[str, torch.Tensor], ready: dict[str, torch.Tensor]) -> bool:
        """Let every node compute once; return whether any node had new rows."""
        moved = False
        for progress in self._schedule:
            if not progress.stale and progress.node.edges:
                continue  # nothing that it reads has changed
            progress.stale = False
            value, borrowed = self._work(progress, rows)
            moved = moved or value is not None
            name = progress.node.name
            if value is not None and name in self._outputs and not value.is_meta:
                shared = borrowed or bool(progress.readers)
                ready[name] = value.clone() if shared else value
            if value is not None or progress.gathers:  # otherwise nothing has changed
                self._release(progress)  # first: its rows may lie in the memory of its inputs
                for edge in progress.node.edges:
                    self._release(self._schedule[edge.source])
        return moved

    def passed(self, name: str, rows: Interval) -> torch.Tensor:
        """A placeholder for rows of a node that are skipped: a shape without memory."""
        box = (rows, *self._schedule[name].box[1:])
        return self._empty(self._graph.nodes[name], box, torch.device("meta"))

    def room(self, name: str, count: int) -> torch.Tensor | None:
        """The memory for the next ``count`` rows of an input, which are pushed next.

        None where they are to be kept as they come.
        """
        return self._buffers[name].room(count)

    def _row_dim(self, name: str) -> int:
        return self._graph.nodes[name].dims[0] or 0

    def close(self, graph: Graph, boxes: Mapping[str, Region]) -> None:
        """End an open-ended stream; ``graph`` and ``boxes`` are those of the real height."""
        self._schedule.close(graph, boxes)
        self._across.clear()  # the new graph has other edges

    def most_rows(self) -> dict[str, int]:
        """The most rows of each node that were in its buffer at any time."""
        return {name: buffer.most for name, buffer in self._buffers.items()}

    def _prepare(self, progress: Progress, whole: bool) -> None:
        node, box = progress.node, progress.box
        empty = self._empty(node, (EMPTY, *box[1:]))
        dim, files = node.dims[0], self._scratch
        if files is not None and node.name in files.names and dim is not None:
            self._buffers[node.name] = ScratchBuffer(dim, box[0], empty, files)
        else:
            most = len(box[0]) if whole else 0
            self._buffers[node.name] = LineBuffer(dim, box[0].lo, empty, most)
        if node.kind in (Kind.NONLOCAL, Kind.UNSUPPORTED):
            raise refusal(node, self._graph)
        if progress.gathers:
            self._gatherers[node.name] = self._gatherer(progress)
        elif node.edges:
            self._operators[node.name] = self._prepared.computation(node, self._graph.tensors)
            self._efforts[node.name] = effort(self._graph, node)

    def _gatherer(self, progress: Progress) -> Gatherer:
        node = progress.node
        source = self._graph.nodes[node.edges[0].source]
        if keeps_an_axis(node, source):  # only of the columns of this pass
            box = (Interval(0, node.extents[0]), *progress.box[1:])  # a camera's rows have no end
            node = replace(node, shape=local_shape(node, box))
        running = gatherer(node, source)
        if running is None or not gathers(node, self._graph):
            raise refusal(node, self._graph)
        return running

    def _empty(self, node: Node, box: Region, device: torch.device | None = None) -> torch.Tensor:
        """A value without positions, for a node that reads only padding."""
        like = next(iter(self._graph.tensors.values()), None)
        place = device if device is not None else like.device if like is not None else None
        shape, dtype = local_shape(node, box), getattr(torch, node.dtype)
        if node.dims[0] is None:  # its full shape, but no memory of its own
            return torch.zeros((), dtype=dtype, device=place).expand(shape)
        return torch.empty(shape, dtype=dtype, device=place)

    def _work(
        self, progress: Progress, rows: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor | None, bool]:
        """The node's new rows, or None, and whether they are a view of another value's memory."""
        name = progress.node.name
        if not progress.node.edges:
            return self._append(progress, rows.get(name), borrowed=True), True
        if name in self._gatherers:
            value = self._gather(progress, self._gatherers[name])
            return self._append(progress, value, borrowed=False), False
        box = (self._schedule.ready(progress), *progress.box[1:])
        if not box[0]:
            return None, False
        if box[0].hi <= self._first.get(name, 0):
            return self._append(progress, self.passed(name, box[0]), borrowed=False), False
        inputs = [self._tile(e, box, (name, i)) for i, e in enumerate(progress.node.edges)]
        value = self._operators[name](inputs, box, self._buffers[name].room(len(box[0])))
        memories = {tile.value.untyped_storage().data_ptr() for tile in inputs}
        borrowed = value.untyped_storage().data_ptr() in memories
        self.multiply_adds += self._efforts[name].of(inputs[0].value.numel(), value.numel())
        return self._append(progress, value, borrowed), borrowed

    def _append(
        self, progress: Progress, value: torch.Tensor | None, borrowed: bool
    ) -> torch.Tensor | None:
        if value is None:
            return None
        dim = progress.node.dims[0]
        count = 1 if dim is None else value.shape[dim]
        if not count:
            return None
        if str(value.dtype) != f"torch.{progress.node.dtype}":
            fact = f"{progress.node.name} gives {value.dtype}, traced as {progress.node.dtype}"
            raise Failure(fact, cure="please report this network")
        self._buffers[progress.node.name].append(value, count, borrowed)
        self._schedule.advance(progress, count)
        if self._once and progress.done >= progress.end:
            self._operators.pop(progress.node.name, None)
            self._prepared.forget(progress.node, self._graph.tensors)
        return value

    def _tile(self, edge: Edge, box: Region, place: tuple[str, int]) -> Tile:
        """The part of one input that a box of outputs reads, as a view.

        Args:
            edge: the input; nodes that are computed again share theirs, with other columns.
            box: the outputs.
            place: the node, and the number of the input.
        """
        source = self._schedule[edge.source]
        extents = source.node.extents
        if source.size is None:
            extents = (ENDLESS, *extents[1:])
        across = self._across.get(place)
        if across is None:  # the same in every band
            others = zip(edge.axes[1:], box[1:], extents[1:], strict=True)
            across = tuple(axis.input_range_inside(side, n) for axis, side, n in others)
            self._across[place] = across
        reads = (edge.axes[0].input_range_inside(box[0], extents[0]), *across)
        if not all(reads):
            value = self._empty(source.node, reads)
            return Tile(value, reads, extents, source.node.dims, edge.axes)
        value = self._buffers[edge.source].window(reads[0])
        for dim, side, own in zip(source.node.dims[1:], reads[1:], source.box[1:], strict=True):
            if dim is not None and side != own:
                value = value.narrow(dim, side.lo - own.lo, len(side))
        return Tile(value, reads, extents, source.node.dims, edge.axes)

    def _gather(self, progress: Progress, running: Gatherer) -> torch.Tensor | None:
        """Add the new rows of the input; return the node's value after the last row."""
        new, last = self._schedule.gatherable(progress)
        passed = progress.box[0].hi <= self._first.get(progress.node.name, 0)
        if new and not passed:
            source = self._schedule[progress.node.edges[0].source]
            first = (new.lo, *(own.lo for own in source.box[1:]))
            running.take(self._passing(progress, new), first)
        progress.gathered = max(progress.gathered, new.hi)
        if last and passed:
            return self.passed(progress.node.name, progress.box[0])
        if not last:
            return None
        node = progress.node
        if keeps_an_axis(node, self._graph.nodes[node.edges[0].source]):
            return running.result()
        whole = tuple(Interval(0, n) for n in node.extents)
        return cut(running.result(), node.dims, whole, (whole[0], *progress.box[1:]))

    def _passing(self, progress: Progress, rows: Interval) -> torch.Tensor:
        """Rows that a node gathers: along axes that it keeps, the positions of this pass."""
        (edge,) = progress.node.edges
        source = self._schedule[edge.source]
        value = self._buffers[edge.source].window(rows)
        if not keeps_an_axis(progress.node, source.node):
            return value
        pairs = zip(edge.axes[1:], progress.box[1:], source.node.extents[1:], strict=True)
        reads = [axis.input_range_inside(side, n) for axis, side, n in pairs]
        for dim, side, own in zip(source.node.dims[1:], reads, source.box[1:], strict=True):
            if dim is not None and side != own:
                value = value.narrow(dim, side.lo - own.lo, len(side))
        return value

    def _release(self, progress: Progress) -> None:
        """Drop the rows that no node will read again."""
        progress.first_buffered = max(progress.first_buffered, self._schedule.needed_from(progress))
        self._buffers[progress.node.name].release(progress.first_buffered)
