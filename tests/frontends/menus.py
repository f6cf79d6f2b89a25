"""A use of each operator of the table, by the number of spatial axes it is used on."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.frontends.poking import Apply, Function

Dishes = dict[str, nn.Module | Function]
aten = torch.ops.aten

_UNARY = """
    abs acos acosh alias asin asinh atan atanh ceil celu clone cos cosh detach elu erf
    erfc exp exp2 expm1 floor gelu hardshrink hardsigmoid hardswish hardtanh isfinite isinf isnan
    leaky_relu lift_fresh_copy log log10 log1p log2 log_sigmoid logical_not logit mish nan_to_num
    neg ones_like reciprocal relu relu6 round rrelu rsqrt selu sgn sigmoid sign silu sin sinh
    softplus softshrink sqrt square tan tanh trunc zeros_like
"""
_BINARY = """
    add atan2 div divide eq floor_divide fmax fmin fmod ge gt hypot le logical_and
    logical_xor lt maximum minimum mul multiply ne pow remainder rsub sub subtract
    true_divide xlogy clamp clamp_max clamp_min
"""

STRUCTURAL = {
    "zeros_like": "its values are zeros, whatever the input; the shape alone is read",
    "ones_like": "its values are ones",
    "full_like": "its values are one number",
    "fill": "its values are one number",
    "zero": "its values are zeros",
}
"""Operators whose predicted input has no influence, and why."""

GIVE_BACK: dict[str, Function] = {
    "positive": lambda x: +x + 1,
    "feature_dropout": lambda x: aten.feature_dropout(x, 0.5, False) + 1,
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=False) + 1,
}
"""Operators that may give back their very input, which the tracer then takes for the same value:
they are tested each on its own."""


def beside(x: Tensor) -> Tensor:
    """The left neighbor of each position, so that two operands depend on different inputs."""
    return F.pad(x, (1, -1), value=0.5)


_BOTH: dict[str, Any] = {"batch_first": True, "bidirectional": True, "bias": False}


def both_ways(x: Tensor, layer: nn.RNNBase) -> Tensor:
    """A recurrent layer along the positions, forwards and backwards."""
    given: Tensor = layer(0.05 * x.transpose(1, 2))[0]  # so that no poke saturates it
    return given


def _unary(name: str) -> Function:
    operator = getattr(aten, name)
    return lambda x: operator(x)


def _binary(name: str) -> Function:
    operator = getattr(aten, name)
    return lambda x: operator(x, beside(x))


NUMBERS: Dishes = {
    **{name: _unary(name) for name in _UNARY.split()},
    **{name: _binary(name) for name in _BINARY.split()},
    "fill": lambda x: aten.fill(x, 2.0),
    "zero": lambda x: aten.zero(x),
    "max.other": lambda x: aten.max.other(x, beside(x)),
    "min.other": lambda x: aten.min.other(x, beside(x)),
    "masked_fill": lambda x: x.masked_fill(beside(x) > 0.6, 0.25),
    "addcdiv": lambda x: aten.addcdiv(x, beside(x), beside(beside(x))),
    "addcmul": lambda x: aten.addcmul(x, beside(x), beside(beside(x))),
    "lerp": lambda x: aten.lerp(x, beside(x), beside(beside(x))),
    "where": lambda x: torch.where(x > 0.6, beside(x), 2 * beside(x)),
    "heaviside": lambda x: aten.heaviside(beside(x) - 0.5, x),
    "logical_or": lambda x: aten.logical_or(x - 0.5, beside(x) - 0.5),
    "full_like": lambda x: aten.full_like(x, 3.0),
    "threshold": lambda x: aten.threshold(x, 0.4, -1.0),
    "prelu": nn.PReLU(2),
    "to": lambda x: x.to(torch.float16),
    "_to_copy": lambda x: aten._to_copy(x, dtype=torch.float16),
    "type_as": lambda x: aten.type_as(x, x > 0.6),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "pow:scalar": lambda x: x**3,
    "rsub:scalar": lambda x: aten.rsub(x, 1.0),
}

BOOLEAN: Dishes = {
    "bitwise_not": lambda x: ~(x > 0.6),
    "bitwise_and": lambda x: aten.bitwise_and(x < 0.6, beside(x) < 0.6),
    "bitwise_or": lambda x: aten.bitwise_or(x > 0.6, beside(x) > 0.6),
    "bitwise_xor": lambda x: aten.bitwise_xor(x > 0.6, beside(x) > 0.6),
    "__and__": lambda x: aten.__and__(x < 0.6, beside(x) < 0.6),
    "__or__": lambda x: aten.__or__(x > 0.6, beside(x) > 0.6),
}

LINE: Dishes = {
    "conv1d": nn.Conv1d(2, 3, 3, padding=1),
    "conv1d:strided": nn.Conv1d(2, 2, 2, stride=3, padding=2, dilation=2, groups=2),
    "conv1d:same": nn.Conv1d(2, 3, 4, padding="same"),
    "conv_transpose1d": nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1),
    "conv_transpose1d:gaps": nn.ConvTranspose1d(2, 2, 2, stride=3, dilation=2),
    "max_pool1d": nn.MaxPool1d(3, 2, padding=1),
    "max_pool1d_with_indices": lambda x: F.max_pool1d(x, 2, return_indices=True)[0],
    "avg_pool1d": nn.AvgPool1d(3, 2, padding=1, ceil_mode=True),
    "adaptive_avg_pool1d": nn.AdaptiveAvgPool1d(4),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x, 3, return_indices=True)[0],
    "upsample_nearest1d": nn.Upsample(scale_factor=2),
    "upsample_nearest1d:size": nn.Upsample(size=11),
    "_upsample_nearest_exact1d": nn.Upsample(size=4, mode="nearest-exact"),
    "upsample_linear1d": nn.Upsample(scale_factor=2, mode="linear"),
    "upsample_linear1d:aligned": nn.Upsample(size=9, mode="linear", align_corners=True),
    "pad": lambda x: F.pad(x, (2, 1)),
    "pad:reflect": lambda x: F.pad(x, (2, 1), mode="reflect"),
    "pad:circular": lambda x: F.pad(x, (2, 3), mode="circular"),
    "pad:replicate": lambda x: F.pad(x, (2, -1), mode="replicate"),
    "constant_pad_nd": lambda x: aten.constant_pad_nd(x, [1, -2], 0.5),
    "slice": lambda x: x[:, :, 1:-1],
    "slice:step": lambda x: x[..., 1::2],
    "slice:channels": lambda x: x[:, 1:],
    "narrow": lambda x: x.narrow(2, 1, 3),
    "chunk": lambda x: x.chunk(2, 2)[1],
    "split": lambda x: x.split(4, 2)[1],
    "split:channels": lambda x: x.split(1, 1)[1],
    "split_with_sizes": lambda x: x.split([1, 3, 2], 2)[1],
    "cat": lambda x: torch.cat([x, beside(x)], 1),
    "cat:along": lambda x: torch.cat([x[:, :, 2:], x], 2),
    "concat": lambda x: torch.concat([x, beside(x)], 1),
    "concatenate": lambda x: torch.concatenate([x, x, beside(x)], 2),
    "unflatten": lambda x: x.unflatten(2, (3, 2)),
    "flatten": lambda x: x.flatten(1),
    "_unsafe_view": lambda x: aten._unsafe_view(x, [1, 2, 3, 2]),
    "t": lambda x: x[0].t(),
    "transpose": lambda x: x.transpose(1, 2),
    "slice_scatter": lambda x: aten.slice_scatter(x, 2 * x[:, :, ::2], 2, 0, None, 2),
    "slice_scatter:middle": lambda x: aten.slice_scatter(x, beside(x)[:, :, 1:3], 2, 1, 3),
    "slice_scatter:channels": lambda x: aten.slice_scatter(x, beside(x)[:, :1], 1, 1, 2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 2),
    "repeat_interleave:channels": lambda x: x.repeat_interleave(3, 1),
    "unfold": lambda x: x.unfold(2, 3, 2),
    "unfold:channels": lambda x: x.unfold(1, 2, 1),
    "index": lambda x: x[:, [1, 0, 1]],
    "index_select": lambda x: x.index_select(1, torch.tensor([1, 1])),
    "index_put": lambda x: x.index_put([x > 0.6], torch.tensor(0.5, dtype=x.dtype)),
    "rms_norm": lambda x: F.rms_norm(x.transpose(1, 2), (2,)),
    "mT": lambda x: x.mT,
    "mH": lambda x: x.mH,
    "adjoint": lambda x: x.adjoint(),
    "contiguous": lambda x: x.transpose(1, 2).contiguous(),
    "swapaxes": lambda x: x.swapaxes(1, 2),
    "swapdims": lambda x: x.swapdims(0, 2),
    "movedim": lambda x: x.movedim(2, 0),
    "moveaxis": lambda x: x.moveaxis(1, 2),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x.squeeze(0),
    "squeeze:all": lambda x: x.mean(2, keepdim=True).squeeze(),
    "expand": lambda x: x[:, :, 2:3].expand(1, 2, 6),
    "expand_as": lambda x: x[:, :, 2:3].expand_as(x),
    "glu": lambda x: F.glu(torch.cat([x, beside(x)], 1), 1),
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(1, 1),
    "repeat": lambda x: x[:, :, 2:3].repeat(1, 2, 6),
    "select": lambda x: x[:, :, 4],
    "select:channel": lambda x: x[:, 1],
    "unbind": lambda x: x.unbind(1)[1],
    "unbind:axis": lambda x: x.unbind(2)[-1],
    "stack": lambda x: torch.stack([x, beside(x)], 1),
    "mean": lambda x: x.mean(2),
    "mean:channels": lambda x: x.mean(1, keepdim=True),
    "sum": lambda x: x.sum((1, 2)),
    "sum:all": lambda x: x.sum(),
    "amax": lambda x: x.amax(2, keepdim=True),
    "amin": lambda x: x.amin(1),
    "max": lambda x: x.max(2)[0],
    "max:all": lambda x: x.max(),
    "min": lambda x: x.min(1, keepdim=True)[0],
    "prod": lambda x: x.prod(2),
    "var": lambda x: x.var(2),
    "std": lambda x: x.std(2, keepdim=True),
    "argmax": lambda x: x.argmax(2),
    "argmax:channels": lambda x: x.argmax(1),
    "aminmax": lambda x: torch.aminmax(x, dim=2)[1],
    "any": lambda x: (x > 5).any(2),
    "all": lambda x: (x > -1).all(2),
    "count_nonzero": lambda x: torch.count_nonzero(x > 5, dim=2),
    "argmin": lambda x: x.argmin(2),
    "logsumexp": lambda x: x.logsumexp(2),
    "norm": lambda x: aten.norm.ScalarOpt_dim(x, 2, [2], False),
    "linalg_vector_norm": lambda x: torch.linalg.vector_norm(x, dim=2),
    "var_mean": lambda x: torch.var_mean(x, 2)[0],
    "std_mean": lambda x: torch.std_mean(x, 2)[1],
    "median": lambda x: x.median(2)[0],
    "softmax": lambda x: x.softmax(2),
    "softmax:channels": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(2),
    "_softmax": lambda x: aten._softmax(x, 1, False),
    "_log_softmax": lambda x: aten._log_softmax(x, 2, False),
    "matmul": lambda x: x.transpose(1, 2) @ x,
    "matmul:weights": Apply(lambda x, f: x.transpose(1, 2) @ f.weight[:, :, 0], nn.Conv1d(3, 2, 1)),
    "matmul:weights first": Apply(lambda x, f: f.weight[:, :, 0] @ x, nn.Conv1d(2, 3, 1)),
    "matmul:weights along": Apply(lambda x, f: x @ f.weight[:, :, 0], nn.Conv1d(3, 6, 1)),
    "mm:weights": Apply(lambda x, f: torch.mm(x[0].t(), f.weight[:, :, 0]), nn.Conv1d(3, 2, 1)),
    "addmm:weights": Apply(
        lambda x, f: torch.addmm(f.bias, x[0].t(), f.weight[:, :, 0].t()), nn.Conv1d(2, 3, 1)
    ),
    "einsum": Apply(lambda x, f: torch.einsum("ncl,oc->nol", x, f.weight), nn.Linear(2, 3)),
    "lstm": Apply(both_ways, nn.LSTM(2, 1, **_BOTH)),
    "gru": Apply(both_ways, nn.GRU(2, 1, **_BOTH)),
    "rnn_tanh": Apply(both_ways, nn.RNN(2, 1, **_BOTH)),
    "rnn_relu": Apply(both_ways, nn.RNN(2, 1, nonlinearity="relu", **_BOTH)),
    "einsum:dots": Apply(lambda x, f: torch.einsum("nc...,oc->o...", x, f.weight), nn.Linear(2, 3)),
    "einsum:two": lambda x: torch.einsum("ncl,ncl->ln", x, beside(x)),
    "einsum:gate": lambda x: torch.einsum("ncl,nc->ncl", x, x.mean(2)),
    "einsum:one position": lambda x: torch.einsum("ncl,nck->ncl", x, x.mean(2, keepdim=True)),
    "einsum:whole": lambda x: torch.einsum("ncl,nck->nlk", x, x),
    "einsum:summed": lambda x: torch.einsum("ncl,ncl->nc", x, x),
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(1),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "cummax": lambda x: x.cummax(1)[0],
    "cummin": lambda x: x.cummin(1)[0],
    "sort": lambda x: x.sort(dim=1)[0],
    "argsort": lambda x: x.argsort(dim=1),
    "topk": lambda x: x.topk(1, dim=1)[0],
    "mm": lambda x: torch.mm(x[0].t(), x[0]),
    "bmm": lambda x: torch.bmm(x.transpose(1, 2), x),
    "addmm": lambda x: torch.addmm(x[0].t() @ x[0], x[0].t(), x[0]),
    "baddbmm": lambda x: torch.baddbmm(x.transpose(1, 2) @ x, x.transpose(1, 2), x),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(
        x.transpose(1, 2), x.transpose(1, 2), x.transpose(1, 2)
    ),
    "linear": Apply(lambda x, f: f(x.flatten(1)), nn.Linear(12, 3)),
    "linear:along": nn.Linear(6, 4),
    "linear:channels": Apply(lambda x, f: f(x.transpose(1, 2)), nn.Linear(2, 3)),
    "batch_norm": nn.BatchNorm1d(2),
    "batch_norm:untracked": nn.BatchNorm1d(2, track_running_stats=False),
    "group_norm:one position": lambda x: F.group_norm(x.mean(2, keepdim=True), 1),
    "instance_norm": nn.InstanceNorm1d(2),
    "instance_norm:tracked": nn.InstanceNorm1d(2, track_running_stats=True),
    "group_norm": nn.GroupNorm(2, 2),
    "layer_norm": nn.LayerNorm([2, 6]),
    "layer_norm:channels": Apply(lambda x, f: f(x.transpose(1, 2)), nn.LayerNorm(2)),
    "mul:gate": lambda x: x * x.mean(2, keepdim=True),
    "add:weights": Apply(lambda x, f: x + f.weight[:1, :, 0], nn.Conv1d(6, 2, 1)),
}

PLANE: Dishes = {
    "conv2d": nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    "conv_transpose2d": nn.ConvTranspose2d(2, 2, (2, 3), stride=(2, 1), padding=(0, 1), groups=2),
    "max_pool2d": nn.MaxPool2d((2, 3), (2, 1), dilation=(2, 1), ceil_mode=True),
    "max_pool2d_with_indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "avg_pool2d": nn.AvgPool2d(2, padding=1),
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d((2, 1)),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (3, 2), return_indices=True)[0],
    "upsample_nearest2d": nn.Upsample(scale_factor=(2.0, 1.5)),
    "_upsample_nearest_exact2d": nn.Upsample(size=(6, 4), mode="nearest-exact"),
    "upsample_bilinear2d": nn.Upsample(scale_factor=2, mode="bilinear"),
    "upsample_bicubic2d": nn.Upsample(size=(6, 9), mode="bicubic"),
    "channel_shuffle": lambda x: F.channel_shuffle(torch.cat([x, x], 1), 2),
    "pixel_shuffle": Apply(lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2)),
    "pixel_unshuffle": nn.PixelUnshuffle(2),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "permute:turned": lambda x: x.permute(0, 1, 3, 2),
    "view": lambda x: x.view(1, 2, 2, 2, 6),
    "reshape:channel shuffle": lambda x: (
        torch.cat([x, 2 * x], 1).view(1, 2, 2, 4, 6).transpose(1, 2).reshape(1, 4, 4, 6)
    ),
    "reshape": lambda x: x.reshape(1, 2, 24),
    "reshape:to depth": lambda x: (
        x.reshape(1, 2, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 8, 2, 3)
    ),
    "mean": lambda x: x.mean((2, 3)),
    "mean:rows": lambda x: x.mean(3),
    "group_norm": nn.GroupNorm(1, 2),
    "layer_norm": nn.LayerNorm(6),
    "linear": nn.Linear(6, 3),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "matmul:weights": Apply(
        lambda x, f: x.permute(0, 2, 3, 1) @ f.weight[:, :, 0], nn.Conv1d(3, 2, 1)
    ),
    "einsum": lambda x: torch.einsum("nchw,ncHw->nwcH", x, x),
    "einsum:turned": lambda x: torch.einsum("nchw->wnh", x),
}

VOLUME: Dishes = {
    "conv3d": nn.Conv3d(1, 2, (2, 3, 1), padding=(1, 1, 0), stride=(1, 2, 1)),
    "conv_transpose3d": nn.ConvTranspose3d(1, 1, (2, 1, 3), stride=(2, 1, 1)),
    "max_pool3d": nn.MaxPool3d((2, 2, 1)),
    "max_pool3d_with_indices": lambda x: F.max_pool3d(x, (1, 2, 3), return_indices=True)[0],
    "avg_pool3d": nn.AvgPool3d((1, 2, 2)),
    "adaptive_avg_pool3d": nn.AdaptiveAvgPool3d((2, 1, 3)),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(x, (1, 2, 2), return_indices=True)[0],
    "upsample_nearest3d": nn.Upsample(scale_factor=(1, 2, 1)),
    "_upsample_nearest_exact3d": nn.Upsample(size=(2, 3, 2), mode="nearest-exact"),
    "upsample_trilinear3d": nn.Upsample(size=(4, 3, 3), mode="trilinear"),
}

MENUS: dict[str, tuple[Dishes, tuple[int, ...]]] = {
    "numbers": (NUMBERS, (2, 4)),
    "boolean": (BOOLEAN, (2, 4)),
    "line": (LINE, (2, 6)),
    "plane": (PLANE, (2, 4, 6)),
    "volume": (VOLUME, (1, 3, 3, 3)),
}
