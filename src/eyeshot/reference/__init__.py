"""Convolution and its kin, defined in plain NumPy, forward and backward.

This is the definition that the rest of Eyeshot is tested against, and a text to learn from: start
with ``convolution.py``. It is written once for one, two and three spatial axes, for clarity and
not for speed, though a small network does train on it. Arrays are (N, C, *sizes).
"""

from eyeshot.reference.convolution import Gradients, conv, conv_backward
from eyeshot.reference.layers import (
    linear,
    linear_backward,
    relu,
    relu_backward,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from eyeshot.reference.padding import pad, pad_backward
from eyeshot.reference.pooling import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from eyeshot.reference.resizing import upsample, upsample_backward
from eyeshot.reference.transposition import (
    conv_transpose,
    conv_transpose_backward,
    conv_transpose_by_zero_insertion,
    insert_zeros,
)

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
