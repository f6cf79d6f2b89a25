"""Why a node cannot be run by parts, and what to write in its place: the same sum by other means.

Means, sums, largest and smallest values over all positions are gathered while a picture passes by.
Most other statistics can be written with them, so that they run too and give the same numbers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from eyeshot.findings.wording import AXES, called, counted, joined
from eyeshot.graph import Family, Graph, Kind, Node
from eyeshot.operators import of

WHOLE = "it cannot be computed by parts: call net(image) itself, where that fits into memory"
_GATHERED = "write it with what is: "
_MEET = (Family.PRODUCT, Family.ATTENTION)
_GATHERED_ITSELF = (Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST)
_FARTHEST = 60


def remedy(graph: Graph, node: Node) -> tuple[str, str]:
    """Why a node that is not local cannot be run by parts, and the cure, in words.

    The cure is empty for a classifier's head: whether its dense form can be made, the graph tells.
    """
    if node.kind is Kind.GLOBAL_STATISTIC:
        return _of_statistic(graph, node)
    reason = node.reason.removeprefix(f"{node.operator}: ") or "mixes all rows"
    if node.attributes.get("training"):
        if graph.training:
            return reason.partition(";")[0], "call net.eval() first"
        return reason.partition(";")[0], f"give it training=self.training ({_module_of(node)})"
    if node.kind is Kind.NONLOCAL and node.family is Family.RESHAPE:
        return _of_reshape(graph, node)
    return reason, of(node).cure or WHOLE


def _module_of(node: Node) -> str:
    return "or use nn.Dropout" if node.family is Family.DROPOUT else "or use nn.BatchNorm2d"


def is_gathered(graph: Graph, node: Node) -> bool:
    """Whether it is a mean, sum or extreme of all positions, gathered as the picture passes by."""
    pools = node.is_adaptive and not math.prod(node.extents) > 1
    named = node.family in _GATHERED_ITSELF
    return (pools or named) and not list(_axes_left(graph, node))


def _of_statistic(graph: Graph, node: Node) -> tuple[str, str]:
    left = list(_axes_left(graph, node))
    if left:
        over = [name for name in AXES[graph.spatial_axes] if name not in left]
        reason = f"{node.operator} over the {joined(over)} alone, with an answer for each of the "
        return reason + joined(left), _at_once(graph, node) or WHOLE
    words = of(node).by_means
    reason = f"{node.reason}, which is not gathered while the picture passes by"
    if not words or len(node.edges) != 1:
        return reason, WHOLE
    groups = node.attributes.get("groups", 1)
    return reason, _GATHERED + words.format(d=_dims(graph, node), groups=groups)


def _at_once(graph: Graph, node: Node) -> str:
    """Where the next one takes the same over the other axes: both in one call."""
    readers = graph.consumers()[node.name]
    alike = [one for one in readers if one.operator == node.operator and of(one).gathered]
    if len(alike) != 1 or len(readers) != 1 or list(_axes_left(graph, alike[0])):
        return ""
    source = graph.nodes[node.edges[0].source]
    dims = tuple(dim for dim in source.dims if dim is not None)
    return f"take it over all of them at once: x.{node.operator}({dims})"


def _axes_left(graph: Graph, node: Node) -> Iterator[str]:
    """The axes of more than one position over which it does not run, though over others."""
    edge = node.edges[0]
    source = graph.nodes[edge.source]
    for axis, n, name in zip(edge.axes, source.extents, AXES[graph.spatial_axes], strict=True):
        if n > 1 and not axis.is_global:
            yield name


def _dims(graph: Graph, node: Node) -> str:
    """The dimensions that the statistic runs over, as they are written."""
    source = graph.nodes[node.edges[0].source]
    rank = len(source.shape)
    if node.family is Family.GROUP_NORM:
        return str(tuple(range(2, rank + 1)))
    if node.family is Family.LAYER_NORM and node.call is not None:
        return str(tuple(range(rank - len(node.call.argument("normalized_shape")), rank)))
    if of(node).gathered:  # largest or smallest of all, whatever the axes
        return str(tuple(range(1, rank)))
    return str(tuple(dim for dim in source.dims if dim is not None))


def _of_reshape(graph: Graph, node: Node) -> tuple[str, str]:
    """By what reads the numbers that were laid out: a classifier, attention, a mean."""
    source = graph.nodes[node.edges[0].source]
    if node.shape[:1] != source.shape[:1]:
        if all(graph.nodes[name].shape[:1] == source.shape[:1] for name in graph.outputs):
            return "lays parts of the picture out as a batch of their own", WHOLE
        rows = counted(node.shape[0], "row")
        cause = f"cuts {counted(source.shape[0], 'picture')} into {rows}"
        return cause, "write x.shape[0] for the first size, or flatten(1)"
    readers = list(_behind(graph, node))
    first = next((one for one in readers if one.family is not Family.RESHAPE), None)
    if first is not None and _reduces(first, _merged(node, source)):
        cause = f"lays positions out in one line, for {called(first)}"
        return cause, "take it over the map itself: " + _over_the_map(first, source)
    meeting = next((one for one in readers if one.family in _MEET), None)
    if meeting is not None:
        return (
            f"lays positions out as a sequence, and all of them meet in {called(meeting)}",
            WHOLE,
        )
    linear = next((one for one in readers if one.family is Family.LINEAR), None)
    if linear is not None and len(node.shape) == 2:
        cause = f"flattens a map of {counted(node.shape[1], 'number')} for {called(linear)}, which "
        return cause + "has a weight for each of them", ""
    return "lays positions out as features", WHOLE


def _merged(node: Node, source: Node) -> int | None:
    """The dimension in which all positions of a map lie one after another; None if none is."""
    places = [dim for dim, n in enumerate(node.shape) if n == math.prod(source.extents)]
    return places[-1] if len(node.shape) > 2 and places else None


def _reduces(reader: Node, dim: int | None) -> bool:
    """Whether it is a statistic over that dimension alone, with a form for the map itself."""
    named = reader.call.argument("dim") if reader.call is not None else None
    if dim is None or named is None or not _has_a_form_for_maps(reader):
        return False
    listed = named if isinstance(named, (list, tuple)) else [named]
    rank = len(reader.shape) + (0 if _keeps(reader) else len(listed))
    return [int(one) % rank for one in listed if isinstance(one, int)] == [dim]


def _has_a_form_for_maps(reader: Node) -> bool:
    record = of(reader)
    over_dimensions = reader.family in (Family.STATISTIC, Family.SOFTMAX)
    return bool(record.gathered or (over_dimensions and record.by_means))


def _keeps(reader: Node) -> bool:
    """Whether its output has as many dimensions as its input."""
    keeps = reader.call is not None and bool(reader.call.argument("keepdim", False))
    return reader.family is Family.SOFTMAX or keeps


def _over_the_map(reader: Node, source: Node) -> str:
    """A statistic that is taken over flattened positions, over the dimensions of the map."""
    dims = str(tuple(dim for dim in source.dims if dim is not None))
    record = of(reader)
    return f"x.{record.gathered}({dims})" if record.gathered else record.by_means.format(d=dims)


def _behind(graph: Graph, node: Node) -> Iterator[Node]:
    """What reads a node, and what reads that, nearest first."""
    consumers = graph.consumers()
    seen, waiting = {node.name}, deque(consumers[node.name])
    while waiting and len(seen) < _FARTHEST:
        one = waiting.popleft()
        if one.name not in seen:
            seen.add(one.name)
            yield one
            waiting.extend(consumers[one.name])
