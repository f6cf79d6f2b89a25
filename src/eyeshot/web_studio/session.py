"""A session: one network, its pictures, and an answer to each question that a page may ask."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.explanation import UnitTrace
from eyeshot.features.kinds import words
from eyeshot.geometry import required
from eyeshot.inspection import Inspection, inspect
from eyeshot.inspection.effective import effective_field
from eyeshot.web_studio.edits import NO_EDITS, Edits, kernel_of
from eyeshot.web_studio.links import links_of, strongest
from eyeshot.web_studio.looks import Check, Look, never
from eyeshot.web_studio.payloads import Payload, finite, layers_of, planes_of, samples, strip
from eyeshot.web_studio.queries import Query
from eyeshot.web_studio.subjects import Picture, Subject, noise, open_picture
from eyeshot.web_studio.walking import walk

MEMORY = 2 * 10**9
"""Bytes of values that a session keeps unless told."""
_LOOKS, _DRAWN = 6, 32
_WHY = 200
"""Steps that "why" goes back at most."""


class Session:
    """One network and its pictures.

    Args:
        subject: the network; None for the kernel playground alone.
        pictures: to choose from; a test pattern where there is none.
        memory: the most bytes of values kept.
        size: (C, H, W) of the pattern, and of a network that is shown without a picture.

    Raises:
        BadValue, Unsupported: the network cannot be shown.
    """

    def __init__(
        self,
        subject: Subject,
        pictures: Sequence[Picture] = (),
        *,
        memory: int = MEMORY,
        size: Sequence[int] | None = None,
    ) -> None:
        self.subject, self._memory = subject, memory
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.RLock()
        self._looks: OrderedDict[tuple[str, Edits], Look] = OrderedDict()
        self._inspections: dict[tuple[int, ...], Inspection] = {}
        self._given = [self._add(one) for one in pictures]
        if not self._given:
            channels, *sides = size or _usual_size(subject)
            self._given = [self._add(noise(channels, sides))]

    def warm(self) -> None:
        """Trace the network and compute what the page asks for first."""
        self.answer("state", Query({}))

    # -- the questions ---------------------------------------------------------------------------

    def answer(self, name: str, query: Query, check: Check = never) -> Payload:
        """Answer one question.

        Raises:
            BadValue: no such question, or one that cannot be read.
            EyeshotError: as the library's functions.
        """
        known = _QUESTIONS.get(name)
        if known is None:
            raise BadValue(f"no question {name}", cure=f"ask one of {', '.join(_QUESTIONS)}")
        return known(self, query, check)

    def state(self, query: Query, check: Check) -> Payload:
        """Everything that the page shows before anything is clicked."""
        identity, picture = self._picture(query)
        inspection = self._inspection(picture)
        broken = next((one for one in inspection.findings if one.severity == "error"), None)
        return Payload(
            {
                "network": {
                    "name": self.subject.name,
                    "class": self.subject.run.config.model
                    if self.subject.run
                    else inspection.network,
                    "classes": list(self.subject.classes),
                    "task": self.subject.run.config.task if self.subject.run else "",
                    "digits": self.subject.reads_digits,
                    "total": inspection.total.to_dict(),
                    "outputs": list(inspection.graph.outputs),
                    "inputs": list(inspection.graph.inputs),
                    "runs": broken is None,
                },
                "layers": layers_of(inspection, self.subject.net),
                "findings": [finding.to_dict() for finding in inspection.findings],
                "pictures": [{"id": one, "name": self._pictures[one].name} for one in self._given],
                "picture": {
                    "id": identity,
                    "name": picture.name,
                    "size": list(picture.size),
                    "channels": picture.values.shape[1],
                    "notes": list(picture.notes),
                },
                "prediction": None if broken else self._prediction(query, check),
            }
        )

    def picture(self, query: Query, check: Check) -> Payload:
        """The picture to look at, RGB bytes, within a box."""
        _, picture = self._picture(query)
        top, bottom, left, right = self._box(query, picture.size)
        step = max(1, query.whole("step", 1))
        shown = np.ascontiguousarray(picture.shown[top:bottom:step, left:right:step])
        data = {"shape": list(shown.shape), "box": [top, bottom, left, right], "step": step}
        return Payload(data, shown.tobytes())

    def strip(self, query: Query, check: Check) -> Payload:
        """Small pictures of all maps of a layer."""
        planes = self._planes(query, check)
        return strip(planes, query.whole("most", 32), query.flag("own"))

    def maps(self, query: Query, check: Check) -> Payload:
        """Numbers of one channel of a layer, or of all, within a box of its positions."""
        planes = self._planes(query, check)
        channel = query.whole("channel", -1)
        if channel >= len(planes):
            raise BadValue(f"channel {channel}", cure=f"use at most {len(planes) - 1}")
        if query.flag("difference"):
            before = planes_of(self._look(query, edits=NO_EDITS).value(query.text("layer"), check))
            planes = planes - before
        chosen = planes if channel < 0 else planes[channel : channel + 1]
        box = self._box(query, chosen.shape[1:])
        return samples(chosen, box, max(1, query.whole("step", 1)))

    def unit(self, query: Query, check: Check) -> Payload:
        """One unit: what it sees, on the picture and on each layer before it, and its sum."""
        look, layer, unit = self._look(query), query.text("layer"), query.wholes("unit")
        node = look.graph[layer]
        data: dict[str, Any] = {
            "layer": node.name,
            "operator": node.operator,
            "title": words(node.operator),
            "unit": list(unit),
            "shape": list(node.shape[1:]),
        }
        try:
            trace = look.explain(node.name, unit, check)
            data["trace"] = trace.to_dict()
            data["links"] = [link.to_dict() for link in links_of(look.graph, node, trace)]
        except (Unsupported, BadValue, EyeshotError) as error:
            if isinstance(error, BadValue):
                raise
            data["trace"], data["links"], data["refusal"] = None, [], str(error)
            data["value"] = finite(float(look.value(node.name, check)[(0, *unit)]))
        data["field"], data["boxes"] = self._field(query, node.name, unit)
        return Payload(data)

    def effective(self, query: Query, check: Check) -> Payload:
        """Where the gradient of a unit comes from: float32 over the box that it sees."""
        _, picture = self._picture(query)
        inspection, look = self._inspection(picture), self._look(query)
        layer, unit = query.text("layer"), query.wholes("unit")
        place = _place(look.graph[layer].shape, inspection.graph[layer].dims, unit)
        strength = effective_field(look.graph, look.x, layer, place)
        field = inspection.field(layer, place)
        rows, columns = field.inside or (Interval(0, strength.shape[0]),) * 2
        box = (rows.lo, rows.hi, columns.lo, columns.hi) if rows and columns else (0, 0, 0, 0)
        return samples(strength[None], box, 1)

    def why(self, query: Query, check: Check) -> Payload:
        """The largest contributions, followed from a unit to a pixel."""
        look, layer, unit = self._look(query), query.text("layer"), query.wholes("unit")
        _check_unit(look.graph[layer].shape, unit)
        steps: list[dict[str, Any]] = []
        end = ""
        while len(steps) < _WHY:
            check()
            node = look.graph[layer]
            value = float(look.value(node.name, check)[(0, *unit)])
            steps.append({"layer": node.name, "unit": list(unit), "value": finite(value)})
            if node.is_input:
                break
            try:
                trace = look.explain(node.name, unit, check)
            except EyeshotError as error:
                end = str(error)
                break
            link = strongest(trace, links_of(look.graph, node, trace))
            if link is None or link.strongest is None:
                end = "nothing but padding and the bias"
                break
            steps[-1]["share"] = _share(trace)
            layer, unit = link.source, link.strongest
        return Payload({"steps": steps, "end": end})

    def reach(self, query: Query, check: Check) -> Payload:
        """What one pixel reaches: for each layer the box of units that see it."""
        _, picture = self._picture(query)
        inspection, pixel = self._inspection(picture), query.wholes("pixel", 2)
        boxes: dict[str, list[list[int]]] = {}
        for node in inspection.graph:
            sides = []
            for axis, at in enumerate(pixel):
                lo, hi = inspection.fields.bounds(node.name, axis)
                seeing = np.flatnonzero((lo <= at) & (at < hi))
                sides.append([int(seeing[0]), int(seeing[-1]) + 1] if len(seeing) else [0, 0])
            boxes[node.name] = sides
        return Payload({"pixel": list(pixel), "boxes": boxes})

    def kernel(self, query: Query, check: Check) -> Payload:
        """The kernels of one output channel, float32 (in, *window), with the edits in them."""
        look, layer = self._look(query), query.text("layer")
        name = kernel_of(look.graph, layer)
        weight = look.graph.tensors[name].detach()
        node, channel = look.graph[layer], query.whole("channel", 0)
        if node.params.groups == 1 and _is_transposed(node):
            weight = weight.transpose(0, 1)
        if not 0 <= channel < len(weight):
            raise BadValue(f"channel {channel} of {layer}", cure="name one that the layer has")
        numbers = np.ascontiguousarray(weight[channel].float().cpu().numpy())
        return Payload({"shape": list(numbers.shape), "dtype": "float32"}, numbers.tobytes())

    def draw(self, query: Query, check: Check) -> Payload:
        """A picture that was drawn: grey bytes (h, w), light on dark."""
        high, wide = query.wholes("size", 2)
        if high < 1 or wide < 1 or high * wide != len(query.body) or high * wide > 2**22:
            raise BadValue(f"{len(query.body)} bytes for {high}×{wide}", cure="send one a pixel")
        grey = np.frombuffer(query.body, np.uint8).reshape(high, wide).copy()
        picture = open_picture(self.subject, grey, "drawing")
        return Payload({"id": self._add(picture), "notes": list(picture.notes)})

    def dead(self, query: Query, check: Check) -> Payload:
        """For each layer the share of its channels that are zero everywhere in this picture."""
        look, shares = self._look(query), {}
        for node in look.graph:
            planes = planes_of(look.value(node.name, check))
            flat = planes.reshape(-1, 1) if planes.shape[:2] == (1, 1) else planes
            living = (flat != 0).reshape(len(flat), -1).any(axis=1)
            shares[node.name] = 1.0 - float(living.mean()) if len(living) else 0.0
        return Payload({"shares": shares})

    def walk(self, query: Query, check: Check) -> Payload:
        """The kernel playground: a window over a small matrix, each step a sum."""
        return Payload(walk(query))

    # -- what they stand on ----------------------------------------------------------------------

    def _add(self, picture: Picture) -> str:
        """Keep a picture under a name that its numbers give it."""
        digest = hashlib.sha256(picture.values.cpu().numpy().tobytes()).hexdigest()[:12]
        with self._lock:
            self._pictures[digest] = picture
            drawn = [one for one in self._pictures if one not in getattr(self, "_given", ())]
            for one in drawn[:-_DRAWN]:
                del self._pictures[one]
        return digest

    def _picture(self, query: Query) -> tuple[str, Picture]:
        identity = query.text("picture", "") or self._given[0]
        with self._lock:
            if identity not in self._pictures:
                raise BadValue(f"picture {identity} is gone", cure="choose or draw another")
            return identity, self._pictures[identity]

    def _inspection(self, picture: Picture) -> Inspection:
        size = tuple(picture.values.shape[1:])
        with self._lock:
            if size not in self._inspections:
                self._inspections[size] = inspect(self.subject.net, size)
            return self._inspections[size]

    def _look(self, query: Query, edits: Edits | None = None) -> Look:
        identity, picture = self._picture(query)
        edits = Edits.read(query.text("edits", "")) if edits is None else edits
        with self._lock:
            look = self._looks.get((identity, edits))
            if look is None:
                look = self._new_look(identity, picture, edits)
                self._looks[identity, edits] = look
            self._looks.move_to_end((identity, edits))
            while len(self._looks) > _LOOKS:
                self._looks.popitem(last=False)
        return look

    def _new_look(self, identity: str, picture: Picture, edits: Edits) -> Look:
        """One whose graph is another's, where the sizes are the same."""
        room = self._memory // _LOOKS
        for known in self._looks.values():
            if known.x.shape == picture.values.shape:
                graph = known.traced
                return Look(self.subject.net, picture.values, room=room, edits=edits, graph=graph)
        plain = Look(self.subject.net, picture.values, room=room)
        return plain if edits == NO_EDITS else plain.edited(edits)

    def _planes(self, query: Query, check: Check) -> NDArray[Any]:
        return planes_of(self._look(query).value(query.text("layer"), check))

    def _box(self, query: Query, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Within a map of that size; all of it where none is given."""
        high, wide = size
        if not query.text("box", ""):
            return 0, high, 0, wide
        top, bottom, left, right = query.wholes("box", 4)
        return (
            *(min(max(0, top), high), min(max(0, bottom), high)),
            *(min(max(0, left), wide), min(max(0, right), wide)),
        )

    def _field(
        self, query: Query, layer: str, unit: Sequence[int]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a unit sees of the picture, and its box on each layer before it."""
        _, picture = self._picture(query)
        inspection = self._inspection(picture)
        node = inspection.graph[layer]
        place = _place(node.shape, node.dims, unit)
        field = inspection.field(layer, place)
        try:
            region = tuple(Interval(at, at + 1) for at in place)
            found = required(inspection.graph, {layer: region})
        except EyeshotError:
            found = {}
        boxes = {
            name: [[side.lo, side.hi] for side in box] if all(box) else None
            for name, box in found.items()
        }
        return field.to_dict(), boxes

    def _prediction(self, query: Query, check: Check) -> dict[str, Any] | None:
        """The classes of a classifier, the likeliest first."""
        look = self._look(query)
        output = look.value(look.graph.outputs[0], check)
        run = self.subject.run
        if output.ndim != 2 or (run is not None and run.config.task != "classify"):
            return None
        shares = output[0].double().softmax(0)
        names = self.subject.classes or tuple(str(i) for i in range(len(shares)))
        order = torch.argsort(shares, descending=True)[:10].tolist()
        return {
            "layer": look.graph.outputs[0],
            "top": [
                {"class": names[i], "index": i, "probability": float(shares[i])} for i in order
            ],
        }


def _place(
    shape: Sequence[int], dims: Sequence[int | None], unit: Sequence[int]
) -> tuple[int, ...]:
    """The position of a unit along each axis of space."""
    _check_unit(shape, unit)
    return tuple(0 if dim is None else unit[dim - 1] for dim in dims)


def _check_unit(shape: Sequence[int], unit: Sequence[int]) -> None:
    """Refuse a unit that a layer of that shape, with its batch, does not have.

    Raises:
        BadValue: so.
    """
    sides = shape[1:]
    if len(unit) != len(sides) or not all(0 <= at < n for at, n in zip(unit, sides, strict=True)):
        most = ",".join(str(n - 1) for n in sides)
        raise BadValue(f"unit {','.join(map(str, unit))}", cure=f"give 0 to {most}")


def _share(trace: UnitTrace) -> float | None:
    """Of all that is added up in the direction of the total, the largest part's share."""
    sign = -1.0 if trace.total < 0 else 1.0
    terms = [sign * part.sum for part in trace.parts]
    total = sum(max(one, 0.0) for one in (*terms, sign * (trace.bias or 0.0)))
    return finite(max(terms) / total) if total > 0 else None


def _is_transposed(node: Any) -> bool:
    from eyeshot.graph import Family

    return bool(node.family is Family.TRANSPOSED_CONVOLUTION)


def _usual_size(subject: Subject) -> tuple[int, ...]:
    """What a run was trained on; 3×64×64 otherwise."""
    if subject.run is not None:
        return (subject.run.config.channels, *subject.run.config.size)
    from eyeshot.frontends.trials import channels_to_try

    return ((channels_to_try(subject.net) or (3,))[0], 64, 64)


_QUESTIONS: Mapping[str, Callable[[Session, Query, Check], Payload]] = {
    "state": Session.state,
    "picture": Session.picture,
    "strip": Session.strip,
    "maps": Session.maps,
    "unit": Session.unit,
    "effective": Session.effective,
    "why": Session.why,
    "reach": Session.reach,
    "kernel": Session.kernel,
    "draw": Session.draw,
    "dead": Session.dead,
    "walk": Session.walk,
}
