"""Convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.frontends.onnx.site import Compute, Refusal, Shape, Site

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
Pads = list[tuple[int, int]]


def same_padding(
    n: int, kernel: int, stride: int, dilation: int, *, upper: bool
) -> tuple[int, int]:
    """The padding (before, after) of an axis that gives ⌈n / stride⌉ outputs."""
    outputs = -(-n // stride)
    total = max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - n)
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def paddings(
    site: Site,
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pads:
    """The padding (before, after) of each spatial axis, by ``auto_pad`` or ``pads``.

    In a file of an exporter that writes ``same`` as the pads of one size, pads of 0 that are what
    ``same`` gave at that size are computed again for this one.

    Raises:
        Refusal: the pads may be those of ``same`` or explicit ones, which differ at this size.
    """
    axes, auto = len(kernel), site.attribute("auto_pad", "NOTSET")

    def same(shape: Sequence[int], upper: bool) -> Pads:
        each = zip(shape, kernel, stride, dilation, strict=True)
        return [same_padding(n, k, s, d, upper=upper) for n, k, s, d in each]

    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return same(shape, auto == "SAME_UPPER")
    if auto == "VALID":
        return [(0, 0)] * axes
    flat = site.numbers("pads", (0,) * (2 * axes))
    pads = list(zip(flat[:axes], flat[axes:], strict=True))
    before = site.original[0] if site.original else None
    written = "pads" in site.op.attributes and site.op.sized_pads
    if not (written and site.op.kind != "ConvTranspose" and before):
        return pads
    again = same(shape, True)
    if pads != same(before[2:], True) or pads == again:
        return pads
    if any(flat):
        raise Refusal(
            f"its pads {list(flat)} are those of same at the size that the file was exported for, "
            "but may be explicit, and the two differ at this size",
            "export the file with open dimensions, or give a size that differs from its own by a "
            "multiple of all strides",
        )
    return again  # explicit pads of 0 are left out of the file


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """The last axes padded, or cropped if an amount is negative."""
    if all(one == (0, 0) for one in pads):
        return x
    return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


def _axes_of(weight: Tensor) -> int:
    axes = weight.ndim - 2
    if axes not in _CONV:
        raise Refusal(f"slides over {axes} axes", "use 1, 2 or 3")
    return axes


def conv(site: Site) -> Tensor:
    """``Conv``."""
    x, weight, bias = site.tensor(0), site.tensor(1), site.maybe(2)
    axes = _axes_of(weight)
    stride = site.numbers("strides", (1,) * axes)
    dilation = site.numbers("dilations", (1,) * axes)
    pads = paddings(site, x.shape[2:], tuple(weight.shape[2:]), stride, dilation)
    if any(before != after for before, after in pads):
        x, pads = padded(x, pads), [(0, 0)] * axes
    padding = [before for before, _ in pads]
    groups = site.attribute("group", 1)
    return _CONV[axes](x, weight, bias, stride, padding, dilation, groups)


def conv_transpose(site: Site) -> Tensor:
    """``ConvTranspose``; padding that differs by side is done by cropping, or by adding zeros."""
    x, weight, bias = site.tensor(0), site.tensor(1), site.maybe(2)
    axes = _axes_of(weight)
    stride = site.numbers("strides", (1,) * axes)
    dilation = site.numbers("dilations", (1,) * axes)
    more = site.numbers("output_padding", (0,) * axes)
    groups = site.attribute("group", 1)
    spread = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    pads = _transposed_pads(site, tuple(x.shape[2:]), stride, spread, more)
    # torch cuts both ends by the same, and adds less than a stride at the far one.
    added = [o + before - after for o, (before, after) in zip(more, pads, strict=True)]
    function = _TRANSPOSED[axes]
    if all(
        before >= 0 and 0 <= a < max(s, d)
        for a, s, d, (before, _) in zip(added, stride, dilation, pads, strict=True)
    ):
        padding = [before for before, _ in pads]
        return function(x, weight, bias, stride, padding, added, groups, dilation)
    whole = function(x, weight, None, stride, 0, 0, groups, dilation)
    cut = [(-before, o - after) for o, (before, after) in zip(more, pads, strict=True)]
    result = padded(whole, cut)
    return result if bias is None else result + bias.reshape(-1, *(1,) * axes)


def _transposed_pads(
    site: Site, shape: Shape, stride: Sequence[int], spread: Sequence[int], more: Sequence[int]
) -> Pads:
    """The crop (before, after) of each axis; by ``output_shape`` if the node has it."""
    auto, axes = site.attribute("auto_pad", "NOTSET"), len(stride)
    asked: Sequence[int] = site.numbers("output_shape", ())[-axes:]
    if site.original is not None and site.original[0] is not None:
        shape = site.original[0][2:]  # the size was written for these
    if not asked and auto in ("SAME_UPPER", "SAME_LOWER"):
        asked = [n * s for n, s in zip(shape, stride, strict=True)]
    if not asked:
        return paddings(site, shape, spread, (1,) * axes, (1,) * axes)
    pads: Pads = []
    for n, s, k, o, size in zip(shape, stride, spread, more, asked, strict=True):
        total = s * (n - 1) + o + k - size
        if total < 0:
            raise Refusal(
                f"is to give {size} of {n} positions, more than its kernel reaches, on which ONNX "
                "and onnxruntime disagree",
                "write its pads and output_padding",
            )
        # As onnxruntime has it: the odd one goes to the end, but for SAME_LOWER and NOTSET.
        less, greater = total // 2, total - total // 2
        pads.append((less, greater) if auto == "SAME_UPPER" else (greater, less))
    return pads


def gemm(site: Site) -> Tensor:
    """``Gemm``."""
    a, b, c = site.tensor(0), site.tensor(1), site.maybe(2)
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    a = a.t() if site.attribute("transA", 0) else a
    flipped = bool(site.attribute("transB", 0))
    if alpha == beta == 1.0 and c is not None and c.ndim == 1 and a.is_floating_point():
        return F.linear(a, b if flipped else b.t(), c.expand(b.shape[0 if flipped else 1]))
    product = torch.matmul(a, b.t() if flipped else b)
    product = product if alpha == 1.0 else product * alpha
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else c * beta)


def matmul(site: Site) -> Tensor:
    """``MatMul``; with a matrix stored in the file, it is a linear layer."""
    a, b = site.tensor(0), site.tensor(1)
    if site.value(1).is_weight and b.ndim == 2 and a.ndim >= 2 and a.is_floating_point():
        return F.linear(a, b.t())
    return torch.matmul(a, b)


def einsum(site: Site) -> Tensor:
    """``Einsum``."""
    equation = site.attribute("equation", "").replace(" ", "")
    return torch.einsum(equation, *(site.tensor(place) for place in range(len(site.values))))


COMPUTE: dict[str, Compute] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
