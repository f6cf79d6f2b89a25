"""Rows from a camera: the width is known, the height is not, and rows are processed at once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.engine.fitting import misfit, takes
from eyeshot.engine.heights import as_at
from eyeshot.engine.job import check_weights, dtype_of, refuse_whole
from eyeshot.engine.lowering import lower, settled
from eyeshot.engine.moments import split_statistics
from eyeshot.engine.networks import Network, Traced, as_traced
from eyeshot.engine.outputs import Preparation, arrangement_of, features_first, form_for
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, EyeshotError, Failure, Unsupported
from eyeshot.frontends.trials import channels_to_try, runs_on_shapes
from eyeshot.geometry import Region
from eyeshot.graph import Graph
from eyeshot.planning import ENDLESS
from eyeshot.planning.holding import refuse_without_end

_HEIGHT = (1 << 8) * 3 * 3 * 5 * 7
"""A multiple of most grids: a network pads most at one row above it, and crops most one row below.
"""
_LOWEST, _HIGHEST = _HEIGHT - 257, _HEIGHT + 257


class RowStream:
    """A network that accepts rows as they arrive, and returns each output row when it is ready.

    Made by :func:`stream`. The network's weights must not change until the stream is finished.
    """

    def __init__(
        self, traced: Traced, channels: int, width: tuple[int, ...], output_format: str, raw: bool
    ) -> None:
        self._traced, self._size, self._asked = traced, (channels, width), (output_format, raw)
        self._rows = 0
        self._scale = 1.0  # by which the rows so far were divided
        self._finished = False
        self._settle(torch.float32)

    def _settle(self, dtype: torch.dtype) -> None:
        """Prepare for rows of a type; a network without parameters computes in that type."""
        (output_format, raw), traced = self._asked, self._traced
        self._rows_dtype = dtype
        self._like = self._model()
        self._graph = graph = lower(self._like)
        dtype = getattr(torch, graph.nodes[graph.inputs[0]].dtype)
        device = next((t.device for t in graph.tensors.values()), torch.device("cpu"))
        self._preparation = Preparation(dtype, device, raw, traced.mean, traced.std, traced.unit)
        self._forms = {name: form_for(output_format, graph, name) for name in graph.outputs}
        boxes = {node.name: _open_box(graph, node.name) for node in graph}
        self._stream = Stream(graph, boxes, tuple(self._forms), open_ended=True)
        self._rows_returned = dict.fromkeys(graph.outputs, 0)

    @property
    def rows(self) -> int:
        """The number of rows pushed so far."""
        return self._rows

    def push(self, rows: NDArray[Any]) -> Any:
        """Push the next rows into the network.

        Args:
            rows: (C, n, W), or (n, W) for one channel; n may differ between calls, and may be 0.

        Returns:
            The output rows that are now ready, in the network's own layout without the batch, such
            as (C', m, W'). Each row is returned once, in order; m is 0 while the network needs more
            rows. An output without rows (a class, a scalar) is an empty array until it is ready. If
            the network has several outputs, a list with the ready rows of each.

        Raises:
            BadValue: wrong width or number of channels, rows whose type has another scale than the
                rows before, or the stream is finished.
        """
        if self._finished:
            raise BadValue("the stream is finished", cure="make a new one")
        samples = np.asarray(rows)
        channels, width = self._size
        if samples.ndim == len(width) + 1 and channels == 1:
            samples = samples[None]
        if samples.shape[:1] + samples.shape[2:] != (channels, *width):
            expected = " x ".join(str(n) for n in (channels, "n", *width))
            raise BadValue(f"rows of shape {samples.shape}", cure=f"give {expected}")
        if not samples.shape[1]:
            return self._results({})
        dtype = dtype_of([samples.dtype])
        if not self._rows and dtype != self._rows_dtype and not self._has_parameters():
            self._settle(dtype)
        scale = self._preparation.scale(samples.dtype)
        if self._rows and scale != self._scale:
            raise BadValue(
                f"rows of {samples.dtype} after rows that were divided by {self._scale:g}",
                cure="push rows of one type",
            )
        values = self._preparation(samples)  # if this raises, the rows do not count as pushed
        self._scale = scale
        self._rows += samples.shape[1]
        return self._results({self._graph.inputs[0]: values})

    def finish(self) -> Any:
        """End the image, and return the rows that depend on its lower border, like ``push``.

        Raises:
            BadValue: too few rows for this network, or none.
            Unsupported: at this height the network computes other rows than those returned so far,
                because it chooses sizes by the height; the returned rows are not its result.
            Failure: rows are missing, because a push was interrupted.
        """
        if self._finished:
            raise BadValue("the stream is finished already", cure="make a new one")
        if not self._rows:
            raise BadValue("no row was pushed", cure="push some before finish()")
        graph = lower(as_at(self._look(self._rows), self._like))
        boxes = {node.name: tuple(Interval(0, n) for n in node.extents) for node in graph}
        self._stream.close(graph, boxes)
        self._finished = True
        last = self._results({})
        for name, rows in self._rows_returned.items():
            if rows != graph.nodes[name].extents[0]:
                raise Failure(
                    f"output {name} gave {rows} rows of {graph.nodes[name].extents[0]}",
                    cure="make a new stream; a push of this one broke off",
                )
        return last

    def _has_parameters(self) -> bool:
        return any(one.is_floating_point() for one in self._traced.module.parameters())

    def _model(self) -> Graph:
        """The network at the height where it pads and crops most, compared with other heights.

        Raises:
            Unsupported: it computes differently at another height, or would keep rows forever.
        """
        first, *others = self._heights()
        model = self._look(first)
        refuse_without_end(settled(split_statistics(model)))
        for height in others:
            graph = self._look(height)
            try:
                as_at(model, graph)
            except Unsupported:
                as_at(graph, model)
            else:
                model = graph
        return model

    def _heights(self) -> list[int]:
        """Heights that the network takes: a large one, the next above it and the next below.

        If it computes rows in the same way at all of them, it is assumed to do so at every height;
        ``finish`` checks the real height.
        """
        runs = runs_on_shapes(self._traced.module)
        channels, width = self._size
        above, below = (
            (n for n in heights if runs((1, channels, n, *width)))
            for heights in (range(_HEIGHT, _HIGHEST), range(_HEIGHT - 1, _LOWEST, -1))
        )
        return [next(above, _HEIGHT), *itertools.islice(above, 1), *itertools.islice(below, 1)]

    def _look(self, height: int) -> Graph:
        channels, width = self._size
        shape = (channels, height, *width)
        try:
            graph = self._traced.graph(shape, dtype=self._rows_dtype)
        except EyeshotError as error:
            raise misfit(self._traced, "a picture of such rows", shape, error) from error
        refuse_whole(graph)
        check_weights(graph)
        return graph

    def _results(self, rows: dict[str, torch.Tensor]) -> Any:
        ready = self._stream.push(rows)
        samples = {name: self._samples(name, ready.get(name)) for name in self._forms}
        results = [samples[name] for name in self._graph.outputs]  # an output may be returned twice
        return results[0] if len(results) == 1 else results

    def _samples(self, name: str, scores: torch.Tensor | None) -> NDArray[Any]:
        node, form = self._graph.nodes[name], self._forms[name]
        arrangement = arrangement_of(self._graph, name)
        if scores is None and node.dims[0] is None:
            return np.empty(0, form.dtype)
        if scores is None:
            samples = np.empty((form.channels, 0, *node.extents[1:]), form.dtype)
        else:
            samples = form(features_first(node, scores))
        self._rows_returned[name] += samples.shape[1]
        return arrangement.arranged(samples)


def stream(
    net: Network,
    width: int | tuple[int, ...],
    *,
    channels: int | None = None,
    output_format: str = "scores",
    raw: bool = False,
) -> RowStream:
    """Run a network over an unknown number of rows, such as those of a line-scan camera.

    ``push`` takes rows (C, n, W). The concatenated results of all ``push`` calls and of ``finish``
    equal the result of ``net`` for all rows at once. If the network has several outputs, ``push``
    and ``finish`` return a list with the ready rows of each.

    Args:
        net: a network in eval mode, a trained run, or a traced network.
        width: the number of columns, or the lengths of all spatial axes but the first.
        channels: the channels of a row; by default those that the network's convolutions take.
        output_format: see :func:`eyeshot.run`.
        raw: leave whole-number samples as they are; otherwise they are scaled to 0 … 1.

    Raises:
        BadValue: the network does not take this width.
        Unsupported: the network cannot be run by parts, or its computation depends on the height.
    """
    widths = (width,) if isinstance(width, int) else tuple(width)
    traced = as_traced(net)
    count = channels if channels is not None else _channels(traced, widths)
    return RowStream(traced, count, widths, output_format, raw)


def _channels(traced: Traced, width: tuple[int, ...]) -> int:
    """The channels that the network takes; its first declared convolution may not be its first."""
    counts, runs = channels_to_try(traced.module), runs_on_shapes(traced.module)
    if not counts:
        raise BadValue("the number of channels is not known", cure="give channels=")
    for count in counts:
        heights = (n for n in range(_HEIGHT, _HIGHEST) if runs((1, count, n, *width)))
        height = next(heights, None)
        # On the meta device a transposed convolution accepts any channels; a trace refuses them.
        if height is not None and takes(traced, (count, height, *width)):
            return count
    return counts[0]


def _open_box(graph: Graph, name: str) -> Region:
    """The whole node, with an unlimited number of rows."""
    node = graph.nodes[name]
    whole = tuple(Interval(0, n) for n in node.extents)
    return whole if node.dims[0] is None else (Interval(0, ENDLESS), *whole[1:])
