"""Statistics over all positions, gathered by many workers in stages.

A stage is a pass over maps whose statistics are needed. Each worker gathers those of some blocks,
and the results are merged in the order of the blocks. For all later stages the statistics are known
inputs, and the nodes that read them are local.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eyeshot.axes import Interval
from eyeshot.engine.buffers import Gatherer, gatherer, gathers
from eyeshot.engine.places import First
from eyeshot.errors import Failure, Unsupported
from eyeshot.geometry import Region
from eyeshot.graph import Graph, Node, reaching

_SIDES = {1: 1 << 16, 2: 256, 3: 32}
"""The side of the smallest block of a map in positions, by its number of spatial axes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Statistics that are gathered in one pass.

    Attributes:
        statistics: the names of the nodes to gather.
        graph: the graph to compute; its outputs are the maps that these nodes read.
    """

    statistics: tuple[str, ...]
    graph: Graph

    @property
    def regions(self) -> dict[str, Region]:
        """The whole of every map."""
        return {
            name: tuple(Interval(0, n) for n in self.graph.nodes[name].extents)
            for name in self.graph.outputs
        }

    def chunks(self) -> dict[str, tuple[int, ...]]:
        """For each map, the sides of the smallest block."""
        found = {}
        for name in self.graph.outputs:
            extents = self.graph.nodes[name].extents
            found[name] = tuple(min(_SIDES[len(extents)], n) for n in extents)
        return found


def stages_of(graph: Graph) -> tuple[tuple[Stage, ...], Graph]:
    """The stages of a network, and the last graph, in which all statistics are inputs.

    Args:
        graph: a lowered graph.

    Raises:
        Unsupported: a node reads every position, and is not a statistic.
    """
    after: dict[str, int] = {}
    groups: dict[int, list[str]] = {}
    for node in graph:
        before = max((after[edge.source] for edge in node.edges), default=0)
        after[node.name] = before
        if _is_global(node, graph):
            _require_statistic(node, graph)
            groups.setdefault(before, []).append(node.name)
            after[node.name] = before + 1
    stages: list[Stage] = []
    given: list[str] = []
    for number in sorted(groups):
        names = tuple(groups[number])
        maps = dict.fromkeys(graph.nodes[name].edges[0].source for name in names)
        stages.append(Stage(names, reaching(graph, tuple(maps), given)))
        given += names
    return tuple(stages), reaching(graph, graph.outputs, given) if given else graph


def _is_global(node: Node, graph: Graph) -> bool:
    return any(
        axis.is_global and n > 1
        for edge in node.edges
        for axis, n in zip(edge.axes, graph.nodes[edge.source].extents, strict=False)
    )


def _require_statistic(node: Node, graph: Graph) -> None:
    gathered = gathers(node, graph)
    if not gathered or any(n > 1 for n in node.extents):
        source = node.edges[0].source
        why = (
            f"takes a statistic of {source} along one axis, and workers gather those of all axes"
            if gathered
            else f"reads every position of {source} in one call, and no worker has them all"
        )
        raise Unsupported(
            f"{node.name} ({node.operator}) {why}",
            cure="run it without a client",
        )


class Gathering:
    """The statistics of a stage, gathered band by band."""

    def __init__(self, whole: Graph, stage: Stage) -> None:
        """Start without any rows.

        Args:
            whole: the network, with the statistics as nodes.
            stage: the stage whose statistics are gathered.
        """
        self._readers: dict[str, list[Gatherer]] = {name: [] for name in stage.graph.outputs}
        self._all: dict[str, Gatherer] = {}
        for name in stage.statistics:
            node = whole.nodes[name]
            source = whole.nodes[node.edges[0].source]
            running = gatherer(node, source)
            if running is None:
                raise Failure(f"{name} is not gathered", cure="please report this network")
            self._all[name] = running
            self._readers[source.name].append(running)

    def take(self, name: str, band: torch.Tensor, first: First = ()) -> None:
        """Add rows of a map, each once; ``first`` is the position of the first one."""
        for one in self._readers[name]:
            one.take(band, first)

    def state(self) -> dict[str, Any]:
        """The statistics so far, as plain data."""
        return {name: _plain(one.state()) for name, one in self._all.items()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the statistics that another process has gathered over later positions."""
        for name, stored in state.items():
            self._all[name].merge(_tensors(stored))

    def results(self) -> dict[str, torch.Tensor]:
        """The value of each node."""
        return {name: one.result() for name, one in self._all.items()}


def plain_values(values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Values of nodes as plain data, without rounding."""
    return {name: _plain((value,)) for name, value in values.items()}


def values_of(stored: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The values that :func:`plain_values` converted."""
    return {name: _tensors(one)[0] for name, one in stored.items()}


def _plain(state: Sequence[Any]) -> list[Any]:
    return [
        [str(one.dtype).removeprefix("torch."), list(one.shape), one.cpu().reshape(-1).tolist()]
        if isinstance(one, torch.Tensor)
        else one
        for one in state
    ]


def _tensors(stored: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        torch.tensor(one[2], dtype=getattr(torch, one[0])).reshape(one[1])
        if isinstance(one, list)
        else one
        for one in stored
    )
