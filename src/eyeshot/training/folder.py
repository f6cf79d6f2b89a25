"""The run folder before training: new, resumed, or refused, and nothing of the user's lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eyeshot.errors import BadFile, BadValue
from eyeshot.files import Lock, explain_os_error
from eyeshot.runs import CONFIG, LAST, LAST_WEIGHTS, METRICS, PROGRAM, SAMPLES, WEIGHTS, RunConfig
from eyeshot.training.checkpoint import FILE

# What a setting is called on the command line, where that is another word.
_OPTIONS = {
    "learning_rate": "--lr",
    "data": "the data",
    "data_folder": "--data",
    "source": "--net",
    "start": "--from",
    "backbone_rate": "--backbone-lr",
    "arguments": "--net-args",
    "program": "the network, by its program,",
    "fingerprint": "the data, by its fingerprint,",
}
_FOLLOWING = ("fingerprint", "classes", "channels", "mean", "std", "steps")
_IMPLIED = ("versions", "legend", "learned")  # the last two are others only if the data is
_FREE = ("minutes", "patience", "fresh")
"""What may be another when a training goes on: when it ends, and what it takes from its start."""
_PAGE = "report.html"
_LOCK = ".training.lock"
STOP = "STOP"
"""A file of this name in the run folder ends the training after the step."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep every other training out of ``folder`` while this one reads and writes it.

    Raises:
        BadValue: the name is one that safetensors could not open a file in.
        BadFile: another training writes there, or the folder cannot be made.
    """
    if str(folder).encode("utf-8", "replace").decode() != str(folder):
        raise BadValue(f"{folder}: a name that is not UTF-8", cure="name another with --out")
    if folder.exists() and not folder.is_dir():
        raise BadFile(f"{folder}: is a file", cure="name a folder with --out")
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / _LOCK, folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()
        if new:
            with suppress(OSError):
                folder.rmdir()  # where a training that was refused has left nothing


def prepare(folder: Path, config: RunConfig, *, resume: bool, force: bool) -> bool:
    """Make ``folder`` ready for a training of ``config``, and write its configuration.

    With ``resume`` a folder that is empty is a training that was stopped at once. The caller has
    to :func:`hold` the folder.

    Returns:
        Whether there is something to go on with.

    Raises:
        BadValue: the folder is in use and neither ``resume`` nor ``force`` was said, or the run in
            it was started with other settings.
        BadFile: the folder holds something other than a run.
    """
    started = (folder / CONFIG).is_file()
    entries = [p for p in folder.iterdir() if p.name != _LOCK and not _is_leftover(p)]
    if entries and not started:
        raise BadFile(
            f"{folder}: holds {entries[0].name}, and no run", cure="name another folder with --out"
        )
    if started and resume and _worth_keeping(folder):
        _check_same(folder, config)
        _clear(folder, leftovers=True)
        return True
    if started and not (resume or force):
        raise BadValue(
            f"{folder} holds a run already",
            cure="go on with --resume, throw it away with --force, or name another with --out",
        )
    _clear(folder, leftovers=False)
    config.save(folder / CONFIG)
    return False


def _worth_keeping(folder: Path) -> bool:
    return (folder / LAST / FILE).is_file() or (folder / WEIGHTS).is_file()


def _is_leftover(path: Path) -> bool:
    """Whether a killed process left ``path`` half written."""
    return path.name.startswith(".") and ".part" in path.suffixes


def _clear(folder: Path, *, leftovers: bool) -> None:
    """Remove half-written files and, unless only ``leftovers`` are to go, the run itself."""
    for place in (folder / LAST, folder / SAMPLES, folder):
        for path in place.iterdir() if place.is_dir() else ():
            if _is_leftover(path):
                path.unlink(missing_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    if not leftovers:
        (folder / LAST / FILE).unlink(missing_ok=True)
        for name in (WEIGHTS, LAST_WEIGHTS, METRICS, PROGRAM, _PAGE):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / SAMPLES).glob("epoch-*.png"):
            path.unlink(missing_ok=True)


def _check_same(folder: Path, config: RunConfig) -> None:
    if not (folder / LAST / FILE).is_file():
        raise BadFile(
            f"{folder}: {LAST}/{FILE} is missing, so there is nothing to go on from",
            cure="train again with --force",
        )
    old = RunConfig.read(folder / CONFIG)
    # What follows from other settings is told only where none of those is another.
    found = sorted(_differences(old, config), key=lambda one: one[0] in _FOLLOWING)
    for name, before, now in found:
        option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
        if name == "size" and config.task in ("segment", "restore"):
            option = "--crop"
        cure = f"resume with the same {option.strip(',')}, or name another folder with --out"
        if name == "epochs":
            cure = (
                f"the learning rate of its {before} epochs falls to 0 at their end, so none can "
                f"follow; go on with --epochs {before}, or train all {now} in another folder"
            )
        raise BadValue(
            f"{option} is {_worded(now)}, and the run in {folder} was started "
            + (f"with {before!r}" if before is not None else "without it"),
            cure=cure,
        )


def _worded(value: Any) -> str:
    return "not given" if value is None else repr(value)


def _differences(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each setting that is not the same: its name, the old value, the new."""
    for entry in dataclasses.fields(old):
        before, now = getattr(old, entry.name), getattr(new, entry.name)
        if entry.name in (*_IMPLIED, *_FREE):
            continue
        if dataclasses.is_dataclass(before):
            yield from _differences(before, now)
        elif isinstance(before, Mapping):
            for name in (*now, *(before.keys() - now.keys())):
                if before.get(name) != now.get(name):
                    yield name, before.get(name), now.get(name)
        elif before != now:
            yield entry.name, before, now
