"""Statistics over all positions, gathered from images and then fixed: a norm becomes local.

An instance norm, squeeze and excitation or a global pool reads every position before it gives its
first value, so it cannot run on rows that have no end. With numbers in place of its statistics it
can; what that changes is measured on the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from eyeshot.engine.blocks import Gathering, Stage, block_strip, stages_of
from eyeshot.engine.buffers import gathers
from eyeshot.engine.executing import gather
from eyeshot.engine.job import Parts, dtype_of, parts_of
from eyeshot.engine.moments import split_statistics
from eyeshot.engine.networks import Network, Traced, as_traced
from eyeshot.engine.running import opened, run
from eyeshot.errors import BadValue, Unsupported
from eyeshot.graph import Edge, Family, Graph, Node, Ref, Weight, check, reaching
from eyeshot.interpreter import substituted
from eyeshot.planning import BandPlan

_BAND = 64
_GROWING = (Family.SUM, Family.MAGNITUDE, Family.LOG_SUM)
"""Statistics that grow with the number of positions: those of two images are not one."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a calibrated network is from the original, on one image.

    Attributes:
        image: its name.
        largest: the largest difference between two samples of the outputs.
        scale: the largest absolute sample of the original.
    """

    image: str
    largest: float
    scale: float

    @property
    def relative(self) -> float:
        """The largest difference, as a share of the largest sample; 0 if both are 0."""
        return self.largest / self.scale if self.scale else self.largest

    def __str__(self) -> str:
        return (
            f"{self.image}: differs by at most {self.largest:.2e}, {self.relative:.2%} of the "
            "largest sample"
        )


class Calibrated(Traced):
    """A network with fixed statistics; made by :func:`calibrate`. It goes wherever a network goes.

    ``print(calibrated)`` lists the fixed statistics and the distances.

    Attributes:
        statistics: the fixed numbers by node; of a norm its mean and one over its deviation,
            (2, N, C, 1, 1), of any other statistic its value.
        distances: from the original network, on each of the images.
    """

    def __init__(
        self, traced: Traced, statistics: Mapping[str, torch.Tensor], graph: Graph
    ) -> None:
        """The network with ``statistics``, gathered from an image at whose size it is ``graph``."""
        super().__init__(traced.module, traced.mean, traced.std, traced.keep, traced.unit)
        self.statistics = dict(statistics)
        self.distances: tuple[Distance, ...] = ()
        self._original = traced
        self._origins = _origins(split_statistics(graph), self.statistics)

    def graph(self, *sizes: Sequence[int], dtype: torch.dtype = torch.float32) -> Graph:
        """See :meth:`Traced.graph`: the statistics are weights.

        Raises:
            Unsupported: at this size the network has other statistics than those that are fixed.
        """
        graph = self._original.graph(*sizes, dtype=dtype)
        return with_fixed(graph, self.statistics, self._origins)

    def around(self, module: nn.Module, option: str) -> Traced:
        """Refuse: another module has statistics of its own.

        Raises:
            BadValue: always.
        """
        raise BadValue(
            f"{option} with a calibrated network, whose statistics are fixed without it",
            cure=f"run the original network with {option}, or this one without it",
        )

    def __str__(self) -> str:
        names = ", ".join(name.removesuffix(".moments") for name in self.statistics)
        lines = [f"fixed statistics: {names}", *map(str, self.distances)]
        return "\n".join(lines)


def calibrate(
    net: Network,
    images: Any,
    *,
    layout: str | None = None,
    raw: bool = False,
    white: float | None = None,
) -> Calibrated:
    """Fix a network's statistics over positions at those of some images.

    Instance, group and layer norms over positions, squeeze and excitation, global means, maxima,
    and so on become constants. The result streams (:func:`eyeshot.stream`) and runs over any size,
    exactly as its own whole pass; how far that is from the original network, on the same images,
    stands in ``distances``. The network itself is not changed.

    The statistics are those of all positions of all images together, gathered one stage after
    another: what a second norm sees comes from the fixed first one. With one image the result gives
    on that image what the original gives.

    Args:
        net: a network in eval mode with one input, a trained run, or one that is traced.
        images: paths, URLs or arrays as for :func:`eyeshot.run`, of any sizes; a list, or one.
        layout: what the images' axes mean, where the guess is wrong.
        raw: leave whole-number samples as they are; they are scaled to 0 … 1 otherwise.
        white: the whole-number sample that counts as 1.

    Raises:
        BadValue: no image, or the network has no statistics over positions.
        Unsupported: an operator reads all positions and is no statistic (attention), a statistic
            over one axis alone, a sum over the positions of several images, or an output that
            follows from statistics alone (a classifier).
    """
    listed = list(images) if isinstance(images, list | tuple) else [images]
    if not listed:
        raise BadValue("no image to take statistics from", cure="give one or more")
    traced = as_traced(net)
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(one, net, layout=layout)) for one in listed]
        runs = [parts_of(traced, [source], raw=raw, white=white) for source in sources]
        statistics = _gathered(runs)
        (first,) = runs[0].sources.values()
        graph = traced.graph(first.shape, dtype=dtype_of([first.dtype]))
    found = Calibrated(traced, statistics, graph)
    names = [source.name for source in sources]
    options = {"layout": layout, "raw": raw, "white": white}
    found.distances = tuple(
        _distance(name, traced, found, image, options)
        for name, image in zip(names, listed, strict=True)
    )
    return found


def _gathered(runs: Sequence[Parts]) -> dict[str, torch.Tensor]:
    """The statistics of all images together, by node."""
    for run_ in runs:
        for node in run_.graph:
            _require_fixable(node, run_.graph, several=len(runs) > 1)
    staged = [stages_of(one.graph)[0] for one in runs]
    names = [[stage.statistics for stage in stages] for stages in staged]
    if not names[0]:
        raise BadValue(
            "the network has no statistics over positions", cure="use it as it is; it streams"
        )
    listed = [name for stage in staged[0] for name in stage.statistics]
    odd = next((place for place, one in enumerate(names) if one != names[0]), None)
    if odd is None:
        origins = [_origins(one.graph, listed) for one in runs]
        odd = next((place for place, one in enumerate(origins) if one != origins[0]), None)
    if odd is not None:
        source = next(iter(runs[odd].sources.values()))
        raise Unsupported(
            f"{source.name}: at this size the network has other statistics",
            cure="use images of one size",
        )
    known: dict[str, torch.Tensor] = {}
    for number, stage in enumerate(staged[0]):
        gathering = Gathering(runs[0].graph, stage)
        for one, stages in zip(runs, staged, strict=True):
            _take(gathering, one, stages[number], known)
        known |= gathering.results()
    return known


def _take(
    gathering: Gathering, parts: Parts, stage: Stage, known: Mapping[str, torch.Tensor]
) -> None:
    """Let all rows of a stage's maps pass, of one image."""
    regions = stage.regions
    strip = block_strip(stage.graph, regions)
    plan = BandPlan(regions, (strip,), _BAND, (), 0, 0, 1.0, 0, len(strip.boxes))
    own = replace(parts, graph=stage.graph, forms={}, regions=regions)
    gather(own.job(plan, torch.get_num_threads(), known=known), gathering.take)


def _mixing(node: Node, graph: Graph) -> list[Edge]:
    """The edges along which the node reads every position of a map."""
    return [
        edge
        for edge in node.edges
        for axis, n in zip(edge.axes, graph.nodes[edge.source].extents, strict=False)
        if axis.is_global and n > 1
    ]


def _origins(graph: Graph, names: Iterable[str]) -> dict[str, Any]:
    """What each statistic is and reads, but for sizes; equal where the number may be the same.

    Nodes are named by operator and order, so that an equal name alone says little.
    """
    found: dict[str, Any] = {}
    for name in names:
        node = graph.nodes[name]
        source = graph.nodes[node.edges[0].source]
        found[name] = (
            (node.operator, node.layer, node.family, node.shape),
            node.params if node.family is Family.MOMENTS else None,
            (node.call.target, node.call.args, node.call.kwargs) if node.call else None,
            (source.name, source.operator, source.layer),
            [n for dim, n in enumerate(source.shape) if dim not in source.dims],
            sorted(reaching(graph, (source.name,)).tensors),
        )
    return found


def _require_fixable(node: Node, graph: Graph, *, several: bool) -> None:
    mixing = _mixing(node, graph)
    if not mixing:
        return
    if not gathers(node, graph) or any(n > 1 for n in node.extents):
        raise Unsupported(
            f"{node.name} ({node.operator}) reads every row of {mixing[0].source}, and gives more "
            "than one number for all of them",
            cure="use eyeshot.run with the network as it is",
        )
    what = "is a place in one image" if "place" in node.params.measure else ""
    if node.family in _GROWING or node.params.measure == "count":
        what = "grows with the number of positions"
    if several and what:
        raise Unsupported(
            f"{node.name} ({node.operator}) {what}, and several images were given",
            cure="give one image, as large as those that follow",
        )


def _distance(
    name: str, original: Traced, calibrated: Traced, image: Any, options: Mapping[str, Any]
) -> Distance:
    largest = scale = 0.0
    wholes = (run(net, image, **options) for net in (original, calibrated))
    one, other = (found if isinstance(found, list) else [found] for found in wholes)
    for mine, its in zip(one, other, strict=True):
        mine, its = (np.asarray(each, dtype=np.float64) for each in (mine, its))  # uint8 wraps
        largest = max(largest, float(np.abs(mine - its).max(initial=0)))
        scale = max(scale, float(np.abs(mine).max(initial=0)))
    return Distance(name, largest, scale)


def with_fixed(
    graph: Graph, statistics: Mapping[str, torch.Tensor], origins: Mapping[str, Any]
) -> Graph:
    """The graph with constants in place of statistics, and of all that follows from them alone.

    Args:
        graph: as traced.
        statistics: by the names of the nodes, a norm's ``moments`` apart from it.
        origins: of these, from :func:`_origins`.

    Raises:
        Unsupported: a statistic that is not among them, not in the graph, or in it another one of
            the same name; or an output is one.
    """
    apart = split_statistics(graph)
    _require_same(apart, origins)
    known = _constants(apart, statistics)
    lost = [name for name in graph.outputs if name in known]
    if lost:
        raise Unsupported(
            f"output {lost[0]} follows from statistics alone; nothing of an image is left in it",
            cure="calibrate a network that gives a map",
        )
    nodes = {n.name: _reading(n, known) for n in apart if n.name not in known}
    read = {weight for node in nodes.values() for weight in node.weights}
    fixed = {_named(name): value for name, value in known.items() if _named(name) in read}
    found = replace(apart, nodes=nodes, tensors={**apart.tensors, **fixed})
    check(found)
    more = next((node for node in found if _mixing(node, found)), None)
    if more is not None:
        raise Unsupported(
            f"at this size the network has another statistic, {more.name} ({more.operator})",
            cure="calibrate it with an image of this size",
        )
    return found


def _require_same(graph: Graph, origins: Mapping[str, Any]) -> None:
    """Refuse a graph in which a statistic is missing, or is another one of the same name."""
    missing = [name for name in origins if name not in graph.nodes]
    if missing:
        fact = f"at this size the network has no statistic {missing[0]}"
    else:
        now = _origins(graph, origins)
        others = [name for name, origin in origins.items() if now[name] != origin]
        if not others:
            return
        fact = f"at this size statistic {others[0]} is another one than that which is fixed"
    raise Unsupported(fact, cure="calibrate it with an image of this size")


def _constants(graph: Graph, statistics: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The value of each node that follows from the statistics alone."""
    known: dict[str, torch.Tensor] = {}
    for node in graph:
        if node.name in statistics:
            known[node.name] = statistics[node.name]
            continue
        refs = node.call.refs if node.call is not None else ()
        if node.call is not None and refs and all(ref in known for ref in refs):
            with torch.no_grad():
                call = node.call.substituted(lambda one: substituted(one, known, graph))
                known[node.name] = call()
    return known


def _reading(node: Node, known: Mapping[str, torch.Tensor]) -> Node:
    """The node with weights in place of what is constant."""
    constant = [name for name in (node.call.refs if node.call else ()) if name in known]
    if node.call is None or not constant:
        return node

    def put(one: Any) -> Any:
        return Weight(_named(one.node)) if isinstance(one, Ref) and one.node in known else one

    return replace(
        node,
        edges=tuple(edge for edge in node.edges if edge.source not in known),
        weights=(*node.weights, *dict.fromkeys(map(_named, constant))),
        call=node.call.substituted(put),
    )


def _named(node: str) -> str:
    return f"{node}.fixed"
