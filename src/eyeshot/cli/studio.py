"""``eyeshot studio``: a network, a picture and any unit, in the browser."""

from __future__ import annotations

import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyeshot.cli import shared
from eyeshot.cli.shared import console, say, warn, warnings_as_notes
from eyeshot.errors import BadValue
from eyeshot.files import check_free, check_page
from eyeshot.language import mark, tr

if TYPE_CHECKING:
    from eyeshot.web_studio import Picture, Session, Subject, WidePicture

_EPILOG = """
[b]Examples[/b]

eyeshot studio

eyeshot studio runs/digits-digit_cnn-seed0 seven.png

eyeshot studio net.py:UNet photo.jpg --weights trained.safetensors

eyeshot studio runs/digits-digit_cnn-seed0 seven.png -o page.html

eyeshot studio runs/a cell.png --beside runs/b

eyeshot studio net.py:Net --size 3x64x64 --port 8000 --no-browser

EYESHOT_LANG=zh eyeshot studio

It listens on this machine alone, and the address holds a secret: do not pass it on.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("studio", epilog=_EPILOG)(open_studio)


def open_studio(
    net: Annotated[
        str | None,
        typer.Argument(
            metavar="NET",
            help="A run folder, file.py:Class, or package.module:callable.",
            show_default="the digit network of the package",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Pictures to choose from.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PAGE.html",
            help="Write one file that needs no server, and stop.",
        ),
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MASK",
            help="The true mask of an IMAGE, to lay over it; once for each, in their order.",
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER:C,Y,X",
            help="With -o: a unit to be asked about in the file; may be repeated.",
            show_default="scores, and each channel's strongest",
        ),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="NET|WEIGHTS",
            help="A second network to compare: a NET, a file of other weights for the same NET, "
            "or best or last of the run.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Where to listen; 0: any free port.")
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open nothing.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", "-s", metavar="CxHxW", help="Of the input, where no IMAGE is given."
        ),
    ] = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="The most that kept values may take.")
    ] = "2GB",
    weights: shared.Weights = None,
    force: shared.Force = False,
) -> None:
    """Look at a network in the browser: every layer, any picture, the sum behind any unit."""
    if out is not None:
        check_page(out)
        check_free(out, force=force)
    from eyeshot.web_studio.server import Server
    from eyeshot.web_studio.web_page import export_page

    with warnings_as_notes():
        session = _session(net, image or [], truth or [], size, beside, memory, weights)
    if out is not None:
        with warnings_as_notes():
            export_page(session, out, [_unit(one) for one in unit or ()], say=say)
        say(tr("wrote {file}", file=out))
        return
    server = Server(session, port)
    console.print(server.address, soft_wrap=True, markup=False)
    say(tr("^C ends it"))
    server.run(None if no_browser else lambda: webbrowser.open(server.address))


def _session(
    net: str | None,
    images: list[Path],
    truths: list[Path],
    size: str | None,
    beside: str | None,
    memory: str,
    weights: Path | None,
) -> Session:
    """A session on the network and its pictures, and on a second network if one is named."""
    from eyeshot.cli.inspect import parse_numbers
    from eyeshot.engine.memory import parse_bytes
    from eyeshot.web_studio import Session

    subject, pictures = _opened(net, images, weights)
    room = (parse_bytes(memory) or 0) // (1 if beside is None else 2)
    if len(truths) > len(images):
        raise BadValue(
            f"{len(truths)} --truth for {len(images)} IMAGE", cure="name the picture of each mask"
        )
    shape = None if size is None else parse_numbers("--size", size, "x")
    session = Session(subject, pictures, memory=room, size=shape, truths=truths)
    if beside is not None:
        session.put_beside(_second(session, net, images, beside, room))
    session.warm()
    return session


def _second(
    session: Session, net: str | None, images: list[Path], beside: str, memory: int
) -> Session:
    """The network to compare with, and the pictures as it takes them."""
    from eyeshot.web_studio import Session, digit_pictures, open_any, other_weights

    subject = other_weights(session.subject, beside, say) or _subject(beside, None)
    if subject.name == session.subject.name:
        subject = replace(subject, name=beside)
    if net is None and not images:
        return Session(subject, digit_pictures(subject), memory=memory)
    pictures = [open_any(subject, one) for one in images] or session.desk.pictures()
    return Session(subject, pictures, memory=memory)


def _unit(text: str) -> tuple[str, tuple[int, ...]]:
    """``conv2:3,10,12`` as a layer and a unit."""
    from eyeshot.inspection.page import parse_place

    layer, place = parse_place(text)
    if place is None:
        raise BadValue(f"--unit {text}", cure="give LAYER:C,Y,X, such as conv2:3,10,12")
    return layer, place


def _opened(
    net: str | None, images: list[Path], weights: Path | None
) -> tuple[Subject, list[Picture | WidePicture]]:
    """The network that was named, or the package's own, and the pictures as it takes them."""
    from eyeshot.web_studio import bundled_digits, open_any

    if net is None:
        say(tr("no NET was named: this is the digit network that comes with Eyeshot"))
        subject, digits = bundled_digits()
        return subject, [*digits]
    subject = _subject(net, weights)
    return subject, [open_any(subject, one) for one in images]


def _subject(net: str, weights: Path | None) -> Subject:
    """The network that was named; of a run that is still learning, with its checkpoints."""
    from eyeshot.inspection.locating import locate, runnable, warn_if_random
    from eyeshot.runs import Run
    from eyeshot.web_studio import Subject
    from eyeshot.web_studio.subjects import Training, is_training

    if is_training(Path(net)):
        training = Training(Path(net))
        text = mark("{net}: a training that has not finished; its checkpoints are followed")
        say(tr(text, net=net))
        return Subject(Path(net).resolve().name, training.run.net, training.run, training)
    located = locate(net, say, weights)
    found = runnable(located, net)
    if isinstance(found, Run):
        return Subject(found.path.resolve().name, found.net, found)
    return Subject(net.rpartition(":")[2], found, random=warn_if_random(located, net, warn))
