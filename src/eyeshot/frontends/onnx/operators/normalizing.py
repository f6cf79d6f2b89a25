"""Normalizations and softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.frontends.onnx.site import Compute, Refusal, Result, Site, axis_of

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


COMPUTE: dict[str, Compute] = {
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
