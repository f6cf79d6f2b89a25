"""``eyeshot.studio``: the studio in a notebook's cell, through anywidget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot.engine.memory import parse_bytes
from eyeshot.errors import EyeshotError
from eyeshot.extras import extra
from eyeshot.runs import Run, load
from eyeshot.web_studio.comparing import other_weights
from eyeshot.web_studio.desk import AnyPicture
from eyeshot.web_studio.export import one_script, read_page_file
from eyeshot.web_studio.looks import open_any
from eyeshot.web_studio.payloads import Query, refusal
from eyeshot.web_studio.session import Session
from eyeshot.web_studio.subjects import (
    Picture,
    Subject,
    bundled_digits,
    digit_pictures,
    of_tensor,
)

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
