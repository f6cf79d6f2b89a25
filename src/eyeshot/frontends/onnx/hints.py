"""Sizes written into a file: found where they stand in the way of another size, and named."""

from __future__ import annotations

from collections.abc import Sequence

from eyeshot.frontends.onnx.site import OnnxOp, Site

_SIZES = {"Reshape": 1, "Expand": 1, "Upsample": 1, "Resize": 3, "Tile": 1, "Slice": 2}
"""Operators whose input of that place may be a size."""
_NOBODYS = 1 << 30
"""An end of a slice that means the end of the axis."""


def what_stands_in_the_way(past: Sequence[tuple[OnnxOp, Site]]) -> str:
    """The nearest node before the last one that has a size written into it, and what frees it."""
    if not past:
        return ""
    made = {name: place for place, (op, _) in enumerate(past) for name in op.outputs if name}
    seen: set[int] = set()
    front = [len(past) - 1]
    while front:
        place = front.pop(0)
        if place in seen:
            continue
        seen.add(place)
        op, site = past[place]
        size = baked_size(site)
        if size:
            return (
                f"{op.name} ({op.kind}) has the size {size} written into it: export the network "
                "with dynamic axes, so that it is computed from the image's"
            )
        front += [made[name] for name in op.inputs if name in made and made[name] < place]
    return "give an image of the size and channels for which the file was made"


def baked_size(site: Site) -> str:
    """The size that stands in a node as a constant, as ``1x512x20x20``; "" for none."""
    place = _SIZES.get(site.op.kind)
    if place is None or not site.has(place) or not site.value(place).is_fixed:
        return ""
    numbers = site.whole(place) or ()
    if all(abs(n) <= 1 or abs(n) > _NOBODYS for n in numbers):
        return ""
    return "x".join(map(str, numbers))
