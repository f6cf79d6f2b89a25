"""Operators that move numbers and do not change them: padding, slices, transposes, reshapes.

A reshape has a shape that the file computes, or a shape that is fixed in it for one image size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.frontends.onnx.site import Compute, Refusal, Shape, Site, axis_of
from eyeshot.operators.reshaping import groups

_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
_NUMPY = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def pad(site: Site) -> Tensor:
    """``Pad`` in its four modes; negative amounts crop."""
    x, mode = site.tensor(0), site.attribute("mode", "constant")
    pads = site.listed("pads", 1) or ()
    axes = site.whole(3)
    named = range(x.ndim) if axes is None else [axis_of(axis, x.ndim) for axis in axes]
    pairs = [(0, 0)] * x.ndim
    for place, axis in enumerate(named):
        pairs[axis] = (pads[place], pads[place + len(named)])
    flat = [n for pair in reversed(pairs) for n in pair]
    while flat and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if not flat:
        return x
    if mode == "constant":
        value = site.attribute("value", 0.0) if site.version < 11 else site.number(2, 0)
        return F.pad(x, flat, value=value)
    if mode not in _MODES:
        raise Refusal(f"pads by mode {mode}", "use constant, reflect, edge or wrap")
    if _torch_pads(x, pairs, mode):
        axes_padded = x.ndim - 2 if x.ndim > 2 else 1
        return F.pad(x, (flat + [0] * (2 * axes_padded))[: 2 * axes_padded], mode=_MODES[mode])
    for axis, (before, after) in enumerate(pairs):
        x = _picked_border(x, axis, before, after, mode)
    return x


def _torch_pads(x: Tensor, pairs: Sequence[tuple[int, int]], mode: str) -> bool:
    """Whether ``F.pad`` can do it: only on the last axes, and not by more than their size."""
    most = {"reflect": -1, "edge": 1 << 60, "wrap": 0}[mode]
    return (
        3 <= x.ndim <= 5
        and x.is_floating_point()
        and all(pair == (0, 0) for pair in pairs[:2])
        and all(
            min(pair) >= 0 and max(pair) <= n + most for pair, n in zip(pairs, x.shape, strict=True)
        )
    )


def _picked_border(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    if (before, after) == (0, 0):
        return x
    n = int(x.shape[axis])
    places = np.arange(n)[max(0, -before) : n + min(0, after)]
    if max(before, after) > 0:
        places = np.pad(places, (max(0, before), max(0, after)), _NUMPY[mode])  # type: ignore[call-overload]
    return x.index_select(axis, torch.tensor(places))


def slices(site: Site) -> Tensor:
    """``Slice`` with steps of either sign."""
    x = site.tensor(0)
    starts, ends = site.listed("starts", 1) or (), site.listed("ends", 2) or ()
    axes = site.listed("axes", 3)
    steps = site.whole(4) or (1,) * len(starts)
    named = range(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, named, steps, strict=True):
        x = sliced(x, axis_of(axis, x.ndim), start, end, step)
    return x


def sliced(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """One axis sliced as in Python, also with a negative step."""
    n = int(x.shape[axis])
    if step == 0:
        raise Refusal("has a step of 0")
    if step > 0:
        start, end, _ = slice(start, end, step).indices(n)
    else:
        start, end = _backwards(start, end, n)
        x, start, end, step = x.flip(axis), n - 1 - start, n - 1 - end, -step
    if (start, step) == (0, 1) and end >= n:
        return x
    index = [slice(None)] * axis + [slice(start, max(start, end), step)]
    return x[tuple(index)]


def _backwards(start: int, end: int, n: int) -> tuple[int, int]:
    start = min(max(start + n if start < 0 else start, 0), n - 1)
    end = min(max(end + n if end < 0 else end, -1), n - 1)
    return start, end


def concat(site: Site) -> Tensor:
    """``Concat``."""
    parts = [site.tensor(place) for place in range(len(site.values))]
    return torch.cat(parts, axis_of(site.attribute("axis", 1), parts[0].ndim))


def split(site: Site) -> tuple[Tensor, ...]:
    """``Split`` into parts of given sizes, or of equal sizes."""
    x = site.tensor(0)
    axis = axis_of(site.attribute("axis", 0), x.ndim)
    n, count = int(x.shape[axis]), len(site.op.outputs)
    sizes = site.listed("split", 1)
    if sizes is None:
        part = -(-n // count)
        sizes = tuple(min(part, max(0, n - part * place)) for place in range(count))
    return tuple(torch.split(x, list(sizes), axis))


def gather(site: Site) -> Tensor:
    """``Gather``: indices along one axis; a single known index becomes a plain selection."""
    x = site.tensor(0)
    axis = axis_of(site.attribute("axis", 0), x.ndim)
    n = int(x.shape[axis])
    if not site.value(1).is_known:
        index = site.tensor(1)
        index = torch.where(index < 0, index + n, index)
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        return x.index_select(axis, index.reshape(-1)).reshape(shape)
    places = np.asarray(site.known(1))
    if places.size and (places.min() < -n or places.max() >= n):
        raise Refusal(f"reads place {places.max()} of {n}")
    places = np.where(places < 0, places + n, places)
    if places.ndim == 0:
        return x.select(axis, int(places))
    flat = places.reshape(-1)
    if flat.size and (np.diff(flat) == 1).all():
        found = sliced(x, axis, int(flat[0]), int(flat[-1]) + 1, 1)
    else:
        found = x.index_select(axis, torch.tensor(flat.astype(np.int64)))
    if places.ndim == 1:
        return found
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def gather_elements(site: Site) -> Tensor:
    """``GatherElements``."""
    x, index = site.tensor(0), site.tensor(1)
    axis = axis_of(site.attribute("axis", 0), x.ndim)
    index = torch.where(index < 0, index + x.shape[axis], index).to(torch.int64)
    return torch.gather(x, axis, index)


def transpose(site: Site) -> Tensor:
    """``Transpose``."""
    x = site.tensor(0)
    return x.permute(site.numbers("perm", tuple(range(x.ndim))[::-1]))


def tile(site: Site) -> Tensor:
    """``Tile``."""
    return site.tensor(0).repeat(site.whole(1) or ())


def depth_to_space(site: Site) -> Tensor:
    """``DepthToSpace`` in both modes, DCR and CRD."""
    x, block = site.tensor(0), site.attribute("blocksize", 1)
    if site.attribute("mode", "DCR") == "DCR":
        channels = int(x.shape[1])
        order = np.arange(channels).reshape(block * block, -1).T.reshape(-1)
        x = x.index_select(1, torch.tensor(order))
    return F.pixel_shuffle(x, block)


def space_to_depth(site: Site) -> Tensor:
    """``SpaceToDepth``, the inverse of ``DepthToSpace``."""
    block = site.attribute("blocksize", 1)
    x = F.pixel_unshuffle(site.tensor(0), block)
    if site.attribute("mode", "DCR") != "DCR":
        return x
    order = np.arange(int(x.shape[1])).reshape(-1, block * block).T.reshape(-1)
    return x.index_select(1, torch.tensor(order))


def triangle(site: Site) -> Tensor:
    """``Trilu``."""
    x, diagonal = site.tensor(0), int(site.number(1, 0))
    return torch.triu(x, diagonal) if site.attribute("upper", 1) else torch.tril(x, diagonal)


def running_sum(site: Site) -> Tensor:
    """``CumSum``."""
    x = site.tensor(0)
    axis = axis_of(int(site.number(1, 0)), x.ndim)
    flipped = bool(site.attribute("reverse", 0))
    x = x.flip(axis) if flipped else x
    total = torch.cumsum(x, axis, dtype=x.dtype)
    total = total - x if site.attribute("exclusive", 0) else total
    return total.flip(axis) if flipped else total


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
    "Concat": concat,
    "CumSum": running_sum,
    "DepthToSpace": depth_to_space,
    "Gather": gather,
    "GatherElements": gather_elements,
    "Pad": pad,
    "Slice": slices,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": triangle,
}

SHAPES: dict[str, Compute] = {
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
