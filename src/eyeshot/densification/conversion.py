"""From the graph of a classifier to its dense form, one rule for each operator.

Operators with windows do not change: a convolution or a pool is the same on a page as on a crop. An
operator that reads the whole crop becomes a window of that size: a linear layer over C×h×w becomes
a convolution of h×w, a mean over all positions becomes a mean over h×w. Operators that only move
numbers, such as flatten, only change the recorded positions and compute nothing.

The conversion also reports where the dense form differs from its classifier: at a crop's border the
classifier reads padding, and the dense form reads the page's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eyeshot.densification import builder, heads
from eyeshot.densification.builder import Builder, refusal
from eyeshot.densification.form import DenseForm, Geometry, Value
from eyeshot.errors import Unsupported
from eyeshot.graph import Family, Graph, Kind, Node


def padding_notes(graph: Graph, geometry: Geometry) -> tuple[str, ...]:
    """One sentence where the classifier pads; none where it does not."""
    padded = [node.name for node in graph if _pads(graph, node)]
    if not padded:
        return ()
    pixel_ranges = ", ".join(
        f"[{side.lo}, {side.hi}) for a crop of [0, {n})"
        for side, n in zip(geometry.field, geometry.crop, strict=True)
    )
    verb = "pads" if len(padded) == 1 else "pad"
    return (
        f"{', '.join(padded)} {verb}: around its crop the classifier sees padding where the dense "
        f"form sees the page, so that their values differ; a position sees "
        f"the pixels {pixel_ranges}; without padding it would be exact",
    )


def _pads(graph: Graph, node: Node) -> bool:
    if node.kind is Kind.UNSUPPORTED:  # it converts by its values alone, and its edges map nothing
        return False
    for edge in node.edges:
        source = graph.nodes[edge.source]
        if any(axis.pads(n) for axis, n in zip(edge.axes, source.extents, strict=True)):
            return True
    return False


Rule = Callable[[Builder, Node, list[Value]], Value]

_TABLE: Mapping[Family, Rule] = {
    Family.CONVOLUTION: heads.sliding,
    Family.MAX_POOL: heads.sliding,
    Family.AVERAGE_POOL: heads.sliding,
    Family.ADAPTIVE_MAX_POOL: heads.whole_window,
    Family.ADAPTIVE_AVERAGE_POOL: heads.whole_window,
    Family.MEAN: heads.whole_window,
    Family.LARGEST: heads.whole_window,
    Family.PAD: heads.padding,
    Family.LINEAR: heads.linear,
    Family.BATCH_NORM: heads.batch_norm,
    Family.SOFTMAX: heads.softmax,
    Family.CONCATENATE: builder.joining,
    Family.RESHAPE: builder.reshaping,
    Family.PERMUTE: builder.reshaping,
    Family.SQUEEZE: builder.reshaping,
    Family.UNSQUEEZE: builder.reshaping,
    Family.ALIAS: builder.reshaping,
    Family.DROPOUT: builder.dropping,
    Family.POINTWISE: builder.pointwise,
    Family.RELU: builder.pointwise,
    Family.PRELU: builder.pointwise,
}
_TAKES_AFFINE = (heads.linear, builder.reshaping, builder.dropping)


def convert(graph: Graph, every_pixel: bool) -> DenseForm:
    """The dense form of a classifier.

    Args:
        graph: of the classifier in eval mode, at the size of one crop.
        every_pixel: undo the strides, so that there is a position for every pixel.

    Raises:
        Unsupported: an operator that has no dense form, by its layer's name.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise Unsupported(
            f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            cure="give a classifier: one picture in, one row of scores out",
        )
    builder = Builder(graph, every_pixel)
    values: dict[str, Value] = {}
    for node in graph:
        sources = [values[edge.source] for edge in node.edges]
        values[node.name] = _converted(builder, node, sources)
    result = values[graph.outputs[0]]
    if result.affine is not None or not result.is_point:
        raise Unsupported(
            f"the output is {tuple(result.places.shape)} for one crop, not a score for each class",
            cure="give a classifier: one that ends in a linear layer or a pool over everything",
        )
    crop = graph.nodes[graph.inputs[0]].extents
    geometry = Geometry(crop, result.stride, result.field)
    return DenseForm(
        builder.steps, graph.inputs[0], result.name, geometry, padding_notes(graph, geometry)
    )


def _converted(builder: Builder, node: Node, sources: list[Value]) -> Value:
    if not sources:
        return builder.begin(node)
    rule = _TABLE.get(node.family)
    if rule is None or (node.kind is not Kind.LOCAL and rule not in _READS_ALL):
        raise refusal(node, node.reason or "only windows, pointwise layers and a head have one")
    if rule not in _TAKES_AFFINE and any(value.affine is not None for value in sources):
        raise refusal(node, "a batch norm over a flattened map stands before it")
    return rule(builder, node, sources)


_READS_ALL = (
    heads.whole_window,
    builder.reshaping,
    heads.linear,
    heads.batch_norm,
    heads.softmax,
)
"""Rules for operators that mix positions in the classifier, or seem to: they judge themselves."""
