"""What the page asks for, as plain data and raw numbers: the same for server, file and notebook.

A payload is a dictionary for JSON, and bytes beside it where there are many numbers. All figures
are those of :func:`eyeshot.inspect`, :func:`eyeshot.see`, :func:`eyeshot.explain` and
:func:`eyeshot.receptive_field`; nothing is computed on the page.

The page's requests are parsed and checked here: text in, numbers out, and a one-line error for a
wrong value.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.errors import BadValue, EyeshotError, shorten
from eyeshot.features.maps import bare, follows, words
from eyeshot.graph import Node
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
