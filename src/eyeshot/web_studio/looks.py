"""A network looking at a picture: its graph traced once, its values computed once.

What :func:`eyeshot.see`, :func:`eyeshot.explain` and :func:`eyeshot.receptive_field` compute again
at every call is kept here, so that a click is answered at once with the same numbers.

Changes to try out are made here too: muted channels and replaced kernels. They do not change the
network itself.

Of a picture that is too large to compute at once, only the parts on the screen are computed. Maps
come from the engine, which reads and computes what a region of a layer needs. Sums come from a
*window*: a crop whose corner lies where the network's pattern of strides begins again, so each unit
whose field lies inside it has the value that it has in the whole picture.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot.axes import Interval
from eyeshot.cost import costs
from eyeshot.engine.job import check_weights, dtype_of
from eyeshot.engine.lowering import lower
from eyeshot.engine.networks import Traced, trace
from eyeshot.engine.outputs import Preparation
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, Unsupported, shorten
from eyeshot.explanation import UnitTrace
from eyeshot.explanation.explaining import explain_seen
from eyeshot.explanation.traces import seen_among
from eyeshot.features import compute_by_graph
from eyeshot.frontends.trials import accepted_axes
from eyeshot.geometry import Fields, Region, required
from eyeshot.graph import Call, Family, Graph, Node
from eyeshot.images import Source, open_source
from eyeshot.images.whole import to_unit
from eyeshot.interpreter import needed_for, sources_of, values
from eyeshot.language import tr
from eyeshot.planning import pushes
from eyeshot.untouched import untouched
from eyeshot.web_studio.payloads import LongView
from eyeshot.web_studio.subjects import Picture, Subject, as_colors, open_picture

_MOST = 256
"""Changes at a time."""


@dataclass(frozen=True)
class Edits:
    """What is changed.

    Attributes:
        muted: (layer, channel): the channel of what the layer gives is zero.
        kernels: (layer, output channel, input channel, numbers row by row): the kernel from that
            input channel to that output channel, or one row of a matrix where the layer has no
            window; input channels are counted within the group.
    """

    muted: tuple[tuple[str, int], ...] = ()
    kernels: tuple[tuple[str, int, int, tuple[float, ...]], ...] = ()

    @classmethod
    def read(cls, text: str) -> Edits:
        """Edits from JSON: ``{"mute": [["conv1", 3]], "set": [["conv1", 0, 0, [1, 0, -1]]]}``.

        Raises:
            BadValue: it is something else.
        """
        if not text:
            return NO_EDITS
        try:
            found = json.loads(text)
            muted = tuple((str(layer), int(channel)) for layer, channel in found.get("mute", ()))
            kernels = tuple(
                (str(layer), int(out), int(into), tuple(float(n) for n in numbers))
                for layer, out, into, numbers in found.get("set", ())
            )
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise _unreadable(text) from None
        if len(muted) + len(kernels) > _MOST:
            raise BadValue(f"{len(muted) + len(kernels)} edits", cure=f"use at most {_MOST}")
        if not all(math.isfinite(n) for *_, numbers in kernels for n in numbers):
            raise BadValue("a kernel that holds NaN or infinity", cure="give finite numbers")
        return cls(muted, kernels)

    def applied(self, graph: Graph) -> Graph:
        """The graph with these changes, with tensors of its own where they are others.

        Raises:
            UnknownName: no such layer.
            BadValue: no such channel, or a kernel of another size.
        """
        nodes, tensors = dict(graph.nodes), dict(graph.tensors)
        for layer, out, into, numbers in self.kernels:
            name = kernel_of(graph, layer)
            tensors[name] = _with_kernel(graph[layer], tensors[name], out, into, numbers)
        channels: dict[str, list[int]] = {}
        for layer, channel in self.muted:
            node = graph[layer]
            if node.call is None or not 0 <= channel < (node.shape[1:] or (0,))[0]:
                raise BadValue(f"channel {channel} of {layer}", cure="name one that the layer has")
            channels.setdefault(node.name, []).append(channel)
        for name, muted in channels.items():
            node = nodes[name]
            assert node.call is not None
            nodes[name] = replace(node, call=_muting(node.call, muted))
        return replace(graph, nodes=nodes, tensors=tensors)


NO_EDITS = Edits()


def kernel_of(graph: Graph, layer: str) -> str:
    """The tensor that holds the kernels of a convolution, or the matrix of a linear layer.

    Raises:
        UnknownName: no such layer.
        BadValue: the layer has none.
    """
    node = graph[layer]
    weighted = [w for w in node.weights if graph.tensors[w].ndim > 1]
    if not weighted:
        raise BadValue(f"layer {layer} ({node.operator})", cure="name one that has kernels")
    return weighted[0]


def _with_kernel(
    node: Node, weight: Tensor, out: int, into: int, numbers: Sequence[float]
) -> Tensor:
    """The weight with one kernel exchanged."""
    transposed = node.family is Family.TRANSPOSED_CONVOLUTION
    first, second = (into, out) if transposed else (out, into)
    if not (0 <= first < weight.shape[0] and 0 <= second < weight.shape[1]):
        raise BadValue(
            f"kernel {out}, {into} of {node.name}", cure="name channels that the layer has"
        )
    changed = weight.detach().clone()
    window = changed[first, second]
    if len(numbers) != window.numel():
        raise BadValue(
            f"{len(numbers)} numbers for a kernel of {node.name}", cure=f"give {window.numel()}"
        )
    changed[first, second] = torch.tensor(numbers, dtype=weight.dtype).reshape(window.shape)
    return changed


def _muting(call: Call, channels: Sequence[int]) -> Call:
    """The same call, of whose value these channels become zero."""
    target = call.target

    def muted(*args: Any, **kwargs: Any) -> Any:
        value = target(*args, **kwargs)
        if isinstance(value, Tensor):
            value = value.clone()
            value[:, list(channels)] = 0
        return value

    muted.overloadpacket = getattr(target, "overloadpacket", None)  # type: ignore[attr-defined]
    muted.item = getattr(target, "item", 0)  # type: ignore[attr-defined]
    return replace(call, target=muted)


def _unreadable(text: str) -> BadValue:
    return BadValue(f"edits {shorten(text)}", cure='give {"mute": [["conv1", 3]], "set": []}')


class Cancelled(Exception):
    """The caller no longer waits for the answer."""


Check = Callable[[], None]
"""Called between steps of a long computation; raises :class:`Cancelled` to end it."""


def never() -> None:
    """A computation that is never canceled."""


class Look:
    """One network, one input, and the changes made to the network for trying out.

    Args:
        net: the network, in eval mode; it is left as it was.
        x: (1, C, H, W) as it takes it.
        room: the most bytes of values that are kept; the least recently used are removed first.
        edits: channels muted and kernels changed.
        graph: of the network for ``x``, where it is there already.

    Raises:
        BadValue: the network refuses ``x``.
        Unsupported: the network cannot be traced.
    """

    def __init__(
        self,
        net: nn.Module,
        x: Tensor,
        *,
        room: int,
        edits: Edits = NO_EDITS,
        graph: Graph | None = None,
    ) -> None:
        self.net, self.x, self.edits, self._room = net, x, edits, room
        self._lock = threading.Lock()
        self._values: OrderedDict[str, Tensor] = OrderedDict()
        self.traced = graph if graph is not None else self._trace()
        self.graph = edits.applied(self.traced)
        # A sum calls an operator on a few numbers, where no channel can be counted.
        self._unmuted = replace(edits, muted=()).applied(self.traced)

    def edited(self, edits: Edits) -> Look:
        """The same with other changes; nothing is traced again."""
        return Look(self.net, self.x, room=self._room, edits=edits, graph=self.traced)

    def forget(self) -> None:
        """Let go of all values: the network's weights are others now."""
        with self._lock:
            self._values.clear()

    def value(self, layer: str, check: Check = never) -> Tensor:
        """The value of one layer, (1, C, …)."""
        name = self.graph[layer].name
        return self.values([name], check)[name]

    def values(self, names: Collection[str], check: Check = never) -> Mapping[str, Tensor]:
        """The values of nodes, those that are not kept computed in one pass."""
        with self._lock:
            results = {name: self._cached(name) for name in names}
            if any(value is None for value in results.values()):
                results |= self._computed(
                    [n for n, value in results.items() if value is None], check
                )
        return {name: value for name, value in results.items() if value is not None}

    def explain(self, layer: str, unit: Sequence[int], check: Check = never) -> UnitTrace:
        """As :func:`eyeshot.explain`, of this network and input.

        Raises:
            Unsupported: the channel is muted, so its value is no sum.
        """
        node = self.graph[layer]
        for name, channel in self.edits.muted:
            if self.graph[name].name == node.name and channel == unit[0]:
                raise Unsupported(
                    tr("channel {n} of {layer} is muted: its value is 0", n=channel, layer=name),
                    cure=tr("undo this change to see its sum"),
                )
        known = self.values([node.name, *sources_of(node)], check)
        return explain_seen(seen_among(self._unmuted, self.net, known, node.name), unit)

    def _trace(self) -> Graph:
        """The network's graph, whose values are compared with those of the network."""
        graphs: list[Graph] = []

        def choose(graph: Graph) -> Collection[str]:
            graphs.append(graph)
            return list(graph.nodes) if self._all_fit(graph) else list(graph.outputs)

        def keep(node: Node, value: Tensor) -> None:
            self._values[node.name] = value

        reason = compute_by_graph(self.net, [self.x], choose, keep, full=True)
        if reason:
            raise Unsupported(reason, cure="give a network that torch.export can trace")
        return graphs[0]

    def _cached(self, name: str) -> Tensor | None:
        if name in self._values:
            self._values.move_to_end(name)
        return self._values.get(name)

    def _computed(self, names: Sequence[str], check: Check) -> dict[str, Tensor]:
        """Compute nodes; where there is room for all of the network's, all are kept."""
        keep_all = self._all_fit(self.graph)
        every = [n.name for n in self.graph if n.call is not None or n.is_input]
        found: dict[str, Tensor] = {}
        with untouched(self.net), torch.no_grad():
            for node, value in values(self.graph, [self.x], every if keep_all else names):
                check()
                if node.name in names:
                    found[node.name] = value
                if keep_all or node.name in names:
                    self._values[node.name] = value
        self._let_go(len(names))
        return found

    def _all_fit(self, graph: Graph) -> bool:
        """Whether the values of all nodes can be kept at once."""
        return sum(_bytes(node) for node in graph) <= self._room

    def _let_go(self, least: int) -> None:
        """Remove the least recently used values until the rest fit."""
        total = sum(one.nbytes for one in self._values.values())
        while total > self._room and len(self._values) > least:
            total -= self._values.popitem(last=False)[1].nbytes


def _bytes(node: Node) -> int:
    count = 1
    for n in node.shape:
        count *= n
    return count * torch.empty(0, dtype=getattr(torch, node.dtype)).element_size()


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
        self.size, cut = _accepted_size(self._traced, source)
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
            LongView: it takes too long for one view, and ``anyway`` is not set.
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
            windows = {}
            for name, side in rows.items():
                if side:
                    columns = boxes[name][1]
                    samples = self._read((side.lo, side.hi), (columns.lo, columns.hi))
                    windows[name] = self._prepared(samples, self.name, (side.lo, columns.lo))
            ready = stream.push(windows)
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
        space = accepted_axes(subject.net)
        if space in (2, None):
            source = open_source(image, space=2)
            if math.prod(source.shape[1:]) > WHOLE:
                name = Path(image).name if isinstance(image, str | Path) else "array"
                return WidePicture(subject, source, name)
            source.close()
    return open_picture(subject, image)


def _accepted_size(traced: Traced, source: Source) -> tuple[tuple[int, int], tuple[str, ...]]:
    """How much of a picture a network takes, and what is left out."""
    high, wide = source.shape[1:]
    if traced.sizes.takes(high, wide):
        return (high, wide), ()
    below = [traced.sizes.nearest(n, axis)[0] for axis, n in enumerate((high, wide))]
    if None in below or not traced.sizes.takes(*(n or 0 for n in below)):
        raise BadValue(f"{source.name}: {high}×{wide} pixels", cure="give a size it takes")
    accepted = (below[0] or 0, below[1] or 0)
    return accepted, (
        f"of {high}×{wide} pixels the first {accepted[0]}×{accepted[1]} are looked at",
    )


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
