"""What commands share: what they print and where, settings, and the options of a user's network.

In this file:

- the output of every command: results on standard output, progress and notes on standard error;
- replace names of settings in messages by the options of the command line;
- how long torch's waiting threads spin before they sleep, for shared and for idle machines;
- the options of every command that takes a user's network. For ``see`` and ``explain``, the network
  and a picture are prepared here.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.errors import EyeshotError, UnknownName, UserError
from eyeshot.language import VARIABLE, mark, speak, tr
from eyeshot.terminal import PlainConsole

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from eyeshot.runs import Run

_PACKAGE = Path(__file__).parent.parent

console = PlainConsole()
notes = PlainConsole(stderr=True)


def say(line: str) -> None:
    """Print a note on standard error; brackets in it are not markup."""
    notes.print(line, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """Print a warning on standard error."""
    notes.print(line, markup=False, soft_wrap=True, style="bold yellow")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """In the block, print Eyeshot's warnings as notes of one line; show other warnings as usual."""
    with warnings.catch_warnings(record=True) as heard:
        yield
    for one in heard:
        if _PACKAGE in Path(one.filename).parents:
            warn(str(one.message))
        else:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)


def print_json(data: Any) -> None:
    """Print ``data`` as JSON and nothing else, so that a program can read it.

    Raises:
        ValueError: a number is not finite; JSON has no such numbers, so the caller must use null.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(data, indent=2, allow_nan=False)
    print(text)


_KINDS = (
    mark("kernel"),
    mark("layer"),
    mark("operation"),
    mark("output format"),
    mark("output suffix"),
    mark("picture suffix"),
    mark("data set or folder"),
    mark("model"),
    mark("language"),
    mark("name"),
)
"""What an unknown name should be of, where people mistype it most; ``tr`` finds them here."""


def in_words(error: EyeshotError) -> str:
    """An error in the language spoken."""
    fact, cure = error.fact, error.cure
    if isinstance(error, UnknownName) and error.kind:
        word, inside, place = error.kind.partition(" in ")
        kind, name = tr(error.kind), repr(error.name)
        if inside:
            kind = tr("{word} in {place}", word=tr(word), place=place)
        said = tr("unknown {kind} {name}", kind=kind, name=name)
        fact = fact.replace(f"unknown {error.kind} {name}", said)
        cure = tr("known: {names}", names=error.known)
        if error.near:
            cure = tr("did you mean {name}?", name=repr(error.near)) + f" {cure}"
    return tr("{fact}; {cure}", fact=fact, cure=cure) if cure else fact


def usage_in_words(error: typer.TyperException) -> str:
    """A mistake in the words of a command line, and an example, in the language spoken."""
    text, context = error.format_message(), getattr(error, "ctx", None)
    for pattern, said in _USAGE.items():
        if found := re.fullmatch(pattern, text):
            fact = tr(said, name=found[1])
            return fact if context is None else _with_example(fact.rstrip(".。"), context)
    return text


def _with_example(fact: str, context: typer.Context) -> str:
    example = _EXAMPLE.search(context.command.epilog or "")
    if example:
        return tr("{fact}; for example: {example}", fact=fact, example=example[0])
    return tr("{fact}; see {command} --help", fact=fact, command=context.command_path)


_EXAMPLE = re.compile(r"^eyeshot .+$", re.MULTILINE)
"""The first example in a command's help."""

_USAGE = {
    r"Missing argument (.+)\.": mark("Missing argument {name}."),
    r"Missing option (.+)\.": mark("Missing option {name}."),
    r"No such option: (.+)": mark("No such option: {name}"),
    r"No such command (.+)\.": mark("No such command {name}."),
    r"Got unexpected extra argument\(?s?\)? \((.+)\)": mark(
        "Got unexpected extra argument(s) ({name})"
    ),
}
"""The parser's messages, which no catalog of its own translates."""

_SETTING = re.compile(r"(?P<net>\w+: )?(?P<name>\w+)(?: \(--\w+\))?(?= (?:is|are|has|'))")
"""A setting at the start of a message, perhaps after a network's name."""


@contextmanager
def options_named(spelled: Mapping[str, str]) -> Iterator[None]:
    """In the block, an error about a setting starts with the option that the user typed.

    Args:
        spelled: the option for each setting.
    """
    try:
        yield
    except UserError as error:
        found = _SETTING.match(error.fact)
        if found and found["name"] in spelled:
            front = found["net"] or ""
            error.fact = front + spelled[found["name"]] + error.fact[found.end() :]
        raise


def spelled_by(context: typer.Context) -> dict[str, str]:
    """The option of each parameter of a command."""
    options = (one for one in context.command.params if one.param_type_name == "option")
    return {one.name: one.opts[0] for one in options if one.name}


SPIN_COUNT = 10_000
"""Turns. ``python -m benchmarks neighbor`` compares it with the default and with no spinning."""
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def limit_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limit the spinning of waiting threads; it takes effect if torch is not loaded yet.

    A setting that the user made in the environment does not change.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _CHOSEN_BY_USER):
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def _speak(name: str) -> str:
    """Speak the language until the command ends: ``cli.main`` ends it."""
    speak(name)
    return name


Net = Annotated[
    str,
    typer.Argument(
        metavar="NET",
        help="A run folder, file.py:Class, package.module:callable, or a .onnx file.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--lang",
        metavar="en|zh",
        envvar=VARIABLE,
        callback=_speak,
        help="Language of the messages: English or Chinese.",
    ),
]
Series = Annotated[
    int | None,
    typer.Option(metavar="N", help="Image number in a file with several images; the first is 0."),
]
Index = Annotated[
    str | None,
    typer.Option(metavar="AXIS=N", help="Position on the other axes of a stack: T=3, or T=3,C=0."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights for a NET of Python code: .safetensors, .pt, .pth, .ckpt or .bin.",
    ),
]


@dataclass(frozen=True)
class Asked:
    """The picture that the user named.

    Attributes:
        path: the file.
        series: the image number in a file with several images.
        index: a position on a stack's other axes, such as ``T=3``.
    """

    path: Path
    series: int | None = None
    index: str | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The part of the file to read."""
        return {"series": self.series, "index": self.index}


@dataclass(frozen=True, eq=False)
class Look:
    """A network and its input.

    Attributes:
        net: the network, in eval mode.
        x: the network's input, (1, C, H, W), (1, C, L) or (1, C, D, H, W).
        picture: the same picture for display, uint8 (H, W, C).
        run: the run that the network belongs to; None for a network of one's own.
    """

    net: nn.Module
    x: torch.Tensor
    picture: NDArray[Any]
    run: Run | None = None


Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


def look(where: str, image: Asked, weights: Path | None = None, *, side: int | None = None) -> Look:
    """The network named by ``where`` and the prepared picture; the preparation is printed.

    Args:
        where: NET: a run folder, or an import path, whose network gets the same samples as in
            ``eyeshot run``: whole numbers scaled to 0 … 1, no other change.
        image: the picture.
        weights: the weights for a network of Python code.
        side: the largest number of rows and columns, for a run that accepts any size.
    """
    from eyeshot.inspection.locating import locate_runnable
    from eyeshot.runs import Run

    found = locate_runnable(where, say, weights, warn)
    if isinstance(found, Run):
        notes, ready = _of_run(found, image, side)
    else:
        notes, ready = _plain(found, image)
    for note in notes:
        say(tr("{file}: {note}", file=image.path, note=note))
    return ready


def _of_run(run: Run, image: Asked, side: int | None) -> tuple[tuple[str, ...], Look]:
    from eyeshot.runs.inputs import prepare_input

    ready = prepare_input(run, image.path, side=side, **image.chosen)
    return ready.notes, Look(run.net, ready.values, ready.picture, run)


def _plain(net: nn.Module, image: Asked) -> tuple[tuple[str, ...], Look]:
    from eyeshot.runs.inputs import prepare_plain

    ready = prepare_plain(net, image.path, **image.chosen)
    return ready.notes, Look(net, ready.values, ready.picture)
