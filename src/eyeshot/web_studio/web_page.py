"""The page: its modules as one script, and as one file with answers inside that needs no server.

One request paints the page sooner than a dozen, each of which waits for the one that imports it.
The server, the single file and the notebook begin that script in different ways.

The single file holds one picture: every map of a small network, and the page's answers for some
units: the named ones, or by default all scores, the strongest unit of each channel, and the units
between those and the pixels, as many as keep the file small. The page says how many were left out.

``eyeshot.studio``, the studio in a notebook's cell through anywidget, is here too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot.engine.memory import parse_bytes
from eyeshot.errors import BadValue, EyeshotError, Failure
from eyeshot.extras import extra
from eyeshot.files import check_page, write_aside
from eyeshot.language import preferred
from eyeshot.runs import Run, load
from eyeshot.web_studio.comparing import KINDS, SIDES, other_weights
from eyeshot.web_studio.desk import AnyPicture
from eyeshot.web_studio.looks import Check, never, open_any
from eyeshot.web_studio.payloads import OPERATIONS, Payload, Query, refusal
from eyeshot.web_studio.session import Session
from eyeshot.web_studio.subjects import Picture, Subject, bundled_digits, digit_pictures, of_tensor

PAGE = "eyeshot.web_studio"
SCRIPTS = (
    "words.js",
    "dom.js",
    "colors.js",
    "sources.js",
    "views.js",
    "beside.js",
    "network.js",
    "evidence.js",
    "unit.js",
    "play.js",
    "walks.js",
    "drawn_sum.js",
    "saving.js",
    "overlays.js",
    "studio.js",
)
"""In an order in which each reads only those before it."""
PAGE_FILES = ("index.html", "studio.css", "page.js")
"""What the server serves; page.js is all scripts in one."""

_IMPORT = re.compile(r"^import\s[^;]*?;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const|let)", re.MULTILINE)


def html_tag() -> str:
    """``<html lang="en">``, or with the language that ``EYESHOT_LANG`` names to begin with.

    Raises:
        UnknownName: ``EYESHOT_LANG`` names no language.
    """
    name = preferred()
    return f'<html lang="{name}" data-language="{name}">' if name else '<html lang="en">'


def read_page_file(name: str) -> str:
    """One of the page's files.

    Raises:
        Failure: the package is damaged.
    """
    try:
        return resources.files(PAGE).joinpath("page", name).read_text(encoding="utf-8")
    except OSError:
        raise Failure(f"the page's {name} is missing", cure="install eyeshot again") from None


@cache
def one_script() -> str:
    """All modules as one, which exports ``mount`` and what else the last one exports.

    Names at the top of the modules are different from each other, so that only the lines
    with ``import`` and the word ``export`` must be removed.
    """
    parts = []
    for name in SCRIPTS:
        text = _IMPORT.sub("", read_page_file(name))
        parts.append(f"// {name}\n{_EXPORT.sub('', text)}")
    return "\n".join(parts)


_SERVER_START = """
mount(document.getElementById("studio"), new ServerSource(new URL(".", location.href)));
"""


@cache
def served_file(name: str) -> bytes:
    """A file of :data:`PAGE_FILES` as a browser gets it."""
    return (one_script() + _SERVER_START if name == "page.js" else read_page_file(name)).encode()


_MOST_NUMBERS = 2 * 10**6
"""Numbers of all maps together, up to which all of them go into the file."""
_MOST_BYTES = 120 * 10**6
_USUAL_BYTES, _USUAL_UNITS = 20 * 10**6, 256
"""The size from which no more units are added to a file, if none are named."""
_MOST_CHANNELS = 64
"""Of a layer, up to which the strongest unit of each goes into the file."""

Place = tuple[str, tuple[int, ...]]
"""A layer and a unit of it."""


def export_page(
    session: Session,
    path: str | Path,
    units: Iterable[Place] = (),
    check: Check = never,
    say: Callable[[str], object] = str,
) -> Path:
    """Write a session's first picture as one HTML file.

    Args:
        session: of a picture that is looked at as a whole.
        path: ends in .html; replaced where it exists.
        units: to be asked about in the file; by default the scores and each channel's strongest.
        check: called between the answers.
        say: gets a line if units were left out to keep the file small.

    Raises:
        BadValue: another ending, a wide picture, or more than a file should hold.
        BadFile: the folder does not exist or may not be written to.
    """
    target = Path(path)
    check_page(target)
    answers = _Answers(session, check)
    state = answers.ask("state")
    answers.ask("state", language="zh")
    if state["picture"]["wide"]:
        raise BadValue(
            f"{state['picture']['name']}: too large for one file", cure="cut a part out of it"
        )
    answers.ask("picture")
    for operation in OPERATIONS:
        answers.ask("walk", operation=operation)
    if state["network"]["runs"]:
        left = _collect(answers, state, list(units), session)
        if left:
            say(f"{target}: {left} units were left out to keep it small; --unit names others")
    with write_aside(target) as aside:
        aside.write_text(_page(answers.found), encoding="utf-8")
    return target


class _Answers:
    """Answers by their questions, written as the page writes them."""

    def __init__(self, session: Session, check: Check) -> None:
        self.found: dict[str, str] = {}
        self._session, self._check, self.bytes = session, check, 0

    def ask(self, name: str, **values: object) -> dict[str, Any]:
        """Ask, and keep the answer."""
        self._check()
        texts = {key: str(value) for key, value in values.items()}
        answer = self._session.answer(name, Query(texts), self._check)
        self.keep(name, answer, **texts)
        return answer.data

    def keep(self, name: str, answer: Payload, **texts: str) -> None:
        """Keep an answer that is known already."""
        content = base64.b64encode(zlib.compress(answer.to_bytes())).decode("ascii")
        self.bytes += len(content)
        if self.bytes > _MOST_BYTES:
            raise BadValue(
                f"more than {_MOST_BYTES // 10**6} megabytes for one file",
                cure="name some units by --unit, or use a smaller picture",
            )
        asked = urlencode(sorted(texts.items()), safe="*")
        self.found[f"{name}?{asked}" if asked else name] = content

    def note(self, **numbers: int) -> None:
        """What the page says of the file."""
        self.found["file"] = json.dumps(numbers)


def _collect(
    answers: _Answers, state: Mapping[str, Any], units: list[Place], session: Session
) -> int:
    """Maps, strips, and all that the page asks about the units; how many units were left out."""
    layers = state["layers"]
    everything = sum(int(np.prod(layer["planes"])) for layer in layers) <= _MOST_NUMBERS
    if state["overlay"]:
        _collect_overlays(answers, state)
    answers.ask("dead")
    for layer in layers:
        answers.ask("strip", layer=layer["name"], most=32)
    chosen, left = _collect_units(answers, state, units, session)
    for layer in layers:
        for side in _sides(state, layer["name"]):
            _collect_maps(answers, layer, chosen, everything, side)
    if state["prediction"]:
        _collect_pixels(answers, state["prediction"], chosen)
    answers.note(units=len(chosen), left=left)
    return left


def _collect_units(
    answers: _Answers, state: Mapping[str, Any], units: list[Place], session: Session
) -> tuple[list[Place], int]:
    """The sums of the units and of those on their ways to the pixels.

    Returns:
        The units that are in, and how many are not: of units that nobody named, those after the
        file had grown large.
    """
    found: dict[Place, None] = {}
    asked = units or _usual_units(session, state)
    for index, place in enumerate(asked):
        if not units and (answers.bytes > _USUAL_BYTES or index >= _USUAL_UNITS):
            return list(found), len(asked) - index
        if place in found:
            continue
        for side in _sides(state, place[0])[:2]:
            for one in _collect_way(answers, place, side, known=() if side else found):
                found.setdefault(one)
    return list(found), 0


def _collect_way(
    answers: _Answers, place: Place, side: Mapping[str, str], known: Collection[Place]
) -> list[Place]:
    """A unit, and those that its largest contributions lead to; the way from each is the rest."""
    way = answers.ask("why", layer=place[0], unit=_text(place[1]), **side)
    places = [(step["layer"], tuple(step["unit"])) for step in way["steps"]]
    for index, (layer, unit) in enumerate(places):
        if (layer, unit) in known:
            return places[:index]
        rest = Payload({**way, "steps": way["steps"][index:]})
        answers.keep("why", rest, layer=layer, unit=_text(unit), **side)
        answers.ask("unit", layer=layer, unit=_text(unit), **side)
    return places


def _collect_pixels(
    answers: _Answers, prediction: Mapping[str, Any], chosen: Collection[Place]
) -> None:
    """What each pixel adds to the scores: the best against each, and each against the best."""
    layer = prediction["layer"]
    classes = [one["index"] for one in prediction["top"] if (layer, (one["index"],)) in chosen]
    for index in classes:
        others = classes if index == classes[0] else classes[:1]
        for against in ("", "next", *(other for other in others if other != index)):
            if answers.bytes <= _USUAL_BYTES:
                answers.ask("pixels", layer=layer, unit=index, **_without_empty(against=against))


def _without_empty(**values: object) -> dict[str, object]:
    """Those that are not empty, as the page writes them."""
    return {key: value for key, value in values.items() if value != ""}


def _text(unit: Iterable[int]) -> str:
    return ",".join(map(str, unit))


def _sides(state: Mapping[str, Any], layer: str) -> list[dict[str, str]]:
    """Whose numbers are asked for: the network's, those of the one beside it, the difference."""
    beside = state["beside"]
    compared = beside is not None and beside["layers"][layer] is True
    return [{}, *({"of": side} for side in SIDES if compared)]


def _collect_maps(
    answers: _Answers,
    layer: Mapping[str, Any],
    chosen: Iterable[Place],
    everything: bool,
    side: Mapping[str, str],
) -> None:
    """A layer's strips, and its maps: all, or those of the chosen units and the first."""
    name = layer["name"]
    if side:
        answers.ask("strip", layer=name, most=32, **side)
    if not layer["spatial"]:
        answers.ask("maps", layer=name, **side)
        return
    answers.ask("strip", layer=name, most=256, own=1, **side)
    shown = {unit[0] for place, unit in chosen if place == name}
    for channel in range(layer["planes"][0]):
        if everything or channel in shown or channel == 0:
            answers.ask("maps", layer=name, channel=channel, **side)


def _collect_overlays(answers: _Answers, state: Mapping[str, Any]) -> None:
    """What can be laid over the picture; of a difference the pixels with different answers."""
    truth, pixel = state["overlay"]["truth"], state["overlay"]["pixel"]
    for side in _sides(state, state["overlay"]["layer"]):
        many = 1 if truth is None or side.get("of") == "difference" else 2 if pixel is None else 3
        for kind in KINDS[:many]:
            answers.ask("overlay", kind=kind, **side)


def _usual_units(session: Session, state: Mapping[str, Any]) -> list[Place]:
    """All scores, then the strongest unit of each channel: a first one of each layer, a second …"""
    scores: list[Place] = []
    turns: list[list[Place]] = []
    look = session.desk.look(Query({}))
    for layer in state["layers"]:
        value = look.value(layer["name"])[0].detach().float().cpu().numpy()
        if layer["input"] or not value.size:
            continue
        last = layer["name"] in state["network"]["outputs"]
        if value.ndim == 3 and len(value) <= _MOST_CHANNELS and (last or not layer["minor"]):
            flat = np.abs(value.reshape(len(value), -1))
            places = zip(*np.unravel_index(flat.argmax(axis=1), value.shape[1:]), strict=True)
            strongest: list[Place] = [
                (layer["name"], (c, int(row), int(column)))
                for c, (row, column) in enumerate(places)
            ]
            order = np.argsort(-flat.max(axis=1), kind="stable")
            if last:
                scores += strongest
            else:
                turns.append([strongest[i] for i in order])
        elif value.ndim == 1 and last:
            scores += [(layer["name"], (i,)) for i in range(min(len(value), _MOST_CHANNELS))]
    others = [one for turn in zip_longest(*turns) for one in turn if one is not None]
    return [*scores, *others]


_FILE_START = """
mount(document.getElementById("studio"),
  new FileSource(JSON.parse(document.getElementById("answers").textContent)), { address: true });
"""


def _page(answers: Mapping[str, str]) -> str:
    """The page; its policy allows only the script and the style that are in it."""
    script, style = one_script() + _FILE_START, read_page_file("studio.css")
    data = json.dumps(answers).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; script-src {_hash_of(script)}; style-src {_hash_of(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
{html_tag()}
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Eyeshot studio</title>
<style>{style}</style>
</head>
<body class="whole-page">
<div id="studio"></div>
<script type="application/json" id="answers">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


RENDER = """
export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.classList.add("in-cell");
    el.append(root);
    mount(root, new KernelSource(model), { address: false });
  },
};
"""


def studio(
    net: nn.Module | Run | str | Path | None = None,
    image: Tensor | NDArray[Any] | str | Path | None = None,
    *,
    beside: nn.Module | Run | str | Path | None = None,
    size: Sequence[int] | None = None,
    memory: int | str = "2GB",
) -> Any:
    """Any network, any picture, any unit, in the cell of a notebook.

    Args:
        net: a network in eval mode, a trained run or the path of its folder; the digit network that
            comes with Eyeshot where none is given.
        image: a file or an array, prepared as ``eyeshot see`` does; or a float tensor (C, H, W) as
            the network takes it. A test pattern where none is given.
        beside: a second network to compare, a run or its folder; or a file of other weights for
            ``net``, or ``"best"`` or ``"last"`` of its run.
        size: (C, H, W) of the pattern.
        memory: the most that kept values may take, in bytes or as ``"2GB"``.

    Returns:
        A widget, which shows itself.

    Raises:
        Failure: anywidget is not installed.
        BadFile: not a run folder, or not a picture.
        BadValue: an input that the network cannot take.
        Unsupported: a network that cannot be traced, or one over signals or volumes.
    """
    session = _session(net, image, size, memory, beside)
    session.warm()
    return make_widget(session)


def _session(
    net: Any, image: Any, size: Sequence[int] | None, memory: int | str, beside: Any = None
) -> Session:
    room = (parse_bytes(memory) or 0) // (1 if beside is None else 2)
    digits: list[Picture] = []
    if net is None:
        subject, digits = bundled_digits()
    else:
        subject = _subject(net)
    session = Session(subject, _pictures(subject, image) or digits, memory=room, size=size)
    if beside is not None:
        named = isinstance(beside, str | Path)
        other = (other_weights(subject, str(beside)) if named else None) or _subject(beside)
        if other.name == subject.name:
            other = replace(other, name=f"{other.name} 2")
        again = _pictures(other, image) or (digit_pictures(other) if digits else [])
        session.put_beside(Session(other, again or session.desk.pictures(), memory=room))
    return session


def _subject(net: Any) -> Subject:
    run = load(net) if isinstance(net, str | Path) else net if isinstance(net, Run) else None
    name = run.path.resolve().name if run is not None else type(net).__name__
    return Subject(name, net if run is None else run.net, run)


def _pictures(subject: Subject, image: Any) -> list[AnyPicture]:
    if isinstance(image, Tensor):
        return [of_tensor(image)]
    return [] if image is None else [open_any(subject, image)]


def make_widget(session: Session) -> Any:
    """A widget that answers its page's questions from a session."""
    with extra("studio"):
        import anywidget

    class Studio(anywidget.AnyWidget):
        _esm = one_script() + RENDER
        _css = read_page_file("studio.css")

    widget = Studio()
    widget.on_msg(lambda _, content, buffers: reply(widget, session, content, buffers))
    return widget


def reply(widget: Any, session: Session, content: dict[str, Any], buffers: list[Any]) -> None:
    """Answer one question of the page."""
    body = bytes(buffers[0]) if buffers else b""
    number = content.get("number")
    try:
        values = {str(key): str(value) for key, value in content.get("values", {}).items()}
        answer = session.answer(str(content.get("name")), Query(values, body))
    except EyeshotError as error:
        widget.send({"number": number, **refusal(error)})
        return
    widget.send({"number": number}, buffers=[answer.to_bytes()])
