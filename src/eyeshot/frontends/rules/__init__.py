"""One table: operator -> rule. An operator that is not here is named, never skipped.

To add one: a word or a line in the table of the file it belongs to, and a test that pokes it.
"""

from eyeshot.frontends.rules import (
    channels,
    products,
    resizing,
    sequences,
    shapes,
    statistics,
    windows,
)
from eyeshot.frontends.rules.sequences import WITHOUT_RULE
from eyeshot.frontends.sites import Rule, pointwise

__all__ = ["RULES", "WITHOUT_RULE"]

_POINTWISE = """
    abs acos acosh alias asin asinh atan atanh bitwise_not ceil celu clamp clamp_max clamp_min
    clone contiguous cos cosh detach elu erf erfc exp exp2 expm1 floor full_like gelu hardshrink
    hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu lift_fresh_copy log log10 log1p
    log2 log_sigmoid logical_not logit mish nan_to_num neg ones_like positive prelu reciprocal relu
    relu6 round rsqrt selu sgn sigmoid sign silu sin sinh softplus softshrink sqrt square
    tan tanh threshold to trunc type_as zeros_like _to_copy

    add addcdiv addcmul atan2 bitwise_and bitwise_or bitwise_xor div divide eq floor_divide fmax
    fmin fmod ge gt heaviside hypot le lerp logical_and logical_or logical_xor lt masked_fill
    max.other maximum min.other minimum mul multiply ne pow remainder rsub sub subtract true_divide
    where xlogy __and__ __or__
"""

# A name with its overload (`max.other`) is asked for before the name alone.
RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **windows.RULES,
    **resizing.RULES,
    **shapes.RULES,
    **channels.RULES,
    **statistics.RULES,
    **products.RULES,
    **sequences.RULES,
}
