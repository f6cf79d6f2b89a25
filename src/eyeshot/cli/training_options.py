"""The options of ``eyeshot train``, and how their words become values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from eyeshot.data.pairs.layout import Layout

_CLASSES, _PAIRS, _NET = "Learning classes", "Learning masks and pictures", "Network"

Source = Annotated[
    str,
    typer.Argument(
        metavar="digits|mnist|FOLDER", help="What to learn; a folder of classes or of pairs."
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="classify|segment|restore|generate",
        show_default="classify",
        help="A class for a picture, a class for each pixel, a picture for a picture, or a picture "
        "from random numbers.",
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the pictures, or spans of --steps.")]
BatchSize = Annotated[int | None, typer.Option(help="Pictures or crops a step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")]
Decay = Annotated[float | None, typer.Option(help="AdamW's weight decay.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Devices = Annotated[int, typer.Option(help="How many of them.")]
Precision = Annotated[
    str,
    typer.Option(
        help="auto, 32-true or bf16-mixed; auto is bf16-mixed for masks and pictures where the "
        "processor has units for it."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="The run folder; else runs/DATA-MODEL-seedN."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")]
Force = Annotated[bool, typer.Option("--force", help="Throw an earlier run away.")]
Pause = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Seconds between checkpoints.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the final figures as JSON.")]

DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Where the files of mnist lie.", rich_help_panel=_CLASSES
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
        help="Move pictures by up to so many pixels while training.", rich_help_panel=_CLASSES
    ),
]

Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="List everything that is wrong with the folder, and do not train.",
        rich_help_panel=_PAIRS,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Crop size, height x width; default: large enough that half of each crop is free of "
        "border effects.",
        rich_help_panel=_PAIRS,
    ),
]
Validation = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Set so many pairs aside; else one in five.", rich_help_panel=_PAIRS
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Batches an epoch, after which whole pictures are judged.", rich_help_panel=_PAIRS
    ),
]
Augment = Annotated[
    str | None,
    typer.Option(
        metavar="KINDS|none",
        help="flips,turns,elastic,intensity: some of them, with commas.",
        rich_help_panel=_PAIRS,
    ),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        metavar="none|balanced|A,B,…",
        help="Weight of each class in the cross-entropy, of pictures or pixels; default: none.",
    ),
]
Loss = Annotated[
    str | None, typer.Option(metavar="l1|mse", help="Of --task restore.", rich_help_panel=_PAIRS)
]

SkipDamaged = Annotated[
    bool,
    typer.Option("--skip-damaged", help="Leave out files that cannot be read, and name them."),
]
Images = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the pictures; default: recognised by its name.",
        rich_help_panel=_PAIRS,
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Folder of the masks, or of the pictures to be made.",
        rich_help_panel=_PAIRS,
    ),
]
MaskSuffix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="End of a mask's name that its picture's lacks, such as _mask.",
        rich_help_panel=_PAIRS,
    ),
]
Threshold = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Make masks two-valued: foreground from this grey value on.",
        rich_help_panel=_PAIRS,
    ),
]
JudgedFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Test on this folder; default: what the run's own data set aside."
    ),
]
JudgedPart = Annotated[
    str | None,
    typer.Option(
        metavar="train|val|test|all",
        help="Which part of a folder with parts is judged; default: test, or else val.",
    ),
]

Model = Annotated[
    str | None,
    typer.Option(
        help="digit_cnn, or small_vgg: more accurate, slower; for masks and pictures unet; to "
        "make pictures generator.",
        rich_help_panel=_NET,
    ),
]
Net = Annotated[
    str | None,
    typer.Option(
        "--net",
        metavar="FILE.py:CLASS",
        help="A network of your own in place of --model: file.py:Class or package.module:callable.",
        rich_help_panel=_NET,
    ),
]
NetArguments = Annotated[
    str | None,
    typer.Option(
        "--net-args",
        metavar="JSON",
        help="Its arguments, such as '{\"width\": 32}'.",
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
        help="Random numbers that a generator makes a picture from; else 64.",
        rich_help_panel=_NET,
    ),
]
Base = Annotated[
    int | None,
    typer.Option(help="Channels of a unet's first layer; else 16.", rich_help_panel=_NET),
]
Depth = Annotated[
    int | None, typer.Option(help="How many times the map is halved.", rich_help_panel=_NET)
]
Up = Annotated[
    str | None,
    typer.Option(
        metavar="transpose|nearest|bilinear",
        help="How a unet or a generator enlarges its maps.",
        rich_help_panel=_NET,
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(metavar="batch|none", help="Normalisation in a unet.", rich_help_panel=_NET),
]
Padding = Annotated[
    str | None,
    typer.Option(
        metavar="same|valid",
        help="valid: a unet without padding, whose answer is smaller than the picture.",
        rich_help_panel=_NET,
    ),
]


def make_layout(
    images: str | None, masks: str | None, mask_suffix: str | None, threshold: int | None
) -> Layout | None:
    """Where pictures and masks are, as the options say; None where they say nothing.

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
        BadValue: it is no object of JSON.
    """
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadValue(f"--net-args is {text!r}", cure="give names and values: '{\"width\": 32}'")
    return found


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


def parse_weights(text: str | None) -> str | Sequence[float] | None:
    """ "1,2.5" as numbers; "none", "balanced", and nothing, as they are.

    Raises:
        BadValue: it is none of those.
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
