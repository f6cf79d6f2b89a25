"""Findings about weights and modes: useless or too many weights, and norms that follow the batch.

The findings are exact for the present weights. Fresh random weights never give such a finding. A
layer of only zeros is not reported, because it may have been initialized so.

In this file:

- trained weights that do nothing, or the same as others;
- the layer with most of the parameters, and a way to save them;
- training mode and normalization: layers that depend on the batch, and useless parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from eyeshot.findings.finding import Finding, Severity, called, last_map
from eyeshot.graph import Family, Graph, Node
from eyeshot.language import by, counted, mark, ntr, tr

if TYPE_CHECKING:
    import torch

_NOUGHT = 1e-6  # beside the layer's largest weight
_SAME = 1e-2  # the length of two kernels' difference, beside that of either
_FEWEST_WEIGHTS = 8  # of fewer, two random kernels may agree by chance
_SKETCH = 16  # numbers by which kernels are compared before they are compared in full
_ALIKE = 0.999  # cosine of the sketches of two kernels worth comparing; of the same, past 0.9995
_BLOCK = 1024  # filters compared at once
_NUMBERS = 1 << 22  # compared at once
_SHOWN = 6


def dead_channels(graph: Graph) -> Iterator[Finding]:
    """Filters of only zeros, and channels that a batch norm scales to zero."""
    consumers = graph.consumers()
    for node in graph:
        if node.family is Family.BATCH_NORM:
            yield from _scaled_away(graph, node, consumers[node.name])
        elif _is_weighted(node):
            yield from _empty_filters(graph, node)


def _empty_filters(graph: Graph, node: Node) -> Iterator[Finding]:
    filters = _filters(graph, node)
    if filters is None:
        return
    largest = torch.maximum(filters.amax(1), -filters.amin(1))
    dead = _places(largest <= _NOUGHT * largest.max())
    if len(dead) in (0, len(largest)):
        return
    cause = tr(
        "all weights of {filters} are zero: each gives only its bias, for every picture",
        filters=_listed(dead, len(largest)),
    )
    cure = tr(
        "remove them here and in the layers that read them, or train again with a lower "
        "learning rate"
    )
    yield Finding(Severity.WARNING, node.name, mark("dead channels"), cause, cure)


def _scaled_away(graph: Graph, node: Node, behind: list[Node]) -> Iterator[Finding]:
    scale, shift = _scale_and_shift(graph, node)
    if scale is None:
        return
    dead = _places(scale.abs() <= _NOUGHT * scale.abs().max())
    if len(dead) in (0, len(scale)):
        return
    cause = tr(
        "the scale of {filters} is zero: each is constant for every picture",
        filters=_listed(dead, len(scale)),
    )
    if shift is not None and behind and all(one.family is Family.RELU for one in behind):
        silent = sum(float(shift[place]) <= 0 for place in dead)
        cause += tr(", and {n} of them 0 after ReLU", n=silent) if silent else ""
    cure = tr("remove them here and in the layers that read them")
    yield Finding(Severity.WARNING, node.name, mark("dead channels"), cause, cure)


def _scale_and_shift(graph: Graph, node: Node) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    def trained(ending: str) -> torch.Tensor | None:
        names = [name for name in node.weights if name.endswith(ending)]
        # A tensor on the meta device has a shape and no values.
        known = names and names[0] in graph.parameters and not graph.tensors[names[0]].is_meta
        return graph.tensors[names[0]].detach() if known else None

    return trained("weight"), trained("bias")


def duplicate_kernels(graph: Graph) -> Iterator[Finding]:
    """Filters that are equal to another of the same layer, or its negative."""
    for node in graph:
        filters = _filters(graph, node)
        if filters is None or filters.shape[1] < _FEWEST_WEIGHTS:
            continue
        groups = int(node.params.groups)
        share = len(filters) // groups
        pairs = [
            (group * share + i, group * share + j)
            for group in range(groups)
            for i, j in _same(filters[group * share : (group + 1) * share])
        ]
        if pairs:
            listed = tr(", ").join(tr("{i} and {j}", i=i, j=j) for i, j in pairs[:_SHOWN])
            if len(pairs) > _SHOWN:
                listed += tr(" and {n} more", n=len(pairs) - _SHOWN)
            cause = ntr(
                "{n:,} pair of {filters} filters differs by less than {limit:.0%}, ignoring the "
                "sign: {pairs}",
                "{n:,} pairs of {filters} filters differ by less than {limit:.0%}, ignoring the "
                "sign: {pairs}",
                len(pairs),
                filters=len(filters),
                limit=_SAME,
                pairs=listed,
            )
            cure = tr("fewer filters are enough; start from random weights, not from equal weights")
            yield Finding(Severity.WARNING, node.name, mark("duplicate kernels"), cause, cure)


def _same(filters: torch.Tensor) -> list[tuple[int, int]]:
    """Rows that equal an earlier row, ignoring the sign, each with the first such row.

    A sketch of each row (its products with a few random directions) finds the candidates, so that
    a wide layer is not compared in full, row by row.
    """
    noise = torch.Generator().manual_seed(0)
    directions = torch.randn(filters.shape[1], _SKETCH, generator=noise)
    sketch = filters @ directions.to(filters)
    units = sketch / torch.linalg.vector_norm(sketch, dim=1, keepdim=True)  # nan where all zero
    pairs: list[tuple[int, int]] = []
    paired = torch.zeros(len(filters), dtype=torch.bool)
    for start in range(0, len(filters), _BLOCK):
        cosines = units[start : start + _BLOCK] @ units.T
        near = (cosines.abs_() > _ALIKE).triu_(start + 1)
        for row in near.any(dim=1).nonzero().flatten().tolist():
            if not paired[start + row]:  # a row that equals this row also equals the first row
                alike = _equal(filters, start + row, (near[row] & ~paired).nonzero().flatten())
                paired[alike] = True
                pairs += [(start + row, int(other)) for other in alike]
    return pairs


def _equal(filters: torch.Tensor, row: int, others: torch.Tensor) -> torch.Tensor:
    """Those of the other rows that equal one row, or its negative."""
    one, size, equal_rows = filters[row], filters[row].norm(), [others[:0]]
    step = max(1, _NUMBERS // filters.shape[1])
    for part in (others[at : at + step] for at in range(0, len(others), step)):
        other = filters[part]
        apart = torch.minimum((one - other).norm(dim=1), (one + other).norm(dim=1))
        equal_rows.append(part[apart <= _SAME * other.norm(dim=1).clamp(min=float(size))])
    return torch.cat(equal_rows)


def _filters(graph: Graph, node: Node) -> torch.Tensor | None:
    """The trained weights of a layer, (filters, weights of each); None if there are none."""
    if node.mismatch or not _is_weighted(node):
        return None
    name = next((name for name in node.weights if name in graph.parameters), None)
    if name is None or graph.tensors[name].dim() < 2 or graph.tensors[name].is_meta:
        return None
    weight = graph.tensors[name]
    if node.family is Family.TRANSPOSED_CONVOLUTION:  # (in, out / groups, …): filters lie along out
        if node.params.groups != 1:
            return None
        weight = weight.transpose(0, 1)
    return weight.detach().flatten(1).float().cpu()


def _is_weighted(node: Node) -> bool:
    return node.is_convolution or node.family is Family.LINEAR


def _places(where: torch.Tensor) -> list[int]:
    return [int(place) for place in where.nonzero().flatten()]


def _listed(channels: Sequence[int], of: int) -> str:
    shown = ", ".join(str(one) for one in channels[:_SHOWN])
    more = " …" if len(channels) > _SHOWN else ""
    return ntr(
        "filter {listed} ({n} of {of})",
        "filters {listed} ({n} of {of})",
        len(channels),
        listed=f"{shown}{more}",
        of=of,
    )


_MOST = 0.5


def heaviest(graph: Graph) -> Iterator[Finding]:
    """A layer with more than half of the parameters of a network of several."""
    by_layer = _by_layer(graph)
    total = sum(by_layer.values())
    if len(by_layer) < 2:
        return
    layer, count = max(by_layer.items(), key=lambda item: item[1])
    node = next((n for n in graph if n.layer == layer and n.weights), None)
    if node is None or count <= _MOST * total:
        return
    cause = tr(
        "it holds {count:,} of {parameters} ({share:.1%})",
        count=count,
        parameters=counted(total, "parameter"),
        share=count / total,
    )
    cure = _cure(graph, node, count)
    if cure:
        title = mark("most of the parameters")
        yield Finding(Severity.NOTE, node.name, title, cause + cure[0], cure[1])


def _by_layer(graph: Graph) -> dict[str, int]:
    """Parameters of each layer, by its dotted path."""
    by_layer: dict[str, int] = {}
    for name in graph.parameters:
        layer = name.rpartition(".")[0]
        by_layer[layer] = by_layer.get(layer, 0) + graph.tensors[name].numel()
    return by_layer


def _cure(graph: Graph, node: Node, count: int) -> tuple[str, str] | None:
    if node.family is Family.LINEAR:
        return _pooling(graph, node, count)
    kernel = node.params.kernel
    if node.is_convolution and kernel and math.prod(kernel) > 1:
        return _separating(node, kernel, count)
    return None


def _pooling(graph: Graph, node: Node, count: int) -> tuple[str, str] | None:
    """For a linear layer on a flattened map: one number per channel instead of a map."""
    last = last_map(graph, node)
    if last is None or math.prod(last.shape[1:]) != node.params.in_features:
        return None
    outputs = node.params.out_features
    remaining = last.channels * outputs + outputs * bool(node.params.bias)
    cause = tr(
        ": a weight for each of {numbers} numbers and {outputs} outputs",
        numbers=by(last.shape[1:]),
        outputs=outputs,
    )
    cure = tr(
        "global pooling of {layer} before it leaves {left:,} here and saves {saved:,}",
        layer=called(last),
        left=remaining,
        saved=count - remaining,
    )
    return cause, cure


def _separating(node: Node, kernel: tuple[int, ...], count: int) -> tuple[str, str] | None:
    """For a dense convolution: one kernel per channel, then a 1×1 convolution."""
    into, out = node.params.in_channels, node.params.out_channels
    if node.params.groups != 1 or into == 1:
        return None
    remaining = into * math.prod(kernel) + into * out
    cause = tr(": {into} × {out} kernels of {kernel}", into=into, out=out, kernel=by(kernel))
    cure = tr(
        "fewer channels, or a {kernel} for each channel and a 1×1: {left:,} weights",
        kernel=by(kernel),
        left=remaining,
    )
    return cause, cure


_CHANGES = ("BatchNorm", "Dropout", "InstanceNorm", "RReLU")
"""Modules that compute something else in training mode: parts of their class names."""


def in_training(graph: Graph, net: torch.nn.Module | None) -> Iterator[Finding]:
    """Layers in training mode that compute something else than in eval mode."""
    names = _training(graph, net)
    if not names:
        return
    cause = tr(
        "{layers} in training mode: the output is random or depends on the other pictures of the "
        "batch",
        layers=counted(len(names), "layer"),
    )
    layers, title = tuple(names), mark("training mode")
    yield Finding(Severity.WARNING, layers[0], title, cause, tr("call net.eval()"), layers)


def _training(graph: Graph, net: torch.nn.Module | None) -> list[str]:
    if net is not None:
        return [
            name for name, module in net.named_modules() if module.training and _changes(module)
        ]
    in_training = set(graph.training)
    return [
        node.name
        for node in graph
        if node.params.training
        or (node.layer in in_training and node.family in (Family.BATCH_NORM, Family.DROPOUT))
    ]


def _changes(module: torch.nn.Module) -> bool:
    kind = type(module).__name__
    if "InstanceNorm" in kind:
        return bool(getattr(module, "track_running_stats", False))
    return any(part in kind for part in _CHANGES)


def single_values(graph: Graph) -> Iterator[Finding]:
    """Batch norm where each picture has one value per channel."""
    for node in graph:
        if node.family is Family.BATCH_NORM and math.prod(node.extents) == 1:
            cause = tr(
                "at this size each picture gives {layer} one value per channel: training on a "
                "batch of one picture fails, and on a few pictures it is unstable",
                layer=called(node),
            )
            cure = tr("train on large batches (drop_last=True), or use layer norm")
            yield Finding(Severity.NOTE, node.name, mark("one value per channel"), cause, cure)


def useless_biases(graph: Graph) -> Iterator[Finding]:
    """Biases that the batch norm after them cancels."""
    consumers = graph.consumers()
    biases: dict[str, int] = {}
    for node in graph:
        bias = _bias(graph, node)
        behind = consumers[node.name]
        if bias and [one.family for one in behind] == [Family.BATCH_NORM]:
            biases[node.name] = bias
    if biases:
        first, *others = biases
        cause = tr(
            "the batch norm behind it cancels its {biases}",
            biases=counted(biases[first], "bias value"),
        )
        if others:
            more, total = counted(len(others), "more layer"), sum(biases.values())
            cause += tr(", also for {layers}: {total:,} in all", layers=more, total=total)
        title = mark("bias before batch norm")
        yield Finding(Severity.NOTE, first, title, cause, "bias=False", tuple(biases))


def _bias(graph: Graph, node: Node) -> int:
    """The number of trained bias values that a convolution or linear layer adds."""
    if not node.params.bias or not (node.is_convolution or node.family is Family.LINEAR):
        return 0
    name = next((name for name in node.weights if name.endswith("bias")), "")
    return graph.tensors[name].numel() if name in graph.parameters else 0
