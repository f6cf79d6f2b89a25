"""Where maps that are zero everywhere begin, and whether they are zero for every picture.

A channel of zeros after a ReLU is a channel of zeros after the pooling behind it, too: it is named
once. A channel that is zero in one picture may be alive in another, unless weights fix its value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from eyeshot.graph import Family, Graph, Node

_BY_CHANNEL = frozenset(
    {
        Family.RELU,
        Family.DROPOUT,
        Family.ALIAS,
        Family.BATCH_NORM,
        Family.MAX_POOL,
        Family.AVERAGE_POOL,
        Family.ADAPTIVE_MAX_POOL,
        Family.ADAPTIVE_AVERAGE_POOL,
        Family.RESIZE,
        Family.PAD,
        Family.CROP,
        Family.POINTWISE,
        Family.CONCATENATE,
    }
)
"""Each output channel is made of one channel of each source, or of one source."""


def beginnings(
    graph: Graph, dead: Mapping[str, Sequence[int]], muted: Collection[tuple[str, int]] = ()
) -> Iterator[tuple[str, bool, list[int]]]:
    """Dead channels, each at the first layer of a chain of layers in which it is dead.

    Args:
        graph: the network.
        dead: by layer, the channels that are zero everywhere in one picture.
        muted: (layer, channel) that a person muted; what is zero because of them is left out.

    Yields:
        The layer, whether its channels are zero for every picture, and the channels. Proven are
        those that a kernel of zeros, or a batch norm's scale of zero, leaves a constant.
    """
    silenced = {(graph[layer].name, channel) for layer, channel in muted}
    listed = {(name, channel) for name, channels in dead.items() for channel in channels}
    for node in graph:
        kinds: dict[bool, list[int]] = {}
        for channel in dead.get(node.name, ()):
            before = _all_before(graph, node, channel)
            if (node.name, channel) in silenced or before & (listed | silenced):
                continue
            kinds.setdefault(_is_constant(graph, node, channel), []).append(channel)
        for always in sorted(kinds):
            yield node.name, always, kinds[always]


def _all_before(graph: Graph, node: Node, channel: int) -> set[tuple[str, int]]:
    """The same back to the layers in which channels mix."""
    found: set[tuple[str, int]] = set()
    waiting = _before(graph, node, channel)
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += _before(graph, graph.nodes[place[0]], place[1])
    return found


def _before(graph: Graph, node: Node, channel: int) -> list[tuple[str, int]]:
    """The channels of the layers before that alone make this one; none where channels mix."""
    sources = [graph.nodes[edge.source] for edge in node.edges]
    if node.family not in _BY_CHANNEL or any(len(one.shape) != 4 for one in sources):
        return []
    if node.family is Family.CONCATENATE and sum(one.shape[1] for one in sources) == node.shape[1]:
        for one in sources:
            if channel < one.shape[1]:
                return [(one.name, channel)]
            channel -= one.shape[1]
    if any(one.shape[1] != node.shape[1] for one in sources):
        return []
    return [(one.name, channel) for one in sources]


def _is_constant(graph: Graph, node: Node, channel: int) -> bool:
    """Whether weights of zero leave a channel the same for every picture."""
    waiting, known = [(node.name, channel)], set[tuple[str, int]]()
    while waiting:
        place = waiting.pop()
        if place in known or _leaves_constant(graph, graph.nodes[place[0]], place[1]):
            continue
        known.add(place)
        before = _before(graph, graph.nodes[place[0]], place[1])
        if not before:
            return False
        waiting += before
    return True


def _leaves_constant(graph: Graph, node: Node, channel: int) -> bool:
    weights = [graph.tensors[name] for name in node.weights if name.endswith("weight")]
    if not weights:
        return False
    if node.family is Family.TRANSPOSED_CONVOLUTION:
        return bool(node.params.groups == 1 and not weights[0][:, channel].any())
    if node.family in (Family.CONVOLUTION, Family.BATCH_NORM):
        return not weights[0][channel].any()
    return False
