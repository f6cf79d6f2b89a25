"""From pictures to a trained network in a run folder; public as :func:`eyeshot.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from eyeshot.data import Data
from eyeshot.data import load as load_data
from eyeshot.runs import LAST, Recipe, Run, RunConfig, build_net, load
from eyeshot.training import checkpoint
from eyeshot.training.checkpoint import Position
from eyeshot.training.configuration import choose_folder, describe
from eyeshot.training.fabric import make_fabric, torch_state_kept
from eyeshot.training.folder import prepare
from eyeshot.training.loop import Training
from eyeshot.training.optimization import Average, make_optimizer
from eyeshot.training.progress import Progress, Silence, TerminalProgress
from eyeshot.training.recipes import Settings

__all__ = ["Progress", "Recipe", "Settings", "Silence", "TerminalProgress", "train"]


def train(
    source: str | Path | Data,
    *,
    folder: str | Path | None = None,
    size: tuple[int, int] | None = None,
    model: str = "digit_cnn",
    model_arguments: dict[str, int] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool | Progress = True,
    checkpoint_seconds: float = 10.0,
    **settings: Unpack[Settings],
) -> Run:
    """Train a network to tell classes of pictures apart, and leave a run folder.

    The same arguments on the same machine give the same weights, bit for bit, however often the
    training was killed and resumed. The caller's random numbers are not used up.

    Args:
        source: "digits", "mnist", a folder of classes, or data that is already loaded.
        folder: where the files of "mnist" are.
        size: (height, width) to resize a folder's pictures to.
        model: a name in :data:`eyeshot.nets.NAMES`.
        model_arguments: of the network, such as ``{"width": 32}``.
        out: the run folder; by default ``runs/<data>-<model>-seed<seed>``.
        resume: go on where a stopped training of the same settings left off.
        force: throw away an earlier run in ``out``.
        progress: show a bar on standard error, or be told through a :class:`Progress`.
        checkpoint_seconds: a stopped training loses at most so much.
        **settings: epochs, batch_size, learning_rate, seed …: see :class:`eyeshot.runs.Recipe`.
            What is left out depends on the model and the size of the training set.

    Returns:
        The run, loaded from its folder.

    Raises:
        UnknownName: there is no such data set, model, argument or setting.
        BadValue: a setting is out of range, ``out`` holds a run already, or ``resume`` with other
            settings than those the run was started with.
        BadFile: a file of the data or of the run cannot be read.
        Failure: the loss is not a number, or the disk is full.
    """
    data = (
        source if isinstance(source, Data) else load_data(source, folder=_path(folder), size=size)
    )
    config = describe(source, data, _path(folder), model, model_arguments or {}, settings)
    place = Path(out) if out is not None else choose_folder(config)
    shown = progress if not isinstance(progress, bool) else _default_progress(progress)
    with torch_state_kept():
        _run(config, data, place, shown, resume, force, checkpoint_seconds)
    return load(place)


def _run(
    config: RunConfig,
    data: Data,
    place: Path,
    progress: Progress,
    resume: bool,
    force: bool,
    checkpoint_seconds: float,
) -> None:
    recipe = config.recipe
    torch.manual_seed(recipe.seed)
    # Channels last: the layout in which CPUs and GPUs convolve and pool fastest.
    net = build_net(config)
    convert_conv2d_weight_memory_format(net, torch.channels_last)
    average = Average(net, recipe.average) if recipe.average else None
    fabric = make_fabric(recipe)
    if fabric.is_global_zero:
        prepare(place, config, resume=resume, force=force)
    else:
        progress = Silence()  # several devices are several processes; one of them speaks
    fabric.launch()
    model, optimizer = fabric.setup(net, make_optimizer(net, recipe))
    position = Position()
    if average is not None:
        average.net.to(fabric.device)
    if (place / LAST / checkpoint.FILE).is_file():
        position = checkpoint.restore(place / LAST, net, average, optimizer)
    training = Training(
        config,
        data,
        place,
        fabric,
        net,
        model,
        optimizer,
        average,
        position,
        progress,
        checkpoint_seconds,
    )
    try:
        training.fit()
    finally:
        progress.finish()


def _default_progress(wanted: bool) -> Progress:
    return TerminalProgress() if wanted else Silence()


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)
