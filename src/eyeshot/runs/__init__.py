"""A run folder: the result of a training, and the input of all later commands.

::

    runs/digits-digit_cnn-seed0/
      config.yaml         everything needed to repeat the run
      net.pt2             the program of a user's own network
      model.safetensors   the trained weights; for crops, those that are best on whole pictures
      last.safetensors    for crops, the weights of the last step
      last/               the checkpoint for resuming
      metrics.csv         a row for each epoch
  samples/            of a generator, pictures of the same latents after each epoch
      report.html         the run on one page
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot import images, nets
from eyeshot.array_likes import as_array, has_alpha, is_pillow
from eyeshot.data import prepare_picture
from eyeshot.errors import BadFile, BadValue, EyeshotError, UnknownName, shorten
from eyeshot.frontends.programs import as_module
from eyeshot.frontends.pt2 import read_program
from eyeshot.images.layouts import Index
from eyeshot.images.whole import SCALE_FIRST, note_dark, notes_on
from eyeshot.language import tr
from eyeshot.runs.config import TASKS, NetSource, Recipe, RunConfig, normalize, score
from eyeshot.runs.weight_files import (
    fingerprint,
    load_weights,
    read_tensors,
    save_tensors,
    take_weights,
)

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "TASKS",
    "NetSource",
    "Recipe",
    "Run",
    "RunConfig",
    "build_net",
    "fingerprint",
    "load",
    "load_weights",
    "normalize",
    "read_tensors",
    "save_tensors",
    "score",
    "take_weights",
    "weights_standing",
]

CONFIG, WEIGHTS, METRICS, LAST = "config.yaml", "model.safetensors", "metrics.csv", "last"
LAST_WEIGHTS, PROGRAM, SAMPLES = "last.safetensors", "net.pt2", "samples"


@dataclass(frozen=True)
class Run:
    """A trained network with what it needs to be used.

    ``net`` is in eval mode on the CPU and takes what :meth:`normalize` returns. ``epoch`` is the
    epoch of its weights, from 1, if it is known; ``finished`` is False while the training goes on,
    or after it was stopped.
    """

    path: Path
    config: RunConfig
    net: nn.Module
    epoch: int | None = None
    finished: bool = True

    @property
    def standing(self) -> str:
        """A note on the weights of a training that has not finished; else ""."""
        if self.finished:
            return ""
        return (
            f"{self.path}: the training has not finished; these are the best weights so far, of "
            f"epoch {self.epoch} of {self.config.recipe.epochs}"
        )

    def check_held_out(self) -> None:
        """Refuse a test on the run's own data if the network has learned from all of it.

        Raises:
            BadValue: it is an ensemble of networks that have together learned from all of it.
        """
        if self.config.learned_all:
            raise BadValue(
                f"{self.path}: an ensemble whose networks have learned from all of "
                f"{self.config.data} together",
                cure="name other pictures with --data; summary.json has the figures of each fold",
            )

    def __repr__(self) -> str:
        config = self.config
        return (
            f"Run({str(self.path)!r}, {config.model}, {config.task}, {len(config.classes)} classes)"
        )

    def _repr_html_(self) -> str:
        from eyeshot.pages import Fact, Section, Text, render_piece

        config = self.config
        count = sum(parameter.numel() for parameter in self.net.parameters())
        facts = [
            Fact(config.task, "task"),
            Fact(f"{count:,}", "parameters"),
            Fact("×".join(map(str, (config.channels, *config.size))), "input it was trained on"),
        ]
        if config.classes:
            facts.append(Fact(f"{len(config.classes)}", "classes"))
        names = Text(f"Classes: {', '.join(config.classes)}")
        where = Text(f"Folder: {self.path}")
        parts = [names, where] if config.classes else [where]
        return render_piece(
            f"{config.model} on {Path(config.data).name}",
            facts=facts,
            sections=[Section("run", "", "", parts)],
        )

    def prepare(
        self,
        picture: str | Path | NDArray[Any] | Image.Image,
        *,
        series: int | None = None,
        index: Index | None = None,
    ) -> tuple[Tensor, list[str]]:
        """A user's picture in the form of the training pictures, (1, C, H, W), and a list of steps.

        It is uint8, or uint16 if the picture has more than 8 bits.

        Args:
            picture: a file, a Pillow image, or an array (H, W) or (H, W, C): uint8, uint16, or
                floats 0…1.
            series: which image of a file that holds several, or which frame; None for the first.
            index: positions along the other axes of a stack in a file, such as ``"Z=3"``.

        Raises:
            BadFile: not a picture.
            BadValue: a blank picture, or an array of another shape or type.
        """
        is_file = isinstance(picture, str | os.PathLike)
        if isinstance(picture, str | os.PathLike):
            read = images.read_picture(Path(picture), series=series, index=index)
        elif is_pillow(picture):
            read = images.Picture(as_array(picture), has_alpha(picture), notes_on(picture))
        else:
            read = images.Picture(as_array(picture), alpha=True)
        config = self.config
        try:
            pixels, notes = prepare_picture(
                read.samples,
                channels=config.channels,
                size=config.picture_size,
                digit=config.reads_digits,
                alpha=read.alpha,
            )
        except EyeshotError as error:
            raise error.at(str(picture) if is_file else "array") from None
        if not config.reads_digits and pixels.dtype == np.uint16:
            dark = note_dark(int(pixels.max()), pixels.dtype, config.mean, SCALE_FIRST)
            notes += [] if dark is None else [dark]
        return torch.from_numpy(pixels.copy())[None], [*read.notes, *notes]

    def normalize(self, pictures: Tensor) -> Tensor:
        """Pictures (N, C, H, W), uint8 or uint16, as the network's input, float32."""
        config, shape = self.config, tuple(pictures.shape)
        whole = pictures.dtype in (torch.uint8, torch.uint16)
        if not whole or pictures.ndim != 4 or shape[1] != config.channels:
            raise BadValue(
                f"images of {pictures.dtype}, shape {shape}",
                cure=f"give uint8 or uint16 (N, {config.channels}, H, W)",
            )
        return normalize(pictures, config.mean, config.std)


def build_net(config: RunConfig) -> nn.Module:
    """The network that ``config`` describes, with fresh weights.

    Raises:
        UnknownName: the model is unknown.
        BadValue: its arguments are wrong.
    """
    if config.model in nets.GENERATORS:
        made = {"channels": config.channels, "size": config.size}
        return nets.build(config.model, **made, **config.model_arguments)
    return nets.build(
        config.model,
        in_channels=config.channels,
        classes=config.outputs,
        size=config.size,
        **config.model_arguments,
    )


def load(path: str | Path) -> Run:
    """Load a run; nothing in its folder is executed or unpickled.

    If the training has not finished, these are the best weights so far.

    Weights are ``model.safetensors``, or else ``model.pt`` (a state dict of tensors only).

    Args:
        path: the run folder.

    Raises:
        BadFile: it is not a run folder, has no epoch yet, is damaged, or its weights belong to
            another network.
    """
    folder = Path(path)
    if folder.is_file():
        raise BadFile(f"{folder}: is a file, not a run folder", cure=_cure_for_file(folder))
    if not folder.is_dir():
        raise BadFile(
            tr("{path}: no such run folder", path=folder), cure=tr("check the path, or train one")
        )
    if not (folder / CONFIG).is_file():
        raise BadFile(
            f"{folder}: no {CONFIG} in it, so it is not a run folder", cure="check the path"
        )
    config = RunConfig.read(folder / CONFIG)
    weights = folder / WEIGHTS
    if not weights.is_file() and (folder / "model.pt").is_file():
        weights = folder / "model.pt"
    if not weights.is_file():
        raise BadFile(
            f"{folder}: no {WEIGHTS} in it; the training has not finished an epoch",
            cure="wait for it, or run the same training command again with --resume",
        )
    net = _build_bare(folder, config)
    load_weights(net, weights)
    epoch, finished = weights_standing(weights)
    return Run(folder, config, net.eval(), epoch, finished)


def weights_standing(weights: Path) -> tuple[int | None, bool]:
    """The epoch of a run's weights, if it is known, and whether the training has finished."""
    if weights.suffix != ".safetensors":
        return None, True
    _, metadata = read_tensors(weights, tensors=False)
    epoch, _, finished = metadata.get("epoch", "").partition(" ")
    known = int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) < 10 else None
    return known, known is None or finished == "finished"


def _build_bare(folder: Path, config: RunConfig) -> nn.Module:
    """The network of a run folder, without its weights."""
    if config.own is not None:
        return as_module(read_program(folder / PROGRAM))
    try:
        # On the meta device, so that a damaged configuration takes no memory or random numbers.
        with torch.device("meta"):
            return build_net(config)
    except (UnknownName, BadValue) as error:
        raise BadFile(f"{folder / CONFIG}: {error.fact}", cure=error.cure) from None
    except (RuntimeError, TypeError, OverflowError) as error:  # of sizes that torch cannot count
        raise BadFile(
            f"{folder / CONFIG}: describes a network too large to exist ({shorten(str(error))})",
            cure="restore it, or train again",
        ) from None


def _cure_for_file(path: Path) -> str:
    """The cure for a file in place of a run folder."""
    if path.suffix in (".pt", ".pth"):
        return (
            "a .pt does not say which network it is for, and one with more than tensors in it "
            f"could run any code; put a state dict beside its {CONFIG}, as model.pt"
        )
    return f"name the folder that holds {CONFIG}"
