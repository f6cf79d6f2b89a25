"""Cross-validation: one training for each part of the data.

The trained runs can be written as one run folder, an ensemble that returns the mean of their
outputs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from eyeshot.data import Data
from eyeshot.data.pairs import Pairs
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import write_aside
from eyeshot.frontends.programs import export_program, network_fingerprint
from eyeshot.nets import CLASSIFIERS, ENSEMBLE, PER_PIXEL, Ensemble
from eyeshot.runs import (
    CONFIG,
    METRICS,
    PROGRAM,
    WEIGHTS,
    NetSource,
    Run,
    RunConfig,
    load,
    save_tensors,
)
from eyeshot.training.checkpoint import hold, prepare
from eyeshot.training.options import check_count
from eyeshot.training.own_network import OwnNet, usual_size

SUMMARY = "summary.json"
_LEAST = 2
_NO_FIGURES = ("epoch", "learning_rate", "images_per_second", "seconds")

TrainFold = Callable[[Path, tuple[int, int], bool, bool], Run]
"""A function that trains into a folder with part k of n set aside; its flags: resume, force."""


@dataclass(frozen=True)
class FoldSummary:
    """The result of a cross-validation.

    Attributes:
        folds: for each fold, its figures by name, from the epoch whose weights are kept.
    """

    folds: tuple[Mapping[str, float], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the figures that are compared."""
        return tuple(name for name in self.folds[0] if name not in _NO_FIGURES)

    def values(self, name: str) -> list[float]:
        """The values of a figure, one for each fold."""
        return [row[name] for row in self.folds]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; the deviation is that of a sample (n - 1)."""
        return {
            "folds": [
                {"run": _name(number), "figures": dict(row)}
                for number, row in enumerate(self.folds, 1)
            ],
            "mean": {name: fmean(self.values(name)) for name in self.names},
            "deviation": {name: stdev(self.values(name)) for name in self.names},
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """Mean ± deviation of each figure, and the figure of each fold."""
        found = []
        for name in self.names:
            values = self.values(name)
            each = ", ".join(f"{value:.4g}" for value in values)
            spread = f"{fmean(values):.4g} ± {stdev(values):.2g}"
            found.append(f"{name.replace('_', ' ')}: {spread} ({each})")
        return tuple(found)


def check_folds(
    folds: object,
    source: object,
    task: str | None,
    validation: object,
    settings: Mapping[str, Any],
) -> int:
    """The requested number of folds.

    Raises:
        BadValue: not a whole number of at least 2, or an option that does not go with folds.
    """
    count = check_count("folds", folds)
    if count < _LEAST:
        raise BadValue(f"folds is {count}", cure=f"use {_LEAST} or more")
    if not isinstance(source, str | Path):
        raise BadValue(
            f"folds is {count}, and the data is loaded already", cure="name the folder itself"
        )
    if task == "generate":
        raise BadValue("folds for the task generate, which judges nothing", cure="leave them out")
    if validation is not None:
        raise BadValue(
            f"folds is {count}, and validation {validation}",
            cure="use one of the two: each fold sets its own part aside",
        )
    if (settings.get("devices") or 1) != 1:
        raise BadValue(f"folds is {count}, on several devices", cure="use one device")
    return count


def check_start(start: Path, config: RunConfig, data: Data | Pairs) -> str | None:
    """Refuse to judge a fold by pictures that its first weights have learned from.

    Args:
        start: a run folder or a file of weights.
        config: of the fold.
        data: of the fold.

    Returns:
        A note if it is not known what the weights have learned from; else None.

    Raises:
        BadValue: the run ``start`` has learned from pictures of this data, each of which some fold
            sets aside.
    """
    cure = "start from weights that learned from other pictures, or from none"
    known = RunConfig.read(start / CONFIG) if (start / CONFIG).is_file() else None
    if known is not None and known.data == config.data:
        raise BadValue(
            f"folds that start from {start}, which has learned from this data", cure=cure
        )
    aside = {pair.digest for pair in data.validation} if isinstance(data, Pairs) else set()
    if known is not None and known.learned_from:
        shared = len(known.learned_from & (config.learned_from | aside))
        if shared:
            raise BadValue(
                f"folds that start from {start}, which has learned from {shared} pictures of this "
                "data",
                cure=cure,
            )
        return None
    return (
        f"{start} does not say which pictures its weights learned from: if pictures of this data "
        "are among them, the figures of the folds are too good"
    )


def choose_folds_folder(
    source: str, task: str | None, model: str | None, count: int, settings: Mapping[str, Any]
) -> Path:
    """``runs/<data>-<model>-seed<seed>-folds<count>`` in the current folder."""
    usual = (CLASSIFIERS if task in (None, "classify") else PER_PIXEL)[0]
    seed = settings.get("seed") or 0
    return Path("runs") / f"{Path(source).name}-{model or usual}-seed{seed}-folds{count}"


def read_summary(place: Path) -> FoldSummary:
    """The figures of the folds in ``place``.

    Raises:
        BadFile: a fold has no figures.
    """
    numbers = [k for k in range(1, 1 + len(list(place.glob("fold-*")))) if _is_run(place, k)]
    return FoldSummary(tuple(_saved_row(place / _name(number)) for number in numbers))


def train_folds(
    train_one: TrainFold,
    count: int,
    place: Path,
    *,
    resume: bool,
    force: bool,
    say: Callable[[str], None],
) -> Run:
    """Train each fold into ``place/fold-k``, write the summary, and make the ensemble of all.

    Args:
        train_one: trains one of them.
        count: of folds.
        place: the run folder of the ensemble.
        resume: continue the interrupted fold, and those after it.
        force: delete earlier folds.
        say: called with a line about the fold that is trained next.

    Returns:
        The ensemble; if a person stopped a fold, that fold.

    Raises:
        BadValue: ``place`` holds folds already.
        BadFile: ``place`` holds something else.
    """
    with hold(place):
        _check_place(place, count, resume=resume, force=force)
        runs = []
        for number in range(1, count + 1):
            say(f"fold {number} of {count}")
            begun = _is_run(place, number)
            run = train_one(
                place / _name(number), (number, count), resume and begun, force and begun
            )
            if not run.finished:
                return run
            runs.append(run)
        with write_aside(place / SUMMARY) as aside:
            text = json.dumps(read_summary(place).to_dict(), indent=1)
            aside.write_text(f"{text}\n", encoding="utf-8")
        _write(place, _join(runs))
    return load(place)


def ensemble(runs: Sequence[Run | str | Path], out: str | Path, *, force: bool = False) -> Run:
    """Make one run of several runs: its scores are the mean of their scores.

    The new folder is a run folder like any other, and does not need the old ones: ``run``,
    ``predict``, ``evaluate``, ``see``, ``explain``, ``inspect`` and ``export`` work from it. Scores
    are averaged, not probabilities; each network normalizes by its own mean and deviation.

    Args:
        runs: two trained runs or more, or their folders; of one task, with the same classes and
            channels.
        out: the new run folder.
        force: throw away an earlier run in ``out``.

    Returns:
        The new run, loaded.

    Raises:
        BadValue: the runs do not fit together, or ``out`` holds a run already.
        BadFile: a run cannot be read, or ``out`` holds something else.
        Unsupported: a network of one's own cannot be written as a program.
    """
    loaded = [one if isinstance(one, Run) else load(one) for one in runs]
    place = Path(out)
    joined = _join(loaded)
    if (place / CONFIG).is_file() and not force:
        raise BadValue(
            f"{place} holds a run already", cure="name another folder, or throw it away with force"
        )
    with hold(place):
        prepare(place, joined.config, resume=False, force=force)
        _write(place, joined)
    return load(place)


def _name(number: int) -> str:
    return f"fold-{number}"


def _is_run(place: Path, number: int) -> bool:
    return (place / _name(number) / CONFIG).is_file()


def _check_place(place: Path, count: int, *, resume: bool, force: bool) -> None:
    folds = {_name(number) for number in range(1, count + 1)}
    entries = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
    there = [name for name in entries if name in folds]
    more = [name for name in entries if name.startswith("fold-") and name not in folds]
    if more:
        raise BadValue(
            f"folds is {count}, and {place} holds {more[0]} of another cross-validation",
            cure="name another folder with --out",
        )
    if entries and not there:
        raise BadFile(
            f"{place}: holds {entries[0]}, and no folds", cure="name another folder with --out"
        )
    if there and not (resume or force):
        raise BadValue(
            f"{place} holds folds already",
            cure="go on with --resume, throw them away with --force, or name another with --out",
        )


def _saved_row(folder: Path) -> dict[str, float]:
    """The line of ``metrics.csv`` of the epoch whose weights are kept."""
    best = RunConfig.read(folder / CONFIG).best
    try:
        with (folder / METRICS).open(encoding="utf-8", newline="") as lines:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    except (OSError, ValueError, TypeError) as error:
        raise BadFile(f"{folder / METRICS}: {error}", cure="train this fold again") from None
    if not rows:
        raise BadFile(f"{folder / METRICS}: holds no epoch", cure="train this fold again")
    return rows[-1] if best is None else max(rows, key=lambda row: row[best])


@dataclass(frozen=True, eq=False)
class _Joined:
    """An ensemble before it is written.

    Attributes:
        config: of its run.
        weights: by their names.
        program: the content of ``net.pt2``; None if all its networks have one name.
    """

    config: RunConfig
    weights: Mapping[str, Tensor]
    program: bytes | None


def _join(runs: Sequence[Run]) -> _Joined:
    if len(runs) < _LEAST:
        raise BadValue(f"an ensemble of {len(runs)}", cure=f"give {_LEAST} runs or more")
    _check_alike(runs)
    configs = [run.config for run in runs]
    first, count = configs[0], len(configs)
    net = Ensemble(
        [run.net for run in runs],
        [config.mean for config in configs],
        [config.std for config in configs],
        dims=len(first.size),
    )
    same_part = len({(c.data, c.fingerprint, c.fold, c.folds) for c in configs}) == 1
    learned = {mark for config in configs for mark in config.learned_from}
    config = replace(
        first,
        mean=(0.0,) * first.channels,
        std=(1.0,) * first.channels,
        learned=" ".join(sorted(learned)) if all(c.learned for c in configs) else "",
        start=first.start if len({c.start for c in configs}) == 1 else None,
        fresh="",
        fold=first.fold if same_part else 0,
        folds=first.folds if same_part else count,
    )
    if _can_be_built(configs):
        arguments = {"of": first.model, "count": count, **first.model_arguments}
        config = replace(config, model=ENSEMBLE, model_arguments=arguments)
        return _Joined(config, net.state_dict(), None)
    net.training = False  # its members do not change
    size = usual_size(OwnNet(net, channels=first.channels), first.size)
    written = export_program(net, (first.channels, *size))
    own = NetSource("", "", network_fingerprint(net, written.net))
    config = replace(config, model=type(net).__name__, model_arguments={}, own=own)
    return _Joined(config, written.net.state_dict(), written.content)


def _can_be_built(configs: Sequence[RunConfig]) -> bool:
    """Whether all are the same network of :mod:`eyeshot.nets`, so that it accepts every size."""
    first = configs[0]
    return first.model in (*CLASSIFIERS, *PER_PIXEL) and all(
        config.own is None
        and config.model == first.model
        and config.model_arguments == first.model_arguments
        for config in configs
    )


def _check_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    if first.config.task == "generate":
        raise BadValue(
            f"{first.path}: makes pictures, which have no mean worth having", cure="leave it out"
        )
    for run in runs[1:]:
        for what, own, other in zip(
            _TRAITS, _traits(run.config), _traits(first.config), strict=True
        ):
            if own != other:
                raise BadValue(
                    f"{run.path} and {first.path} differ: {what} {own} and {other}",
                    cure="an ensemble is of runs of one task, with the same classes and channels",
                )


_TRAITS = ("task", "classes", "channels", "axes of space", "size", "legend", "samples")


def _traits(config: RunConfig) -> tuple[Any, ...]:
    size = config.size if config.task == "classify" else None
    classes = ", ".join(config.classes) or "none"
    legend = config.legend.codes if config.legend else None
    samples = "in 0 … 1" if config.in_unit else "of their own scale"
    return config.task, classes, config.channels, len(config.size), size, legend, samples


def _write(place: Path, joined: _Joined) -> None:
    """The configuration, the program where it has one, and last the weights."""
    (place / WEIGHTS).unlink(missing_ok=True)
    joined.config.save(place / CONFIG)
    if joined.program is not None:
        with write_aside(place / PROGRAM) as aside:
            aside.write_bytes(joined.program)
    save_tensors(place / WEIGHTS, joined.weights)
