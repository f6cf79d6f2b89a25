"""The five operations that can be walked through: which cells does each output read?

The answers come from :mod:`eyeshot.reference`: its padded positions, inserted zeros and resizing
matrices. What is added here is the walk: those answers, one output at a time, in writing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eyeshot.errors import BadValue, UnknownName
from eyeshot.explanation.traces import Matrix
from eyeshot.explanation.walks import (
    Place,
    Step,
    Term,
    Walk,
    add_up,
    refuse_long_walk,
    take_largest,
    take_mean,
    walk_over,
)
from eyeshot.reference.padding import (
    OUTSIDE,
    Array,
    Padding,
    PerAxis,
    count_outputs,
    pad,
    padded_positions,
    per_axis,
    resolve_padding,
)
from eyeshot.reference.pooling import PoolWindow, count_cells, make_pool_window
from eyeshot.reference.resizing import linear_matrix, nearest_matrix, plan_resize
from eyeshot.reference.transposition import insert_zeros, surround_with_zeros

POOL_MODES = ("max", "avg")


def walk_conv(
    image: Matrix,
    kernel: Matrix,
    *,
    bias: float = 0.0,
    stride: PerAxis = 1,
    padding: Padding = 0,
    padding_mode: str = "zeros",
    dilation: PerAxis = 1,
    flip: bool = False,
) -> Walk:
    """Slide ``kernel`` over ``image``, both (rows, columns); options as for `reference.conv`.

    Raises:
        BadValue, UnknownName: as :func:`eyeshot.reference.conv`.
    """
    if not np.isfinite(bias):
        raise BadValue(f"bias {bias}", cure="give a finite number")
    strides, dilations = _steps(stride, "stride"), _steps(dilation, "dilation")
    widths = resolve_padding(padding, kernel.shape, strides, dilations)
    read = pad(image[None, None], widths, padding_mode)[0, 0]
    laid = kernel[::-1, ::-1] if flip else kernel
    return Walk(
        "conv",
        {
            "stride": strides,
            "padding": widths,
            "padding_mode": padding_mode,
            "dilation": dilations,
            "flip": flip,
            "bias": bias,
        },
        image,
        read,
        _padding_mask(image, widths),
        laid,
        _slide(read, laid, strides, dilations, bias),
    )


def walk_transpose(
    image: Matrix,
    kernel: Matrix,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
) -> Walk:
    """Transposed convolution as zero insertion and a sliding kernel, turned around.

    Raises:
        BadValue: as :func:`eyeshot.reference.conv_transpose`.
    """
    strides, dilations = _steps(stride, "stride"), _steps(dilation, "dilation")

    def spread(cells: Array) -> Array:
        stuffed = insert_zeros(cells[None, None], strides)
        around = (kernel.shape, strides, padding, output_padding, dilations)
        whole: Array = surround_with_zeros(stuffed, *around)[0, 0]
        return whole

    read, turned = spread(image), kernel[::-1, ::-1]
    return Walk(
        "transpose",
        {
            "stride": strides,
            "padding": per_axis(padding, 2, "padding", least=0),
            "output_padding": per_axis(output_padding, 2, "output_padding", least=0),
            "dilation": dilations,
        },
        image,
        read,
        spread(np.ones_like(image)) == 0,
        turned,
        _slide(read, turned, (1, 1), dilations, 0.0),
    )


def walk_pool(
    image: Matrix,
    size: PerAxis = 2,
    *,
    mode: str = "max",
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Walk:
    """Max or average pooling; cells beyond the image are NaN in ``read`` and in no step.

    Raises:
        UnknownName: ``mode`` is neither ``max`` nor ``avg``.
        BadValue: as the pools of :mod:`eyeshot.reference`; dilation for ``avg``.
    """
    if mode not in POOL_MODES:
        raise UnknownName("pooling mode", mode, POOL_MODES)
    if mode == "avg" and _steps(dilation, "dilation") != (1, 1):
        raise BadValue(f"dilation {dilation} for average pooling", cure="only max has a dilation")
    window = make_pool_window(image[None, None], size, stride, padding, dilation, ceil_mode)
    read = window.surround(image[None, None], np.nan, np.nan)[0, 0]
    counts = count_cells(window, count_include_pad)[0, 0] if mode == "avg" else None
    options: dict[str, Any] = {
        "mode": mode,
        "size": window.kernel,
        "stride": window.stride,
        "padding": window.padding,
        "dilation": window.dilation,
        "ceil_mode": ceil_mode,
    }
    if counts is not None:
        options["count_include_pad"] = count_include_pad

    def step(output: Place) -> Step:
        terms = _pool_terms(read, window, output)
        if counts is None:
            return take_largest(output, terms)
        return take_mean(output, terms, float(counts[output]))

    steps = walk_over(window.outputs, step)
    return Walk("pool", options, image, read, np.isnan(read), None, steps)


def walk_nearest(
    image: Matrix, *, scale: float | tuple[float, float] | None = None, size: PerAxis | None = None
) -> Walk:
    """Nearest-neighbor up-sampling: every output copies one cell.

    Raises:
        BadValue: as :func:`eyeshot.reference.upsample`.
    """
    plan = plan_resize(image.shape, size, scale)
    refuse_long_walk(*(axis.after for axis in plan))
    rows, columns = (nearest_matrix(r) for r in plan)
    return _resize("nearest", {"scale": scale, "size": size}, image, rows, columns)


def walk_bilinear(
    image: Matrix,
    *,
    scale: float | tuple[float, float] | None = None,
    size: PerAxis | None = None,
    align_corners: bool = False,
) -> Walk:
    """Bilinear up-sampling: every output is a mean of up to four cells, the nearer the heavier.

    Raises:
        BadValue: as :func:`eyeshot.reference.upsample`.
    """
    plan = plan_resize(image.shape, size, scale)
    refuse_long_walk(*(axis.after for axis in plan))  # before matrices of that size are made
    rows, columns = (linear_matrix(r, align_corners) for r in plan)
    options = {"scale": scale, "size": size, "align_corners": align_corners}
    return _resize("bilinear", options, image, rows, columns)


def _slide(
    read: Array, kernel: Matrix, stride: Place, dilation: Place, bias: float
) -> tuple[Step, ...]:
    """Lay ``kernel`` on ``read`` at every place and add the products up."""

    def step(output: Place) -> Step:
        terms = []
        for cell in np.ndindex(*kernel.shape):
            at = _met(output, cell, stride, dilation)
            terms.append(Term(at, float(read[at]), float(kernel[cell])))
        return add_up(output, terms, bias)

    return walk_over(count_outputs(read.shape, kernel.shape, stride, dilation), step)


def _pool_terms(read: Array, window: PoolWindow, output: Place) -> list[Term]:
    met = [
        _met(output, cell, window.stride, window.dilation) for cell in np.ndindex(*window.kernel)
    ]
    return [Term(at, float(read[at])) for at in met if not np.isnan(read[at])]


def _resize(
    operation: str, options: dict[str, Any], image: Matrix, rows: Array, columns: Array
) -> Walk:
    """Steps from one resizing matrix for each axis: an output's weights are two rows' product."""

    def step(output: Place) -> Step:
        weights = np.outer(rows[output[0]], columns[output[1]])
        used = [(int(row), int(column)) for row, column in np.argwhere(weights)]
        return add_up(output, [Term(at, float(image[at]), float(weights[at])) for at in used])

    steps = walk_over((len(rows), len(columns)), step)
    chosen = {name: value for name, value in options.items() if value is not None}
    return Walk(operation, chosen, image, image, np.zeros(image.shape, bool), None, steps)


def _met(output: Place, cell: tuple[int, ...], stride: Any, dilation: Any) -> Place:
    """The read cell that one cell of the window meets: s·i + d·j on either axis."""
    row, column = (stride[a] * output[a] + dilation[a] * cell[a] for a in (0, 1))
    return row, column


def _steps(value: PerAxis, name: str) -> Place:
    rows, columns = per_axis(value, 2, name, least=1)
    return rows, columns


def _padding_mask(image: Matrix, widths: tuple[tuple[int, int], ...]) -> Array:
    """The mask of the padding, of any kind, in the padded image."""
    rows, columns = (
        padded_positions(n, before, after, "zeros") == OUTSIDE
        for n, (before, after) in zip(image.shape, widths, strict=True)
    )
    mask: Array = rows[:, None] | columns[None, :]
    return mask
