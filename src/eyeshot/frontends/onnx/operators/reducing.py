"""Reductions over positions, over channels, or over both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eyeshot.frontends.onnx.site import Compute, Site, axis_of

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


COMPUTE: dict[str, Compute] = {
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
