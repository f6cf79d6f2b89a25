"""Rules for what slides, and for what takes all places of the crop at once."""

from __future__ import annotations

from eyeshot.axes import Interval, Window
from eyeshot.densification import layers
from eyeshot.densification.builder import Builder, called, refusal, slid_axes
from eyeshot.densification.values import Value
from eyeshot.graph import Family, Node, Ref


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
