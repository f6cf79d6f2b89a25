"""What does not fit, in words: shape mistakes, and nodes that do not stream.

In this file:

- shape mistakes: the call that fails, the shapes of its inputs, and the correct number;
- why a node does not stream, in words; and the cure for a node in training mode.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator

from eyeshot.findings.finding import (
    Finding,
    Severity,
    all_before,
    ancestors,
    branches,
    called,
    last_map,
    origins,
    sizes_that_work,
    spatial_mismatch,
)
from eyeshot.geometry.sizes import Clash, extents
from eyeshot.graph import Family, Graph, Kind, Node
from eyeshot.language import AXES, by, counted, joined, mark, tr
from eyeshot.operators.repaired import Mismatch, Problem, missing_stride

Words = tuple[str, str, str]
"""Title, cause, cure."""

_LARGEST_SIDE = 512


def of_mismatch(graph: Graph, mismatch: Mismatch) -> Finding:
    """A mismatch in words."""
    node = graph.nodes[mismatch.node]
    title, cause, cure = _WORDS[mismatch.problem](graph, node, mismatch)
    if mismatch.line:
        cause = f"{cause} ({mismatch.line})"
    behind = node.after_mismatch
    if behind:
        cause += tr("; this shape assumes that {layer} is corrected", layer=behind)
    layer = mismatch.layer if mismatch.problem is Problem.STOPPED else node.name
    return Finding(Severity.ERROR, layer, title, cause, cure)


def _channels(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    built, actual = built_for(node, mismatch), mismatch.inputs[0][1]
    parts = branches(graph, node)
    cause = _wrong_channels(node, built, actual, parts)
    cure = _setting(node, "in_channels", actual)
    title = mark("channels do not match")
    if 1 in parts[0].dims:  # a spatial axis is where channels should be
        turned = [one for one in ancestors(graph, parts[0]) if one.params.order]
        names = joined(map(called, turned)) if turned else called(parts[0])
        text = mark("leave {layers} out of forward: an input has the layout (C, H, W)")
        return title, cause, tr(text, layers=names)
    network_input = next((one for one in parts if one.is_input), None)
    if network_input is not None:
        channels_needed = built - sum(one.shape[1] for one in parts if one is not network_input)
        name = tr("an input") if len(graph.inputs) == 1 else called(network_input)
        if channels_needed > 0:
            channels = counted(channels_needed, "channel")
            cure = tr("{name} of {channels}, or {cure}", name=name, channels=channels, cure=cure)
    elif len(parts) == 1 and parts[0].params.out_channels == actual:
        cure = _either(cure, _setting(parts[0], "out_channels", built))
    return title, cause, cure


def _wrong_channels(node: Node, built: int, found: int, parts: list[Node]) -> str:
    return tr(
        "{layer} was built for {channels} and gets {found}: {brought}",
        layer=called(node),
        channels=counted(built, "channel"),
        found=found,
        brought=_brought(parts),
    )


def _setting(node: Node, name: str, value: object) -> str:
    """``conv1: in_channels=8``."""
    return tr("{layer}: {setting}", layer=called(node), setting=f"{name}={value}")


def _either(one: str, other: str) -> str:
    return tr("{one}, or {other}", one=one, other=other)


def _brought(parts: list[Node]) -> str:
    counts = [tr("{layer} brings {n}", layer=called(one), n=one.shape[1]) for one in parts]
    if len(parts) == 1:
        return counts[0]
    return tr("{branches}, concatenated", branches=joined(counts))


def built_for(node: Node, mismatch: Mismatch) -> int:
    """The number of input channels of a convolution's weight."""
    weight = mismatch.weight or (0, 0)
    if node.family is Family.TRANSPOSED_CONVOLUTION:
        return weight[0]
    return weight[1] * int(mismatch.options.get("groups", 1))


def _groups(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    channels, groups = mismatch.inputs[0][1], int(mismatch.options["groups"])
    source = _brought(branches(graph, node))
    fitting = [g for g in range(1, channels + 1) if channels % g == 0]
    word = "num_groups" if node.family is Family.GROUP_NORM else "groups"
    cause = tr(
        "{channels} cannot be divided into {groups} groups: {brought}",
        channels=counted(channels, "channel"),
        groups=groups,
        brought=source,
    )
    built = built_for(node, mismatch) if word == "groups" else (mismatch.weight or (channels,))[0]
    if built != channels:
        cause += tr(", where {layer} was built for {n}", layer=called(node), n=built)
    near = sorted(fitting, key=lambda g: abs(g - groups))[:3]
    cure = _setting(node, word, joined([str(g) for g in sorted(near)], "or"))
    if built != channels:
        cure = tr(
            "bring {n} channels, or {cure} with {channels}",
            n=built,
            cure=cure,
            channels=counted(channels, "channel"),
        )
    return mark("groups do not divide the channels"), cause, cure


def _features(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    built, shape = (mismatch.weight or (0, 0))[1], mismatch.inputs[0]
    before = last_map(graph, node)
    if len(shape) > 3 or (len(shape) == 3 and node.shape[:-1] != shape[:-1]):
        actual = math.prod(shape[1:])
        cause = tr(
            "{layer} takes the last dimension, and {source} gives a map of {size} that is not "
            "flattened",
            layer=called(node),
            source=called(origins(graph, node)[0]),
            size=by(shape[1:]),
        )
        cure = tr("flatten(1) before it; {cure}", cure=_setting(node, "in_features", actual))
        return mark("a map instead of features"), cause, cure
    actual = shape[-1]
    cause = tr(
        "{layer} was built for {features} and gets {n:,}",
        layer=called(node),
        features=counted(built, "feature"),
        n=actual,
    )
    if before is not None and math.prod(before.shape[1:]) == actual:
        gives = {"layer": called(before), "size": by(before.shape[1:])}
        cause += tr(": {layer} gives {size} at this input size", **gives)
    else:
        cause += tr(" from {layer}", layer=called(origins(graph, node)[0]))
    cure = _setting(node, "in_features", actual)
    size = _size_for(graph, before, built) if before is not None else None
    if size:
        cure = _either(cure, tr("an input of {size}", size=by(size)))
    return mark("features do not match"), cause, cure


def _size_for(graph: Graph, last: Node, built: int) -> tuple[int, ...] | None:
    """A square input at which the last map has as many numbers as a layer was built for."""
    channels = last.channels
    side = round((built / channels) ** (1 / len(last.dims)))
    if channels * side ** len(last.dims) != built:
        return None
    names = list(graph.nodes)
    upto = {name: graph.nodes[name] for name in names[: names.index(last.name) + 1]}
    part = dataclasses.replace(graph, nodes=upto, outputs=(last.name,))
    sides: list[int] = []
    for axis in range(len(last.dims)):
        for n in range(1, _LARGEST_SIDE):
            sizes = extents(part, axis, n)
            if not isinstance(sizes, Clash) and sizes.get(last.name) == side:
                sides.append(n)
                break
    return tuple(sides) if len(sides) == len(last.dims) else None


def _view(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    shape, requested = mismatch.inputs[0], tuple(mismatch.options["shape"])
    numbers = math.prod(shape[1:])
    title, call = mark("a view that does not fit"), f"{mismatch.operator}{requested}"
    cause = tr(
        "{layer} gives {size} = {n:,} numbers per picture, and {call} needs {numbers}",
        layer=called(origins(graph, node)[0]),
        size=by(shape[1:]),
        n=numbers,
        call=call,
        numbers=counted(abs(math.prod(requested)), "number"),
    )
    if len(requested) != 2:
        return title, cause, tr("use sizes whose product is {n}", n=numbers)
    cure = tr("flatten(1) in place of {call}", call=call)
    linear = _linear_behind(graph, node)
    if linear is not None:
        cure += tr("; {cure}", cure=_setting(linear, "in_features", numbers))
    before = last_map(graph, node)
    size = _size_for(graph, before, abs(math.prod(requested))) if before is not None else None
    if size:
        cure += tr("; or an input of {size}", size=by(size))
    return title, cause, cure


def _linear_behind(graph: Graph, node: Node) -> Node | None:
    consumers = graph.consumers()
    while len(consumers[node.name]) == 1:
        node = consumers[node.name][0]
        if node.family is Family.LINEAR:
            return node
    return None


def _norm(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    shape, built = mismatch.inputs[0], mismatch.weight or ()
    word = _NORM_WORDS[node.family]
    if node.family is Family.LAYER_NORM:
        got = shape[-len(built) :]
        cause = tr(
            "{layer} was built for {size} and gets {found} from {source}",
            layer=called(node),
            size=by(built),
            found=by(got),
            source=called(origins(graph, node)[0]),
        )
        return mark("a shape that does not match"), cause, _setting(node, word, list(got))
    cause = _wrong_channels(node, built[0], shape[1], branches(graph, node))
    return mark("channels do not match"), cause, _setting(node, word, shape[1])


_NORM_WORDS = {
    Family.BATCH_NORM: "num_features",
    Family.GROUP_NORM: "num_channels",
    Family.LAYER_NORM: "normalized_shape",
    Family.PRELU: "num_parameters",
}


def _branches(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    met = origins(graph, node)
    if len(met) < len(mismatch.inputs):
        return _fixed(graph, node, mismatch, met)
    one, other = met[:2]
    along = mismatch.options.get("dim")
    if along != 1 and one.shape[1] != other.shape[1] and 1 not in (one.shape[1], other.shape[1]):
        few, many = sorted((one, other), key=lambda node: node.shape[1])
        cause = tr(
            "{one} has {channels} and {other} has {n}, and {layer} needs equal numbers",
            one=called(one),
            channels=counted(one.shape[1], "channel"),
            other=called(other),
            n=other.shape[1],
            layer=called(node),
        )
        return mark("channels do not match"), cause, _more_channels(graph, few, many)
    return spatial_mismatch(graph, node)


def _fixed(graph: Graph, node: Node, mismatch: Mismatch, met: list[Node]) -> Words:
    """A tensor of the network's own, such as an embedding of positions, meets another size."""
    shapes = list(mismatch.inputs)
    for one in met:
        if tuple(one.shape) in shapes:
            shapes.remove(tuple(one.shape))
    names = [own for one in node.weights for own in graph.made_of.get(one, (one,))]
    own = " + ".join(dict.fromkeys(names)) or tr("a tensor that forward makes")
    brought = [tr("{layer} is {size}", layer=called(one), size=by(one.shape[1:])) for one in met]
    brought += [tr("{layer} is {size}", layer=own, size=by(shape[1:])) for shape in shapes]
    cause = tr("{sides}, and {layer} needs equal sizes", sides=joined(brought), layer=called(node))
    sides = [shape[2:] for shape in (*(one.shape for one in met), *shapes)]
    if len(set(sides)) == 1:
        cure = tr("make {tensor} of as many channels as it meets", tensor=own)
        return mark("channels do not match"), cause, cure
    text = mark("resize {tensor} to the map that it meets, or use the input size it was made for")
    cure = tr(text, tensor=own)
    return mark("sizes do not match"), cause, cure


def _more_channels(graph: Graph, few: Node, many: Node) -> str:
    """The cure that gives one branch of an addition the channels and the stride of the other."""
    steps = {missing_stride(a, b) for a, b in zip(few.extents, many.extents, strict=True)}
    stride = max(steps) if len(steps) == 1 else 1
    counts = {"few": few.shape[1], "many": many.shape[1], "layer": called(few)}
    if stride > 1:
        text = mark(
            "a 1×1 convolution from {few} to {many} channels with stride {stride} after {layer}"
        )
        cure = tr(text, stride=stride, **counts)
    else:
        cure = tr("a 1×1 convolution from {few} to {many} channels after {layer}", **counts)
    own = few.name not in all_before(graph, many)
    if own and few.params.out_channels == few.shape[1]:
        also = f", stride={stride}" if stride > 1 else ""
        cure = _either(_setting(few, "out_channels", f"{many.shape[1]}{also}"), cure)
    return cure


def _shuffle(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    channels, r = mismatch.inputs[0][1], int(mismatch.options["factor"])
    good = max(r * r, round(channels / r**2) * r * r)
    source = called(branches(graph, node)[0])
    cause = tr(
        "{layer} brings {channels}, which is not a multiple of {r}² = {square}",
        layer=source,
        channels=counted(channels, "channel"),
        r=r,
        square=r * r,
    )
    cure = tr("make {layer} give {n} channels", layer=source, n=good)
    return mark("channels cannot be shuffled"), cause, cure


def _too_small(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    kernel, shape = mismatch.options["kernel"], mismatch.inputs[0]
    source = called(origins(graph, node)[0])
    cause = tr(
        "a window of {kernel} does not fit into the {size} map of {layer}",
        kernel=by(kernel),
        size=by(shape[2:]),
        layer=source,
    )
    larger = sizes_that_work(graph)
    cure = tr("an input of at least {size}", size=larger) if larger else tr("a larger input")
    text = mark("{cure}, or fewer strides before it")
    return mark("the map is too small"), cause, tr(text, cure=cure)


def _one_value(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    cause = tr(
        "in training mode one picture of {size} gives one value per channel, which has no variance",
        size=by(mismatch.inputs[0][1:]),
    )
    cure = tr("call net.eval(), or train on batches of two or more")
    return mark("one value per channel"), cause, cure


def _stopped(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    ends = joined(
        [f"{name} {by(graph.nodes[name].shape)}" for name in graph.outputs] or [tr("nothing")]
    )
    text = mark("{error}; the graph up to there ends with {ends}")
    title, cause = mark("forward fails"), tr(text, error=mismatch.error, ends=ends)
    accepted = mismatch.options.get("takes")
    if "wrap" in mismatch.options:
        return title, cause, str(mismatch.options["wrap"])
    if accepted:
        return title, cause, tr("an input of {size}", size=joined(map(by, accepted), "or"))
    return title, cause, tr("the graph ends here: correct that line and inspect again")


_WORDS: dict[Problem, Callable[[Graph, Node, Mismatch], Words]] = {
    Problem.CHANNELS: _channels,
    Problem.GROUPS: _groups,
    Problem.FEATURES: _features,
    Problem.NORM: _norm,
    Problem.BRANCHES: _branches,
    Problem.VIEW: _view,
    Problem.SHUFFLE: _shuffle,
    Problem.TOO_SMALL: _too_small,
    Problem.ONE_VALUE: _one_value,
    Problem.STOPPED: _stopped,
}


_MEET = (Family.PRODUCT, Family.ATTENTION)
_OF_MANY = (
    *(Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST, Family.STATISTIC),
    *(Family.VARIANCE, Family.DEVIATION, Family.MAGNITUDE, Family.LOG_SUM, Family.SOFTMAX),
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
    return (pools or named) and not list(_unreduced_axes(graph, node))


def _of_statistic(graph: Graph, node: Node) -> str:
    unreduced = list(_unreduced_axes(graph, node))
    if not unreduced:
        return node.reason
    over = [name for name in AXES[graph.spatial_axes] if name not in unreduced]
    return tr(
        "{operator} over the {axes} only, with a result for each of the {others}",
        operator=node.operator,
        axes=joined(map(tr, over)),
        others=joined(map(tr, unreduced)),
    )


def _unreduced_axes(graph: Graph, node: Node) -> Iterator[str]:
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
    visited, waiting = {node.name}, deque(consumers[node.name])
    while waiting and len(visited) < _FARTHEST:
        one = waiting.popleft()
        if one.name not in visited:
            visited.add(one.name)
            yield one
            waiting.extend(consumers[one.name])
