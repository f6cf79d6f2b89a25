"""Rules for the head of a classifier: what reads the features of the whole crop."""

from __future__ import annotations

from dataclasses import replace

import torch

from eyeshot.axes import Interval
from eyeshot.densification import layers
from eyeshot.densification.builder import Builder, called, refusal
from eyeshot.densification.values import Value
from eyeshot.graph import Node, Ref


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
        raise refusal(node, "it normalises places that were moved about")
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
