"""Shape mistakes: the call that fails, the shapes of its inputs, and the correct number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.rounding import spatial_mismatch
from eyeshot.findings.wording import (
    all_before,
    ancestors,
    branches,
    by,
    called,
    counted,
    joined,
    last_map,
    origins,
    sizes_that_work,
)
from eyeshot.geometry.sizes import Clash, extents
from eyeshot.graph import Family, Graph, Node
from eyeshot.operators.mismatches import Mismatch, Problem, missing_stride

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
        cause = f"{cause}; this shape assumes that {behind} is corrected"
    layer = mismatch.layer if mismatch.problem is Problem.STOPPED else node.name
    return Finding(Severity.ERROR, layer, title, cause, cure)


def _channels(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    built, found = built_for(node, mismatch), mismatch.inputs[0][1]
    cause = f"{called(node)} was built for {counted(built, 'channel')} and gets {found}: "
    parts = branches(graph, node)
    cause += _brought(parts)
    cure = f"{called(node)}: in_channels={found}"
    if 1 in parts[0].dims:  # a spatial axis is where channels should be
        turned = [one for one in ancestors(graph, parts[0]) if one.params.order]
        names = joined(map(called, turned)) if turned else called(parts[0])
        return (
            "channels do not match",
            cause,
            f"leave {names} out of forward: an input has the layout (C, H, W)",
        )
    given = next((one for one in parts if one.is_input), None)
    if given is not None:
        wanted = built - sum(one.shape[1] for one in parts if one is not given)
        name = "an input" if len(graph.inputs) == 1 else called(given)
        if wanted > 0:
            cure = f"{name} of {counted(wanted, 'channel')}, or {cure}"
    elif len(parts) == 1 and parts[0].params.out_channels == found:
        cure += f", or {called(parts[0])}: out_channels={built}"
    return "channels do not match", cause, cure


def _brought(parts: list[Node]) -> str:
    counts = [f"{called(one)} brings {one.shape[1]}" for one in parts]
    if len(parts) == 1:
        return counts[0]
    return f"{joined(counts)}, concatenated"


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
    cause = f"{counted(channels, 'channel')} cannot be divided into {groups} groups: {source}"
    built = built_for(node, mismatch) if word == "groups" else (mismatch.weight or (channels,))[0]
    if built != channels:
        cause += f", where {called(node)} was built for {built}"
    near = sorted(fitting, key=lambda g: abs(g - groups))[:3]
    cure = f"{called(node)}: {word}={joined([str(g) for g in sorted(near)], 'or')}"
    if built != channels:
        cure = f"bring {built} channels, or {cure} with {counted(channels, 'channel')}"
    return "groups do not divide the channels", cause, cure


def _features(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    built, shape = (mismatch.weight or (0, 0))[1], mismatch.inputs[0]
    before = last_map(graph, node)
    if len(shape) > 3 or (len(shape) == 3 and node.shape[:-1] != shape[:-1]):
        found = math.prod(shape[1:])
        cause = (
            f"{called(node)} takes the last dimension, and {called(origins(graph, node)[0])} gives "
        )
        cause += f"a map of {by(shape[1:])} that is not flattened"
        cure = f"flatten(1) before it; {called(node)}: in_features={found}"
        return "a map instead of features", cause, cure
    found = shape[-1]
    cause = f"{called(node)} was built for {counted(built, 'feature')} and gets {found:,}"
    if before is not None and math.prod(before.shape[1:]) == found:
        cause += f": {called(before)} gives {by(before.shape[1:])} at this input size"
    else:
        cause += f" from {called(origins(graph, node)[0])}"
    cure = f"{called(node)}: in_features={found}"
    size = _size_for(graph, before, built) if before is not None else None
    if size:
        cure += f", or an input of {by(size)}"
    return "features do not match", cause, cure


def _size_for(graph: Graph, last: Node, built: int) -> tuple[int, ...] | None:
    """A square input at which the last map has as many numbers as a layer was built for."""
    channels = last.channels
    side = round((built / channels) ** (1 / len(last.dims)))
    if channels * side ** len(last.dims) != built:
        return None
    names = list(graph.nodes)
    upto = {name: graph.nodes[name] for name in names[: names.index(last.name) + 1]}
    part = dataclasses.replace(graph, nodes=upto, outputs=(last.name,))
    found: list[int] = []
    for axis in range(len(last.dims)):
        for n in range(1, _LARGEST_SIDE):
            sizes = extents(part, axis, n)
            if not isinstance(sizes, Clash) and sizes.get(last.name) == side:
                found.append(n)
                break
    return tuple(found) if len(found) == len(last.dims) else None


def _view(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    shape, asked = mismatch.inputs[0], tuple(mismatch.options["shape"])
    numbers = math.prod(shape[1:])
    source = called(origins(graph, node)[0])
    cause = f"{source} gives {by(shape[1:])} = {numbers:,} numbers per picture, "
    cause += f"and {mismatch.operator}{asked} needs {counted(abs(math.prod(asked)), 'number')}"
    if len(asked) != 2:
        cure = f"use sizes whose product is {numbers}"
        return "a view that does not fit", cause, cure
    cure = f"flatten(1) in place of {mismatch.operator}{asked}"
    linear = _linear_behind(graph, node)
    if linear is not None:
        cure += f"; {called(linear)}: in_features={numbers}"
    before = last_map(graph, node)
    size = _size_for(graph, before, abs(math.prod(asked))) if before is not None else None
    if size:
        cure += f"; or an input of {by(size)}"
    return "a view that does not fit", cause, cure


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
    source = called(origins(graph, node)[0])
    if node.family is Family.LAYER_NORM:
        got = shape[-len(built) :]
        cause = f"{called(node)} was built for {by(built)} and gets {by(got)} from {source}"
        return "a shape that does not match", cause, f"{called(node)}: {word}={list(got)}"
    channels = shape[1]
    cause = f"{called(node)} was built for {counted(built[0], 'channel')} and gets {channels}: "
    cause += _brought(branches(graph, node))
    return "channels do not match", cause, f"{called(node)}: {word}={channels}"


_NORM_WORDS = {
    Family.BATCH_NORM: "num_features",
    Family.GROUP_NORM: "num_channels",
    Family.LAYER_NORM: "normalized_shape",
    Family.PRELU: "num_parameters",
}


def _branches(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    one, other = origins(graph, node)[:2]
    along = mismatch.options.get("dim")
    if along != 1 and one.shape[1] != other.shape[1] and 1 not in (one.shape[1], other.shape[1]):
        few, many = sorted((one, other), key=lambda node: node.shape[1])
        cause = f"{called(one)} has {counted(one.shape[1], 'channel')} and {called(other)} has "
        cause += f"{other.shape[1]}, and {called(node)} needs equal numbers"
        cure = _more_channels(graph, few, many)
        return "channels do not match", cause, cure
    return spatial_mismatch(graph, node)


def _more_channels(graph: Graph, few: Node, many: Node) -> str:
    """The cure that gives one branch of an addition the channels and the stride of the other."""
    steps = {missing_stride(a, b) for a, b in zip(few.extents, many.extents, strict=True)}
    stride = max(steps) if len(steps) == 1 else 1
    also = f" with stride {stride}" if stride > 1 else ""
    cure = f"a 1×1 convolution from {few.shape[1]} to {many.shape[1]} channels{also} after "
    cure += called(few)
    own = few.name not in all_before(graph, many)
    if own and few.params.out_channels == few.shape[1]:
        also = f", stride={stride}" if stride > 1 else ""
        cure = f"{called(few)}: out_channels={many.shape[1]}{also}, or {cure}"
    return cure


def _shuffle(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    channels, r = mismatch.inputs[0][1], int(mismatch.options["factor"])
    good = max(r * r, round(channels / r**2) * r * r)
    source = called(branches(graph, node)[0])
    cause = (
        f"{source} brings {counted(channels, 'channel')}, which is not a multiple of {r}² = {r * r}"
    )
    return (
        "channels cannot be shuffled",
        cause,
        f"make {source} give {good} channels",
    )


def _too_small(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    kernel, shape = mismatch.options["kernel"], mismatch.inputs[0]
    source = called(origins(graph, node)[0])
    cause = f"a window of {by(kernel)} does not fit into the {by(shape[2:])} map of {source}"
    larger = sizes_that_work(graph)
    cure = f"an input of at least {larger}" if larger else "a larger input"
    return "the map is too small", cause, f"{cure}, or fewer strides before it"


def _one_value(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    cause = f"in training mode one picture of {by(mismatch.inputs[0][1:])} gives one value per "
    cause += "channel, which has no variance"
    return "one value per channel", cause, "call net.eval(), or train on batches of two or more"


def _stopped(graph: Graph, node: Node, mismatch: Mismatch) -> Words:
    ends = joined(
        [f"{name} {by(graph.nodes[name].shape)}" for name in graph.outputs] or ["nothing"]
    )
    cause = f"{mismatch.error}; the graph up to there ends with {ends}"
    taken = mismatch.options.get("takes")
    if taken:
        return "forward fails", cause, f"an input of {joined(map(by, taken), 'or')}"
    return "forward fails", cause, "the graph ends here: correct that line and inspect again"


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
