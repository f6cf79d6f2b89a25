"""``eyeshot train`` and ``demo``, with the options of a training as text and as values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli import shared
from eyeshot.cli.shared import console, notes, options_named, print_json, say, spelled_by
from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from eyeshot.data.pairs.layout import Layout
    from eyeshot.data.tree import Checked, Problem
    from eyeshot.runs import Run
    from eyeshot.training import OwnNet, TerminalProgress

_VOLUME = 3  # axes of space
_CLASSES, _PAIRS, _NET = "Learning classes", "Learning masks and pictures", "Network"

Source = Annotated[
    str,
    typer.Argument(metavar="digits|mnist|FOLDER", help="Training data: a data set, or a folder."),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="classify|segment|restore|generate",
        show_default="classify",
        help="The output: a class for the picture, a class for each pixel, a picture, or a picture "
        "from random numbers.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the pictures, or periods of --steps.")
]
BatchSize = Annotated[int | None, typer.Option(help="Pictures or crops per step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")]
Decay = Annotated[float | None, typer.Option(help="AdamW's weight decay.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Devices = Annotated[int, typer.Option(help="Number of devices.")]
Precision = Annotated[
    str,
    typer.Option(
        help="auto, 32-true or bf16-mixed; auto is bf16-mixed for a network with a name if the "
        "processor has units for bfloat16."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="The run folder; default: runs/DATA-MODEL-seedN."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a stopped run.")]
Force = Annotated[bool, typer.Option("--force", help="Delete an existing run.")]
Pause = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Seconds between checkpoints.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the final figures as JSON.")]

Log = Annotated[
    str | None,
    typer.Option(
        metavar="tensorboard|mlflow|wandb",
        help="Log each epoch's figures there too, in the folder logs of the run.",
    ),
]

DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Folder of the MNIST files.", rich_help_panel=_CLASSES
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="HxW", help="Resize pictures to height x width.", rich_help_panel=_CLASSES
    ),
]
Smoothing = Annotated[
    float | None,
    typer.Option(help="Label smoothing, 0 to 1.", rich_help_panel=_CLASSES),
]
Shift = Annotated[
    int | None,
    typer.Option(
        help="Shift training pictures at random by up to this many pixels.",
        rich_help_panel=_CLASSES,
    ),
]

Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="List all problems of the folder, and do not train.",
        rich_help_panel=_PAIRS,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="HxW|DxHxW|N",
        help="Crop size: height x width of pictures, depth x height x width of volumes, the length "
        "of signals; N is the same along each axis. Default: so large that half of each crop, of "
        "volumes an eighth, is free of border effects.",
        rich_help_panel=_PAIRS,
    ),
]
Dims = Annotated[
    int | None,
    typer.Option(
        metavar="1|2|3",
        show_default="2",
        help="Axes of space: 3 for volumes (.npy, .zarr, TIFF stacks), 1 for signals (.npy, .wav).",
        rich_help_panel=_PAIRS,
    ),
]
Validation = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Number of pairs set aside for validation; default: one in five.",
        rich_help_panel=_PAIRS,
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=2,
        help="Train N networks, each with another part of the folder set aside, and their "
        "ensemble.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Batches per epoch; each epoch ends with a validation on whole pictures.",
        rich_help_panel=_PAIRS,
    ),
]
Augment = Annotated[
    str | None,
    typer.Option(
        metavar="KINDS|none",
        help="A list from flips,turns,elastic,intensity, separated by commas.",
        rich_help_panel=_PAIRS,
    ),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        metavar="none|balanced|A,B,…",
        help="Weight of each class in the cross-entropy; default: none.",
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(metavar="l1|mse", help="Loss of --task restore.", rich_help_panel=_PAIRS),
]

SkipDamaged = Annotated[
    bool,
    typer.Option("--skip-damaged", help="Skip unreadable files, and list them."),
]
Images = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the pictures; default: recognized by its name.",
        rich_help_panel=_PAIRS,
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Folder of the masks, or of the target pictures.",
        rich_help_panel=_PAIRS,
    ),
]
MaskSuffix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Text at the end of a mask's name, after its picture's name, such as _mask.",
        rich_help_panel=_PAIRS,
    ),
]
Threshold = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Make masks binary: foreground is this gray value or more.",
        rich_help_panel=_PAIRS,
    ),
]
JudgedFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Test on this folder; default: the test part of the run's data."
    ),
]
JudgedPart = Annotated[
    str | None,
    typer.Option(
        metavar="train|val|test|all",
        help="The part of the folder to test on; default: test if it exists, else val.",
    ),
]

Model = Annotated[
    str | None,
    typer.Option(
        help="digit_cnn, or small_vgg (more accurate, slower); for masks and pictures: unet; to "
        "generate pictures: generator.",
        rich_help_panel=_NET,
    ),
]
Net = Annotated[
    str | None,
    typer.Option(
        "--net",
        metavar="FILE.py:CLASS",
        help="Your own network instead of --model: file.py:Class or package.module:callable.",
        rich_help_panel=_NET,
    ),
]
NetArguments = Annotated[
    str | None,
    typer.Option(
        "--net-args",
        metavar="JSON",
        help="Arguments of --net, such as '{\"width\": 32}'.",
        rich_help_panel=_NET,
    ),
]
_TUNING = "Weights that are there"
Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN|FILE",
        help="Begin with the weights of a run folder or a .safetensors, .pt, .pth or .ckpt file.",
        rich_help_panel=_TUNING,
    ),
]
Freeze = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Layers that do not learn, such as 'down*'; several with commas.",
        rich_help_panel=_TUNING,
    ),
]
BackboneRate = Annotated[
    float | None,
    typer.Option(
        "--backbone-lr",
        help="The highest learning rate of the weights of --from; default: that of --lr.",
        rich_help_panel=_TUNING,
    ),
]
Minutes = Annotated[
    float | None, typer.Option(help="End after so many minutes of steps, if epochs are left.")
]
Patience = Annotated[
    int | None, typer.Option(metavar="N", help="End after N epochs without a better one.")
]
Width = Annotated[
    int | None,
    typer.Option(
        help="Channels of a classifier's first layer, or before a generator's last.",
        rich_help_panel=_NET,
    ),
]
Latent = Annotated[
    int | None,
    typer.Option(
        help="Number of random inputs of a generator; default: 64.",
        rich_help_panel=_NET,
    ),
]
Base = Annotated[
    int | None,
    typer.Option(help="Channels of a unet's first layer; default: 16.", rich_help_panel=_NET),
]
Depth = Annotated[
    int | None, typer.Option(help="Number of times that the map is halved.", rich_help_panel=_NET)
]
Up = Annotated[
    str | None,
    typer.Option(
        metavar="transpose|nearest|bilinear",
        help="How a unet or a generator enlarges its maps.",
        rich_help_panel=_NET,
    ),
]
Flat = Annotated[
    int | None,
    typer.Option(
        help="Levels of a unet over volumes that halve height and width alone; else 0.",
        rich_help_panel=_NET,
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(metavar="batch|none", help="Normalization in a unet.", rich_help_panel=_NET),
]
Padding = Annotated[
    str | None,
    typer.Option(
        metavar="same|valid",
        help="valid: a unet without padding; its output is smaller than the picture.",
        rich_help_panel=_NET,
    ),
]


def make_layout(
    images: str | None, masks: str | None, mask_suffix: str | None, threshold: int | None
) -> Layout | None:
    """The places of pictures and masks from the options; None if no option is set.

    Raises:
        BadValue: the threshold is out of range.
    """
    from eyeshot.data.pairs.layout import Layout

    if all(said is None for said in (images, masks, mask_suffix, threshold)):
        return None
    if threshold is not None and threshold < 1:
        raise BadValue(f"--threshold is {threshold}", cure="use 1 or more, such as 128")
    return Layout(images or "", masks or "", mask_suffix or "", threshold or 0)


def parse_arguments(text: str | None) -> dict[str, Any]:
    """The arguments of a network, from JSON.

    Raises:
        BadValue: it is not a JSON object.
    """
    try:
        arguments = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise BadValue(f"--net-args is {text!r}", cure="give names and values: '{\"width\": 32}'")
    return arguments


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """ "64x48" as (64, 48), height before width; "64" as (64, 64).

    Raises:
        BadValue: it is neither.
    """
    parts = text.lower().replace("×", "x").split("x")
    if not (1 <= len(parts) <= 2 and all(part.isascii() and part.isdigit() for part in parts)):
        raise BadValue(f"{option} is {text!r}", cure="give height x width in pixels, such as 64x48")
    height, width = int(parts[0]), int(parts[-1])
    return height, width


def parse_crop(text: str, dims: int | None = None) -> tuple[int, ...]:
    """ "64x48" as (64, 48), "16x64x64" as (16, 64, 64); "64" as 64 along each axis of the data.

    Raises:
        BadValue: it is none of those.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) == 1 and dims in (1, _VOLUME) and text.isascii() and text.isdigit():
        return (int(text),) * dims
    if len(parts) == _VOLUME and all(part.isascii() and part.isdigit() for part in parts):
        return tuple(map(int, parts))
    return parse_size(text, "--crop")


def parse_weights(text: str | None) -> str | Sequence[float] | None:
    """ "1,2.5" as numbers; "none", "balanced" and None unchanged.

    Raises:
        BadValue: it is something else.
    """
    if text is None or text in ("none", "balanced"):
        return text
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) < 2:
        raise BadValue(
            f"--class-weights is {text!r}",
            cure="give none, balanced, or a number for each class: 1,2.5",
        )
    return weights


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
    source: Source,
    task: Task = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    weight_decay: Decay = None,
    seed: Seed = 0,
    device: Device = "auto",
    devices: Devices = 1,
    precision: Precision = "auto",
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    checkpoint_seconds: Pause = None,
    log: Log = None,
    json: Json = False,
    data: DataFolder = None,
    size: Size = None,
    label_smoothing: Smoothing = None,
    shift: Shift = None,
    check: Check = False,
    skip_damaged: SkipDamaged = False,
    images: Images = None,
    masks: Masks = None,
    mask_suffix: MaskSuffix = None,
    threshold: Threshold = None,
    crop: Crop = None,
    dims: Dims = None,
    validation: Validation = None,
    folds: Folds = None,
    steps: Steps = None,
    augment: Augment = None,
    class_weights: ClassWeights = None,
    loss: Loss = None,
    model: Model = None,
    minutes: Minutes = None,
    patience: Patience = None,
    start: Start = None,
    freeze: Freeze = None,
    backbone_rate: BackboneRate = None,
    net: Net = None,
    net_arguments: NetArguments = None,
    width: Width = None,
    base: Base = None,
    depth: Depth = None,
    up: Up = None,
    norm: Norm = None,
    padding: Padding = None,
    latent: Latent = None,
    flat: Flat = None,
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
    from eyeshot.language import counted

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
