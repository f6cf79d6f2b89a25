"""What a session works on: its pictures, and the network looking at each of them.

Everything that is slow to make is made once: a network is traced for each size of picture, and
computed for each picture and each set of changes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from eyeshot.errors import BadValue, Unsupported
from eyeshot.findings import Mismatch
from eyeshot.frontends.repair import trace
from eyeshot.frontends.trials import accepted_axes, channels_to_try
from eyeshot.geometry import Fields
from eyeshot.graph import Graph
from eyeshot.inspection import Inspection, checked_sizes, inspect_graph
from eyeshot.language import spoken
from eyeshot.web_studio.looks import NO_EDITS, Check, Edits, Look, WidePicture, Window
from eyeshot.web_studio.payloads import Query, planes_of
from eyeshot.web_studio.subjects import NO_PICTURE, Picture, Subject, no_picture, noise

AnyPicture = Picture | WidePicture
_LOOKS, _DRAWN = 6, 32


@dataclass(frozen=True, eq=False)
class Seat:
    """From where a unit is looked at.

    Attributes:
        look: at the whole picture, or at a window of it.
        window: that window; None for the whole picture.
        fields: of the whole picture.
    """

    look: Look
    window: Window | None = None
    fields: Fields | None = None

    @property
    def offset(self) -> tuple[int, ...]:
        """The window's corner in the picture."""
        return (0, 0) if self.window is None else self.window.offset

    def shift(self, layer: str) -> tuple[int, ...]:
        """The unit of the whole picture that is the window's first."""
        if self.window is None or self.fields is None:
            return (0, 0)
        return self.window.shift(self.fields, layer)

    def local(self, layer: str, unit: Sequence[int]) -> tuple[int, ...]:
        """A unit of the whole picture as the window counts it."""
        shift = self.shift(layer)
        return (*unit[:1], *(at - by for at, by in zip(unit[1:], shift, strict=False)))


class Desk:
    """Pictures, and looks at them.

    Args:
        subject: the network.
        pictures: to choose from; a test pattern where there is none.
        memory: the most bytes of values kept.
        size: (C, H, W) of the pattern.

    Attributes:
        listed: the names of the pictures to choose from.
    """

    def __init__(
        self,
        subject: Subject,
        pictures: Sequence[AnyPicture],
        memory: int,
        size: Sequence[int] | None,
    ) -> None:
        self.subject, self._memory = subject, memory
        self._pictures: OrderedDict[str, AnyPicture] = OrderedDict()
        self._lock = threading.RLock()
        self._looks: OrderedDict[tuple[str, Edits], Look] = OrderedDict()
        self._traced: dict[tuple[int, ...], tuple[Graph, Sequence[Mismatch]]] = {}
        self._inspections: dict[tuple[tuple[int, ...], str], Inspection] = {}
        self._roots: dict[str, str] = {}
        self.listed: list[str] = []
        for one in pictures or [noise(*_size_over_two_axes(subject, size))]:
            self.listed.append(self.add(one))

    def add(self, picture: AnyPicture, root: str | None = None) -> str:
        """Keep a picture under a name that its numbers, or its file, give it.

        Args:
            picture: to be kept.
            root: the picture that it was painted on.
        """
        if isinstance(picture, WidePicture):
            known = json.dumps(picture.source.identity(), sort_keys=True, default=str).encode()
        else:
            known = picture.values.cpu().float().numpy().tobytes()
        digest = hashlib.sha256(known).hexdigest()[:12]
        with self._lock:
            if digest not in self._pictures:
                self._pictures[digest] = picture
                if root is not None:
                    self._roots[digest] = root
            self._pictures.move_to_end(digest)
            protected = {*self.listed, *self._roots.values()}
            drawn = [one for one in self._pictures if one not in protected]
            for one in drawn[:-_DRAWN]:
                del self._pictures[one]
                self._roots.pop(one, None)
        return digest

    def forget(self) -> None:
        """Let go of what was computed: the network's weights are others now."""
        with self._lock:
            for look in self._looks.values():
                look.forget()
            for picture in self._pictures.values():
                if isinstance(picture, WidePicture):
                    picture.forget()

    def root(self, identity: str) -> str:
        """The picture that a painted one was made from; any other picture is its own."""
        return self._roots.get(identity, identity)

    def holds(self, identity: str) -> bool:
        """Whether a picture is still kept."""
        return identity in self._pictures

    def pictures(self) -> list[AnyPicture]:
        """The pictures to choose from."""
        return [self._pictures[one] for one in self.listed]

    def names(self) -> list[tuple[str, str]]:
        """The pictures to choose from, each with what it is called."""
        return [(one, self._pictures[one].name) for one in self.listed]

    def picture(self, query: Query) -> tuple[str, AnyPicture]:
        """The picture that is asked about, with its name; the first one by default."""
        identity = query.text("picture", "") or self.listed[0]
        with self._lock:
            if identity not in self._pictures:
                raise BadValue(f"picture {identity} is gone", cure="choose or draw another")
            self._pictures.move_to_end(identity)  # those used last are kept
            return identity, self._pictures[identity]

    def inspection(self, picture: AnyPicture) -> Inspection:
        """What is known of the network at the picture's size."""
        size = (picture.channels, *picture.size)
        with self._lock:
            net, key = self.subject.net, (size, spoken())
            if size not in self._traced:
                self._traced[size] = (
                    (picture.graph, ())
                    if isinstance(picture, WidePicture)
                    else trace(net, *checked_sizes(net, size))
                )
            if key not in self._inspections:  # what its findings say is in a language
                graph, mistakes = self._traced[size]
                name = type(net).__name__
                self._inspections[key] = inspect_graph(graph, net, name, mistakes, survey=False)
            return self._inspections[key]

    def seat(self, query: Query, layer: str, unit: Sequence[int]) -> Seat:
        """Where a unit can be looked at: the whole picture, or a window of a wide one."""
        _, picture = self.picture(query)
        node = self.inspection(picture).graph[layer]
        place = position_of(node.shape, node.dims, unit)
        if not isinstance(picture, WidePicture):
            return Seat(self.look(query))
        with self._lock:
            window = picture.window_for(node.name, place, self._memory // _LOOKS)
        edits = Edits.read(query.text("edits", ""))
        look = window.look if edits == NO_EDITS else window.look.edited(edits)
        return Seat(look, window, picture.fields)

    def look(self, query: Query, edits: Edits | None = None) -> Look:
        """The network looking at the picture, with the edits that are asked for."""
        identity, picture = self.picture(query)
        if isinstance(picture, WidePicture):
            return self.window(picture, query).look
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

    def window(self, picture: WidePicture, query: Query) -> Window:
        """The window around the pixel that the page looks at."""
        middle = ",".join(str(n // 2) for n in picture.size)
        point = Query({"at": query.text("at", middle)}).wholes("at", 2)
        with self._lock:
            return picture.window_at(point, self._memory // _LOOKS)

    def planes(self, query: Query, check: Check) -> NDArray[Any]:
        """The maps (K, H, W) of a layer; of a wide picture those of a window that are exact."""
        _, picture = self.picture(query)
        if not isinstance(picture, WidePicture):
            return planes_of(self.look(query).value(query.text("layer"), check))
        window = self.window(picture, query)
        node = window.look.graph[query.text("layer")]
        planes = planes_of(window.look.value(node.name, check))
        valid = picture.valid(window, node.name) if len(node.shape) == 4 else None
        return planes[:, :0, :0] if valid is None else planes[:, *valid]

    def box(self, query: Query, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Within a map of that size; all of it where none is given."""
        high, wide = size
        if not query.text("box", ""):
            return 0, high, 0, wide
        top, bottom, left, right = query.wholes("box", 4)
        return (
            *(min(max(0, top), high), min(max(0, bottom), high)),
            *(min(max(0, left), wide), min(max(0, right), wide)),
        )


def position_of(
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
        listed = ",".join(map(str, unit))
        raise BadValue(f"unit {listed}", cure=f"use at most {most}, counted from 0")


def _size_over_two_axes(subject: Subject, size: Sequence[int] | None) -> tuple[int, Sequence[int]]:
    """Channels, and the two sides of a pattern.

    Raises:
        Unsupported: the network, or the size, is of signals or volumes.
    """
    channels, *sides = size or _usual_size(subject)
    if len(sides) != 2:
        raise no_picture(sides)
    axes = accepted_axes(subject.net) if subject.run is None else 2
    if axes not in (2, None):
        raise Unsupported(
            f"a network over {_OVER[axes]}: the studio shows pictures", cure=NO_PICTURE
        )
    return channels, sides


_OVER = {1: "signals", 3: "volumes"}


def _usual_size(subject: Subject) -> tuple[int, ...]:
    """What a run was trained on; 3×64×64 otherwise."""
    if subject.run is not None:
        return (subject.run.config.channels, *subject.run.config.size)
    return ((channels_to_try(subject.net) or (3,))[0], 64, 64)
