"""From the graph of a classifier to its dense form, one rule for each operator.

Operators with windows do not change: a convolution or a pool is the same on a page as on a crop. An
operator that reads the whole crop becomes a window of that size: a linear layer over C×h×w becomes
a convolution of h×w, a mean over all positions becomes a mean over h×w. Operators that only move
numbers, such as flatten, only change the recorded positions and compute nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eyeshot.densification import heads, places, windows
from eyeshot.densification.borders import padding_notes
from eyeshot.densification.builder import Builder, refusal
from eyeshot.densification.form import DenseForm, Geometry
from eyeshot.densification.values import Value
from eyeshot.errors import Unsupported
from eyeshot.graph import Family, Graph, Kind, Node

Rule = Callable[[Builder, Node, list[Value]], Value]

_TABLE: Mapping[Family, Rule] = {
    Family.CONVOLUTION: windows.sliding,
    Family.MAX_POOL: windows.sliding,
    Family.AVERAGE_POOL: windows.sliding,
    Family.ADAPTIVE_MAX_POOL: windows.whole_window,
    Family.ADAPTIVE_AVERAGE_POOL: windows.whole_window,
    Family.MEAN: windows.whole_window,
    Family.LARGEST: windows.whole_window,
    Family.PAD: windows.padding,
    Family.LINEAR: heads.linear,
    Family.BATCH_NORM: heads.batch_norm,
    Family.SOFTMAX: heads.softmax,
    Family.CONCATENATE: places.joining,
    Family.RESHAPE: places.reshaping,
    Family.PERMUTE: places.reshaping,
    Family.SQUEEZE: places.reshaping,
    Family.UNSQUEEZE: places.reshaping,
    Family.ALIAS: places.reshaping,
    Family.DROPOUT: places.dropping,
    Family.POINTWISE: places.pointwise,
    Family.RELU: places.pointwise,
    Family.PRELU: places.pointwise,
}
_TAKES_AFFINE = (heads.linear, places.reshaping, places.dropping)


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
    windows.whole_window,
    places.reshaping,
    heads.linear,
    heads.batch_norm,
    heads.softmax,
)
"""Rules for operators that mix positions in the classifier, or seem to: they judge themselves."""
