"""The kernel playground's questions: one operation over a small matrix, from what was typed."""

from __future__ import annotations

from typing import Any

from eyeshot.errors import UnknownName
from eyeshot.explanation import (
    Walk,
    walk_bilinear,
    walk_conv,
    walk_nearest,
    walk_pool,
    walk_transpose,
)
from eyeshot.explanation.matrices import parse_matrix
from eyeshot.web_studio.queries import Query

OPERATIONS = ("conv", "transpose", "pool", "nearest", "bilinear")


def walk(query: Query) -> dict[str, Any]:
    """The walk that was asked for, step by step, with where its padding and zeros are.

    Raises:
        UnknownName: no such operation.
        BadValue: numbers that do not fit.
    """
    found = _walked(query)
    made = [[bool(cell) for cell in row] for row in found.made]
    return {**found.to_dict(), "made": made}


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
    if operation == "bilinear":
        return walk_bilinear(image, scale=query.number("scale", 2.0))
    raise UnknownName("operation", operation, OPERATIONS)
