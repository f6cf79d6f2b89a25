"""Plain names for layers, and which calls count as a layer.

A layer is known by its operator (``max_pool2d``) or, in a network without a graph, by its class
(``MaxPool2d``). Both are reduced to one word and shown in the same way.

The error for a name that no layer has is here too.
"""

from __future__ import annotations

import re

from torch import nn

from eyeshot.errors import BadValue, EyeshotError, UnknownName
from eyeshot.graph import Graph

_CONVOLUTIONS = {"conv": "convolution", "convtranspose": "transposed convolution"}
_ACTIVATIONS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leakyrelu": "leaky ReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
    "hardtanh": "hard tanh",
    "sigmoid": "sigmoid",
    "logsigmoid": "log-sigmoid",
    "tanh": "tanh",
    "softplus": "softplus",
    "softmax": "softmax",
    "logsoftmax": "log-softmax",
}
_NORMALIZATIONS = {
    "batchnorm": "batch normalization",
    "layernorm": "layer normalization",
    "groupnorm": "group normalization",
    "instancenorm": "instance normalization",
    "localresponsenorm": "local response normalization",
}
_UNCHANGED = {
    "dropout": "dropout",
    "alphadropout": "dropout",
    "featuredropout": "dropout",
    "identity": "identity",
}
_OTHERS = {
    "linear": "linear",
    "maxpool": "max pooling",
    "avgpool": "average pooling",
    "lppool": "power-average pooling",
    "adaptiveavgpool": "average pooling",
    "adaptivemaxpool": "max pooling",
    "mean": "mean",
    "amax": "maximum",
    "interpolate": "resize",
    "upsample": "resize",
    "upsamplenearest": "resize",
    "upsamplenearestexact": "resize",
    "upsamplelinear": "resize",
    "upsamplebilinear": "resize",
    "upsampletrilinear": "resize",
    "upsamplebicubic": "resize",
    "pixelshuffle": "pixel shuffle",
    "pixelunshuffle": "pixel unshuffle",
    "scaleddotproductattention": "attention",
    "flatten": "flatten",
}
_JOINS = {"add": "sum", "sub": "difference", "mul": "product", "cat": "concatenation"}
_WORDS = {
    **_CONVOLUTIONS,
    **_ACTIVATIONS,
    **_NORMALIZATIONS,
    **_UNCHANGED,
    **_OTHERS,
    **_JOINS,
}
_SAME = {"concat": "cat", "concatenate": "cat", "iadd": "add", "imul": "mul", "isub": "sub"}


def bare(kind: str) -> str:
    """One word for both ways of writing a layer: ``Conv2d`` and ``conv2d`` → ``conv``."""
    word = kind.removesuffix("_with_indices").replace("_", "").lower()
    word = re.sub(r"\dd$", "", word)
    return _SAME.get(word, word)


def words(kind: str) -> str:
    """The kind in plain words: ``MaxPool2d`` → ``max pooling``; an unknown class keeps its name."""
    return _WORDS.get(bare(kind), kind)


def is_layer_function(name: str) -> bool:
    """Whether a function called in a ``forward`` is a step of the network rather than plumbing."""
    return bare(name) in _WORDS and bare(name) != "flatten"


def joins(kind: str) -> bool:
    """Whether the operator combines two or more maps; ``x + 1`` does not."""
    return bare(kind) in _JOINS


def follows(kind: str) -> bool:
    """Whether the operator belongs to the step of the layer before it, like a ReLU to its conv."""
    word = bare(kind)
    return word in _ACTIVATIONS or word in _NORMALIZATIONS or word in _UNCHANGED


def changes_nothing(kind: str) -> bool:
    """Whether the operator's output equals its input in eval mode."""
    return bare(kind) in _UNCHANGED


def unknown_layer(graph: Graph, net: nn.Module, name: str) -> EyeshotError:
    """The error for a name without nodes: it is misspelled, or its module computes nothing."""
    if name in dict(net.named_modules()):
        return BadValue(
            f"layer {name!r} exists but computes nothing for this input",
            cure="name a layer that the network uses",
        )
    return UnknownName("layer", name, graph.nodes)
