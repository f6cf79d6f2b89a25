"""How an output lies: just as ``net(x)`` gives it, without the batch.

Inside, an output is (C, rows, columns, …): all features of a position together, then the axes of
the input. What leaves has the dimensions of the network's own output, in its own order, and the
regions that are asked of it go by these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eyeshot.axes import Interval
from eyeshot.engine.forms import Form, form_of
from eyeshot.errors import BadValue
from eyeshot.geometry import Region
from eyeshot.graph import Graph, Node
from eyeshot.images import Arrangement

_OF_CLASSES = ("argmax", "probabilities", "threshold")
_NAMES = {0: (), 1: ("positions",), 2: ("rows", "columns"), 3: ("planes", "rows", "columns")}


def arrangement_of(graph: Graph, name: str) -> Arrangement:
    """The dimensions of an output, without that of the batch."""
    node = graph.nodes[name]
    batch = graph.batch.get(name, 0)
    dims = [dim for dim in range(len(node.shape)) if dim != batch]
    axes = tuple(node.dims.index(dim) if dim in node.dims else None for dim in dims)
    return Arrangement(tuple(node.shape[dim] for dim in dims), axes)


def form_for(form: str, graph: Graph, name: str) -> Form:
    """The form of that name for an output.

    Raises:
        UnknownName: no such form.
        BadValue: the form has no meaning for it.
    """
    features = [size for size in arrangement_of(graph, name).features if size > 1]
    if len(features) > 1 and form.partition(":")[0] in _OF_CLASSES:
        raise BadValue(
            f"output_format {form!r} of output {name}: {graph.nodes[name].shape} has more than one "
            "dimension of features, and none is known to be that of classes",
            cure="use float32",
        )
    return form_of(form, graph.nodes[name].channels, graph.nodes[name].dtype)


def regions_of(graph: Graph, asked: Sequence[tuple[int, int]] | None) -> dict[str, Region]:
    """The region asked of every output: see :func:`region_of`.

    Raises:
        BadValue: no output has positions, or the region is of none.
    """
    if asked is not None and not any(arrangement_of(graph, name).space for name in graph.outputs):
        raise BadValue(
            f"a region of {len(asked)} axes, and no output has positions left",
            cure="leave the region out",
        )
    return {name: region_of(graph, name, asked) for name in graph.outputs}


def region_of(graph: Graph, name: str, asked: Sequence[tuple[int, int]] | None) -> Region:
    """The region asked of an output, for each axis of the input; all of it where none is.

    Args:
        graph: the network at the size of the picture.
        name: of the output.
        asked: (lo, hi) for each axis of the output, in its own order. An output without positions
            is always given whole.

    Raises:
        BadValue: it reaches outside, is empty, or has other axes.
    """
    node, axes = graph.nodes[name], arrangement_of(graph, name).space
    box = [Interval(0, n) for n in node.extents]
    if asked is None or not axes:
        return tuple(box)
    if len(asked) != len(axes):
        raise BadValue(f"a region of {len(asked)} axes", cure=f"give {len(axes)}")
    for axis, (lo, hi) in zip(axes, asked, strict=True):
        box[axis], n = Interval(lo, hi), node.extents[axis]
        if not box[axis] or lo < 0 or hi > n:
            raise BadValue(f"region {lo}:{hi} of an output of {n}", cure="stay inside it")
    return tuple(box)


def features_first(node: Node, value: torch.Tensor) -> torch.Tensor:
    """(C, rows, …) from a value whose axes may lie anywhere, or have vanished."""
    spatial = [dim for dim in node.dims if dim is not None]
    rest = [dim for dim in range(value.ndim) if dim not in spatial]
    sizes = [1 if dim is None else value.shape[dim] for dim in node.dims]
    return value.permute((*rest, *spatial)).reshape(-1, *sizes)


def layout_of(graph: Graph, name: str) -> str:
    """The dimensions of an output in words, without that of the batch."""
    names = _NAMES[graph.spatial_axes]
    axes = arrangement_of(graph, name).axes
    words = ["features" if axis is None else names[axis] for axis in axes]
    return ", ".join(words) or "one number"
