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
    if (
        site.value(1).is_fixed
        and before is not None
        and before != have
        and len(before) == len(have)
    ):
        return x.reshape(rederived(before, have, resolved(before, asked, copies), asked))
    return x.reshape(resolved(have, asked, copies))


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
    input did not change stays. A group with a single target dimension gets the new product. In a
    group with a -1, that dimension is inferred.

    Raises:
        Refusal: the input of a group with several target dimensions and no -1 has changed.
    """
    shape = list(target)
    for left, right in groups(old, target):
        if all(old[i] == new[i] for i in left):
            continue
        total = math.prod(new[i] for i in left)
        free = right if len(right) == 1 else [i for i in right if asked[i] == -1]
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
