"""Maps that a cluster stores between its stages, so that later stages need not compute them again.

Each stage that gathers statistics computes a map, and every later pass would compute it again. A
network with a norm behind each convolution would so do half as much work as the square of its
number of layers. A map that is stored costs one write, and a read for each later pass that needs
it. Which maps are stored is decided by counting both in multiply-adds.

A map is a Zarr array (rows, columns, channels) in a folder beside the output, in chunks that no two
blocks share.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eyeshot.axes import Interval
from eyeshot.engine.blocks import SIDES, Stage, stages_of
from eyeshot.extras import extra
from eyeshot.files import explain_os_error
from eyeshot.geometry import Region, required
from eyeshot.graph import Family, Graph, Node
from eyeshot.images.sinks.sink import Arrangement
from eyeshot.images.sinks.zarr_blocks import BlockWindow, checksum
from eyeshot.planning.schedule import itemsize, multiply_adds

with extra("images"):
    import zarr

_A_BYTE = 48
"""The multiply-adds that take as long as to write or to read one byte of a map."""
_A_CHUNK = 2e7
"""The multiply-adds that take as long as to open, find and close a chunk."""
_FLAT = (1, 2, 4, 8)
"""A chunk has one of these parts of the rows of the smallest block, by the size of a row."""
_LARGE = 2 << 20
"""The most bytes of a chunk, if its rows are not too long."""
BAND = 32
"""Rows of a band of a pass that reads stored maps are a multiple of this."""
_ROOM = 0.5
"""The share of the free disk that stored maps may fill."""


def maps_to_store(graph: Graph, regions: Mapping[str, Region], folder: Path) -> tuple[str, ...]:
    """The maps whose storing makes a run cheaper, by counted multiply-adds and bytes.

    Begins with all maps of which statistics are taken, and leaves out one after the other, the
    last first, as long as this makes the run cheaper.

    Args:
        graph: a lowered graph.
        regions: of each output, the region to compute.
        folder: where maps would be stored; they must fit into half of what is free there.
    """
    stages, _ = stages_of(graph)
    if not stages:
        return ()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = _ROOM * shutil.disk_usage(there).free
    maps = [
        graph.nodes[name]
        for stage in stages
        for name in stage.graph.outputs
        if _can_be_stored(graph.nodes[name], graph)
    ]
    chosen = [one.name for one in maps]
    best = _cost(graph, regions, chosen)
    for one in reversed(maps):
        fewer = [name for name in chosen if name != one.name]
        cost = _cost(graph, regions, fewer)
        too_large = bytes_stored(graph, chosen) > free
        if cost < best or too_large:
            chosen, best = fewer, cost
    return tuple(chosen)


def _can_be_stored(node: Node, graph: Graph) -> bool:
    """Whether a map is one of channels and then axes, which only later passes need."""
    plain = node.dims == tuple(range(2, len(node.shape))) and node.shape[0] == 1
    floats = node.dtype in ("float32", "float64")
    computed = not node.is_input and node.family is not Family.INPUT
    return plain and floats and computed and node.name not in graph.outputs


def _cost(graph: Graph, regions: Mapping[str, Region], stored: Sequence[str]) -> float:
    """Multiply-adds of all passes, without halos; bytes that are written and read count, too."""
    stages, last = stages_of(graph, stored)
    passes = [(one.graph, one.regions) for one in stages]
    total = 0.0
    for part, asked in (*passes, (last, regions)):
        boxes = required(part, asked)
        total += multiply_adds(part, boxes)
        read = [name for name in stored if name in boxes and part.nodes[name].is_input]
        total += _storing(graph, read)
    return total + _storing(graph, stored)


def _storing(graph: Graph, maps: Sequence[str]) -> float:
    """What it costs to write some maps, or to read them, in multiply-adds."""
    nodes = [graph.nodes[name] for name in maps]
    chunks = sum(
        math.prod(-(-n // side) for n, side in zip(node.extents, chunk_of(node), strict=True))
        for node in nodes
    )
    return _A_BYTE * bytes_stored(graph, maps) + _A_CHUNK * chunks


def bytes_stored(graph: Graph, stored: Iterable[str]) -> int:
    """The bytes of some maps."""
    nodes = [graph.nodes[name] for name in stored]
    return sum(math.prod(node.shape) * itemsize(node) for node in nodes)


def chunk_of(node: Node) -> tuple[int, ...]:
    """The length of a map's chunk along each axis."""
    side = SIDES[len(node.extents)]
    first, *others = (min(side, n) for n in node.extents)
    row = math.prod(others) * node.shape[1] * itemsize(node)
    rows = next((side // part for part in _FLAT if side // part * row <= _LARGE), 0)
    return (max(1, min(first, rows or side // _FLAT[-1])), *others)


class StoredMaps:
    """The maps of a run.

    Args:
        folder: where they are stored.
        graph: the network.
        names: the maps, in an order that all processes share.
    """

    def __init__(self, folder: Path, graph: Graph, names: Sequence[str]) -> None:
        self._folder, self._graph, self._names = folder, graph, tuple(names)

    def path(self, name: str) -> Path:
        """The array of a map."""
        return self._folder / f"{self._names.index(name)}.zarr"

    def make(self, name: str) -> None:
        """Make an empty array for a map, instead of one that is there."""
        node = self._graph.nodes[name]
        self.remove(name)
        sides = chunk_of(node)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            zarr.create_array(
                str(self.path(name)),
                shape=(*node.extents, node.shape[1]),
                chunks=(*sides, node.shape[1]),
                dtype=node.dtype,
                compressors=None,
                chunk_key_encoding={"name": "default", "separator": "."},  # all in one folder
            )
        except OSError as error:
            raise explain_os_error(error, self.path(name)) from error

    def window(self, name: str, region: Region) -> BlockWindow:
        """A block of a map, to be written."""
        node = self._graph.nodes[name]
        array = self._opened(name, "r+")
        return BlockWindow(
            array,
            [(side.lo, side.hi) for side in region],
            node.shape[1],
            array.dtype,
            Arrangement((*node.extents, node.shape[1]), (*range(len(node.extents)), None)),
            chunk_of(node)[0],
        )

    def reader(self, name: str) -> Callable[[Region], torch.Tensor]:
        """A function from a window of a map to its numbers, (1, C, rows, …)."""
        return _Reader(partial(self._opened, name, "r"), chunk_of(self._graph.nodes[name])[0])

    def _opened(self, name: str, mode: str) -> Any:
        try:
            return zarr.open_array(str(self.path(name)), mode=mode)
        except OSError as error:
            raise explain_os_error(error, self.path(name)) from error

    def is_as_written(
        self, name: str, regions: Sequence[Region | None], sums: Sequence[Any]
    ) -> bool:
        """Whether a map has the samples whose checksums were noted, block by block."""
        rows = chunk_of(self._graph.nodes[name])[0]
        try:
            array = self._opened(name, "r")
            for region, noted in zip(regions, sums, strict=True):
                if region is None:
                    continue
                (top, *others), found = region, 0
                for row in range(top.lo, top.hi, rows):
                    some = slice(row, min(row + rows, top.hi))
                    beside = (slice(side.lo, side.hi) for side in others)
                    found = checksum(array[(some, *beside)], found)
                if found != noted:
                    return False
        except Exception:  # a damaged array may raise anything
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a map, if it is there."""
        shutil.rmtree(self.path(name), ignore_errors=True)

    def remove_all(self) -> None:
        """Remove all maps."""
        shutil.rmtree(self._folder, ignore_errors=True)


class _Reader:
    """Reads windows of a map; the last rows of chunks are kept, for the next window begins there.

    Args:
        opened: opens the array (rows, columns, channels).
        rows: of a chunk.
    """

    def __init__(self, opened: Callable[[], Any], rows: int) -> None:
        self._opened, self._rows = opened, rows
        self._array: Any = None
        self._kept: tuple[Region, Any] = ((), None)

    def __call__(self, box: Region) -> torch.Tensor:
        """The numbers of a window, (1, C, rows, …)."""
        if self._array is None:
            self._array = self._opened()
        (asked, *others), (kept, samples) = box, self._kept
        last = (asked.hi - 1) // self._rows * self._rows  # the first row of the last chunks
        end = min(last + self._rows, self._array.shape[0])
        parts, begin = [], asked.lo
        if samples is not None and list(kept[1:]) == others and kept[0].lo <= begin < kept[0].hi:
            parts.append(samples[begin - kept[0].lo : asked.hi - kept[0].lo])
            begin = min(kept[0].hi, asked.hi)
        beside = tuple(slice(side.lo, side.hi) for side in others)
        if begin < min(last, asked.hi):
            parts.append(self._array[(slice(begin, last), *beside)])
            begin = last
        if begin < asked.hi:
            self._kept = ((Interval(last, end), *others), self._array[(slice(last, end), *beside)])
            parts.append(self._kept[1][begin - last : asked.hi - last])
        found = parts[0].copy() if len(parts) == 1 else np.concatenate(parts)
        return torch.from_numpy(found).movedim(-1, 0)[None]


def needed_later(
    stages: Sequence[Stage], last: Graph, regions: Mapping[str, Region], done: int
) -> set[str]:
    """The stored maps that the passes after the first ``done`` stages read."""
    passes = [(one.graph, one.regions) for one in stages[done:]]
    stored = {name for stage in stages for name in stage.stored}
    found: set[str] = set()
    for graph, asked in (*passes, (last, regions)):
        boxes = required(graph, asked)
        found |= {name for name in stored if name in boxes and graph.nodes[name].is_input}
    return found
