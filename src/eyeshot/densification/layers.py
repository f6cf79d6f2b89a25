"""The layers of a dense form, built from the nodes of the classifier; every weight is a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.axes import Window
from eyeshot.errors import Unsupported
from eyeshot.graph import Family, Graph, Node, Weight
from eyeshot.operators.call import called

_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MAX_POOLS: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_PADS: tuple[Any, ...] = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_AVERAGE_POOLS: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


def convolution(node: Node, graph: Graph, step: tuple[int, ...], every_pixel: bool) -> nn.Module:
    """The same convolution; at every pixel, its kernel spread by ``step`` and its stride 1.

    Raises:
        Unsupported: uneven padding that would have to be spread.
    """
    params = node.params
    pads = tuple(params.padding)
    if any(before != after for before, after in pads):
        if any(s > 1 for s in step):
            raise Unsupported(
                f"{node.name} pads unevenly behind a stride, which has no form at every pixel",
                cure="leave every_pixel out, or pad by the same number on both sides",
            )
        padding: Any = "same"  # the one way in which torch pads unevenly
    else:
        padding = tuple(before * s for (before, _), s in zip(pads, step, strict=True))
    weight = graph.tensors[node.weights[0]]
    bias = graph.tensors[node.weights[1]] if params.bias else None
    options = {
        "stride": (1,) * len(step) if every_pixel else params.stride,
        "padding": padding,
        "dilation": _times(params.dilation, step),
        "groups": params.groups,
    }
    return convolve(weight, bias, **options)


def convolve(weight: Tensor, bias: Tensor | None, *, groups: int = 1, **options: Any) -> nn.Module:
    """A convolution with copies of these weights, (out, in / groups, *kernel)."""
    kernel = tuple(weight.shape[2:])
    # On the meta device no weights are drawn, so that the caller's random numbers are not used up.
    empty: nn.Module = _CONVOLUTIONS[len(kernel) - 1](
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        groups=groups,
        bias=bias is not None,
        device="meta",
        dtype=weight.dtype,
        **options,
    )
    layer = empty.to_empty(device=weight.device)
    _fill(layer, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer


def pooling(
    node: Node, window: tuple[int, ...], step: tuple[int, ...], every_pixel: bool
) -> nn.Module:
    """The same pooling; at every pixel, a max-pool's window spread and its stride 1.

    Raises:
        Unsupported: an average over spread places, for which torch has no layer; at every pixel,
            an average whose last window hangs over the crop.
    """
    params = node.params
    axes = len(params.kernel)
    stride = (1,) * axes if every_pixel else params.stride
    padding = tuple(before * s for (before, _), s in zip(params.padding, step, strict=True))
    ceil = _hangs_over(node, window)
    if node.family is Family.MAX_POOL:
        dilation = _times(params.dilation, step)
        over = _overhang(node, window) if every_pixel else (0,) * axes
        # Windows of stride 1 never hang over; torch's pools pad at most half of their kernel.
        beside = any(over) or any(2 * p > k for p, k in zip(padding, params.kernel, strict=True))
        own = (0,) * axes if beside else padding
        layer: nn.Module = _MAX_POOLS[axes - 1](
            params.kernel, stride, own, dilation, ceil_mode=ceil and not every_pixel
        )
        if not beside:
            return layer
        pads = [(p, p + o * s) for p, o, s in zip(padding, over, step, strict=True)]
        ends = tuple(n for pair in reversed(pads) for n in pair)
        return nn.Sequential(_PADS[axes - 1](ends, -float("inf")), layer)
    _refuse_spread(node, step)
    if ceil and every_pixel:
        raise Unsupported(
            f"{node.name} averages a window that hangs over the crop, which has no form at every "
            "pixel",
            cure="leave every_pixel out, or use ceil_mode=False",
        )
    options: dict[str, Any] = {"count_include_pad": params.count_include_pad}
    if axes > 1:
        options["divisor_override"] = called(node).argument("divisor_override")
    average: nn.Module = _AVERAGE_POOLS[axes - 1](params.kernel, stride, padding, ceil, **options)
    return average


def window_pooling(
    node: Node, windows: Sequence[Window], step: tuple[int, ...], every_pixel: bool
) -> nn.Module:
    """The mean or the largest of each window: what a pool over the whole crop is on a page.

    Raises:
        Unsupported: an average over spread places.
    """
    largest = node.family in (Family.ADAPTIVE_MAX_POOL, Family.LARGEST)
    if not largest:
        _refuse_spread(node, step)
    kernel = tuple(window.kernel for window in windows)
    stride = tuple(1 if every_pixel else window.stride for window in windows)
    options = {"dilation": step} if largest else {}
    pools = _MAX_POOLS if largest else _AVERAGE_POOLS
    layer: nn.Module = pools[len(kernel) - 1](kernel, stride, **options)
    return layer


def _refuse_spread(node: Node, step: tuple[int, ...]) -> None:
    """Raise Unsupported where an average would be taken over places that do not lie together."""
    if any(s > 1 for s in step):
        raise Unsupported(
            f"{node.name} averages behind a stride of {max(step)}, which has no form at every "
            "pixel",
            cure="leave every_pixel out, or pool by the largest value",
        )


def batch_norm(node: Node, graph: Graph, axes: int) -> nn.Module:
    """Batch normalization in eval mode over maps of so many axes."""
    scale, shift, mean, variance = batch_norm_tensors(node, graph)
    layer: nn.Module = _BATCH_NORMS[axes - 1](
        len(mean), eps=epsilon(node), affine=scale is not None, device=mean.device, dtype=mean.dtype
    )
    tensors = {"running_mean": mean, "running_var": variance}
    if scale is not None and shift is not None:
        tensors |= {"weight": scale, "bias": shift}
    _fill(layer, tensors)
    return layer.eval()


def batch_norm_tensors(
    node: Node, graph: Graph
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
    """γ, β (None where there are none), μ and σ² of a batch normalization."""

    def tensor(name: str) -> Tensor | None:
        weight = called(node).argument(name)
        return graph.tensors[weight.name].detach() if isinstance(weight, Weight) else None

    mean, variance = tensor("running_mean"), tensor("running_var")
    if mean is None or variance is None:
        raise Unsupported(
            f"{node.name} keeps no running statistics", cure="train with track_running_stats=True"
        )
    return tensor("weight"), tensor("bias"), mean, variance


def epsilon(node: Node) -> float:
    """What a batch normalization adds to the variance."""
    return float(called(node).argument("eps"))


def _hangs_over(node: Node, window: tuple[int, ...]) -> bool:
    """Whether a last window hangs over the end of a crop of ``window`` places.

    Where none does, none may at the end of the page: it would be about no crop.
    """
    return any(axis.hangs_over(n) for axis, n in zip(node.edges[0].axes, window, strict=True))


def _overhang(node: Node, window: tuple[int, ...]) -> tuple[int, ...]:
    """Along each axis, by how many places the last window reaches beyond the crop's padding."""
    params = node.params
    last = [axis.output_size(n) - 1 for axis, n in zip(node.edges[0].axes, window, strict=True)]
    return tuple(
        max(0, i * params.stride[a] + params.dilation[a] * (kernel - 1) + 1 - sum(pads) - n)
        for a, (i, n, pads, kernel) in enumerate(
            zip(last, window, params.padding, params.kernel, strict=True)
        )
    )


def _fill(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _times(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a * b for a, b in zip(one, other, strict=True))
