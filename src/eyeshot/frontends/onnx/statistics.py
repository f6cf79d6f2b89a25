"""Pooling, reductions, norms and softmax: numbers from windows, some axes or all positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.frontends.onnx.arithmetic import Pads, padded, paddings
from eyeshot.frontends.onnx.site import Compute, Refusal, Result, Site, axis_of

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class _Windows:
    """The windows along each axis: kernel, stride, dilation, padding, and number of outputs."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads
    outputs: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def axes(self) -> int:
        """The number of axes."""
        return len(self.kernel)

    @property
    def spread(self) -> list[int]:
        """For each axis, the extent of a window: from its first to its last input."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    @property
    def exact(self) -> Pads:
        """The padding (before, after) of each axis such that it ends with the last window."""
        last = [
            (m - 1) * s + k for m, s, k in zip(self.outputs, self.stride, self.spread, strict=True)
        ]
        return [
            (before, end - before - n)
            for (before, _), end, n in zip(self.pads, last, self.shape, strict=True)
        ]

    @property
    def overhang(self) -> bool:
        """Whether the last window extends beyond the padding (``ceil_mode``)."""
        return any(have[1] > pad[1] for have, pad in zip(self.exact, self.pads, strict=True))


def _windows(site: Site, x: Tensor) -> _Windows:
    kernel = site.numbers("kernel_shape", ())
    axes = len(kernel)
    if axes not in _MAX or x.ndim != axes + 2:
        raise Refusal(f"a window over {axes} axes of {x.ndim} dimensions", "use 1, 2 or 3")
    stride = site.numbers("strides", (1,) * axes)
    dilation = site.numbers("dilations", (1,) * axes)
    shape = tuple(int(n) for n in x.shape[2:])
    pads = paddings(site, shape, kernel, stride, dilation)
    auto = site.attribute("auto_pad", "NOTSET")
    skips = any((-(-n // s) - 1) * s + k < n for n, k, s in zip(shape, kernel, stride, strict=True))
    if auto.startswith("SAME") and (max(dilation) > 1 or skips):
        what = "dilations" if max(dilation) > 1 else "a stride beyond its kernel"
        raise Refusal(
            f"has auto_pad {auto} and {what}, which ONNX and onnxruntime pad differently",
            "write its pads",
        )
    ceil = bool(site.attribute("ceil_mode", 0)) and not auto.startswith("SAME")
    outputs = []
    for n, (before, after), k, s, d in zip(shape, pads, kernel, stride, dilation, strict=True):
        free = n + before + after - ((k - 1) * d + 1)
        count = (-(-free // s) if ceil else free // s) + 1
        if ceil and (count - 1) * s >= n + before:
            count -= 1  # a window that begins in the padding at the end is none
        outputs.append(count)
    return _Windows(kernel, stride, dilation, pads, tuple(outputs), shape)


def max_pool(site: Site) -> Tensor:
    """``MaxPool``; the padding is never the maximum."""
    if len([name for name in site.op.outputs if name]) > 1:
        raise Refusal("gives the places of the largest numbers", "export it without indices")
    x = site.tensor(0)
    kind = x.dtype
    x = x if x.is_floating_point() else x.to(torch.float32)
    w = _windows(site, x)
    plain = all(
        before == after and 2 * before <= k and exact[1] <= before
        for (before, after), k, exact in zip(w.pads, w.kernel, w.exact, strict=True)
    )
    padding = [before for before, _ in w.pads]
    if not plain:
        x, padding = padded(x, w.exact, -math.inf), [0] * w.axes
    return _MAX[w.axes](x, w.kernel, w.stride, padding, w.dilation).to(kind)


def average_pool(site: Site) -> Tensor:
    """``AveragePool``: the mean over a window, or over its part inside the image."""
    x = site.tensor(0)
    w = _windows(site, x)
    counts = bool(site.attribute("count_include_pad", 0))
    dilated = any(d > 1 for d in w.dilation)
    no_pads = all(one == (0, 0) for one in w.pads)
    if not dilated and not w.overhang and (counts or no_pads):
        symmetric = all(a == b and 2 * a <= k for (a, b), k in zip(w.pads, w.kernel, strict=True))
        if symmetric:
            return _MEAN[w.axes](x, w.kernel, w.stride, [a for a, _ in w.pads])
        return _MEAN[w.axes](padded(x, w.exact), w.kernel, w.stride)
    if not dilated and not counts:
        result = _by_torch(x, w)
        if result is not None:
            return result
    total = _summed(padded(x, w.exact), w)
    inside = torch.ones_like(x[:, :1])
    if counts:  # what lies in the padding counts, and what lies beyond it does not
        inside = padded(inside, w.pads, 1.0)
        beyond = [(0, e[1] - p[1]) for e, p in zip(w.exact, w.pads, strict=True)]
        return total / _summed(padded(inside, beyond), w)
    return total / _summed(padded(inside, w.exact), w)


def _by_torch(x: Tensor, w: _Windows) -> Tensor | None:
    """Torch's pooling, which pads both ends equally, with surplus outputs removed; None if not."""
    padding, ceil = [before for before, _ in w.pads], False
    if any(2 * p > k for p, k in zip(padding, w.kernel, strict=True)):
        return None
    each = list(zip(w.shape, padding, w.kernel, w.stride, w.outputs, strict=True))
    if any((n + 2 * p - k) // s + 1 < m for n, p, k, s, m in each):
        ceil = True
    cuts = []
    for n, p, k, s, m in each:
        count = (-(-(n + 2 * p - k) // s) if ceil else (n + 2 * p - k) // s) + 1
        count -= ceil and (count - 1) * s >= n + p
        if count < m:
            return None
        cuts.append((0, m - count))
    result = _MEAN[w.axes](x, w.kernel, w.stride, padding, ceil, False)
    return padded(result, cuts)


def _summed(x: Tensor, w: _Windows) -> Tensor:
    """The sum of each window."""
    channels = int(x.shape[1])
    ones = torch.ones((channels, 1, *w.kernel), dtype=x.dtype)
    return _CONV[w.axes](x, ones, None, w.stride, 0, w.dilation, channels)


def lp_pool(site: Site) -> Tensor:
    """``LpPool``: a norm of each window."""
    x, p = site.tensor(0), site.attribute("p", 2)
    w = _windows(site, x)
    return _summed(padded(x.abs().pow(p), w.exact), w).pow(1.0 / p)


def _space(x: Tensor) -> Sequence[int]:
    return range(2, x.ndim)


def global_average(site: Site) -> Tensor:
    """``GlobalAveragePool``."""
    x = site.tensor(0)
    return x.mean(list(_space(x)), keepdim=True)


def global_max(site: Site) -> Tensor:
    """``GlobalMaxPool``."""
    x = site.tensor(0)
    return x.amax(list(_space(x)), keepdim=True)


def global_norm(site: Site) -> Tensor:
    """``GlobalLpPool``."""
    x, p = site.tensor(0), site.attribute("p", 2)
    return x.abs().pow(p).sum(list(_space(x)), keepdim=True).pow(1.0 / p)


Over = Callable[[Tensor, list[int], bool], Tensor]


def _reducing(function: Over) -> Compute:
    """A reduction over some or all axes."""

    def compute(site: Site) -> Tensor:
        x, axes = site.tensor(0), site.listed("axes", 1)
        keep = bool(site.attribute("keepdims", 1))
        if not axes:
            if site.attribute("noop_with_empty_axes", 0):
                return function(x.unsqueeze(0), [0], False)
            axes = tuple(range(x.ndim))
        named = sorted({axis_of(axis, x.ndim) for axis in axes})
        return function(x, named, keep).to(x.dtype) if named else function(x[None], [0], False)

    return compute


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keepdim=keep)
    return x


def _extreme(which: Callable[..., Tensor]) -> Over:
    def compute(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.dtype is torch.bool:
            return which(x.to(torch.uint8), axes, keep).to(torch.bool)
        return which(x, axes, keep)

    return compute


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep)


def _of(before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> Over:
    return lambda x, axes, keep: after(_sum(before(x), axes, keep))


def _same(x: Tensor) -> Tensor:
    return x


def _argument(which: Callable[..., Tensor]) -> Compute:
    """``ArgMax`` or ``ArgMin``: the first or last index of the largest or smallest number."""

    def compute(site: Site) -> Tensor:
        x = site.tensor(0)
        axis = axis_of(site.attribute("axis", 0), x.ndim)
        keep = bool(site.attribute("keepdims", 1))
        if site.attribute("select_last_index", 0):
            return x.shape[axis] - 1 - which(x.flip(axis), axis, keep)
        return which(x, axis, keep)

    return compute


REDUCTIONS: dict[str, Compute] = {
    "ArgMax": _argument(torch.argmax),
    "ArgMin": _argument(torch.argmin),
    "ReduceL1": _reducing(_of(torch.abs, _same)),
    "ReduceL2": _reducing(_of(torch.square, torch.sqrt)),
    "ReduceLogSum": _reducing(_of(_same, torch.log)),
    "ReduceLogSumExp": _reducing(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "ReduceMax": _reducing(_extreme(torch.amax)),
    "ReduceMean": _reducing(_mean),
    "ReduceMin": _reducing(_extreme(torch.amin)),
    "ReduceProd": _reducing(_product),
    "ReduceSum": _reducing(_sum),
    "ReduceSumSquare": _reducing(_of(torch.square, _same)),
}


_EVAL = "export the network in eval mode"


def _one_output(site: Site) -> None:
    if len([name for name in site.op.outputs if name]) > 1:
        raise Refusal("gives its statistics too", _EVAL)


def batch_norm(site: Site) -> Tensor:
    """``BatchNormalization`` with the statistics stored in the file."""
    if site.attribute("training_mode", 0):
        raise Refusal("takes the statistics of the batch: it is in training mode", _EVAL)
    if site.version < 9 and not site.attribute("spatial", 1):
        raise Refusal("has statistics for each position", "export it again with spatial = 1")
    _one_output(site)
    x, weight, bias, mean, var = (site.tensor(place) for place in range(5))
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, site.attribute("epsilon", 1e-5))


def instance_norm(site: Site) -> Tensor:
    """``InstanceNormalization``."""
    x, weight, bias = (site.tensor(place) for place in range(3))
    epsilon = site.attribute("epsilon", 1e-5)
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, epsilon)


def group_norm(site: Site) -> Tensor:
    """``GroupNormalization``; before version 21 it has a scale for each group, now for channels."""
    x, weight, bias = (site.tensor(place) for place in range(3))
    groups, channels = site.attribute("num_groups", 1), int(x.shape[1])
    if weight.shape[0] != channels:
        weight, bias = (one.repeat_interleave(channels // groups) for one in (weight, bias))
    return F.group_norm(x, groups, weight, bias, site.attribute("epsilon", 1e-5))


def layer_norm(site: Site) -> Result:
    """``LayerNormalization``; mean and inverse deviation are also returned if a node reads them."""
    x, weight, bias = site.tensor(0), site.maybe(1), site.maybe(2)
    over = tuple(x.shape[axis_of(site.attribute("axis", -1), x.ndim) :])
    weight, bias = (None if one is None else one.expand(over) for one in (weight, bias))
    epsilon = site.attribute("epsilon", 1e-5)
    result = F.layer_norm(x, over, weight, bias, epsilon)
    if not any(site.op.outputs[1:]):
        return result
    axes = list(range(x.ndim - len(over), x.ndim))
    mean = x.mean(axes, keepdim=True)
    spread = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
    return result, mean, spread


def rms_norm(site: Site) -> Tensor:
    """``RMSNormalization``."""
    x, weight = site.tensor(0), site.tensor(1)
    axes = list(range(axis_of(site.attribute("axis", -1), x.ndim), x.ndim))
    mean = x.square().mean(axes, keepdim=True)
    return x * torch.rsqrt(mean + site.attribute("epsilon", 1e-5)) * weight


def lp_norm(site: Site) -> Tensor:
    """``LpNormalization``: zeros stay zeros."""
    x, p = site.tensor(0), site.attribute("p", 2)
    axis = axis_of(site.attribute("axis", -1), x.ndim)
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else x.square().sum(axis, keepdim=True).sqrt()
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def local_response(site: Site) -> Tensor:
    """``LRN`` over channels."""
    x, size = site.tensor(0), site.attribute("size", 1)
    alpha, beta = site.attribute("alpha", 1e-4), site.attribute("beta", 0.75)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    squares = F.pad(x.square(), [0, 0] * (x.ndim - 2) + [before, after])
    channels = int(x.shape[1])
    total = squares[:, :channels]
    for shift in range(1, size):
        total = total + squares[:, shift : shift + channels]
    return x / (site.attribute("bias", 1.0) + total * (alpha / size)).pow(beta)


def mean_variance(site: Site) -> Tensor:
    """``MeanVarianceNormalization``."""
    x = site.tensor(0)
    axes = [axis_of(axis, x.ndim) for axis in site.numbers("axes", (0, 2, 3))]
    centered = x - x.mean(axes, keepdim=True)
    return centered / (centered.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Compute:
    """A softmax over one axis; before version 13 over that axis and all after it."""

    def compute(site: Site) -> Tensor:
        x = site.tensor(0)
        if site.version >= 13:
            return function(x, axis_of(site.attribute("axis", -1), x.ndim))
        axis = axis_of(site.attribute("axis", 1), x.ndim)
        if all(n == 1 for n in x.shape[axis + 1 :]):
            return function(x, axis)
        return function(x.flatten(axis), axis).reshape(x.shape)

    return compute


POOLS: dict[str, Compute] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalLpPool": global_norm,
    "GlobalMaxPool": global_max,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}

NORMS: dict[str, Compute] = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response,
    "LayerNormalization": layer_norm,
    "LogSoftmax": _softmax(torch.log_softmax),
    "LpNormalization": lp_norm,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": rms_norm,
    "Softmax": _softmax(torch.softmax),
}
