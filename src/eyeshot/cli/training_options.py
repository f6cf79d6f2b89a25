"""The options of ``eyeshot train``, and the conversion of their text to values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from eyeshot.data.pairs.layout import Layout

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
        help="auto, 32-true or bf16-mixed; auto is bf16-mixed for masks and pictures if the "
        "processor has matrix units for bfloat16."
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
        metavar="HxW|DxHxW",
        help="Crop size, height x width; default: large enough that half of each crop is free of "
        "border effects.",
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
