"""Why a node does not stream, in words; and the cure for a node in training mode."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from eyeshot.findings.wording import AXES, called, counted, joined
from eyeshot.graph import Family, Graph, Kind, Node
from eyeshot.language import mark, tr

_MEET = (Family.PRODUCT, Family.ATTENTION)
_OF_MANY = (
    *(Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST, Family.STATISTIC),
    *(Family.VARIANCE, Family.DEVIATION, Family.MAGNITUDE, Family.SOFTMAX),
)
_GATHERED_ITSELF = (Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST)
_FARTHEST = 60


def remedy(graph: Graph, node: Node) -> tuple[str, str]:
    """Why a node that is not local does not stream, and the cure if it is in training mode."""
    if node.kind is Kind.GLOBAL_STATISTIC:
        return _of_statistic(graph, node), ""
    reason = node.reason.removeprefix(f"{node.operator}: ") or "mixes all rows"
    if node.params.training:
        if graph.training:
            return reason.partition(";")[0], "call net.eval() first"
        return reason.partition(";")[0], f"give it training=self.training ({_module_of(node)})"
    if node.kind is Kind.NONLOCAL and node.family is Family.RESHAPE:
        return _of_reshape(graph, node), ""
    return reason, ""


def _module_of(node: Node) -> str:
    return "or use nn.Dropout" if node.family is Family.DROPOUT else "or use nn.BatchNorm2d"


def is_gathered(graph: Graph, node: Node) -> bool:
    """Whether it is a mean, sum or extreme of all positions, computed while the rows pass."""
    pools = node.is_adaptive and not math.prod(node.extents) > 1
    named = node.family in _GATHERED_ITSELF
    return (pools or named) and not list(_axes_left(graph, node))


def _of_statistic(graph: Graph, node: Node) -> str:
    left = list(_axes_left(graph, node))
    if not left:
        return node.reason
    over = [name for name in AXES[graph.spatial_axes] if name not in left]
    return tr(
        "{operator} over the {axes} only, with a result for each of the {others}",
        operator=node.operator,
        axes=joined(map(tr, over)),
        others=joined(map(tr, left)),
    )


def _axes_left(graph: Graph, node: Node) -> Iterator[str]:
    """The axes with more than one position that the operator does not reduce."""
    edge = node.edges[0]
    source = graph.nodes[edge.source]
    for axis, n, name in zip(edge.axes, source.extents, AXES[graph.spatial_axes], strict=True):
        if n > 1 and not axis.is_global:
            yield name


def _of_reshape(graph: Graph, node: Node) -> str:
    """The reason, from the reader of the flattened numbers: a classifier, attention, a mean."""
    source = graph.nodes[node.edges[0].source]
    if node.shape[:1] != source.shape[:1]:
        if all(graph.nodes[name].shape[:1] == source.shape[:1] for name in graph.outputs):
            return tr("moves parts of the picture into the batch")
        pictures, rows = counted(source.shape[0], "picture"), counted(node.shape[0], "row")
        return tr("cuts {pictures} into {rows}", pictures=pictures, rows=rows)
    readers = list(_behind(graph, node))
    first = next((one for one in readers if one.family is not Family.RESHAPE), None)
    if first is not None and _reduces(first, _merged(node, source)):
        return tr("flattens positions into one dimension for {layer}", layer=called(first))
    meeting = next((one for one in readers if one.family in _MEET), None)
    if meeting is not None:
        text = mark("flattens positions into a sequence, which is mixed in {layer}")
        return tr(text, layer=called(meeting))
    linear = next((one for one in readers if one.family is Family.LINEAR), None)
    if linear is not None and len(node.shape) == 2:
        return tr(
            "flattens a map of {numbers} for {layer}, which has a weight for each of them",
            numbers=counted(node.shape[1], "number"),
            layer=called(linear),
        )
    return tr("flattens positions into features")


def _merged(node: Node, source: Node) -> int | None:
    """The dimension that holds all positions of a map in sequence, or None."""
    places = [dim for dim, n in enumerate(node.shape) if n == math.prod(source.extents)]
    return places[-1] if len(node.shape) > 2 and places else None


def _reduces(reader: Node, dim: int | None) -> bool:
    """Whether it is a statistic over only that dimension."""
    named = reader.call.argument("dim") if reader.call is not None else None
    if dim is None or named is None or reader.family not in _OF_MANY:
        return False
    listed = named if isinstance(named, (list, tuple)) else [named]
    rank = len(reader.shape) + (0 if _keeps(reader) else len(listed))
    return [int(one) % rank for one in listed if isinstance(one, int)] == [dim]


def _keeps(reader: Node) -> bool:
    """Whether its output has as many dimensions as its input."""
    keeps = reader.call is not None and bool(reader.call.argument("keepdim", False))
    return reader.family is Family.SOFTMAX or keeps


def _behind(graph: Graph, node: Node) -> Iterator[Node]:
    """The nodes that depend on a node, nearest first."""
    consumers = graph.consumers()
    seen, waiting = {node.name}, deque(consumers[node.name])
    while waiting and len(seen) < _FARTHEST:
        one = waiting.popleft()
        if one.name not in seen:
            seen.add(one.name)
            yield one
            waiting.extend(consumers[one.name])
