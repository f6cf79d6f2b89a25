"""Every operator on a rectangle, giving the very numbers that it gives inside the whole pass.

Tables by the operator's name. What is not in them is called as it is, if no position of it looks
at another, and refused by name otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

from eyeshot.engine.operators import resizing, scratch, shaping, sliding
from eyeshot.engine.operators.calling import calling, pointwise
from eyeshot.engine.operators.sliding import Tensors
from eyeshot.engine.operators.windows import Box, Operator, Rectangle, over_bands
from eyeshot.graph import Node

__all__ = ["Box", "Operator", "Rectangle", "beside", "has_own_form", "prepare"]

_SLIDING: dict[str, Callable[[Node, Tensors], Operator]] = {
    **{f"conv{n}d": sliding.convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": sliding.transposed_convolution for n in (1, 2, 3)},
    **{f"max_pool{n}d": sliding.max_pooling for n in (1, 2, 3)},
    **{f"avg_pool{n}d": sliding.average_pooling for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": sliding.adaptive_pooling for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": sliding.adaptive_pooling for n in (1, 2, 3)},
    **{f"upsample_nearest{n}d": resizing.resizing for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": resizing.resizing for n in (1, 2, 3)},
    "upsample_linear1d": resizing.resizing,
    "upsample_bilinear2d": resizing.resizing,
    "upsample_trilinear3d": resizing.resizing,
    "upsample_bicubic2d": resizing.resizing,
    "pad": shaping.padding,
    "constant_pad_nd": shaping.padding,
}
"""Operators that slide over the last dimensions, whether these hold positions or bands."""

_TABLE: dict[str, Callable[[Node, Tensors], Operator]] = {
    **dict.fromkeys(("slice", "narrow", "chunk", "split", "split_with_sizes"), shaping.cropping),
    "slice_scatter": shaping.scattering,
    "select": shaping.selecting,
    "unbind": shaping.selecting,
    **dict.fromkeys(("cat", "concat", "concatenate"), shaping.concatenation),
    **dict.fromkeys(
        (
            "view",
            "reshape",
            "flatten",
            "unflatten",
            "_unsafe_view",
            "expand",
            "expand_as",
            "squeeze",
        ),
        shaping.reshaping,
    ),
    "repeat": shaping.repeating,
    "repeat_interleave": shaping.repeating_each,
    "unfold": calling,
    "pixel_shuffle": shaping.shuffling,
    "pixel_unshuffle": shaping.shuffling,
}


def has_own_form(node: Node) -> bool:
    """Whether it is in the table, and so not called as the network calls it."""
    return node.operator in _SLIDING or node.operator in _TABLE


def prepare(node: Node, tensors: Tensors) -> Operator:
    """How to compute any rectangle of a node.

    Raises:
        Unsupported: the operator has no form for a part of the picture.
    """
    slide = _SLIDING.get(node.operator)
    if slide is not None:
        return over_bands(node, slide(node, tensors))
    return _TABLE.get(node.operator, pointwise)(node, tensors)


def beside(work: scratch.Work, kept: bool) -> int:
    """Bytes that a call takes beside what it reads and the rows it gives.

    Where rows of it are ``kept`` already, what it gives is copied behind them, if it does not
    write there itself.
    """
    make = _SLIDING.get(work.node.operator) or _TABLE.get(work.node.operator, pointwise)
    copied = kept and not scratch.writes_in_place(work, make)
    return scratch.scratch(work, make) + (work.gives if copied else 0)
