"""From the graph of a classifier to its dense form, one rule for each operator.

Whatever keeps to a window stays as it is: a convolution or a pool means the same on a page as on a
crop. What looks at the whole crop becomes a window of that size: a linear layer over C×h×w is a
convolution of h×w, a mean over all places is a mean over h×w. What moves numbers about, a flatten,
is followed on their places and computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from eyeshot.densification import heads, places, windows
from eyeshot.densification.borders import padding_notes
from eyeshot.densification.builder import Builder, refusal
from eyeshot.densification.form import DenseForm, Geometry
from eyeshot.densification.values import Value
from eyeshot.errors import Unsupported
from eyeshot.frontends.rules import RULES
from eyeshot.frontends.sites import pointwise
from eyeshot.graph import Graph, Kind, Node

Rule = Callable[[Builder, Node, list[Value]], Value]

_MOVES_NUMBERS = """
    view reshape flatten unflatten _unsafe_view permute transpose swapaxes swapdims movedim moveaxis
    squeeze unsqueeze contiguous alias
"""
_AXES = (1, 2, 3)
_TABLE: dict[str, Rule] = {
    **{f"{name}{n}d": windows.sliding for name in ("conv", "max_pool", "avg_pool") for n in _AXES},
    **{f"adaptive_{name}_pool{n}d": windows.whole_window for name in ("avg", "max") for n in _AXES},
    **dict.fromkeys(("mean", "amax"), windows.whole_window),
    **dict.fromkeys(("pad", "constant_pad_nd"), windows.padding),
    "linear": heads.linear,
    "batch_norm": heads.batch_norm,
    **dict.fromkeys(("softmax", "log_softmax"), heads.softmax),
    **dict.fromkeys(("cat", "concat", "concatenate"), places.joining),
    **dict.fromkeys(_MOVES_NUMBERS.split(), places.reshaping),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), places.dropping),
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
    rule = _TABLE.get(node.operator)
    if rule is None and RULES.get(node.operator) is pointwise:
        rule = places.pointwise
    if rule is None or (node.kind is not Kind.LOCAL and rule not in _READS_ALL):
        raise refusal(node, node.reason or "only windows, pointwise layers and a head have one")
    if rule not in _TAKES_AFFINE and any(value.affine is not None for value in sources):
        raise refusal(node, "a batch norm over a flattened map stands before it")
    return rule(builder, node, sources)


_READS_ALL = (windows.whole_window, places.reshaping, heads.linear, heads.softmax)
"""Rules for operators that mix positions in the classifier, or seem to: they judge themselves."""
