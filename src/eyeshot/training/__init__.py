"""From pictures to a trained network in a run folder; public as :func:`eyeshot.train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from eyeshot.data import SOURCES, Data
from eyeshot.data.pairs import Pairs
from eyeshot.data.pairs.layout import Layout
from eyeshot.engine.memory import freed_memory_kept
from eyeshot.errors import BadValue
from eyeshot.runs import CONFIG, LAST, PROGRAM, Recipe, Run, RunConfig, load
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.training import checkpoint
from eyeshot.training.behavior import check_behavior
from eyeshot.training.checkpoint import Position, hold, prepare
from eyeshot.training.configuration import Request, choose_folder
from eyeshot.training.cropping import make_sampler
from eyeshot.training.folds import (
    check_folds,
    check_start,
    choose_folds_folder,
    ensemble,
    train_folds,
)
from eyeshot.training.logs import check_logs, open_logs
from eyeshot.training.loop import Stopped, Training, make_fabric, torch_state_restored
from eyeshot.training.optimization import Average, make_optimizer
from eyeshot.training.options import ask, settle
from eyeshot.training.own_network import OwnNet, bring_weights, freeze, note_shares
from eyeshot.training.precision import settle_precision
from eyeshot.training.progress import Progress, Silence, TerminalProgress, tell
from eyeshot.training.recipes import Settings
from eyeshot.training.tasks import Task, build_learner, make_task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "OwnNet",
    "Progress",
    "Recipe",
    "Settings",
    "Silence",
    "TerminalProgress",
    "ensemble",
    "train",
]

_PICTURE = 2  # axes of space
_PAUSE, _LONG_PAUSE = 10.0, 60.0  # a U-Net's checkpoint is a hundred times a digit network's


def train(
    source: str | Path | Data | Pairs,
    *,
    task: str | None = None,
    folder: str | Path | None = None,
    size: tuple[int, int] | None = None,
    crop: tuple[int, ...] | None = None,
    dims: int | None = None,
    validation: int | None = None,
    folds: int | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    model: str | None = None,
    model_arguments: Mapping[str, int | str] | None = None,
    net: nn.Module | OwnNet | None = None,
    start: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool | Progress = True,
    checkpoint_seconds: float | None = None,
    log: str | Sequence[str] | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Train a network on pictures and their answers, and write a run folder.

    The same arguments on the same machine give the same weights, bit for bit, however often the
    training was killed and resumed. The global random generators do not change.

    Args:
        source: "digits", "mnist", a folder of classes or of pairs, or data that is already loaded.
        task: "classify" tells classes of pictures apart (the default); "segment" learns masks
            (``image/`` and ``label/``), "restore" pictures (``image/`` and ``target/``), both from
            crops, and judged after each epoch on whole pictures by :func:`eyeshot.run`; "generate"
            learns to make pictures like those of the source from random numbers.
        folder: where the files of "mnist" are.
        size: (height, width) to resize a folder's pictures to.
        crop: (height, width) for pairs; by default half of each crop is free of border effects.
        dims: the number of spatial axes of pairs: 2 for pictures; 3 for volumes (``.npy``, Zarr or
            stacks of TIFF); 1 for signals (``.npy`` or ``.wav``).
        validation: how many pairs are set aside if the folder has no such part; default 1 in 5.
        folds: train this many networks, each with another part of the folder set aside, in
            ``out/fold-1`` and so on: every picture is set aside once. ``out`` is then the run of
            their ensemble, and ``out/summary.json`` has mean and deviation of the figures.
        skip_damaged: leave out files of a folder that cannot be read, and say which.
        layout: where pictures and masks are in a folder of pairs, if its names do not say so.
        model: a name in :data:`eyeshot.nets.NAMES`; by default "digit_cnn", and of pairs "unet".
        model_arguments: the network's arguments, such as ``{"width": 32}``.
        net: a network of your own in place of ``model``. A copy of it is trained, starting from its
            weights.
        start: a run folder or a file of weights to begin with. Weights are
            used if name and shape match; a note lists the others, such as the last layer if the
            classes differ.
        out: the run folder; by default ``runs/<data>-<model>-seed<seed>``.
        resume: continue a stopped training with the same settings.
        force: delete an earlier run in ``out``.
        progress: show a bar on standard error, or report to a :class:`Progress`.
        checkpoint_seconds: seconds between checkpoints; default 10, for pairs 60.
        log: "tensorboard", "mlflow" or "wandb", or several of them: write each epoch's figures
            there too, in ``out/logs``.
        **settings: see :class:`eyeshot.runs.Recipe`; the rest depends on the model and the data.

    Returns:
        The run, loaded: of classes with the last weights, of pairs with those of the epoch that did
        best on the pictures set aside (highest mean Dice, or PSNR). With ``folds`` the ensemble of
        all, or the fold that the file ``STOP`` ended.

    Raises:
        UnknownName: there is no such task, data set, model, argument or setting.
        BadValue: a setting is out of range or makes no sense for the task, ``out`` holds a run
            already, or ``resume`` with other settings than those the run was started with.
        BadFile: a file of the data or of the run cannot be read.
        Failure: the loss is not a number, or the disk is full.
    """
    if resume and force:
        raise BadValue("resume and force together", cure="go on with a run, or throw it away")
    if checkpoint_seconds is not None and not checkpoint_seconds >= 0:
        raise BadValue(f"checkpoint_seconds is {checkpoint_seconds}", cure="use 0 or more")
    logs = check_logs(log)
    options = {
        "folder": folder,
        "size": size,
        "crop": crop,
        "dims": dims,
        "validation": validation,
        "skip_damaged": skip_damaged or None,
        "layout": layout,
    }
    own = OwnNet(net) if isinstance(net, nn.Module) else net
    if isinstance(progress, bool):
        progress = TerminalProgress() if progress else Silence()

    def train_one(
        place: Path | None, fold: tuple[int, int] | None, resume: bool, force: bool
    ) -> Run:
        asked = ask(source, task, model, model_arguments or {}, options, settings, own, fold)
        return _train_one(asked, start, place, resume, force, progress, checkpoint_seconds, logs)

    if folds is None:
        return train_one(None if out is None else Path(out), None, resume, force)
    count = check_folds(folds, source, task, validation, settings)
    if out is None:
        out = choose_folds_folder(str(source), task, own.name if own else model, count, settings)
    return train_folds(train_one, count, Path(out), resume=resume, force=force, say=progress.say)


def _train_one(
    asked: Request,
    start: str | Path | None,
    out: Path | None,
    resume: bool,
    force: bool,
    progress: Progress,
    checkpoint_seconds: float | None,
    logs: tuple[str, ...],
) -> Run:
    config, data = settle(asked)
    own = asked.own
    if start is not None:
        config = replace(config, start=str(Path(start).resolve()))
        if config.held_out is not None:
            note = check_start(Path(start), config, data)
            if note is not None:
                progress.say(note)
    elif config.recipe.backbone_rate:
        raise BadValue(
            "--backbone-lr (backbone_rate) without weights to start from",
            cure="name them with --from (start)",
        )
    for note in tell(config, data, own):
        progress.say(note)
    if own is not None:
        config = replace(config, own=own.describe(config.size))
        for note in check_behavior(own):
            progress.say(note)
        note = note_shares(own) if config.task in ("classify", "segment") else None
        if note is not None:
            progress.say(note)
    sizes = [config.size]
    if isinstance(data, Pairs):
        geometry = own.geometry if own else geometry_of_named(config)
        sizes = list(make_sampler(data, config.size, geometry, config.recipe.seed).sizes)
    asked_precision = asked.settings.get("precision")
    config = settle_precision(config, own, asked_precision, sizes, progress.say)
    place = choose_folder(config) if out is None else out
    _check_place(place, config, asked.source, start, force)
    with torch_state_restored(), freed_memory_kept():
        fabric = make_fabric(config.recipe)
        with hold(place) if fabric.is_global_zero else nullcontext():
            _run(
                config, data, place, fabric, progress, resume, force, checkpoint_seconds, own, logs
            )
            return load(place)


def _check_place(
    place: Path, config: RunConfig, source: object, start: str | Path | None, force: bool
) -> None:
    """Refuse a run folder among the pictures, or in place of the weights to start with.

    Raises:
        BadValue: it is one of these.
    """
    here = place.resolve()
    folder = isinstance(source, str | Path) and source not in SOURCES
    if folder and config.task in ("classify", "generate") and here.is_relative_to(config.data):
        raise BadValue(
            f"{place}: is inside {config.data}, whose folders are read as pictures",
            cure="name another folder with --out",
        )
    if force and start is not None and Path(start).resolve().is_relative_to(here):
        raise BadValue(
            f"{place}: holds the weights to start with, and would be deleted",
            cure="name another folder with --out",
        )


def _run(
    config: RunConfig,
    data: Data | Pairs,
    place: Path,
    fabric: Fabric,
    progress: Progress,
    resume: bool,
    force: bool,
    checkpoint_seconds: float | None,
    own: OwnNet | None,
    log_names: tuple[str, ...],
) -> None:
    if checkpoint_seconds is None:
        checkpoint_seconds = _PAUSE if isinstance(data, Data) else _LONG_PAUSE
    recipe = config.recipe
    torch.manual_seed(recipe.seed)
    # Channels last: the layout in which CPUs and GPUs convolve and pool fastest.
    net = own.build() if own else build_learner(config)
    memory_format = own.memory_format if own else torch.channels_last
    if len(config.size) == _PICTURE:
        convert_conv2d_weight_memory_format(net, memory_format)
    going_on = resume and (place / LAST / checkpoint.FILE).is_file()
    if going_on:
        config = replace(config, fresh=RunConfig.read(place / CONFIG).fresh)
    elif config.start is not None:
        fresh, note = bring_weights(net, config.start)
        progress.say(note)
        config = replace(config, fresh=" ".join(fresh))
    freeze(net, recipe.freeze)
    average = Average(net, recipe.average) if recipe.average else None
    task: Task = make_task(config, data, own, whole_batches=recipe.devices > 1)
    if not fabric.is_global_zero:
        progress = Silence()  # several devices are several processes; only one of them prints
    elif not prepare(place, config, resume=resume, force=force) and resume:
        progress.say(f"{place}: nothing to go on with; a new training starts")
    if own is not None and fabric.is_global_zero:
        own.write(net, place / PROGRAM)
    fabric.launch()
    fresh_names = None if config.start is None else config.fresh.split()
    model, optimizer = fabric.setup(net, make_optimizer(net, recipe, fresh_names))
    position = Position()
    if average is not None:
        average.net.to(fabric.device)
    if (place / LAST / checkpoint.FILE).is_file():
        position = checkpoint.restore(place / LAST, net, average, optimizer, task.measures)
        _count_patience_from_here(position, config, progress)
        if position.epoch >= recipe.epochs:
            progress.say(f"{place}: this training had finished already")
    logs = open_logs(
        log_names if fabric.is_global_zero else (), place, config, position.rows, progress.say
    )
    training = Training(
        config,
        task,
        place,
        fabric,
        net,
        model,
        optimizer,
        average,
        position,
        progress,
        checkpoint_seconds,
        own,
        logs,
    )
    finished = False
    try:
        training.fit()
        finished = True
    except Stopped:
        pass
    finally:
        progress.finish()
        for one in logs:
            one.close(finished=finished)


def _count_patience_from_here(position: Position, config: RunConfig, progress: Progress) -> None:
    """Where a run kept its last weights so far: from now on those of the best epoch from here."""
    best = config.best
    if best is None or position.best is not None or not position.rows:
        return
    position.best, position.best_epoch = position.rows[-1][best], position.epoch
    if position.epoch > 1:
        progress.say(
            f"the weights of the epochs before {position.epoch} were not kept: the best is chosen "
            "from there on"
        )
