"""What the page asks for, as plain data and raw numbers: the same for server, file and notebook.

A payload is a dictionary for JSON, and bytes beside it where there are many numbers. All figures
are those of :func:`eyeshot.inspect`, :func:`eyeshot.see`, :func:`eyeshot.explain` and
:func:`eyeshot.receptive_field`; nothing is computed on the page.

The page's requests are parsed and checked here: text in, numbers out, and a one-line error for a
wrong value.

In this file:

- what the page asks for of a network, a layer and a unit;
- the links from a unit to the layer before it: the place of each number of its sum;
- the kernel playground's questions: one operation on a small typed matrix;
- where maps that are zero everywhere begin, and whether they are zero for every picture.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.errors import BadValue, EyeshotError, UnknownName, shorten
from eyeshot.explanation import (
    Part,
    UnitTrace,
    Walk,
    walk_bilinear,
    walk_conv,
    walk_nearest,
    walk_pool,
    walk_transpose,
)
from eyeshot.explanation.traces import parse_matrix
from eyeshot.features.feature_maps import bare, follows, words
from eyeshot.graph import Family, Graph, Node
from eyeshot.inspection import Inspection
from eyeshot.nets.unet import place_of


class LongView(BadValue):
    """A view that takes long to compute; it is computed when it is asked for with ``anyway``."""


def refusal(error: EyeshotError) -> dict[str, Any]:
    """An error as the page reads it: the fact, the cure, and whether ``anyway`` helps."""
    return {"error": error.fact, "cure": error.cure, "anyway": isinstance(error, LongView)}


_THUMB = 36
"""Pixels of the longer side of a map in a strip."""


@dataclass(frozen=True)
class Payload:
    """One answer.

    Attributes:
        data: plain, for JSON.
        raw: numbers in the order that ``data`` says.
    """

    data: dict[str, Any]
    raw: bytes = b""

    def to_bytes(self) -> bytes:
        """Length of the JSON as 32 bits, the JSON, and the numbers, which begin at a multiple of 8.

        The JSON is padded by spaces.
        """
        text = json.dumps(self.data, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-(4 + len(text)) % 8)
        return struct.pack("<I", len(text)) + text + self.raw


def planes_of(value: Tensor) -> NDArray[Any]:
    """The maps of the first picture as (K, H, W); a vector is one row, other shapes are flattened.

    The numbers are as they are; half precision becomes float32.
    """
    first = value.detach()[0] if value.ndim > 1 else value.detach()
    if first.dtype.itemsize < 4 or first.is_complex():
        first = first.abs() if first.is_complex() else first.float()
    array: NDArray[Any] = first.cpu().numpy()
    if array.ndim == 3:
        return array
    if array.ndim == 2:
        return array[None]
    return array.reshape(1, 1, -1) if array.ndim < 2 else array.reshape(-1, *array.shape[-2:])


def shape_of_planes(node: Node) -> tuple[int, int, int]:
    """As :func:`planes_of` shapes it, without a value."""
    shape = node.shape[1:] if len(node.shape) > 1 else node.shape
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def layers_of(inspection: Inspection, net: Any) -> list[dict[str, Any]]:
    """A row for every layer, in execution order, with what its place in the network needs."""
    findings: dict[str, list[int]] = {}
    for number, finding in enumerate(inspection.findings):
        for name in dict.fromkeys(finding.layers or (finding.layer,)):
            findings.setdefault(name, []).append(number)
    rows = []
    for row in inspection.rows:
        node = inspection.graph.nodes[row.name]
        planes = shape_of_planes(node)
        rows.append(
            {
                **row.to_dict(),
                "title": words(row.operator),
                "minor": follows(row.operator) or bare(row.operator) in _PLUMBING,
                "module": node.layer,
                "place": place_of(net, row.name) if net is not None else "",
                "sources": list(dict.fromkeys(edge.source for edge in node.edges)),
                "findings": findings.get(row.name, []),
                "planes": list(planes),
                "spatial": len(node.shape) == 4,
                "input": node.is_input,
                "weighted": any(
                    inspection.graph.tensors[name].ndim > 1
                    for name in node.weights
                    if name in inspection.graph.tensors
                ),
            }
        )
    return rows


_PLUMBING = ("flatten", "view", "reshape", "dropout", "contiguous", "clone", "alias")


def strip(planes: NDArray[Any], most: int, own: bool) -> Payload:
    """Small pictures of a layer's maps, a byte a pixel: 128 is 0 where numbers may be negative.

    Args:
        planes: (K, H, W).
        most: how many of them.
        own: each map by its own largest number; by the layer's otherwise.

    Returns:
        ``shape`` (k, h, w), ``signed``, ``largest``, the channels that are zero everywhere, and
        each map's least, mean and largest number.
    """
    if not planes.size:
        return Payload({"shape": [0, 1, 1], "of": list(planes.shape), "signed": False, "dead": []})
    count = min(most, len(planes))
    chosen = planes[:count]
    numbers = np.nan_to_num(chosen.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    signed = bool((planes < 0).any())
    tall, wide = _thumb_size(planes.shape[1], planes.shape[2])
    small = np.stack([_shrunk(one, tall, wide) for one in numbers]) if count else numbers
    sizes = np.abs(small.reshape(count, -1))
    each = np.maximum(sizes.max(axis=1, initial=0.0), 1e-30)
    largest = each if own else np.full(count, max(float(each.max(initial=0.0)), 1e-30))
    shares = np.sqrt(np.clip(np.abs(small) / largest[:, None, None], 0, 1))
    if signed:
        pixels = np.rint(128 + 127 * np.copysign(shares, small)).astype(np.uint8)
    else:
        pixels = np.rint(255 * shares).astype(np.uint8)
    flat = planes.reshape(len(planes), -1).astype(np.float64)
    with np.errstate(all="ignore"):
        means = flat.mean(axis=1) if flat.size else np.zeros(len(planes))
    return Payload(
        {
            "shape": [count, tall, wide],
            "of": list(planes.shape),
            "signed": signed,
            "largest": finite(float(np.abs(numbers).max(initial=0.0))),
            "dead": np.flatnonzero(~(planes != 0).any(axis=(1, 2))).tolist(),
            "min": [finite(n) for n in flat.min(axis=1, initial=np.inf)[:count]],
            "mean": [finite(n) for n in means[:count]],
            "max": [finite(n) for n in flat.max(axis=1, initial=-np.inf)[:count]],
        },
        pixels.tobytes(),
    )


def _thumb_size(high: int, wide: int) -> tuple[int, int]:
    """Of a map in a strip; a small map is as large as it is, and a vector a row of cells."""
    if high == 1:
        return 1, min(wide, 256)
    scale = min(1.0, _THUMB / max(high, wide))
    return max(1, round(high * scale)), max(1, round(wide * scale))


def _shrunk(plane: NDArray[np.float32], high: int, wide: int) -> NDArray[np.float32]:
    if plane.shape == (high, wide):
        return plane
    if plane.shape[0] == 1:
        return plane[:, :wide]
    made = cv2.resize(plane, (wide, high), interpolation=cv2.INTER_AREA)
    return np.asarray(made, np.float32).reshape(high, wide)


def samples(planes: NDArray[Any], box: tuple[int, int, int, int], step: int) -> Payload:
    """Numbers of maps within a box, every ``step``-th: float32 (K, h, w), or float64.

    Args:
        planes: (K, H, W), of which the box is ``rows lo, hi, columns lo, hi``.
        box: in the layer's own positions.
        step: 1 or more; what is between is left out, so each number is one unit's.
    """
    top, bottom, left, right = box
    chosen = planes[:, top:bottom:step, left:right:step]
    kind = np.float64 if chosen.dtype == np.float64 else np.float32
    numbers = np.ascontiguousarray(chosen, dtype=kind)
    finites = numbers[np.isfinite(numbers)]
    return Payload(
        {
            "shape": list(numbers.shape),
            "box": list(box),
            "step": step,
            "dtype": np.dtype(kind).name,
            "min": float(finites.min(initial=np.inf)) if finites.size else None,
            "max": float(finites.max(initial=-np.inf)) if finites.size else None,
        },
        numbers.tobytes(),
    )


def finite(value: Any) -> float | None:
    """A number for JSON, which has no word for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


_LONGEST = 1 << 20
"""Characters of one value: a whole network's edits are far below it."""


@dataclass(frozen=True)
class Query:
    """The parameters of one question, by name, and the bytes sent with it."""

    values: Mapping[str, str]
    body: bytes = b""

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter as it is.

        Raises:
            BadValue: it is missing and has no default, or is too long.
        """
        value = self.values.get(name, default)
        if value is None:
            raise BadValue(f"no {name} given", cure=f"add {name}=…")
        if len(value) > _LONGEST:
            raise BadValue(f"{name} of {len(value)} characters", cure="use fewer")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        text = self.text(name, None if default is None else str(default))
        return _whole(name, text)

    def wholes(self, name: str, count: int | None = None) -> tuple[int, ...]:
        """Whole numbers with commas between; as many as ``count``."""
        text = self.text(name)
        found = tuple(_whole(name, part) for part in text.split(",")) if text else ()
        if count is not None and len(found) != count:
            raise BadValue(f"{name} {shorten(text)}", cure=f"give {count} whole numbers")
        return found

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadValue(f"{name} {shorten(text)}", cure="give a number")
        return value

    def flag(self, name: str) -> bool:
        """Whether it is ``1``."""
        return self.text(name, "") == "1"


def _whole(name: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise BadValue(f"{name} {shorten(text)}", cure="give a whole number") from None
    if abs(value) > 2**40:
        raise BadValue(f"{name} {shorten(text)}", cure="give a smaller number")
    return value


Unit = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Link:
    """Where the cells of one part come from.

    Attributes:
        source: the layer.
        axes: of a patch, the places of its cells along each of its axes; -1 outside.
        before: what stands before those places in the number of a unit: the channel.
        strongest: the unit that gives most to the part, in its direction; None where the patch is
            all padding.
    """

    source: str
    axes: tuple[tuple[int, ...], ...]
    before: Unit
    strongest: Unit | None

    def moved(self, shift: Sequence[int]) -> Link:
        """The same in a map of which this one is a part that begins at ``shift``."""

        def along(place: Unit) -> Unit:
            return (*place[:1], *(at + by for at, by in zip(place[1:], shift, strict=False)))

        axes = tuple(
            tuple(at if at < 0 else at + by for at in axis)
            for axis, by in zip(self.axes, shift, strict=False)
        )
        best = None if self.strongest is None else along(self.strongest)
        return Link(self.source, axes, along(self.before), best)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "source": self.source,
            "axes": [list(axis) for axis in self.axes],
            "before": list(self.before),
            "strongest": None if self.strongest is None else list(self.strongest),
        }


def links_of(graph: Graph, node: Node, trace: UnitTrace) -> list[Link]:
    """One for each part of a trace."""
    sources = [one.source for one in node.edges] or [node.name]
    return [_link(graph, part, trace, part.source or sources[0]) for part in trace.parts]


def _link(graph: Graph, part: Part, trace: UnitTrace, source: str) -> Link:
    rank = len(graph.nodes[source].shape) - 1
    axes, before = _places(part, trace, rank)
    if len(axes) + len(before) != rank:  # its first dimension is not the batch: no unit there
        return Link(source, axes, before, None)
    strength = _strength(part, trace.rule, -1.0 if part.sum < 0 else 1.0)
    if not strength.size or not np.isfinite(strength).any() or strength.max() == -np.inf:
        return Link(source, axes, before, None)
    best = np.unravel_index(int(np.nanargmax(strength)), strength.shape)
    place = (*before, *(axis[int(i)] for axis, i in zip(axes, best, strict=True)))
    return Link(source, axes, before, tuple(place))


def _places(part: Part, trace: UnitTrace, rank: int) -> tuple[tuple[tuple[int, ...], ...], Unit]:
    """The axes of a patch, and what stands before them; ``rank`` numbers name a unit."""
    shape = part.patch.shape
    if part.cells:
        return part.cells, (part.channel,)
    if not shape:
        if part.at:
            return (), part.at
        if rank == len(trace.unit) and part.kernel is None:
            return (), trace.unit
        return (), trace.unit if part.channel == trace.unit[0] and rank > 1 else (
            *trace.unit[: rank - 1],
            part.channel,
        )
    starts = part.at[1:] if part.at else (0,) * len(shape)
    axes = tuple(tuple(range(lo, lo + n)) for lo, n in zip(starts, shape, strict=True))
    return axes, (part.channel,)


def _strength(part: Part, rule: str, sign: float) -> NDArray[np.float64]:
    """How much each cell gives in the direction of ``sign``; −∞ where there is none."""
    if rule in ("max", "min"):
        products = part.patch if rule == "max" else -part.patch
    else:
        products = sign * part.patch * (1.0 if part.kernel is None else part.kernel)
    return np.asarray(np.where(part.outside, -np.inf, products), np.float64)


def heaviest(trace: UnitTrace, links: Sequence[Link]) -> tuple[str, Unit, float | None] | None:
    """The unit that gives most to another, in the direction of its total.

    Returns:
        Its layer, the unit, and its share of all that is added in that direction, the bias
        included: 1 where one number decides, as in a maximum or a ReLU; None for a product. None
        in place of all where no unit gives anything in that direction.
    """
    extreme = -1.0 if trace.rule == "min" else 1.0
    sign = extreme if trace.rule in ("max", "min") or trace.total >= 0 else -1.0
    best: tuple[float, str, Unit] | None = None
    along = max(sign * (trace.bias or 0.0), 0.0)
    for part, link in zip(trace.parts, links, strict=True):
        strength = _strength(part, trace.rule, sign)
        adding = np.where(np.isfinite(strength), strength, 0.0)
        along += float(np.maximum(adding, 0.0).sum())
        if link.strongest is None or not strength.size:
            continue
        place = np.unravel_index(int(np.nanargmax(strength)), strength.shape)
        if best is None or strength[place] > best[0]:
            at = (axis[int(i)] for axis, i in zip(link.axes, place, strict=True))
            best = float(strength[place]), link.source, (*link.before, *at)
    if best is None:
        return None
    if trace.rule not in ("sum", "mean"):
        return best[1], best[2], None if trace.rule == "product" else 1.0
    return (best[1], best[2], best[0] / along) if best[0] > 0 else None


OPERATIONS = ("conv", "transpose", "pool", "nearest", "bilinear")


_FIVE = "1 1 1 0 0 / 0 1 1 1 0 / 0 0 1 1 1 / 0 0 1 1 0 / 0 1 1 0 0"
EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "conv": {
        "input": _FIVE,
        "kernel": "1 0 1 / 0 1 0 / 1 0 1",
        "stride": "1",
        "padding": "0",
        "dilation": "1",
        "mode": "zeros",
    },
    "transpose": {
        "input": "1 2 / 3 4",
        "kernel": "1 2 1 / 2 4 2 / 1 2 1",
        "stride": "2",
        "padding": "0",
        "dilation": "1",
    },
    "pool": {
        "input": "1 3 2 1 / 4 6 5 2 / 3 1 1 0 / 1 2 2 4",
        "size": "2",
        "stride": "2",
        "padding": "0",
        "pool": "max",
    },
    "nearest": {"input": "1 2 / 3 4", "scale": "2"},
    "bilinear": {"input": "1 2 / 3 4", "scale": "2"},
}
"""What is walked over where nothing is typed; the first is that of the tutorials."""


def walk(query: Query) -> dict[str, Any]:
    """The walk that was asked for, step by step, with where its padding and zeros are.

    What was not asked for is as in the example of the operation; ``asked`` says all of it.

    Raises:
        UnknownName: no such operation.
        BadValue: numbers that do not fit.
    """
    operation = query.text("operation", "conv")
    if operation not in EXAMPLES:
        raise UnknownName("operation", operation, OPERATIONS)
    asked = {**EXAMPLES[operation], **query.values, "operation": operation}
    found = _walked(Query(asked))
    made = [[bool(cell) for cell in row] for row in found.made]
    return {**found.to_dict(), "made": made, "asked": asked}


def _walked(query: Query) -> Walk:
    operation = query.text("operation", "conv")
    image = parse_matrix(query.text("input"))
    if operation == "conv":
        padding = query.text("padding", "0")
        return walk_conv(
            image,
            parse_matrix(query.text("kernel")),
            bias=query.number("bias", 0.0),
            stride=query.whole("stride", 1),
            padding=padding if padding.isalpha() else query.whole("padding"),  # type: ignore[arg-type]
            padding_mode=query.text("mode", "zeros"),
            dilation=query.whole("dilation", 1),
            flip=query.flag("flip"),
        )
    if operation == "transpose":
        return walk_transpose(
            image,
            parse_matrix(query.text("kernel")),
            stride=query.whole("stride", 1),
            padding=query.whole("padding", 0),
            dilation=query.whole("dilation", 1),
        )
    if operation == "pool":
        return walk_pool(
            image,
            query.whole("size", 2),
            mode=query.text("pool", "max"),
            stride=query.whole("stride", 2),
            padding=query.whole("padding", 0),
        )
    if operation == "nearest":
        return walk_nearest(image, scale=query.number("scale", 2.0))
    return walk_bilinear(image, scale=query.number("scale", 2.0))


_BY_CHANNEL = frozenset(
    {
        Family.RELU,
        Family.DROPOUT,
        Family.ALIAS,
        Family.BATCH_NORM,
        Family.MAX_POOL,
        Family.AVERAGE_POOL,
        Family.ADAPTIVE_MAX_POOL,
        Family.ADAPTIVE_AVERAGE_POOL,
        Family.RESIZE,
        Family.PAD,
        Family.CROP,
        Family.POINTWISE,
        Family.CONCATENATE,
    }
)
"""Each output channel is made of one channel of each source, or of one source."""


def beginnings(
    graph: Graph, dead: Mapping[str, Sequence[int]], muted: Collection[tuple[str, int]] = ()
) -> Iterator[tuple[str, bool, list[int]]]:
    """Dead channels, each at the first layer of a chain of layers in which it is dead.

    Args:
        graph: the network.
        dead: by layer, the channels that are zero everywhere in one picture.
        muted: (layer, channel) that a person muted; what is zero because of them is left out.

    Yields:
        The layer, whether its channels are zero for every picture, and the channels. Proven are
        those that a kernel of zeros, or a batch norm's scale of zero, leaves a constant.
    """
    silenced = {(graph[layer].name, channel) for layer, channel in muted}
    listed = {(name, channel) for name, channels in dead.items() for channel in channels}
    for node in graph:
        kinds: dict[bool, list[int]] = {}
        for channel in dead.get(node.name, ()):
            before = _all_before(graph, node, channel)
            if (node.name, channel) in silenced or before & (listed | silenced):
                continue
            kinds.setdefault(_is_constant(graph, node, channel), []).append(channel)
        for always in sorted(kinds):
            yield node.name, always, kinds[always]


def _all_before(graph: Graph, node: Node, channel: int) -> set[tuple[str, int]]:
    """The same back to the layers in which channels mix."""
    found: set[tuple[str, int]] = set()
    waiting = _before(graph, node, channel)
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += _before(graph, graph.nodes[place[0]], place[1])
    return found


def _before(graph: Graph, node: Node, channel: int) -> list[tuple[str, int]]:
    """The channels of the layers before that alone make this one; none where channels mix."""
    sources = [graph.nodes[edge.source] for edge in node.edges]
    if node.family not in _BY_CHANNEL or any(len(one.shape) != 4 for one in sources):
        return []
    if node.family is Family.CONCATENATE and sum(one.shape[1] for one in sources) == node.shape[1]:
        for one in sources:
            if channel < one.shape[1]:
                return [(one.name, channel)]
            channel -= one.shape[1]
    if any(one.shape[1] != node.shape[1] for one in sources):
        return []
    return [(one.name, channel) for one in sources]


def _is_constant(graph: Graph, node: Node, channel: int) -> bool:
    """Whether weights of zero leave a channel the same for every picture."""
    waiting, known = [(node.name, channel)], set[tuple[str, int]]()
    while waiting:
        place = waiting.pop()
        if place in known or _leaves_constant(graph, graph.nodes[place[0]], place[1]):
            continue
        known.add(place)
        before = _before(graph, graph.nodes[place[0]], place[1])
        if not before:
            return False
        waiting += before
    return True


def _leaves_constant(graph: Graph, node: Node, channel: int) -> bool:
    weights = [graph.tensors[name] for name in node.weights if name.endswith("weight")]
    if not weights:
        return False
    if node.family is Family.TRANSPOSED_CONVOLUTION:
        return bool(node.params.groups == 1 and not weights[0][:, channel].any())
    if node.family in (Family.CONVOLUTION, Family.BATCH_NORM):
        return not weights[0][channel].any()
    return False
