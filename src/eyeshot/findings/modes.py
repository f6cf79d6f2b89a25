"""Training mode and normalization: layers that depend on the batch, and useless parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import called, counted
from eyeshot.graph import Family, Graph, Node
from eyeshot.language import mark, tr

if TYPE_CHECKING:
    import torch

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
    left = set(graph.training)
    return [
        node.name
        for node in graph
        if node.params.training
        or (node.layer in left and node.family in (Family.BATCH_NORM, Family.DROPOUT))
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
    found: dict[str, int] = {}
    for node in graph:
        bias = _bias(graph, node)
        behind = consumers[node.name]
        if bias and [one.family for one in behind] == [Family.BATCH_NORM]:
            found[node.name] = bias
    if found:
        first, *others = found
        cause = tr(
            "the batch norm behind it cancels its {biases}",
            biases=counted(found[first], "bias value"),
        )
        if others:
            more, total = counted(len(others), "more layer"), sum(found.values())
            cause += tr(", also for {layers}: {total:,} in all", layers=more, total=total)
        title = mark("bias before batch norm")
        yield Finding(Severity.NOTE, first, title, cause, "bias=False", tuple(found))


def _bias(graph: Graph, node: Node) -> int:
    """The number of trained bias values that a convolution or linear layer adds."""
    if not node.params.bias or not (node.is_convolution or node.family is Family.LINEAR):
        return 0
    name = next((name for name in node.weights if name.endswith("bias")), "")
    return graph.tensors[name].numel() if name in graph.parameters else 0
