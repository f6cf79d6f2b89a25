"""A picture too large to be computed at once: maps where one looks, by the engine's own regions.

Maps come from the engine, which reads and computes just what a region of a layer needs. Sums come
from a *window*: a crop whose corner lies where the network's pattern of strides begins again, so
each unit whose field lies inside it has the value that it has in the whole picture.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.axes import Interval
from eyeshot.cost import costs
from eyeshot.engine.job import check_weights, dtype_of
from eyeshot.engine.lowering import lower
from eyeshot.engine.networks import Traced, trace
from eyeshot.engine.outputs import Preparation
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.trials import axes_taken
from eyeshot.geometry import Fields, Region, required
from eyeshot.graph import Graph
from eyeshot.images import Source, open_source
from eyeshot.images.whole import to_unit
from eyeshot.interpreter import needed_for
from eyeshot.planning import pushes
from eyeshot.web_studio.looks import Check, Look
from eyeshot.web_studio.payloads import LongView
from eyeshot.web_studio.subjects import Picture, Subject, as_colors, open_picture

WHOLE = 2**20
"""Positions up to which a picture is computed at once."""
_MOST_WORK = 6 * 10**10
"""Multiply-adds for one view; about a second of two cores."""
_MOST_POSITIONS = 2**24
"""Of the picture, for one view."""
_BAND = 128
_OVERVIEW = 2048
"""The longer side of the picture drawn small."""
_SIDE, _MOST_SIDE = 256, 1024
"""Of a window."""
_WINDOWS = 4


@dataclass(frozen=True, eq=False)
class Window:
    """A crop of a wide picture, looked at as a picture of its own.

    Attributes:
        look: at the crop.
        offset: of its corner in the picture, along each axis.
    """

    look: Look
    offset: tuple[int, ...]

    def shift(self, fields: Fields, layer: str) -> tuple[int, ...]:
        """The unit of the whole picture that is the crop's first, along each axis."""
        strides = [field.stride for field in fields.layer(layer)]
        if not strides or None in strides:
            raise _whole_needed(layer)
        return tuple(int(at / (s or 1)) for at, s in zip(self.offset, strides, strict=True))


class WidePicture:
    """A picture that is read and computed by parts.

    Args:
        subject: the network.
        source: the picture; it is read by one thread at a time.
        name: to be shown.

    Raises:
        BadValue, Unsupported: the network cannot be run on it by parts.
    """

    def __init__(self, subject: Subject, source: Source, name: str) -> None:
        self.subject, self.source, self.name = subject, source, name
        self._traced: Traced = trace(subject.run or subject.net)
        self.size, cut = _size_taken(self._traced, source)
        self.notes = (*source.notes, *cut)
        self.channels = source.shape[0]
        self.graph = self._traced.graph((self.channels, *self.size), dtype=dtype_of([source.dtype]))
        check_weights(self.graph)
        self.fields = Fields(self.graph)
        weight = next((t for t in self.graph.tensors.values() if t.is_floating_point()), None)
        place = torch.device("cpu") if weight is None else weight.device
        kind: torch.dtype = getattr(torch, self.graph.nodes[self.graph.inputs[0]].dtype)
        self._prepared = Preparation(
            kind, place, False, self._traced.mean, self._traced.std, self._traced.unit
        )
        self._reading = threading.Lock()
        self._windows: dict[tuple[int, ...], Window] = {}
        self._overview: tuple[int, NDArray[np.uint8]] | None = None

    def forget(self) -> None:
        """Let go of what was computed in windows: the network's weights are others now."""
        for window in self._windows.values():
            window.look.forget()

    # -- the picture itself ----------------------------------------------------------------------

    def shown(
        self, box: tuple[int, int, int, int], step: int, check: Check
    ) -> tuple[NDArray[np.uint8], int]:
        """RGB (h, w, 3) within a box, and of how many pixels each is the first, along both axes."""
        top, bottom, left, right = box
        if (bottom - top) * (right - left) <= 2 * WHOLE * step:
            samples = self._read((top, bottom), (left, right))[:, ::step, ::step]
            return _colors(samples), step
        coarse, overview = self._small(check)
        rows = slice(top // coarse, -(-bottom // coarse))
        return np.ascontiguousarray(overview[rows, left // coarse : -(-right // coarse)]), coarse

    def _small(self, check: Check) -> tuple[int, NDArray[np.uint8]]:
        """The whole picture, every so-many-th pixel; read once."""
        if self._overview is None:
            step = -(-max(self.size) // _OVERVIEW)
            bands = []
            for row in range(0, self.size[0], 256 // step * step or step):
                check()
                end = min(self.size[0], row + (256 // step * step or step))
                bands.append(self._read((row, end), (0, self.size[1]))[:, ::step, ::step])
            self._overview = (step, _colors(np.concatenate(bands, axis=1)))
        return self._overview

    def _read(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.generic]:
        with self._reading:
            return self.source.read(rows, columns)

    # -- maps by regions -------------------------------------------------------------------------

    def maps(
        self, layer: str, box: tuple[int, int, int, int], check: Check, *, anyway: bool = False
    ) -> NDArray[np.generic]:
        """The maps (C, h, w) of a layer within a box of its positions, by the engine.

        Raises:
            LongView: it takes too long for one view, and nobody said to compute it anyway.
            Unsupported: an operator that has no exact answer by parts.
        """
        top, bottom, left, right = box
        name = self.graph[layer].name
        graph, boxes = self._region(name, (Interval(top, bottom), Interval(left, right)))
        if not anyway:
            self._refuse_long(graph, boxes)
        parts = [part[0].float().cpu().numpy() for part in self._computed(graph, boxes, check)]
        return np.concatenate(parts, axis=1)

    def _region(self, layer: str, region: Region) -> tuple[Graph, Mapping[str, Region]]:
        """What is computed for a region of a layer: fewer operators, and their boxes."""
        node = self.graph.nodes[layer]
        if len(node.shape) != 4 or None in node.dims:
            raise _whole_needed(layer)
        needed = needed_for(self.graph, [layer])
        nodes = {name: one for name, one in self.graph.nodes.items() if name in needed}
        graph = lower(replace(self.graph, nodes=nodes, outputs=(layer,), batch={}))
        return graph, required(graph, {layer: region})

    def refuse_wide(self, box: tuple[int, int, int, int]) -> None:
        """Refuse a box of more pixels than one view reads.

        Raises:
            BadValue: so.
        """
        pixels = (box[1] - box[0]) * (box[3] - box[2])
        if pixels > _MOST_POSITIONS:
            raise BadValue(f"{pixels / 1e6:.1f} megapixels are in view", cure="zoom in")

    def _refuse_long(self, graph: Graph, boxes: Mapping[str, Region]) -> None:
        work = 0.0
        spent = costs(graph)
        for name, box in boxes.items():
            sides = zip(box, graph.nodes[name].extents, strict=True)
            work += spent[name].multiply_adds * math.prod(len(side) / n for side, n in sides)
        positions = math.prod(len(side) for side in boxes[graph.inputs[0]])
        if work > _MOST_WORK or positions > _MOST_POSITIONS:
            raise LongView(
                f"{positions / 1e6:.1f} megapixels and {work / 1e9:.0f} billion multiply-adds are "
                "in view",
                cure="zoom in, or compute them anyway",
            )

    def _computed(self, graph: Graph, boxes: Mapping[str, Region], check: Check) -> list[Tensor]:
        """Bands of the output, (1, C, rows, w), from the first row on."""
        (output,) = graph.outputs
        if graph.nodes[output].is_input:
            return [self._prepared(self._read(*((s.lo, s.hi) for s in boxes[output])), self.name)]
        stream = Stream(graph, boxes, graph.outputs, band=_BAND)
        parts = []
        for rows in pushes(graph, boxes, _BAND):
            check()
            given = {}
            for name, side in rows.items():
                if side:
                    columns = boxes[name][1]
                    samples = self._read((side.lo, side.hi), (columns.lo, columns.hi))
                    given[name] = self._prepared(samples, self.name, (side.lo, columns.lo))
            ready = stream.push(given)
            if output in ready:
                parts.append(ready[output])
        return parts

    # -- sums by windows -------------------------------------------------------------------------

    @cached_property
    def _grid(self) -> tuple[int, ...]:
        """Pixels along each axis after which the pattern of strides begins again."""
        found = [1, 1]
        for node in self.graph:
            for axis, phases in enumerate(self.fields.phases(node.name)):
                if phases is not None and phases.inputs < _MOST_SIDE:
                    found[axis] = math.lcm(found[axis], phases.inputs)
        return tuple(found)

    def window_for(self, layer: str, place: Sequence[int], room: int) -> Window:
        """A window in which a unit, by its position, has the value that it has in the picture.

        Raises:
            Unsupported: it depends on too much of the picture.
        """
        sides = []
        for axis, phases in enumerate(self.fields.phases(layer)):
            if phases is None:
                raise _whole_needed(layer)
            lo, hi = phases.one(place[axis])
            sides.append((max(0, lo), min(self.size[axis], hi), lo, hi))
        if len(sides) != 2:
            raise _whole_needed(layer)
        for known in reversed(self._windows.values()):
            if self._covers(known, sides):
                return known
        return self._window([(lo + hi) // 2 for lo, hi, _, _ in sides], room, sides)

    def window_at(self, point: Sequence[int], room: int) -> Window:
        """The window around a pixel."""
        return self._window(point, room, [])

    def valid(self, window: Window, layer: str) -> tuple[slice, slice] | None:
        """The units of a layer in a window that have the values of the whole picture."""
        found: list[slice] = []
        shifts = window.shift(self.fields, layer)
        extents = window.look.graph.nodes[layer].shape[2:]
        for axis, phases in enumerate(self.fields.phases(layer)):
            if phases is None:
                return None
            inside = [
                unit
                for unit in range(extents[axis])
                if self._fits(window, axis, *phases.one(unit + shifts[axis]))
            ]
            if not inside:
                return None
            found.append(slice(inside[0], inside[-1] + 1))
        return found[0], found[1]

    def _fits(self, window: Window, axis: int, lo: int, hi: int) -> bool:
        start = window.offset[axis]
        end = start + window.look.x.shape[2 + axis]
        return (lo >= start or start == 0) and (hi <= end or end == self.size[axis])

    def _covers(self, window: Window, sides: Sequence[tuple[int, int, int, int]]) -> bool:
        return all(
            self._fits(window, axis, side[2], side[3])
            and window.offset[axis] <= side[0]
            and side[1] <= window.offset[axis] + window.look.x.shape[2 + axis]
            for axis, side in enumerate(sides)
        )

    def _window(
        self, center: Sequence[int], room: int, sides: Sequence[tuple[int, int, int, int]]
    ) -> Window:
        """A new window around a point, wide enough for a field."""
        spans = []
        for axis, n in enumerate(self.size):
            grid = self._grid[axis]
            least = sides[axis][3] - sides[axis][2] + 2 * grid if sides else 0
            side = -(-max(_SIDE, least) // grid) * grid
            if side > max(_MOST_SIDE, grid) and side < n:
                raise Unsupported(
                    f"a field of {least} pixels", cure="look at a smaller picture, as a whole"
                )
            # In steps of half a window, so that neighbors share one.
            half = max(grid, side // 2 // grid * grid)
            start = round((center[axis] - side / 2) / half) * half
            if sides:  # a multiple of the grid from which the whole field is reached
                _, _, lo, hi = sides[axis]
                start = max(min(start, lo // grid * grid), -(-(hi - side) // grid) * grid)
            last = max(0, (n - side) // grid * grid)
            start = min(max(0, start), last)
            spans.append((start, n if start == last else start + side))
        key = tuple(at for span in spans for at in span)
        if key not in self._windows:
            x = self._prepared(self._read(*spans), self.name).contiguous()
            graph = next(
                (w.look.traced for w in self._windows.values() if w.look.x.shape == x.shape), None
            )
            look = Look(self.subject.net, x, room=room, graph=graph)
            self._windows[key] = Window(look, tuple(span[0] for span in spans))
            while len(self._windows) > _WINDOWS:
                del self._windows[next(iter(self._windows))]
        return self._windows[key]


def open_any(subject: Subject, image: str | Path | NDArray[Any]) -> Picture | WidePicture:
    """A picture to be computed at once, or by parts where it is too large for that.

    Args:
        subject: the network. A classifier gets its pictures as it was trained, and so at once.
        image: a file, or an array.

    Raises:
        BadFile: not a picture.
        BadValue, Unsupported: one that the network cannot take.
    """
    run = subject.run
    if run is None or run.config.task != "classify":
        space = axes_taken(subject.net)
        if space in (2, None):
            source = open_source(image, space=2)
            if math.prod(source.shape[1:]) > WHOLE:
                name = Path(image).name if isinstance(image, str | Path) else "array"
                return WidePicture(subject, source, name)
            source.close()
    return open_picture(subject, image)


def _size_taken(traced: Traced, source: Source) -> tuple[tuple[int, int], tuple[str, ...]]:
    """How much of a picture a network takes, and what is left out."""
    high, wide = source.shape[1:]
    if traced.sizes.takes(high, wide):
        return (high, wide), ()
    below = [traced.sizes.nearest(n, axis)[0] for axis, n in enumerate((high, wide))]
    if None in below or not traced.sizes.takes(*(n or 0 for n in below)):
        raise BadValue(f"{source.name}: {high}×{wide} pixels", cure="give a size it takes")
    taken = (below[0] or 0, below[1] or 0)
    return taken, (f"of {high}×{wide} pixels the first {taken[0]}×{taken[1]} are looked at",)


def _colors(samples: NDArray[np.generic]) -> NDArray[np.uint8]:
    if samples.dtype == np.uint8:
        return as_colors(np.moveaxis(np.asarray(samples, np.uint8), 0, -1))
    unit = to_unit(samples).clip(0, 1) * 255
    return as_colors(np.moveaxis(np.rint(unit).astype(np.uint8), 0, -1))


def _whole_needed(layer: str) -> Unsupported:
    return Unsupported(
        f"layer {layer} depends on the whole picture",
        cure="look at a smaller picture, or at a layer before it",
    )
