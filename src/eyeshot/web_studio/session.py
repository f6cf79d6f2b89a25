"""A session: one network, its pictures, and an answer to each question that a page may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.axes import Interval
from eyeshot.errors import BadValue, EyeshotError, UnknownName, Unsupported
from eyeshot.evaluation.labels import has_probabilities
from eyeshot.explanation.attribution import attribute_graph, black
from eyeshot.features.feature_maps import words
from eyeshot.geometry import required
from eyeshot.graph import Family, Node
from eyeshot.inspection import Inspection, effective_field
from eyeshot.language import speaking, spoken, tr
from eyeshot.operators import gives_probabilities
from eyeshot.web_studio.comparing import (
    KINDS,
    SIDES,
    Truth,
    check_classes,
    classes_of,
    compare_labels,
    compare_layers,
    differing,
    pixel_under,
    predicted,
    refuse_layer,
    subtract,
)
from eyeshot.web_studio.desk import AnyPicture, Desk, position_of
from eyeshot.web_studio.looks import NO_EDITS, Check, WidePicture, kernel_of, never
from eyeshot.web_studio.payloads import (
    Payload,
    Query,
    beginnings,
    finite,
    heaviest,
    layers_of,
    links_of,
    planes_of,
    samples,
    shape_of_planes,
    strip,
    walk,
)
from eyeshot.web_studio.subjects import Subject, open_picture, painted

MEMORY = 2 * 10**9
"""Bytes of values that a session keeps unless told."""
_NO_INPUT = "nothing but padding and the bias"
_WHY = 200
"""Steps that "why" goes back at most."""


class Session:
    """One network and its pictures.

    Args:
        subject: the network; None for the kernel playground alone.
        pictures: to choose from; a test pattern where there is none.
        memory: the most bytes of values kept.
        size: (C, H, W) of the pattern, and of a network that is shown without a picture.
        truths: the mask files of the first pictures, in their order.

    Raises:
        BadValue, Unsupported: the network cannot be shown.
        BadFile: a truth is not a mask, or one of another size.
    """

    def __init__(
        self,
        subject: Subject,
        pictures: Sequence[AnyPicture] = (),
        *,
        memory: int = MEMORY,
        size: Sequence[int] | None = None,
        truths: Sequence[str | Path] = (),
    ) -> None:
        self.subject = subject
        self.desk = Desk(subject, pictures, memory, size)
        self._truths = {
            identity: self._truth(identity, path)
            for identity, path in zip(self.desk.listed, truths, strict=False)
        }
        self.beside: Session | None = None
        self._twins: dict[str, str] = {}

    def put_beside(self, other: Session) -> None:
        """Show a second network beside this one.

        Args:
            other: of the second network, with the same pictures in the same order, each as that
                network takes it. True masks are taken over if its classes are the same.

        Raises:
            BadValue: one of them does not run at the picture's size, they take pictures of
                different sizes, or they have no layer in common.
        """
        twins = dict(zip(self.desk.listed, other.desk.listed, strict=True))
        for one, two in zip(self.desk.pictures(), other.desk.pictures(), strict=True):
            if one.size != two.size:
                sizes = " beside ".join("×".join(map(str, each.size)) for each in (two, one))
                raise BadValue(
                    f"{other.subject.name}: takes {one.name} as {sizes} pixels",
                    cure="compare networks that take pictures of one size",
                )
        query = Query({"picture": other.desk.listed[0]})
        theirs = other.desk.inspection(other.desk.picture(query)[1])
        mine = self.desk.inspection(self.desk.picture(Query({}))[1])
        for subject, inspection in ((self.subject, mine), (other.subject, theirs)):
            if any(one.severity == "error" for one in inspection.findings):
                raise BadValue(
                    f"{subject.name}: does not run on this picture",
                    cure="leave --beside out to see why",
                )
        if True not in compare_layers(mine.graph, theirs.graph).values():
            raise BadValue(
                f"{other.subject.name}: no layer has the name and shape of one of "
                f"{self.subject.name}",
                cure="compare networks of one architecture",
            )
        if classes_of(self.subject, mine) == classes_of(other.subject, theirs):
            other._truths = {twins[one]: truth for one, truth in self._truths.items()}
        self.beside, self._twins = other, twins

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
        with speaking(query.text("language", "") or spoken()):
            if query.text("of", ""):
                return self._of_beside(name, query, check)
            return known(self, query, check)

    def _of_beside(self, name: str, query: Query, check: Check) -> Payload:
        """The second network's answer, or the difference between both answers."""
        side, other = query.text("of"), self.beside
        if other is None:
            raise BadValue(f"of={side}", cure="name a second network by --beside")
        if side not in SIDES:
            raise UnknownName("side", side, SIDES)
        if side == "difference" and name not in _DIFFERENCES:
            raise BadValue(
                f"a difference of {name}", cure=f"ask one of {', '.join(sorted(_DIFFERENCES))}"
            )
        identity, picture = self.desk.picture(query)
        known = self._comparison(query)
        plain = {key: text for key, text in query.values.items() if key not in ("of", "difference")}
        for layer in (plain["layer"],) if "layer" in plain else ():
            refuse_layer(layer, known, other.subject.name)
        theirs = {**plain, "picture": self._twins[identity]}
        theirs.pop("edits", None)
        second = Query(theirs, query.body)
        if side == "other":
            return _QUESTIONS[name](other, second, check)
        first = Query(plain)
        if name == "strip":
            if isinstance(picture, WidePicture):
                raise BadValue(
                    f"small maps of a difference on {picture.name}", cure="look at one map"
                )
            change = self.desk.planes(first, check) - other.desk.planes(second, check)
            return strip(change, query.whole("most", 32), query.flag("own"))
        mine, others = (
            _QUESTIONS[name](one, asked, check) for one, asked in ((self, first), (other, second))
        )
        return subtract(mine, others) if name == "maps" else compare_labels(mine, others)

    def _comparison(self, query: Query) -> dict[str, Any]:
        """As :func:`compare_layers`, of both networks on the picture that is asked about."""
        assert self.beside is not None
        identity, picture = self.desk.picture(query)
        twin = self.beside.desk.picture(Query({"picture": self._twins[identity]}))[1]
        mine, theirs = self.desk.inspection(picture), self.beside.desk.inspection(twin)
        return compare_layers(mine.graph, theirs.graph)

    def _state_beside(self, query: Query, check: Check) -> dict[str, Any] | None:
        """The second network: its name, which layers can be compared, and its answer."""
        other = self.beside
        if other is None:
            return None
        identity, picture = self.desk.picture(query)
        asked = Query({"picture": self._twins[identity]})
        return {
            "name": other.subject.name,
            "random": list(other.subject.random),
            "layers": self._comparison(query),
            "prediction": None
            if isinstance(picture, WidePicture)
            else other._prediction(asked, check),
        }

    def state(self, query: Query, check: Check) -> Payload:
        """Everything that the page shows before anything is clicked."""
        identity, picture = self.desk.picture(query)
        inspection = self.desk.inspection(picture)
        broken = next((one for one in inspection.findings if one.severity == "error"), None)
        return Payload(
            {
                "network": {
                    "name": self.subject.name,
                    "random": list(self.subject.random),
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
                    "training": any(
                        one is not None and one.subject.training is not None
                        for one in (self, self.beside)
                    ),
                },
                "layers": layers_of(inspection, self.subject.net),
                "findings": [
                    {**one.to_dict(), "title": tr(one.title)} for one in inspection.findings
                ],
                "pictures": [{"id": one, "name": name} for one, name in self.desk.names()],
                "picture": {
                    "id": identity,
                    "name": picture.name,
                    "size": list(picture.size),
                    "channels": picture.channels,
                    "wide": isinstance(picture, WidePicture),
                    "notes": list(picture.notes),
                },
                "overlay": None if broken else self._overlay(query, inspection),
                "prediction": None
                if broken or isinstance(picture, WidePicture)
                else self._prediction(query, check),
                "beside": self._state_beside(query, check),
            }
        )

    def picture(self, query: Query, check: Check) -> Payload:
        """The picture to look at, RGB bytes, within a box."""
        _, picture = self.desk.picture(query)
        top, bottom, left, right = self.desk.box(query, picture.size)
        step = max(1, query.whole("step", 1))
        if isinstance(picture, WidePicture):
            shown, step = picture.shown((top, bottom, left, right), step, check)
            top, left = top // step * step, left // step * step
        else:
            shown = np.ascontiguousarray(picture.shown[top:bottom:step, left:right:step])
        data = {"shape": list(shown.shape), "box": [top, bottom, left, right], "step": step}
        return Payload(data, shown.tobytes())

    def strip(self, query: Query, check: Check) -> Payload:
        """Small pictures of all maps of a layer."""
        planes = self.desk.planes(query, check)
        return strip(planes, query.whole("most", 32), query.flag("own"))

    def maps(self, query: Query, check: Check) -> Payload:
        """Numbers of one channel of a layer, or of all, within a box of its positions."""
        _, picture = self.desk.picture(query)
        if isinstance(picture, WidePicture):
            return self._wide_maps(picture, query, check)
        planes = self.desk.planes(query, check)
        channel = query.whole("channel", -1)
        if channel >= len(planes):
            raise BadValue(f"channel {channel}", cure=f"use at most {len(planes) - 1}")
        if query.flag("difference"):
            before = planes_of(
                self.desk.look(query, edits=NO_EDITS).value(query.text("layer"), check)
            )
            planes = planes - before
        chosen = planes if channel < 0 else planes[channel : channel + 1]
        box = self.desk.box(query, chosen.shape[1:])
        return samples(chosen, box, max(1, query.whole("step", 1)))

    def _wide_maps(self, picture: WidePicture, query: Query, check: Check) -> Payload:
        _refuse_edits(query)
        node = picture.graph[query.text("layer")]
        box = self.desk.box(query, shape_of_planes(node)[1:])
        if box[0] >= box[1] or box[2] >= box[3]:
            return samples(np.zeros((1, 0, 0), np.float32), box, 1)
        planes = picture.maps(node.name, box, check, anyway=query.flag("anyway"))
        channel, step = query.whole("channel", -1), max(1, query.whole("step", 1))
        if channel >= len(planes):
            raise BadValue(f"channel {channel}", cure=f"use at most {len(planes) - 1}")
        chosen = planes if channel < 0 else planes[channel : channel + 1]
        answer = samples(chosen, (0, chosen.shape[1], 0, chosen.shape[2]), step)
        return Payload({**answer.data, "box": list(box)}, answer.raw)

    def overlay(self, query: Query, check: Check) -> Payload:
        """Class numbers over the picture, a byte each: prediction, truth, or error.

        The box is of pixels for the truth, and of the output's positions for the others.
        """
        identity, picture = self.desk.picture(query)
        kind, step = query.text("kind"), max(1, query.whole("step", 1))
        if kind not in KINDS:
            raise UnknownName("overlay", kind, KINDS)
        inspection = self.desk.inspection(picture)
        check_classes(self.subject, inspection, f"{kind} of {self.subject.name}")
        truth = self._truths.get(self.desk.root(identity))
        if truth is None and kind != "prediction":
            raise BadValue(f"no {kind} without a true mask", cure="name its file by --truth")
        if kind == "truth" and truth is not None:
            box = self.desk.box(query, picture.size)
            if isinstance(picture, WidePicture):
                picture.refuse_wide(box)
            shown = truth.read((box[0], box[1]), (box[2], box[3]))
            return _labels(shown[::step, ::step], box, step)
        layer = inspection.graph.outputs[0]
        box, said = self._predicted(picture, layer, query, check)
        if truth is None or kind == "prediction":
            return _labels(said[::step, ::step], box, step)
        first = pixel_under(inspection, layer)
        if first is None:
            raise BadValue(
                f"layer {layer} has no score for each pixel, so no error",
                cure="look at the prediction and at the truth",
            )
        down, right = first
        rows, columns = (box[0] + down, box[1] + down), (box[2] + right, box[3] + right)
        wrong, count, labeled = differing(said, truth.read(rows, columns))
        return _labels(wrong[::step, ::step], box, step, wrong=count, labeled=labeled)

    def _predicted(
        self, picture: AnyPicture, layer: str, query: Query, check: Check
    ) -> tuple[tuple[int, int, int, int], NDArray[np.uint8]]:
        """A box of the output, and the classes in it."""
        graph = self.desk.inspection(picture).graph
        box = self.desk.box(query, shape_of_planes(graph[layer])[1:])
        if isinstance(picture, WidePicture):
            _refuse_edits(query)
            if box[0] >= box[1] or box[2] >= box[3]:
                return box, np.zeros((0, 0), np.uint8)
            scores = picture.maps(layer, box, check, anyway=query.flag("anyway"))
            return box, predicted(scores, graph)
        planes = planes_of(self.desk.look(query).value(layer, check))
        return box, predicted(planes[:, box[0] : box[1], box[2] : box[3]], graph)

    def _overlay(self, query: Query, inspection: Inspection) -> dict[str, Any] | None:
        """Which overlays there are: the layer, the classes, and the name of the true mask."""
        classes = classes_of(self.subject, inspection)
        truth = self._truths.get(self.desk.root(self.desk.picture(query)[0]))
        return {
            "layer": inspection.graph.outputs[0],
            "classes": list(classes),
            "truth": None if truth is None else truth.name,
            "pixel": pixel_under(inspection, inspection.graph.outputs[0]),
        } if classes else None  # fmt: skip

    def _truth(self, identity: str, path: str | Path) -> Truth:
        picture = self.desk.picture(Query({"picture": identity}))[1]
        classes = check_classes(self.subject, self.desk.inspection(picture), f"--truth {path}")
        run = self.subject.run
        legend = run.config.legend if run is not None else None
        return Truth(path, picture.size, len(classes), legend)

    def unit(self, query: Query, check: Check) -> Payload:
        """One unit: what it sees, on the picture and on each layer before it, and its sum."""
        layer, unit = query.text("layer"), query.wholes("unit")
        seat = self.desk.seat(query, layer, unit)
        look, node = seat.look, seat.look.graph[layer]
        size = self.desk.inspection(self.desk.picture(query)[1]).graph[layer].shape
        data: dict[str, Any] = {
            "layer": node.name,
            "operator": node.operator,
            "title": words(node.operator),
            "unit": list(unit),
            "shape": list(size[1:]),
        }
        local = seat.local(node.name, unit)
        try:
            trace = look.explain(node.name, local, check)
            links = links_of(look.graph, node, trace)
            data["trace"] = {**trace.to_dict(), "unit": list(unit), "shape": list(size[1:])}
            data["links"] = [link.moved(seat.shift(link.source)).to_dict() for link in links]
        except (Unsupported, BadValue, EyeshotError) as error:
            if isinstance(error, BadValue):
                raise
            data["trace"], data["links"], data["refusal"] = None, [], str(error)
            data["value"] = finite(float(look.value(node.name, check)[(0, *local)]))
        data["field"], data["boxes"] = self._field(query, node.name, unit)
        return Payload(data)

    def effective(self, query: Query, check: Check) -> Payload:
        """Where the gradient of a unit comes from: float32 over the box that it sees."""
        layer, unit = query.text("layer"), query.wholes("unit")
        seat = self.desk.seat(query, layer, unit)
        look, inspection = seat.look, self.desk.inspection(self.desk.picture(query)[1])
        node = look.graph[layer]
        place = position_of(inspection.graph[layer].shape, node.dims, unit)
        near = position_of(node.shape, node.dims, seat.local(node.name, unit))
        strength = effective_field(look.graph, look.x, layer, near)
        field = inspection.field(layer, place)
        down, right = seat.offset
        rows, columns = field.inside or (Interval(0, strength.shape[0]),) * 2
        if not (rows and columns):
            return samples(strength[None, :0, :0], (0, 0, 0, 0), 1)
        box = (rows.lo - down, rows.hi - down, columns.lo - right, columns.hi - right)
        answer = samples(strength[None], box, 1)
        whole = [rows.lo, rows.hi, columns.lo, columns.hi]
        return Payload({**answer.data, "box": whole}, answer.raw)

    def pixels(self, query: Query, check: Check) -> Payload:
        """What each pixel adds to a unit: float32 (1, h, w) over the picture, or over a window.

        ``against`` names a channel that is subtracted, or "next" for the largest of the others.
        """
        layer, unit = query.text("layer"), query.wholes("unit")
        seat = self.desk.seat(query, layer, unit)
        look, node = seat.look, seat.look.graph[layer]
        local = seat.local(node.name, unit)
        against = query.text("against", "")
        if against == "next":
            other = _runner_up(look.value(node.name, check)[0], local)
        else:
            other = query.whole("against") if against else None
        run = self.subject.run
        found = attribute_graph(
            look.graph,
            look.x,
            node.name,
            local,
            other,
            None if run is None else black(run),
            self.subject.classes,
        )
        down, right = seat.offset
        high, wide = found.map.shape
        box = [down, down + high, right, right + wide]
        answer = samples(found.map[None].astype(np.float32), (0, high, 0, wide), 1)
        regions = {place: finite(share) for place, share in found.regions().items()}
        data = {**found.to_dict(), "unit": list(unit), "regions": regions}
        del data["map"]
        return Payload({**data, **answer.data, "box": box}, answer.raw)

    def why(self, query: Query, check: Check) -> Payload:
        """The largest contributions, followed from a unit to a pixel."""
        layer, unit = query.text("layer"), query.wholes("unit")
        seat = self.desk.seat(query, layer, unit)
        look = seat.look
        steps: list[dict[str, Any]] = []
        end = ""
        while len(steps) < _WHY:
            check()
            node = look.graph[layer]
            local = seat.local(node.name, unit)
            value = float(look.value(node.name, check)[(0, *local)])
            steps.append({"layer": node.name, "unit": list(unit), "value": finite(value)})
            if node.is_input:
                break
            try:
                trace = look.explain(node.name, local, check)
            except EyeshotError as error:
                end = str(error)
                break
            links = links_of(look.graph, node, trace)
            found = heaviest(trace, links)
            if found is None:
                some = any(link.strongest is not None for link in links)
                end = "no input adds in its direction" if some else _NO_INPUT
                break
            layer, place, share = found
            steps[-1]["share"] = None if share is None else finite(share)
            unit = (*place[:1], *map(sum, zip(place[1:], seat.shift(layer), strict=False)))
        return Payload({"steps": steps, "end": end})

    def reach(self, query: Query, check: Check) -> Payload:
        """What one pixel reaches: for each layer the box of units that see it."""
        _, picture = self.desk.picture(query)
        inspection, pixel = self.desk.inspection(picture), query.wholes("pixel", 2)
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
        look, layer = self.desk.look(query), query.text("layer")
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
        """A picture that was drawn: gray bytes (h, w), light on dark."""
        high, wide = query.wholes("size", 2)
        if high < 1 or wide < 1 or high * wide != len(query.body) or high * wide > 2**22:
            raise BadValue(f"{len(query.body)} bytes for {high}×{wide}", cure="send one a pixel")
        gray = np.frombuffer(query.body, np.uint8).reshape(high, wide).copy()
        picture = open_picture(self.subject, gray, "drawing")
        made = self.desk.add(picture)
        if self.beside is not None:
            self._add_twin(made, self.beside.draw(query, check))
        return Payload({"id": made, "notes": list(picture.notes)})

    def _add_twin(self, identity: str, answer: Payload) -> None:
        """Remember which picture of the second network is the same."""
        remaining = {one: two for one, two in self._twins.items() if self.desk.holds(one)}
        self._twins = {**remaining, identity: answer.data["id"]}

    def paint(self, query: Query, check: Check) -> Payload:
        """A picture painted on: a byte a pixel, as :func:`painted` reads them."""
        identity, picture = self.desk.picture(query)
        if isinstance(picture, WidePicture):
            raise BadValue(f"painting on {picture.name}", cure="cut a part out of it")
        high, wide = picture.size
        if len(query.body) != high * wide:
            raise BadValue(f"{len(query.body)} bytes for {high}×{wide}", cure="send one a pixel")
        image = painted(picture, np.frombuffer(query.body, np.uint8).reshape(high, wide))
        made = self.desk.add(image, self.desk.root(identity))
        if self.beside is not None:
            asked = Query({"picture": self._twins[identity]}, query.body)
            self._add_twin(made, self.beside.paint(asked, check))
        return Payload({"id": made})

    def dead(self, query: Query, check: Check) -> Payload:
        """The channels whose maps are zero everywhere in this picture.

        For each layer of maps their share and, where there are some, their numbers. ``begins``
        names each once, at the layer where it begins, and says whether it is always zero.
        """
        look = self.desk.look(query)
        maps = [n for n in look.graph if len(n.shape) == 4 and not n.is_input]
        dead: dict[str, list[int]] = {}
        for node in maps:
            living = (planes_of(look.value(node.name, check)) != 0).any(axis=(1, 2))
            dead[node.name] = np.flatnonzero(~living).tolist()
        shares = {node.name: len(dead[node.name]) / max(1, node.shape[1]) for node in maps}
        channels = {name: places for name, places in dead.items() if places}
        begins = [
            {"layer": name, "channels": places, "always": always}
            for name, always, places in beginnings(look.graph, channels, look.edits.muted)
        ]
        return Payload({"shares": shares, "channels": channels, "begins": begins})

    def training(self, query: Query, check: Check) -> Payload:
        """How a training that is followed stands; its new weights are taken over on the way."""
        known = []
        for one in (self, self.beside):
            training = None if one is None else one.subject.training
            if one is None or training is None:
                continue
            if training.refresh():
                one.desk.forget()
            known.append(training)
        if not known:
            raise BadValue("no training is followed", cure="open the folder of one")
        return Payload({**known[0].to_dict(), "stamp": sum(one.stamp for one in known)})

    def walk(self, query: Query, check: Check) -> Payload:
        """The kernel playground: a window over a small matrix, each step a sum."""
        return Payload(walk(query))

    def _field(
        self, query: Query, layer: str, unit: Sequence[int]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a unit sees of the picture, and its box on each layer before it."""
        _, picture = self.desk.picture(query)
        inspection = self.desk.inspection(picture)
        node = inspection.graph[layer]
        place = position_of(node.shape, node.dims, unit)
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
        look = self.desk.look(query)
        output = look.value(look.graph.outputs[0], check)
        run = self.subject.run
        if output.ndim != 2 or (run is not None and run.config.task != "classify"):
            return None
        shares = output[0].double()
        probable = gives_probabilities(look.graph, look.graph.outputs[0])
        if not (probable if run is None else has_probabilities(run)):
            shares = shares.softmax(0)
        names = self.subject.classes or tuple(str(i) for i in range(len(shares)))
        order = torch.argsort(shares, descending=True)[:10].tolist()
        return {
            "layer": look.graph.outputs[0],
            "top": [
                {"class": names[i], "index": i, "probability": float(shares[i])} for i in order
            ],
        }


def _runner_up(scores: Tensor, unit: Sequence[int]) -> int | None:
    """The channel of the largest number at a unit's place, but its own; None if there is none."""
    own, *place = unit
    order = scores.movedim(0, -1)[tuple(place)].argsort(descending=True, stable=True).tolist()
    return next((channel for channel in order if channel != own), None)


def _refuse_edits(query: Query) -> None:
    """Refuse changes on a picture that is computed by parts."""
    if query.text("edits", ""):
        raise BadValue(
            "changes to a network on a picture of this size",
            cure="try them on a smaller picture; sums and strips here show them",
        )


def _labels(
    shown: NDArray[np.uint8], box: tuple[int, int, int, int], step: int, **more: int
) -> Payload:
    data = {"shape": list(shown.shape), "box": list(box), "step": step, **more}
    return Payload(data, np.ascontiguousarray(shown).tobytes())


def _is_transposed(node: Node) -> bool:
    return node.family is Family.TRANSPOSED_CONVOLUTION


_DIFFERENCES = frozenset({"maps", "strip", "overlay"})
"""Questions that can be asked of a difference."""

_QUESTIONS: Mapping[str, Callable[[Session, Query, Check], Payload]] = {
    "state": Session.state,
    "picture": Session.picture,
    "strip": Session.strip,
    "maps": Session.maps,
    "overlay": Session.overlay,
    "unit": Session.unit,
    "effective": Session.effective,
    "pixels": Session.pixels,
    "why": Session.why,
    "reach": Session.reach,
    "kernel": Session.kernel,
    "draw": Session.draw,
    "paint": Session.paint,
    "dead": Session.dead,
    "training": Session.training,
    "walk": Session.walk,
}
