"""Convolution and related operations, defined in plain NumPy, forward and backward.

The rest of Eyeshot is tested against these definitions. You can also learn from them: start with
``convolution.py``. The code handles one, two and three spatial axes. It is written for clarity, not
for speed, but is fast enough to train a small network. Arrays are (N, C, *sizes).
"""

from eyeshot.reference.convolution import (
    Gradients,
    conv,
    conv_backward,
    conv_transpose,
    conv_transpose_backward,
    conv_transpose_by_zero_insertion,
    insert_zeros,
)
from eyeshot.reference.layers import (
    avg_pool,
    avg_pool_backward,
    linear,
    linear_backward,
    max_pool,
    max_pool_backward,
    relu,
    relu_backward,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    upsample,
    upsample_backward,
)
from eyeshot.reference.padding import pad, pad_backward

__all__ = [
    "Gradients",
    "avg_pool",
    "avg_pool_backward",
    "conv",
    "conv_backward",
    "conv_transpose",
    "conv_transpose_backward",
    "conv_transpose_by_zero_insertion",
    "insert_zeros",
    "linear",
    "linear_backward",
    "max_pool",
    "max_pool_backward",
    "pad",
    "pad_backward",
    "relu",
    "relu_backward",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "upsample",
    "upsample_backward",
]
