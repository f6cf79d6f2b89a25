"""A window that moves over a small matrix; every step is a sum that you can check by hand.

Five operations can be walked through. Each has a *read* matrix (the input as the window reads it:
padded, or with zeros inserted) and a list of steps. A step lists the cells that it reads, their
weights, and its result. Everything that is computed here is in the steps. Padded positions,
inserted zeros and resizing matrices are those of :mod:`eyeshot.reference`, and the tests compare
the outputs with it.

Units of operators in a network that move numbers or resize are explained here too: which cells a
unit is a copy or a weighted sum of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor

from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.explanation.traces import (
    Matrix,
    Part,
    Seen,
    UnitTrace,
    as_number,
    as_numbers,
    as_rows,
    described,
    number_part,
    show,
    show_factor,
)
from eyeshot.graph import Ref
from eyeshot.reference.convolution import insert_zeros, surround_with_zeros
from eyeshot.reference.layers import (
    PoolWindow,
    count_cells,
    linear_matrix,
    make_pool_window,
    nearest_matrix,
    plan_resize,
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

Rule = Literal["sum", "max", "mean"]
Place = tuple[int, int]

MOST_STEPS = 1024


@dataclass(frozen=True)
class Term:
    """One cell that a step reads.

    Attributes:
        at: row and column in the read matrix.
        value: the number in the cell.
        weight: the factor of the cell; 1 if there are no weights.
    """

    at: Place
    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class Step:
    """One output cell and its terms.

    Attributes:
        output: row and column of the output cell.
        terms: in the order of the window, row by row.
        divisor: the divisor of a mean; 1 otherwise.
        bias: added at the end.
        result: the value of the output cell.
    """

    output: Place
    terms: tuple[Term, ...]
    rule: Rule
    result: float
    divisor: float = 1.0
    bias: float = 0.0

    @property
    def formula(self) -> str:
        """The step in writing: ``1·1 + 0·2 = 1``, ``max(3, 5) = 5``, ``(3 + 5) / 2 = 4``."""
        values = [show_factor(term.value) for term in self.terms]
        if self.rule == "max":
            return (
                f"max({', '.join(show(term.value) for term in self.terms)}) = {show(self.result)}"
            )
        if self.rule == "mean":
            return f"({' + '.join(values)}) / {show(self.divisor)} = {show(self.result)}"
        pairs = zip(self.terms, values, strict=True)
        products = " + ".join(f"{value}·{show_factor(term.weight)}" for term, value in pairs)
        bias = f" + {show_factor(self.bias)}" if self.bias else ""
        return f"{products or '0'}{bias} = {show(self.result)}"


@dataclass(frozen=True, eq=False)
class Walk:
    """One operation over one small matrix, step by step.

    Attributes:
        operation: ``conv``, ``pool``, ``transpose``, ``nearest`` or ``bilinear``.
        options: the settings, by name.
        input: the input matrix.
        read: the matrix that the window reads: the input padded, or with zeros inserted.
        made: a mask of the cells of ``read`` that are padding or inserted zeros.
        kernel: the weights as they are applied to ``read``; None for operations without weights.
        steps: a step for every output cell, row by row.
        output: the results.
    """

    operation: str
    options: dict[str, Any]
    input: Matrix
    read: Matrix
    made: NDArray[np.bool_]
    kernel: Matrix | None
    steps: tuple[Step, ...]

    @property
    def output(self) -> Matrix:
        """(rows, columns): the result of every step in its place."""
        rows, columns = (1 + max(step.output[axis] for step in self.steps) for axis in (0, 1))
        return np.array([step.result for step in self.steps]).reshape(rows, columns)

    def __rich__(self) -> RenderableType:
        from eyeshot.explanation.drawing import draw_walk

        return draw_walk(self)

    def __repr__(self) -> str:
        rows, columns = self.output.shape
        return f"Walk({self.operation!r}, {len(self.steps)} steps, output {rows}×{columns})"

    def _repr_html_(self) -> str:
        from eyeshot.explanation.drawing import walk_piece

        return walk_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; a cell that holds nothing is None."""
        return {
            "operation": self.operation,
            "options": self.options,
            "input": as_rows(self.input),
            "read": as_rows(self.read),
            "kernel": None if self.kernel is None else as_rows(self.kernel),
            "output": as_rows(self.output),
            "steps": [
                {
                    "output": list(step.output),
                    "terms": [
                        {"at": list(term.at), "value": term.value, "weight": term.weight}
                        for term in step.terms
                    ],
                    "bias": step.bias,
                    "divisor": step.divisor,
                    "formula": step.formula,
                    "result": as_number(step.result),
                }
                for step in self.steps
            ],
        }


def add_up(output: Place, terms: Sequence[Term], bias: float = 0.0) -> Step:
    """A step that adds products up."""
    total = math.fsum(term.value * term.weight for term in terms) + bias
    return Step(output, tuple(terms), "sum", total, bias=bias)


def take_largest(output: Place, terms: Sequence[Term]) -> Step:
    """A step that takes the largest cell. A window without cells would give −∞; it is refused."""
    if not terms:
        raise BadValue(
            f"the window for output {output} lies outside the image",
            cure="use less padding or dilation",
        )
    return Step(output, tuple(terms), "max", max(term.value for term in terms))


def take_mean(output: Place, terms: Sequence[Term], divisor: float) -> Step:
    """A step that divides a sum by a count of cells."""
    total = math.fsum(term.value for term in terms)
    return Step(output, tuple(terms), "mean", total / divisor, divisor)


def walk_over(outputs: Sequence[int], step: Callable[[Place], Step]) -> tuple[Step, ...]:
    """One step for each of (rows, columns) output cells.

    Raises:
        BadValue: there are too many steps to read.
    """
    rows, columns = outputs
    refuse_long_walk(rows, columns)
    return tuple(step((row, column)) for row in range(rows) for column in range(columns))


def refuse_long_walk(rows: int, columns: int) -> None:
    """Refuse an output with more cells than a person reads.

    Raises:
        BadValue: it has more than MOST_STEPS.
    """
    if rows * columns > MOST_STEPS:
        raise BadValue(
            f"an output of {rows}×{columns} takes {rows * columns} steps",
            cure=f"use a smaller input; at most {MOST_STEPS} steps can be read",
        )


Unit = tuple[int, ...]

_SMALL = -(2.0**-40)
"""A factor that rounds nothing."""


def trace_move(seen: Seen, unit: Unit) -> UnitTrace:
    """The cell that the unit is a copy of, or the constant at this position."""
    sources = seen.node.call.refs if seen.node.call is not None else ()
    tensors = [seen.values[name] for name in sources]
    count = sum(one.numel() for one in tensors)
    place = (0, *unit)
    probes = ((1, 1.0), (1 + count, 1.0), (1, _SMALL))
    near, far, small = (float(_moved(seen, tensors, *probe)[place]) for probe in probes)
    if near == far == small:
        return described(seen, unit, "copy", [], bias=near)
    if far - near != count or small != near * _SMALL:  # a sum of cells; a gate that is open
        raise Unsupported(
            f"layer {seen.name!r} is {seen.node.operator}, and this unit is no copy of one number",
            cure="name another layer",
        )
    cell = int(near) - 1
    for tensor, source in zip(tensors, sources, strict=True):
        if cell < tensor.numel():
            at = tuple(int(i) for i in np.unravel_index(cell, tensor.shape))
            value = float(as_numbers(tensor[at]))
            if at[0] != 0 and len(tensor) == seen.batch:
                break
            if len(tensor) == seen.batch:
                at = at[1:]
            part = number_part(at[0] if at else 0, value, None, source, at)
            return described(seen, unit, "copy", [part])
        cell -= tensor.numel()
    raise Unsupported(
        f"layer {seen.name!r} mixes the pictures of a batch",
        cure="name a layer that keeps one entry for each picture",
    )


def trace_join(seen: Seen, unit: Unit) -> UnitTrace:
    """The one number that a concatenation, beyond the batch, puts at the unit."""
    members = seen.node.call.argument("tensors") if seen.node.call is not None else None
    dim = int(seen.node.params.dim) % max(1, seen.output.ndim)
    if not isinstance(members, list | tuple) or dim == 0:
        return trace_move(seen, unit)
    at = list(unit)
    for tensor, source in zip(seen.arguments["tensors"], members, strict=True):
        if at[dim - 1] >= tensor.shape[dim]:
            at[dim - 1] -= tensor.shape[dim]
            continue
        value = float(as_numbers(tensor[(0, *at)]))
        if not isinstance(source, Ref):
            return described(seen, unit, "copy", [], bias=value)
        part = number_part(at[0], value, None, source.node, tuple(at))
        return described(seen, unit, "copy", [part])
    return trace_move(seen, unit)


def _moved(seen: Seen, tensors: list[Tensor], start: int, scale: float) -> Tensor:
    """The operator on maps whose cells hold their own numbers, from ``start`` on, scaled."""
    stand_ins: dict[int, list[Tensor]] = {}
    for one in tensors:
        cells = torch.arange(start, start + one.numel(), dtype=torch.float64)
        stand_ins.setdefault(id(one), []).append(cells.reshape(one.shape) * scale)
        start += one.numel()

    def put(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        left = stand_ins.get(id(value))
        if left is not None:
            return left.pop(0)
        return value.detach().cpu().to(torch.float64 if value.is_floating_point() else value.dtype)

    assert seen.call is not None
    moved: Tensor = seen.call.substituted(put)()
    return moved


def trace_resize(seen: Seen, unit: Unit) -> UnitTrace:
    """The cells of the unit's channel that it is a weighted sum of."""
    assert seen.call is not None
    (name,) = seen.values
    source = seen.values[name]
    with torch.inference_mode(False), torch.enable_grad():
        leaf = source[:1, unit[0] : unit[0] + 1].detach().cpu().double().clone()
        leaf.requires_grad_(True)
        made = seen.call.substituted(lambda one: leaf if one is source else one)()
        (weights,) = torch.autograd.grad(made[(0, 0, *unit[1:])], leaf)
    image, kernel = as_numbers(leaf[0, 0]), as_numbers(weights[0, 0])
    touched = np.nonzero(kernel)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in touched)
    patch, kernel = image[box], kernel[box]
    inside = np.zeros(patch.shape, bool)
    at = (unit[0], *(one.start for one in box))
    total = math.fsum((patch * kernel).ravel())
    part = Part(unit[0], patch, inside, kernel, total, name, at)
    return described(seen, unit, "sum", [part])


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
