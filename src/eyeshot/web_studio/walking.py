"""The kernel playground's questions: one operation over a small matrix, from what was typed."""

from __future__ import annotations

from collections.abc import Mapping
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
