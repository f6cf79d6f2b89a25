"""Rules for operators that slide: convolution and its transpose, pooling, padding, shuffling."""

from __future__ import annotations

import math

from eyeshot.axes import (
    Adaptive,
    AxisMap,
    Everything,
    Identity,
    Pad,
    Placed,
    Resize,
    Spared,
    Transpose,
    Window,
)
from eyeshot.axes.windows import PadMode
from eyeshot.frontends.sites import (
    Described,
    NoRule,
    Rule,
    Site,
    along,
    mixes_positions,
    vanished,
)
from eyeshot.graph import Edge, Kind, Node


def _sliding(
    source: Node, windows: list[AxisMap], attributes: dict[str, object], mixed: bool
) -> Described:
    """Windows along the last dimensions; ``mixed``: all channels mix."""
    first = len(source.shape) - len(windows)
    local = {first + i: window for i, window in enumerate(windows)}
    channels: dict[int, int | None] = {first - 1: None} if mixed else {}
    if mixes_positions(source, channels):
        raise NoRule("it takes a spatial axis for channels")
    return Described((along(source, local),), vanished(source, channels), attributes=attributes)


def convolution(site: Site) -> Described:
    """conv1d, conv2d, conv3d, with padding in numbers, ``same`` or ``valid``."""
    source, weight = site.node("input"), site.shape_of("weight")
    kernel = weight[2:]
    axes = len(kernel)
    stride, dilation = site.numbers("stride", axes), site.numbers("dilation", axes)
    padding = site.arguments["padding"]
    if isinstance(padding, str):
        same = padding == "same"
        total = [same * d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = list(site.numbers("padding", axes))
    windows: list[AxisMap] = [
        Window(k, s, b, a, d)
        for k, s, b, a, d in zip(kernel, stride, before, after, dilation, strict=True)
    ]
    groups = int(site.arguments["groups"])
    attributes: dict[str, object] = {
        "kernel": kernel,
        "stride": stride,
        "padding": tuple(zip(before, after, strict=True)),
        "dilation": dilation,
        "groups": groups,
        "in_channels": weight[1] * groups,
        "out_channels": weight[0],
        "bias": site.arguments["bias"] is not None,
    }
    return _sliding(source, windows, attributes, mixed=True)


def transposed_convolution(site: Site) -> Described:
    """conv_transpose1d, 2d, 3d."""
    source, weight = site.node("input"), site.shape_of("weight")
    kernel = weight[2:]
    axes = len(kernel)
    stride, padding = site.numbers("stride", axes), site.numbers("padding", axes)
    extra, dilation = site.numbers("output_padding", axes), site.numbers("dilation", axes)
    windows: list[AxisMap] = [
        Transpose(k, s, p, d, e)
        for k, s, p, d, e in zip(kernel, stride, padding, dilation, extra, strict=True)
    ]
    groups = int(site.arguments["groups"])
    attributes: dict[str, object] = {
        "kernel": kernel,
        "stride": stride,
        "padding": tuple((p, p) for p in padding),
        "output_padding": extra,
        "dilation": dilation,
        "groups": groups,
        "in_channels": weight[0],
        "out_channels": weight[1] * groups,
        "bias": site.arguments["bias"] is not None,
    }
    return _sliding(source, windows, attributes, mixed=True)


def pooling(site: Site) -> Described:
    """Max and average pooling over 1, 2 or 3 axes."""
    source = site.node("self")
    axes = int(site.operator.partition("pool")[2][0])
    kernel = site.numbers("kernel_size", axes)
    stride, padding = site.numbers("stride", axes, kernel), site.numbers("padding", axes)
    dilation = site.numbers("dilation", axes) if "dilation" in site.arguments else (1,) * axes
    ceil_mode = bool(site.arguments["ceil_mode"])
    windows: list[AxisMap] = [
        Window(k, s, p, p, d, ceil_mode)
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    ]
    attributes: dict[str, object] = {
        "kernel": kernel,
        "stride": stride,
        "padding": tuple((p, p) for p in padding),
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    if "count_include_pad" in site.arguments:
        attributes["count_include_pad"] = bool(site.arguments["count_include_pad"])
    return _sliding(source, windows, attributes, mixed=False)


def adaptive_pooling(site: Site) -> Described:
    """Adaptive pooling; a window where the size divides, a global statistic where one comes out."""
    source = site.node("self")
    axes = int(site.operator.partition("pool")[2][0])
    sizes = site.numbers("output_size", axes)
    first = len(source.shape) - axes
    maps: dict[int, AxisMap] = {}
    many = any(n > 1 for n in source.shape[first:])
    for i, outputs in enumerate(sizes):
        n = source.shape[first + i]
        if outputs == 1 and (n > 1 or (many and set(sizes) == {1})):
            maps[first + i] = Everything(1)
        elif n % outputs == 0:
            maps[first + i] = Window(n // outputs, n // outputs)
        else:
            maps[first + i] = Adaptive(outputs)
    edge = along(source, maps)
    whole = any(isinstance(axis, Everything) for axis in edge.axes)
    kind, reason = (Kind.REDUCIBLE, "pools over all positions") if whole else (Kind.LOCAL, "")
    return Described((edge,), source.dims, kind, {"output_size": sizes}, reason)


_PAD_MODES: dict[str, PadMode] = {
    "constant": "zero",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


def padding(site: Site) -> Described:
    """``aten.pad`` in its four modes; negative amounts crop."""
    source = site.node("self")
    amounts = [int(one) for one in site.arguments["pad"]]
    mode = _PAD_MODES[str(site.arguments.get("mode", "constant"))]
    if mode == "circular" and min(amounts, default=0) < 0 < max(amounts, default=0):
        raise NoRule("it wraps round a picture that it also crops")
    maps: dict[int, AxisMap] = {}
    for i in range(len(amounts) // 2):
        maps[len(source.shape) - 1 - i] = Pad(amounts[2 * i], amounts[2 * i + 1], mode)
    attributes: dict[str, object] = {"padding": tuple(amounts), "mode": mode}
    if mode == "zero":
        attributes["value"] = float(site.arguments.get("value") or 0.0)
    return Described((along(source, maps),), source.dims, attributes=attributes)


def pixel_shuffle(site: Site) -> Described:
    """Depth to space: each position becomes r x r."""
    source, r = site.node("self"), int(site.arguments["upscale_factor"])
    repeat = Resize("nearest", factor=float(r))
    return _last_two(source, repeat, {"factor": r})


def pixel_unshuffle(site: Site) -> Described:
    """Space to depth: each block of r x r becomes one position."""
    source, r = site.node("self"), int(site.arguments["downscale_factor"])
    return _last_two(source, Window(r, r), {"factor": r})


def _last_two(source: Node, axis: AxisMap, attributes: dict[str, object]) -> Described:
    rank = len(source.shape)
    if mixes_positions(source, {rank - 3: None}):
        raise NoRule("it takes a spatial axis for channels")
    edge: Edge = along(source, {rank - 2: axis, rank - 1: axis})
    return Described((edge,), source.dims, attributes=attributes)


def slicing(site: Site) -> Described:
    """``x[..., start:end:step]`` and ``narrow``: a crop, or a window of one with a stride."""
    source = site.node("self")
    rank = len(source.shape)
    dim = int(site.arguments["dim"]) % rank
    n = source.shape[dim]
    step = int(site.arguments.get("step", 1))
    start = site.arguments["start"] or 0
    start = min(max(start + n if start < 0 else start, 0), n)
    length = site.shape[dim]
    used = start + (length - 1) * step + 1
    axis: AxisMap = Pad(-start, used - n) if step == 1 else Window(1, step, -start, used - n)
    attributes: dict[str, object] = {"dim": dim, "start": start, "step": step, "length": length}
    return Described((along(source, {dim: axis}),), source.dims, attributes=attributes)


def scattering(site: Site) -> Described:
    """``slice_scatter``: a slice of the first operand is exchanged for the second."""
    dim = int(site.arguments["dim"]) % len(site.shape)
    step = int(site.arguments["step"])
    n, start = site.shape[dim], int(site.arguments["start"] or 0)
    start = min(max(start + n if start < 0 else start, 0), n)
    whole, part = site.arguments["self"], site.arguments["src"]
    dims = tuple(map(_place_of, zip(*(one.dims for one in site.sources), strict=True)))
    if any(_holds_features(source, dims) for source in site.sources):
        raise NoRule("it gives each position along a spatial axis a feature of its own")
    count = len(range(start, min(n, int(site.arguments["end"] or n)), step))
    maps: list[tuple[object, AxisMap]] = [
        (whole, Spared(start, step, count)),
        (part, Placed(start, step, n)),
    ]
    edges = [
        Edge(one.name, tuple(axis if d == dim else Identity() for d in dims))
        for one, axis in maps
        if isinstance(one, Node)
    ]
    attributes: dict[str, object] = {"dim": dim, "start": start, "step": step, "length": count}
    return Described(tuple(edges), dims, attributes=attributes)


def _place_of(column: tuple[int | None, ...]) -> int | None:
    """Where an axis lies in operands that have the same dimensions."""
    places = {dim for dim in column if dim is not None}
    if len(places) > 1:
        raise NoRule("its operands hold the same axis in different dimensions")
    return next(iter(places), None)


def _holds_features(source: Node, dims: tuple[int | None, ...]) -> bool:
    """Whether an operand has numbers of its own where another one has positions."""
    return any(
        dim is not None and own is None and source.shape[dim] > 1
        for own, dim in zip(source.dims, dims, strict=True)
    )


def repeating(site: Site) -> Described:
    """``repeat_interleave`` by a number: each position, or each channel, so many times."""
    source = site.node("self")
    if site.arguments.get("dim") is None or not isinstance(site.arguments.get("repeats"), int):
        raise NoRule("it repeats by a tensor, or all there is")
    dim = int(site.arguments["dim"]) % len(source.shape)
    times = int(site.arguments["repeats"])
    edge = along(source, {dim: Resize("nearest", factor=float(times))})
    return Described((edge,), source.dims, attributes={"dim": dim, "repeats": times})


def unfolding(site: Site) -> Described:
    """``unfold``: windows along one dimension, whose inside becomes the last dimension."""
    source = site.node("self")
    dim = int(site.arguments["dimension"]) % len(source.shape)
    size, step = int(site.arguments["size"]), int(site.arguments["step"])
    edge = along(source, {dim: Window(size, step)})
    return Described((edge,), source.dims, attributes={"dim": dim, "size": size, "step": step})


def splitting(site: Site) -> Described:
    """One part of ``chunk``, ``split`` or ``split_with_sizes``."""
    source = site.node("self")
    dim = int(site.arguments["dim"]) % len(source.shape)
    n, length = source.shape[dim], site.shape[dim]
    start = part_start(site, n)
    edge = along(source, {dim: Pad(-start, start + length - n)})
    return Described(
        (edge,), source.dims, attributes={"dim": dim, "start": start, "length": length}
    )


def part_start(site: Site, n: int) -> int:
    """Where the ``item``-th part of a split begins along the dimension that is split."""
    item = site.item or 0
    if site.operator == "split_with_sizes":
        return sum(int(one) for one in site.arguments["split_sizes"][:item])
    if site.operator == "split":
        return item * int(site.arguments["split_size"])
    return item * math.ceil(n / int(site.arguments["chunks"]))


def concatenation(site: Site) -> Described:
    """``cat``: over channels positions stay; along a spatial axis each input gets its place."""
    parts = site.arguments["tensors"]
    sources = site.sources
    if not sources:
        raise NoRule("no part depends on the input")
    dim = int(site.arguments["dim"]) % len(site.shape)
    dims = sources[0].dims
    if any(source.dims != dims for source in sources):
        raise NoRule("its parts hold an axis in different dimensions")
    lengths = [
        part.shape[dim] if isinstance(part, Node) else site.weight_shapes[part.name][dim]
        for part in parts
    ]
    edges, before = [], 0
    for part, length in zip(parts, lengths, strict=True):
        after = site.shape[dim] - before - length
        if isinstance(part, Node):
            edges.append(along(part, {dim: Pad(before, after)}))
        before += length
    return Described(tuple(edges), dims, attributes={"dim": dim})


RULES: dict[str, Rule] = {
    **{f"conv{n}d": convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": transposed_convolution for n in (1, 2, 3)},
    **{f"max_pool{n}d": pooling for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": pooling for n in (1, 2, 3)},
    **{f"avg_pool{n}d": pooling for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": adaptive_pooling for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": adaptive_pooling for n in (1, 2, 3)},
    "pad": padding,
    "constant_pad_nd": padding,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "slice": slicing,
    "narrow": slicing,
    "slice_scatter": scattering,
    "repeat_interleave": repeating,
    "unfold": unfolding,
    "chunk": splitting,
    "split": splitting,
    "split_with_sizes": splitting,
    "cat": concatenation,
    "concat": concatenation,
    "concatenate": concatenation,
}
