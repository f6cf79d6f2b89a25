"""A network in bfloat16: half the bytes, and faster on processors made for it.

A bfloat16 has the range of a float32 and 8 bits of precision, so each product has a relative error
of up to about 0.3 %. The difference from the network's own precision is measured on a crop of the
image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.images import Source

PRECISIONS = ("own", "bf16")
UNITS = ("avx512_bf16", "amx_bf16", "arm_bf16")
_LEAVE_OUT = "leave --precision out"
_COMPARED = {1: 16384, 2: 256, 3: 40}
"""Positions along each axis of the crop that is compared, by the number of axes."""


def in_precision(traced: Traced, precision: str | None, device: torch.device) -> Traced:
    """The network itself, or a copy of it in another precision.

    Args:
        traced: the network; it is not changed.
        precision: one of :data:`PRECISIONS`; None for ``own``.
        device: where it will run.

    Raises:
        BadValue: an unknown precision, or a device that has no units for it.
        Unsupported: the network cannot be copied.
    """
    if precision in (None, "own"):
        return traced
    if precision not in PRECISIONS:
        raise BadValue(f"precision {precision!r}", cure=f"use {' or '.join(PRECISIONS)}")
    _check_units(device)
    try:
        module = copy.deepcopy(traced.module).to(torch.bfloat16)
    except Exception as error:  # the user's own classes may forbid it
        raise Unsupported(
            f"the network cannot be copied in bfloat16: {type(error).__name__}: {error}",
            cure=_LEAVE_OUT,
        ) from error
    return traced.around(module, "precision")


@contextmanager
def tracing_in(precision: str | None) -> Iterator[None]:
    """Name the precision where an operator of the copy does not take it, or takes one type only.

    Raises:
        Unsupported: the copy cannot be traced, and the reason names its type.
    """
    try:
        yield
    except Unsupported as error:
        if precision == "bf16" and "bfloat16" in error.fact.lower():
            raise Unsupported(f"--precision bf16: {error.fact}", cure=_LEAVE_OUT) from error
        raise


def check_computes_in_bfloat16(dtype: torch.dtype) -> None:
    """Refuse a network that computes in another type although its weights were converted.

    Raises:
        BadValue: the network has no floating-point weights, or converts its input itself.
    """
    if dtype != torch.bfloat16:
        raise BadValue(
            f"--precision bf16: the network has no weights in floating point and computes in "
            f"{str(dtype).removeprefix('torch.')}",
            cure=_LEAVE_OUT,
        )


def _check_units(device: torch.device) -> None:
    if device.type == "cpu":
        able = any(torch.cpu.get_capabilities().get(unit) for unit in UNITS)
    elif device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = True
    if not able:
        raise BadValue(
            f"--precision bf16: this {'processor' if device.type == 'cpu' else 'device'} has no "
            "units for bfloat16, and would be slower",
            cure=_LEAVE_OUT,
        )


Run = Callable[[list[NDArray[Any]], str], Sequence[NDArray[Any]]]


def difference_in_words(sources: Sequence[Source], traced: Traced, run: Run) -> str:
    """The difference between the results in bfloat16 and in the network's own precision, in words.

    It is measured on a crop of the image.

    Args:
        sources: the images.
        traced: the network in its own precision.
        run: returns the scores for crops (C, …) of the images in a precision.
    """
    crops = [_crop(source, traced) for source in sources]
    size = "×".join(str(n) for n in crops[0].shape[1:])
    try:
        own, reduced = (run(crops, precision) for precision in PRECISIONS)
    except EyeshotError as error:
        return f"bfloat16 was not compared with float32: a crop of {size} is refused: {error}"
    parts = []
    for exact, rounded in zip(own, reduced, strict=True):
        if exact.shape != rounded.shape or exact.dtype.kind != "f":
            continue
        apart = np.abs(exact.astype(np.float64) - rounded.astype(np.float64))
        largest = np.abs(exact).max(initial=0)
        parts.append(
            f"at most {apart.max(initial=0):.2g} and {apart.mean():.2g} on average, of values up "
            f"to {largest:.3g}"
        )
    if not parts:
        return "bfloat16 was not compared with float32: no output is a map of floating-point values"
    return f"bfloat16 differs from {_named(own)} by {'; by '.join(parts)} (on a crop of {size})"


def _named(answers: Sequence[NDArray[Any]]) -> str:
    return next(str(one.dtype) for one in answers if one.dtype.kind == "f")


def _crop(source: Source, traced: Traced) -> NDArray[Any]:
    """The middle of an image, of a size that the network takes if one is known."""
    sides = source.shape[1:]
    most = _COMPARED.get(len(sides), min(_COMPARED.values()))
    window = []
    for axis, n in enumerate(sides):
        length = n
        if n > most:
            length = _accepted(traced, most, axis)
        lo = (n - length) // 2
        window.append((lo, lo + length))
    return source.read(*window)


def _accepted(traced: Traced, most: int, axis: int) -> int:
    """The largest length up to ``most`` that the network takes along an axis, if one is known."""
    try:
        below, _ = traced.sizes.nearest(most, axis)
    except EyeshotError:  # of several inputs, or of one size
        return most
    return below or most
