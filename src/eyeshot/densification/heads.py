"""Conversion rules for sliding windows, operators over the whole crop, and classifier heads."""

from __future__ import annotations

from dataclasses import replace

import torch

from eyeshot.axes import Interval, Window
from eyeshot.densification import layers
from eyeshot.densification.builder import Builder, called, refusal, slid_axes
from eyeshot.densification.form import Value
from eyeshot.graph import Family, Node, Ref


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
    layer = layers.convolve(kernel, bias, dilation=step)
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
        layer = layers.batch_norm(node, builder.graph, len(source.window))
        builder.add(node, layer, Ref(source.name))
        return replace(source, name=node.name)
    if source.places.ndim != 1 or source.affine is not None:
        raise refusal(node, "it normalizes places that were moved about")
    # Each place of the crop has its own scale, and a position of the map is a place of many crops:
    # only the linear layer that reads them all can take it over.
    scale, shift, mean, variance = layers.batch_norm_tensors(node, builder.graph)
    ratio = (variance.double() + layers.epsilon(node)).rsqrt()
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
        layer = layers.convolution(node, builder.graph, source.step, builder.every_pixel)
    else:
        layer = layers.pooling(node, source.window, source.step, builder.every_pixel)
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
    layer = layers.window_pooling(node, windows, source.step, builder.every_pixel)
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
