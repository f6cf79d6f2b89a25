"""``eyeshot train`` and ``demo``: train a network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli import shared
from eyeshot.cli import training_options as options
from eyeshot.cli.shared import console, notes, options_named, print_json, say, spelled_by
from eyeshot.cli.training_options import (
    make_layout,
    parse_arguments,
    parse_crop,
    parse_size,
    parse_weights,
)
from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from eyeshot.data.tree import Checked, Problem
    from eyeshot.runs import Run
    from eyeshot.training import OwnNet, TerminalProgress

_DEMO_EXAMPLES = """
[b]Examples[/b]

eyeshot demo

eyeshot demo --out /tmp/first-look

eyeshot demo --lang zh
"""


def register_demo(app: typer.Typer) -> None:
    """Add the command ``demo`` to ``app``."""
    app.command("demo", epilog=_DEMO_EXAMPLES)(show_demo)


def show_demo(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="A new folder, or the folder of an earlier demo."
        ),
    ] = Path("demo"),
    lang: shared.Language = "en",
) -> None:
    """Train a network on handwritten digits, use it, and show its insides, in about a minute."""
    from eyeshot.demo import run_demo

    run_demo(out, say=lambda line: console.print(line, soft_wrap=True, markup=False))


_TRAIN_EXAMPLES = """
[b]Examples[/b]

eyeshot train digits

eyeshot train mnist --data ~/mnist --model small_vgg --seed 1 --out runs/best

eyeshot train photos/ --size 64x64 --epochs 20

eyeshot train cells/ --task segment --check

eyeshot train cells/ --task segment --validation 4 -o runs/cells

eyeshot train noisy/ --task restore --loss l1 --crop 256

eyeshot train digits --task generate

eyeshot train scans/ --task segment --dims 3 --flat 1

eyeshot train cells/ --task segment --validation 4 -o runs/cells --resume

eyeshot train photos/ --from runs/old --freeze 'features*' --minutes 10

eyeshot train cells/ --task segment --log tensorboard -o runs/cells

eyeshot train cells/ --task segment --folds 5 -o runs/cells

eyeshot train cells/ --task segment --net my_net.py:Net --net-args '{"width": 32}'

A folder of pairs contains image/ and label/ with the same file names, or train/ and val/ with both;
with --task restore, target/ replaces label/. Other common names also work; for any other folders,
use --images and --masks. After a stop, even by kill -9, the same command with --resume continues
the training and gives the same weights to the bit.
"""


# Of the options below: those of the network, and those that go on to the training as they are.
_NETWORK = ("width", "base", "depth", "up", "norm", "padding", "latent", "flat")
_PASSED_ON = (
    *("task", "model", "out", "resume", "force", "checkpoint_seconds", "log"),
    *("validation", "folds", "dims", "skip_damaged"),
    *("epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "shift", "steps"),
    *("start", "freeze", "backbone_rate", "minutes", "patience"),
    *("augment", "loss", "seed", "device", "devices", "precision"),
)


def register_train(app: typer.Typer) -> None:
    """Add the command ``train`` to ``app``."""
    app.command("train", epilog=_TRAIN_EXAMPLES)(train_network)


def train_network(
    context: typer.Context,
    source: options.Source,
    task: options.Task = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.Rate = None,
    weight_decay: options.Decay = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    precision: options.Precision = "auto",
    out: options.Out = None,
    resume: options.Resume = False,
    force: options.Force = False,
    checkpoint_seconds: options.Pause = None,
    log: options.Log = None,
    json: options.Json = False,
    data: options.DataFolder = None,
    size: options.Size = None,
    label_smoothing: options.Smoothing = None,
    shift: options.Shift = None,
    check: options.Check = False,
    skip_damaged: options.SkipDamaged = False,
    images: options.Images = None,
    masks: options.Masks = None,
    mask_suffix: options.MaskSuffix = None,
    threshold: options.Threshold = None,
    crop: options.Crop = None,
    dims: options.Dims = None,
    validation: options.Validation = None,
    folds: options.Folds = None,
    steps: options.Steps = None,
    augment: options.Augment = None,
    class_weights: options.ClassWeights = None,
    loss: options.Loss = None,
    model: options.Model = None,
    minutes: options.Minutes = None,
    patience: options.Patience = None,
    start: options.Start = None,
    freeze: options.Freeze = None,
    backbone_rate: options.BackboneRate = None,
    net: options.Net = None,
    net_arguments: options.NetArguments = None,
    width: options.Width = None,
    base: options.Base = None,
    depth: options.Depth = None,
    up: options.Up = None,
    norm: options.Norm = None,
    padding: options.Padding = None,
    latent: options.Latent = None,
    flat: options.Flat = None,
) -> None:
    """Train a network on pictures with classes, masks or targets; save a run folder."""
    said = context.params
    if check:
        _check(said)
        return
    if width is not None and task in ("segment", "restore"):
        raise BadValue(
            f"--width is for classifiers, and the task is {task}", cure="a unet has --base"
        )
    if net_arguments is not None and net is None:
        raise BadValue("--net-args without --net", cure="give the network, such as my_net.py:Net")
    from eyeshot.training import TerminalProgress, train

    progress = TerminalProgress()
    with options_named({**spelled_by(context), "folder": "--data"}):
        run = train(
            source,
            size=None if size is None else parse_size(size),
            crop=None if crop is None else parse_crop(crop, dims),
            model_arguments={name: said[name] for name in _NETWORK if said[name] is not None},
            folder=data,
            layout=make_layout(images, masks, mask_suffix, threshold),
            net=None if net is None else _own_net(net, net_arguments, seed),
            progress=progress,
            **{name: said[name] for name in _PASSED_ON},
            class_weights=parse_weights(class_weights),
        )
    if int(os.environ.get("LOCAL_RANK", "0")):
        return  # one of several processes, one for each device: only the first prints
    if folds is None or not run.finished:
        _tell(run, progress, json)
    else:
        _tell_folds(run, json)


def _own_net(where: str, arguments: str | None, seed: int) -> OwnNet:
    """The network named by ``where``, with initial weights drawn from the seed."""
    import torch

    from eyeshot.inspection.locating import make_network
    from eyeshot.training import OwnNet
    from eyeshot.training.chance import generators_restored, seed_everything

    parsed = parse_arguments(arguments)
    with generators_restored():
        if 0 <= seed < 2**63:  # another seed is refused later, where all settings are checked
            seed_everything(torch.device("cpu"), (seed,))
            torch.manual_seed(seed)
        made = make_network(where, say, parsed)
    return OwnNet(made, where, dumps(parsed, sort_keys=True) if parsed else "")


def _check(said: dict[str, Any]) -> None:
    """Print all problems and notes of a folder; exit with 2 if there is a problem."""
    from eyeshot.findings.wording import counted

    source = said["source"]
    checked = _look(said)
    if said["json"]:
        found = [
            {"path": str(one.path), "message": one.message, "cure": one.cure}
            for one in checked.problems
        ]
        print_json({"folder": source, "problems": found, "notes": list(checked.notes)})
    for line in _grouped(checked.problems) if not said["json"] else ():
        console.print(line, soft_wrap=True, markup=False)
    for note in checked.notes:
        notes.print(note, soft_wrap=True, markup=False)
    problems = checked.problems
    if problems:
        notes.print(f"{source}: {counted(len(problems), 'problem')}", soft_wrap=True, markup=False)
        raise typer.Exit(2)
    notes.print(f"{source}: nothing is wrong with it", soft_wrap=True, markup=False)


_ALIKE = 10  # problems of one kind that are printed; --json has all


def _grouped(problems: Sequence[Problem]) -> Iterator[str]:
    """A line for each problem; many problems with the same cure are shortened to the first ones."""
    alike: dict[str, list[Problem]] = {}
    for one in problems:
        alike.setdefault(one.cure, []).append(one)
    for group in alike.values():
        yield from map(str, group[:_ALIKE])
        if len(group) > _ALIKE:
            yield f"and {len(group) - _ALIKE:,} more with the same cure; --json lists all"


def _look(said: dict[str, Any]) -> Checked:
    """The contents and the problems of the folder ``source``."""
    from eyeshot.data import SOURCES
    from eyeshot.data.examples import TerminalProgress
    from eyeshot.data.folder import check_folder
    from eyeshot.data.pairs.loading import inspect_pairs
    from eyeshot.training.options import choose_task

    source, skip = said["source"], said["skip_damaged"]
    if source in SOURCES:
        raise BadValue(
            f"--check is for folders, and {source} is a built-in data set", cure="train it"
        )
    task = choose_task(source, said["task"])
    if task != "classify":
        named = (said[name] for name in ("images", "masks", "mask_suffix", "threshold"))
        layout = make_layout(*named)
        return inspect_pairs(
            source,
            task=task,
            validation=said["validation"],
            skip_damaged=skip,
            layout=layout,
            dims=said["dims"] or 2,
        )
    size = None if said["size"] is None else parse_size(said["size"])
    progress = TerminalProgress()
    return check_folder(Path(source), size=size, seed=0, progress=progress, skip_damaged=skip)


def _tell_folds(run: Run, json: bool) -> None:
    """Print mean and deviation of the folds' figures, and the run folder of the ensemble."""
    from eyeshot.training.folds import read_summary

    summary = read_summary(run.path)
    for line in summary.lines:
        notes.print(line, soft_wrap=True, markup=False)
    if json:
        print_json({"run": str(run.path), **summary.to_dict()})
    else:
        console.print(str(run.path), soft_wrap=True)


def _tell(run: Run, progress: TerminalProgress, json: bool) -> None:
    """Write the report, and print the run folder or the figures."""
    from eyeshot.report import write_report

    if not run.finished:
        console.print(str(run.path), soft_wrap=True)
        return
    notes.print(f"saved; the report: {write_report(run)}", soft_wrap=True, markup=False)
    if json:
        rows, best = progress.rows, run.config.best
        shown = rows[-1] if best is None else max(rows, key=lambda row: row[best])
        print_json({"run": str(run.path), "figures": shown, "last": rows[-1]})
    else:
        console.print(str(run.path), soft_wrap=True)
