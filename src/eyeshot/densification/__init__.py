"""A classifier of small pictures made fully convolutional; public as :func:`eyeshot.dense`.

There is one rule for each operator of the classifier's graph.

Operators with windows do not change: a convolution or a pool is the same on a page as on a crop. An
operator that reads the whole crop becomes a window of that size: a linear layer over C×h×w becomes
a convolution of h×w, a mean over all positions becomes a mean over h×w. Operators that only move
numbers, such as flatten, only change the recorded positions and compute nothing. A rule raises
:func:`refusal` for an operator that it cannot convert.

The conversion also reports where the dense form differs from its classifier: at a crop's border the
classifier reads padding, and the dense form reads the page's own pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.axes import Interval, Window
from eyeshot.densification.form import (
    DenseForm,
    Geometry,
    Step,
    Value,
    Weighted,
    batch_norm_layer,
    batch_norm_tensors,
    convolution,
    convolve,
    epsilon,
    natural,
    pooling,
    window_pooling,
)
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.torch import graph_of
from eyeshot.graph import Call, Family, Graph, Kind, Node, Ref
from eyeshot.operators import of
from eyeshot.runs import Run
from eyeshot.untouched import one_at_a_time, untouched


class Builder:
    """The steps of a dense form so far.

    Attributes:
        graph: of the classifier, in eval mode, at the size of a crop.
        every_pixel: whether strides are undone, so that there is a position for every pixel.
        steps: what the dense form computes.
    """

    def __init__(self, graph: Graph, every_pixel: bool) -> None:
        self.graph, self.every_pixel = graph, every_pixel
        self.steps: list[Step] = []

    def begin(self, node: Node) -> Value:
        """The input of the classifier: the page."""
        shape = node.shape[1:]
        ones = (1,) * (len(shape) - 1)
        return Value(node.name, shape, natural(shape), ones, ones, (Interval(0, 1),) * len(ones))

    def add(
        self, node: Node, target: nn.Module | Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """One more step; the value that it gives carries the node's name."""
        self.steps.append(Step(node.name, target, args, kwargs))

    def behind(
        self,
        node: Node,
        source: Value,
        shape: tuple[int, ...],
        taps: Sequence[Interval],
        strides: Sequence[int],
    ) -> Value:
        """The value behind windows on ``source``.

        Args:
            node: the node that slides.
            source: what it reads.
            shape: (C, h, w) of what it gives for one crop.
            taps: the places of ``source`` that its first place reads, along each axis.
            strides: places from one window to the next, along each axis.
        """
        further = _times(source.step if self.every_pixel else source.stride, strides)
        return replace(
            source,
            name=node.name,
            shape=shape,
            places=natural(shape),
            stride=source.stride if self.every_pixel else further,
            step=further if self.every_pixel else source.step,
            field=source.seen_through(taps),
        )


def called(node: Node) -> Call:
    """The node's call, which every node but an input has."""
    if node.call is None:
        raise refusal(node, "has nothing to call")
    return node.call


def refusal(node: Node, reason: str) -> Unsupported:
    """That an operator has no dense form, by its layer's name."""
    return Unsupported(
        f"{node.name} ({node.operator}) has no dense form: {reason}",
        cure="replace the layer, or run the classifier crop by crop",
    )


def slid_axes(node: Node, source: Value) -> int:
    """How many axes the map has that a window slides over.

    Raises:
        Unsupported: it is no map any more.
    """
    if not source.is_map:
        raise refusal(node, "it slides over a map whose numbers were moved about")
    return len(source.window)


def check_alike(node: Node, sources: Sequence[Value]) -> None:
    """Raise Unsupported unless all operands hold the same places of the crop on the same grid."""
    first = sources[0]
    grid = (first.window, first.stride, first.step)
    if any((value.window, value.stride, value.step) != grid for value in sources):
        raise refusal(node, "it joins values of different sizes, which every crop has of its own")


def hull(sources: Sequence[Value]) -> tuple[Interval, ...]:
    """What is seen by a position that reads the same position of all of them."""
    field = sources[0].field
    for value in sources[1:]:
        field = tuple(a.hull(b) for a, b in zip(field, value.field, strict=True))
    return field


def renamed(call: Call, names: Mapping[str, Any]) -> Call:
    """A call with other things in place of its nodes."""
    return call.substituted(lambda one: names[one.node] if isinstance(one, Ref) else one)


def per_channel(node: Node, tensor: Tensor, source: Value) -> Tensor:
    """A tensor that is broadcast to the classifier's value, as an operand of the map: (C, 1, 1).

    Raises:
        Unsupported: it differs from place to place of the crop, and a position of the map is a
            place of many crops.
    """
    numbers = tensor.broadcast_to((1, *source.places.shape)).reshape(-1)
    ordered = torch.empty_like(numbers)
    ordered[source.places.reshape(-1).to(tensor.device)] = numbers
    channels = ordered.reshape(source.shape[0], -1)
    if not torch.equal(channels, channels[:, :1].expand_as(channels)):
        raise refusal(node, "it weighs each place of the crop by a number of its own")
    return channels[:, 0].reshape(-1, *(1 for _ in source.window)).clone()


def _times(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a * b for a, b in zip(one, other, strict=True))


def reshaping(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """No number is computed: the places are moved as the numbers would be."""
    source, call = sources[0], called(node)
    places: Tensor = renamed(call, {node.edges[0].source: source.places[None]})()
    if places.shape[0] != 1:
        raise refusal(node, "it mixes the pictures of a batch")
    return replace(source, places=places[0].contiguous())


def joining(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Channels of several maps behind one another."""
    call, first = called(node), sources[0]
    dim = int(call.argument("dim")) % (first.places.ndim + 1)
    shaped = all(value.is_map for value in sources) or all(value.is_point for value in sources)
    ranks = {value.places.ndim for value in sources}
    if dim != 1 or not shaped or len(ranks) > 1:
        raise refusal(node, "it does not join channels")
    if node.weights or len(sources) < len(call.argument("tensors")):
        raise refusal(node, "it joins a tensor that every crop has of its own")
    check_alike(node, sources)
    builder.add(node, torch.cat, [Ref(value.name) for value in sources], 1)
    shape = (sum(value.shape[0] for value in sources), *first.window)
    joined = replace(first, name=node.name, shape=shape, places=natural(shape), field=hull(sources))
    return joined.reshaped(node.shape[1:])


def pointwise(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Each number by itself, so that it does not matter where it lies."""
    call, first = called(node), sources[0]
    if any(tuple(value.places.shape) != node.shape[1:] for value in sources):
        raise refusal(node, "it repeats one value to the size of another")
    if any(not torch.equal(value.places, first.places) for value in sources):
        raise refusal(node, "its operands hold their numbers in different orders")
    check_alike(node, sources)
    names = {edge.source: Ref(value.name) for edge, value in zip(node.edges, sources, strict=True)}
    args = renamed(call, names).args
    layer = of(node).layer
    if node.weights:
        tensors = {name: _operand(builder, node, name, first) for name in node.weights}
        function = partial(call.target, **call.kwargs)
        refs = [value for value in args if isinstance(value, Ref)]
        builder.add(node, Weighted(function, args, tensors), *refs)
    elif layer is not None:  # which keeps its name in the dense form
        builder.add(node, layer(), *args)
    else:
        builder.add(node, call.target, *args, **call.kwargs)
    return replace(first, name=node.name, field=hull(sources))


def dropping(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Dropout in eval mode does nothing."""
    return sources[0]


def _operand(builder: Builder, node: Node, name: str, source: Value) -> Tensor:
    """A copy of a tensor of the classifier that stands beside a value; a parameter if it was."""
    tensor = builder.graph.tensors[name].detach()
    if node.family is Family.PRELU:  # one number, or one for each channel, without more dimensions
        if tensor.numel() > 1 and not (source.is_map or source.is_point):
            raise refusal(node, "it weighs places that were moved about")
        operand = tensor.clone()
    else:
        operand = per_channel(node, tensor, source)
    return nn.Parameter(operand) if name in builder.graph.parameters else operand


def linear(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Its row for one output, laid out as (C, h, w), is a kernel."""
    source, tensors = sources[0], builder.graph.tensors
    if source.places.ndim != 1:
        raise refusal(node, f"it is applied to {tuple(source.places.shape)}, and not to features")
    weight = tensors[node.weights[0]].detach()
    bias = tensors[node.weights[1]].detach() if node.params.bias else None
    if source.affine is not None:
        scale, shift = source.affine
        moved = weight.double() @ shift
        bias = (moved if bias is None else bias.double() + moved).to(weight.dtype)
        weight = (weight.double() * scale).to(weight.dtype)
    kernel = torch.empty_like(weight)
    kernel[:, source.places.to(weight.device)] = weight
    kernel = kernel.reshape(-1, *source.shape)
    step = tuple(s if n > 1 else 1 for s, n in zip(source.step, source.window, strict=True))
    layer = convolve(kernel, bias, dilation=step)
    builder.add(node, layer, Ref(source.name))
    ones = tuple(1 for _ in source.window)
    taps = [Interval(0, n) for n in source.window]
    value = builder.behind(node, source, (len(weight), *ones), taps, ones)
    return replace(value.reshaped((len(weight),)), affine=None)


def batch_norm(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """A scale and a shift for each channel; behind a flatten, for each place of the crop."""
    source = sources[0]
    if called(node).argument("training"):
        raise refusal(node, node.reason or "it uses the statistics of the batch")
    if source.affine is None and (source.is_map or source.is_point):
        layer = batch_norm_layer(node, builder.graph, len(source.window))
        builder.add(node, layer, Ref(source.name))
        return replace(source, name=node.name)
    if source.places.ndim != 1 or source.affine is not None:
        raise refusal(node, "it normalizes places that were moved about")
    # Each place of the crop has its own scale, and a position of the map is a place of many crops:
    # only the linear layer that reads them all can take it over.
    scale, shift, mean, variance = batch_norm_tensors(node, builder.graph)
    ratio = (variance.double() + epsilon(node)).rsqrt()
    ratio = ratio if scale is None else ratio * scale.double()
    offset = -mean.double() * ratio
    return replace(source, affine=(ratio, offset if shift is None else offset + shift.double()))


def softmax(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Over the channels of each position."""
    source = sources[0]
    call = called(node)
    dim = int(call.argument("dim")) % (source.places.ndim + 1)
    if dim != 1 or not (source.is_map or source.is_point):
        raise refusal(node, "it is not taken over channels")
    call = call.with_arguments(self=Ref(source.name), dim=1)
    builder.add(node, call.target, *call.args, **call.kwargs)
    return replace(source, name=node.name)


def sliding(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """A convolution or a pool: the same on a page as on a crop."""
    source = sources[0]
    slid_axes(node, source)
    if node.family is Family.CONVOLUTION:
        layer = convolution(node, builder.graph, source.step, builder.every_pixel)
    else:
        layer = pooling(node, source.window, source.step, builder.every_pixel)
    builder.add(node, layer, Ref(source.name))
    shape = (node.shape[1], *node.extents)
    return builder.behind(node, source, shape, _first_taps(node, source), node.params.stride)


def padding(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Padding by a layer of its own; a negative amount crops."""
    source = sources[0]
    axes = slid_axes(node, source)
    call = called(node)
    amounts = [int(one) for one in call.argument("pad")]
    if len(amounts) > 2 * axes:
        raise refusal(node, "it pads channels")
    steps = [step for step in reversed(source.step) for _ in range(2)]
    spread = [amount * step for amount, step in zip(amounts, steps, strict=False)]
    builder.add(node, call.target, *call.with_arguments(self=Ref(source.name), pad=spread).args)
    shape = (node.shape[1], *node.extents)
    return builder.behind(node, source, shape, _first_taps(node, source), (1,) * axes)


def whole_window(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """A pool over all places of the crop, or into equal parts of it: a window of that size."""
    source = sources[0]
    slid_axes(node, source)
    windows = []
    for axis, n in zip(node.edges[0].axes, source.window, strict=True):
        window = Window(n) if n == 1 else axis.as_window(n)
        if window is None:
            raise refusal(node, "its windows differ in size, or it leaves an axis as it is")
        windows.append(window)
    if node.channels != source.shape[0]:
        raise refusal(node, "it mixes channels")
    layer = window_pooling(node, windows, source.step, builder.every_pixel)
    builder.add(node, layer, Ref(source.name))
    shape = (
        source.shape[0],
        *(w.output_size(n) for w, n in zip(windows, source.window, strict=True)),
    )
    taps = [Interval(0, window.kernel) for window in windows]
    value = builder.behind(node, source, shape, taps, [window.stride for window in windows])
    return value.reshaped(node.shape[1:])


def _first_taps(node: Node, source: Value) -> list[Interval]:
    """The places that the first window reads, along each axis."""
    axes = node.edges[0].axes
    first = Interval(0, 1)
    return [axis.input_range(first, n) for axis, n in zip(axes, source.window, strict=True)]


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
    Family.CONVOLUTION: sliding,
    Family.MAX_POOL: sliding,
    Family.AVERAGE_POOL: sliding,
    Family.ADAPTIVE_MAX_POOL: whole_window,
    Family.ADAPTIVE_AVERAGE_POOL: whole_window,
    Family.MEAN: whole_window,
    Family.LARGEST: whole_window,
    Family.PAD: padding,
    Family.LINEAR: linear,
    Family.BATCH_NORM: batch_norm,
    Family.SOFTMAX: softmax,
    Family.CONCATENATE: joining,
    Family.RESHAPE: reshaping,
    Family.PERMUTE: reshaping,
    Family.SQUEEZE: reshaping,
    Family.UNSQUEEZE: reshaping,
    Family.ALIAS: reshaping,
    Family.DROPOUT: dropping,
    Family.POINTWISE: pointwise,
    Family.RELU: pointwise,
    Family.PRELU: pointwise,
}
_TAKES_AFFINE = (linear, reshaping, dropping)


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
    whole_window,
    reshaping,
    linear,
    batch_norm,
    softmax,
)
"""Rules for operators that mix positions in the classifier, or seem to: they judge themselves."""


__all__ = ["DenseForm", "dense"]


@one_at_a_time
def dense(
    net: nn.Module | Run, size: Sequence[int] | None = None, *, every_pixel: bool = False
) -> DenseForm:
    """The fully convolutional form of a classifier: it scores every crop of a page in one pass.

    A linear layer over C×h×w features becomes a convolution of h×w, the linear layers behind it
    convolutions of 1×1, a pool over all places a pool over h×w; everything else stays. For a
    classifier without padding the value at (i, j) is the classifier's on the crop that starts at
    (i·stride, j·stride), to rounding. Where it pads, the dense form differs: it warns, and its
    ``notes`` say where.

    The weights are copies, and the dense form is in eval mode; ``net`` is not changed.

    Args:
        net: a classifier, or a run, whose pictures tell their size.
        size: (C, H, W) of the pictures that the classifier takes.
        every_pixel: give a value for every pixel and not only for every stride-th: strides are
            undone and the kernels behind them spread ("à trous").
            Source: Holschneider et al., 1989; Giusti et al., 2013, arXiv:1302.1700.

    Raises:
        BadValue: there is no size, or one that the classifier refuses.
        Unsupported: an operator that has no dense form, by its layer's name.
    """
    if isinstance(net, Run):
        size = size or (net.config.channels, *net.config.size)
        net = net.net
    if size is None:
        raise BadValue("no size for dense()", cure="give (C, H, W) of the classifier's pictures")
    check_module(net)
    with untouched(net, computes=False):
        graph = graph_of(net.eval(), tuple(size))
    form = convert(graph, every_pixel)
    for note in form.notes:
        warnings.warn(note, stacklevel=2)
    return form.eval()
