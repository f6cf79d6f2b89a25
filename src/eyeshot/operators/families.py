"""One table: the family of every operator by its name."""

from __future__ import annotations

from collections.abc import Mapping

from eyeshot.graph import Family

_POINTWISE = """
    abs acos acosh asin asinh atan atanh bitwise_not ceil celu clamp clamp_max clamp_min
    clone cos cosh elu erf erfc exp exp2 expm1 floor full_like gelu hardshrink
    hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu lift_fresh_copy log log10 log1p
    log2 log_sigmoid logical_not logit mish nan_to_num neg ones_like positive reciprocal
    relu6 round rsqrt selu sgn sigmoid sign silu sin sinh softplus softshrink sqrt square
    tan tanh threshold to trunc type_as zeros_like _to_copy

    add addcdiv addcmul atan2 bitwise_and bitwise_or bitwise_xor div divide eq floor_divide fmax
    fmin fmod ge gt heaviside hypot le lerp logical_and logical_or logical_xor lt masked_fill
    max.other maximum min.other minimum mul multiply ne pow remainder rsub sub subtract true_divide
    where xlogy __and__ __or__
"""

# A name with its overload (`max.other`) is asked for before the name alone.
_NAMES: Mapping[Family, str] = {
    Family.INPUT: "input",
    Family.CONVOLUTION: "conv1d conv2d conv3d",
    Family.TRANSPOSED_CONVOLUTION: "conv_transpose1d conv_transpose2d conv_transpose3d",
    Family.MAX_POOL: """
        max_pool1d max_pool2d max_pool3d
        max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    """,
    Family.AVERAGE_POOL: "avg_pool1d avg_pool2d avg_pool3d",
    Family.ADAPTIVE_MAX_POOL: "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    Family.ADAPTIVE_AVERAGE_POOL: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
    Family.RESIZE: """
        upsample_nearest1d upsample_nearest2d upsample_nearest3d
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
    """,
    Family.PAD: "pad constant_pad_nd",
    Family.CROP: "slice narrow chunk split split_with_sizes",
    Family.SELECT: "select unbind",
    Family.SCATTER: "slice_scatter",
    Family.CONCATENATE: "cat concat concatenate",
    Family.STACK: "stack",
    Family.RESHAPE: "view reshape flatten unflatten _unsafe_view",
    Family.PERMUTE: "permute transpose swapaxes swapdims t mT mH adjoint movedim moveaxis",
    Family.SQUEEZE: "squeeze",
    Family.UNSQUEEZE: "unsqueeze",
    Family.EXPAND: "expand expand_as",
    Family.REPEAT: "repeat",
    Family.REPEAT_EACH: "repeat_interleave",
    Family.PIXEL_SHUFFLE: "pixel_shuffle pixel_unshuffle",
    Family.UNFOLD: "unfold",
    Family.CHANNELS: "glu flip roll channel_shuffle",
    Family.INDEX: "index index_select index_put",
    Family.ALIAS: "alias contiguous detach",
    Family.POINTWISE: _POINTWISE,
    Family.RELU: "relu",
    Family.PRELU: "prelu",
    Family.DROPOUT: "dropout feature_dropout alpha_dropout",
    Family.LINEAR: "linear",
    Family.PRODUCT: "matmul mm bmm addmm baddbmm einsum",
    Family.ATTENTION: "scaled_dot_product_attention",
    Family.MEAN: "mean",
    Family.SUM: "sum",
    Family.LARGEST: "amax",
    Family.SMALLEST: "amin",
    Family.STATISTIC: """
        max min prod var std argmax argmin logsumexp norm linalg_vector_norm var_mean std_mean
        median
    """,
    Family.SOFTMAX: "softmax log_softmax _softmax _log_softmax",
    Family.BATCH_NORM: "batch_norm",
    Family.INSTANCE_NORM: "instance_norm",
    Family.GROUP_NORM: "group_norm",
    Family.LAYER_NORM: "layer_norm rms_norm",
    Family.SCAN: "cumsum cumprod logcumsumexp cummax cummin",
    Family.SORT: "sort argsort topk",
}

_FAMILIES: Mapping[str, Family] = {
    name: family for family, names in _NAMES.items() for name in names.split()
}


def family_of(name: str, overload: str = "") -> Family:
    """The family of an operator; ``UNKNOWN`` for one that no rule covers.

    Args:
        name: of the operator, such as ``max``.
        overload: the same with its overload, such as ``max.other``.
    """
    return _FAMILIES.get(overload) or _FAMILIES.get(name, Family.UNKNOWN)
