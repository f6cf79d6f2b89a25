"""Reshapes: with shapes that a file computes, and with shapes fixed in it for one size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from eyeshot.frontends.onnx.site import Compute, Refusal, Shape, Site, axis_of
from eyeshot.operators.reshaping import groups


def reshape(site: Site) -> Tensor:
    """``Reshape``; a shape fixed for another image size is computed for this size if possible."""
    x, asked = site.tensor(0), site.whole(1) or ()
    copies = not site.attribute("allowzero", 0)
    have = tuple(int(n) for n in x.shape)
    before = site.original[0] if site.original is not None else None
    if before is None or before == have or len(before) != len(have):
        return x.reshape(resolved(have, asked, copies))
    if site.value(1).is_fixed:
        return x.reshape(rederived(before, have, resolved(before, asked, copies), asked))
    try:
        return x.reshape(resolved(have, asked, copies))
    except Refusal:  # a part of the computed shape may be a constant of the file
        shape = _partly_fixed(before, have, site.asked, asked, copies)
        if shape is None:
            raise
        return x.reshape(shape)


def _partly_fixed(
    old: Shape, new: Shape, once: Sequence[int] | None, asked: Sequence[int], copies: bool
) -> Shape | None:
    """A computed shape whose constants are derived again; None if more than constants is wrong.

    Args:
        old: the shape of the input at the size that the file was exported for.
        new: its shape now.
        once: the target that the file computed for ``old``.
        asked: the target that it computes for ``new``.
        copies: whether a 0 keeps the dimension.
    """
    if once is None or len(once) != len(asked):
        return None
    shape = rederived(old, new, resolved(old, once, copies), once)
    each = zip(shape, asked, once, strict=True)
    return shape if all(now in (n, -1, 0) or now == then for n, now, then in each) else None


def resolved(have: Shape, asked: Sequence[int], copies: bool) -> Shape:
    """The target shape, with 0 (keep the dimension) and -1 (infer it) replaced by numbers.

    Raises:
        Refusal: the target has another number of elements than the input.
    """
    shape = [have[i] if n == 0 and copies and i < len(have) else n for i, n in enumerate(asked)]
    known, total = math.prod(n for n in shape if n != -1), math.prod(have)
    if -1 in shape and known and total % known == 0:
        shape[shape.index(-1)] = total // known
    if math.prod(shape) != total or -1 in shape:
        raise Refusal(
            f"has the shape {_by(asked)} written into it, and {_by(have)} came",
            "export the network with dynamic axes, so that the shape is computed from the image's",
        )
    return tuple(shape)


def rederived(old: Shape, new: Shape, target: Shape, asked: Sequence[int]) -> Shape:
    """The shape that a Reshape gives at a new input size.

    Both shapes are split into the smallest groups of dimensions with equal products. A group whose
    input did not change stays. A group with a single target dimension beside ones gets the new
    product. In a group with a -1, that dimension is inferred.

    Raises:
        Refusal: the input of a group with several target dimensions and no -1 has changed.
    """
    shape = list(target)
    for left, right in groups(old, target):
        if all(old[i] == new[i] for i in left):
            continue
        total = math.prod(new[i] for i in left)
        free = [i for i in right if asked[i] == -1] or [i for i in right if target[i] != 1]
        free = right if len(right) == 1 else free
        rest = math.prod(shape[i] for i in right if i not in free)
        if len(free) != 1 or total % rest:
            raise Refusal(
                f"has the shape {_by(asked)} written into it, made of {_by(old)}, and {_by(new)} "
                "came",
                "export the network with dynamic axes, or write -1 for what changes with the size",
            )
        shape[free[0]] = total // rest
    return tuple(shape)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def flatten(site: Site) -> Tensor:
    """``Flatten`` to two dimensions."""
    x, axis = site.tensor(0), site.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(site: Site) -> Tensor:
    """``Squeeze``."""
    x, axes = site.tensor(0), site.listed("axes", 1)
    if axes is None:
        return x.squeeze()
    named = [axis_of(axis, x.ndim) for axis in axes]
    if any(x.shape[axis] != 1 for axis in named):
        raise Refusal(f"takes axes {axes} of {_by(x.shape)} away, which are not all 1")
    for axis in sorted(named, reverse=True):
        x = x.squeeze(axis)
    return x


def unsqueeze(site: Site) -> Tensor:
    """``Unsqueeze``."""
    x, axes = site.tensor(0), site.listed("axes", 1) or ()
    rank = x.ndim + len(axes)
    for axis in sorted(axis_of(axis, rank) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def expand(site: Site) -> Tensor:
    """``Expand``: both shapes broadcast."""
    x, asked = site.tensor(0), site.whole(1) or ()
    shape = np.broadcast_shapes(tuple(x.shape), asked)
    return x if tuple(shape) == tuple(x.shape) else x.expand(shape)


COMPUTE: dict[str, Compute] = {
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
