"""What the studio shows: a network or a training in progress, and pictures prepared for it.

The checkpoint of a training in progress is read again whenever a newer one is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot import data
from eyeshot.errors import BadFile, BadValue, Unsupported
from eyeshot.runs import (
    CONFIG,
    LAST,
    WEIGHTS,
    Run,
    RunConfig,
    build_net,
    load,
    read_tensors,
    weights_standing,
)
from eyeshot.runs.inputs import prepare_input, prepare_plain

_FILE = "state.safetensors"
"""The checkpoint's name in the run's folder of what to resume from."""


class Training:
    """A run that is not finished, with the weights of its last checkpoint.

    Args:
        folder: of the run.

    Raises:
        BadFile: no run, or no checkpoint yet.

    Attributes:
        run: with a network whose weights change when :meth:`refresh` finds new ones.
        rows: what was measured after each epoch.
        epochs: how many there will be.
        stamp: counts the checkpoints that were read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LAST / _FILE
        config = RunConfig.read(folder / CONFIG)
        self.run = Run(folder, config, build_net(config).eval())
        self.epochs = config.recipe.epochs
        self.rows: list[dict[str, float]] = []
        self.stamp = 0
        self._seen: tuple[int, int] | None = None
        self.refresh()

    def refresh(self) -> bool:
        """Read the checkpoint, if it is another than before; whether it was."""
        try:
            status = self._path.stat()
        except OSError:
            if self.stamp:
                return False  # the training has ended, and taken it away
            raise BadFile(
                f"{self._path}: no checkpoint yet", cure="wait until the training has written one"
            ) from None
        now = (status.st_mtime_ns, status.st_size)
        if now == self._seen:
            return False
        tensors, metadata = read_tensors(self._path)
        fill(self.run.net, tensors, self._path)
        try:
            rows: Any = json.loads(metadata["position"])["rows"]
            self.rows = [{str(k): float(v) for k, v in row.items()} for row in rows]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadFile(f"{self._path}: not a checkpoint", cure="train again") from None
        self._seen = now
        self.stamp += 1
        return True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"rows": self.rows, "epochs": self.epochs, "stamp": self.stamp}


def is_training(folder: Path) -> bool:
    """Whether a folder holds a run that has a checkpoint and no final weights.

    A training writes weights after each epoch, too, and notes in them when it has finished.
    """
    if not ((folder / CONFIG).is_file() and (folder / LAST / _FILE).is_file()):
        return False
    if (folder / "model.pt").is_file():
        return False
    weights = folder / WEIGHTS
    return not weights.is_file() or not weights_standing(weights)[1]


def fill(net: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copy a checkpoint's averaged weights, where there are some, or else the weights themselves.

    Raises:
        BadFile: they are of another network.
    """
    prefix = "average/" if any(name.startswith("average/") for name in tensors) else "net/"
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            found = tensors.get(prefix + name)
            if found is None or found.shape != tensor.shape:
                raise BadFile(f"{path}: {name} is of another network", cure="train again")
            tensor.copy_(found)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to look at.

    Attributes:
        name: to be shown.
        net: in eval mode.
        run: the run that it belongs to; None for a network of one's own.
        training: in which its weights change; None for a network that stays as it is.
        random: how many weights are random numbers, as far as known, and how many there are.
    """

    name: str
    net: nn.Module
    run: Run | None = None
    training: Training | None = None
    random: tuple[int, int] = (0, 0)

    @property
    def classes(self) -> tuple[str, ...]:
        """What its scores mean; () if unknown."""
        return self.run.config.classes if self.run is not None else ()

    @property
    def reads_digits(self) -> bool:
        """Whether a digit may be drawn for it."""
        return self.run is not None and self.run.config.reads_digits


def bundled_digits() -> tuple[Subject, list[Picture]]:
    """The digit network that comes with the package, and :func:`digit_pictures` of it.

    It is what ``eyeshot.train("digits", model_arguments={"width": 8, "hidden": 32})`` gives: two
    convolutions of 8 and 16 kernels, few enough to look at each; 98.4 % of the held-out digits are
    right.
    """
    with resources.as_file(resources.files("eyeshot.web_studio") / "digits") as folder:
        run = load(folder)
    subject = Subject("digits", run.net, run)
    return subject, digit_pictures(subject)


def digit_pictures(subject: Subject) -> list[Picture]:
    """A held-out digit of each kind, as a network takes it."""
    test = data.load("digits").test
    firsts = [int((test.labels == digit).int().argmax()) for digit in _ORDER]
    pixels, _ = test.take(firsts)
    return [
        open_picture(subject, np.ascontiguousarray(one[0].numpy()), f"a {digit}")
        for one, digit in zip(pixels, _ORDER, strict=True)
    ]


_ORDER = (7, 0, 1, 2, 3, 4, 5, 6, 8, 9)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a network takes it.

    Attributes:
        name: to be shown.
        values: float (1, C, H, W).
        shown: the same to look at, uint8 (H, W, 3).
        notes: what was done to it, a phrase each.
    """

    name: str
    values: Tensor
    shown: NDArray[np.uint8]
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.shown.shape[0], self.shown.shape[1]

    @property
    def channels(self) -> int:
        """Of its values."""
        return self.values.shape[1]


def open_picture(subject: Subject, image: str | Path | NDArray[Any], name: str = "") -> Picture:
    """A file or an array, prepared as ``eyeshot see`` prepares it.

    Raises:
        BadFile: not a picture.
        BadValue: one that the network cannot take.
    """
    if subject.run is not None:
        ready = prepare_input(subject.run, image)
    else:
        ready = prepare_plain(subject.net, image)
    label = name or (Path(image).name if isinstance(image, str | Path) else "array")
    return Picture(label, checked(ready.values), as_colors(ready.picture), ready.notes)


def painted(picture: Picture, brush: NDArray[np.uint8]) -> Picture:
    """A picture painted on, in values that it holds itself.

    Args:
        picture: stays as it is.
        brush: (H, W): 0 leaves a pixel as it is; 1, 2 and 3 give it each channel's least, largest
            and mean value.
    """
    values, shown = picture.values.clone(), picture.shown.copy()
    mask = torch.from_numpy(brush.copy()).to(values.device)
    samples = picture.values[0].flatten(1)
    colors = picture.shown.reshape(-1, 3)
    with_values = (samples.amin(1), samples.amax(1), samples.mean(1))
    with_colors = (colors.min(0), colors.max(0), np.rint(colors.mean(0)).astype(np.uint8))
    for code, (value, color) in enumerate(zip(with_values, with_colors, strict=True), 1):
        values[0] = torch.where(mask == code, value[:, None, None], values[0])
        shown[brush == code] = color
    return Picture(picture.name, values, shown, (*picture.notes, "painted on"))


def of_tensor(x: Tensor, name: str = "tensor") -> Picture:
    """A tensor (C, H, W) or (1, C, H, W) as the network takes it; it is shown from least to most.

    Raises:
        BadValue: another shape, or whole numbers.
    """
    batch = x if x.ndim == 4 else x[None]
    if batch.ndim != 4 or not batch.is_floating_point():
        raise BadValue(
            f"a tensor of {x.dtype}, shape {tuple(x.shape)}", cure="give floats (C, H, W)"
        )
    values = batch[:1].detach()
    plain = values[0].float().cpu().numpy()
    low, high = float(np.nanmin(plain)), float(np.nanmax(plain))
    scaled = (plain - low) / ((high - low) or 1.0)
    shown = np.rint(np.nan_to_num(scaled).clip(0, 1) * 255).astype(np.uint8)
    return Picture(name, values, as_colors(np.moveaxis(shown, 0, -1)), ())


def noise(channels: int, size: Sequence[int]) -> Picture:
    """A picture of smooth shapes, if the caller gives none: the same each time."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    waves = np.sin(9 * rows[:, None] ** 2 + 7 * columns[None, :] * rows[:, None])
    disc = (rows[:, None] ** 2 + columns[None, :] ** 2 < 0.4).astype(np.float32)
    planes = [0.5 + 0.25 * np.roll(waves, 5 * c, 1) + 0.25 * disc for c in range(channels)]
    picture = of_tensor(torch.from_numpy(np.stack(planes).clip(0, 1)), "test pattern")
    return Picture(picture.name, picture.values, picture.shown, ("no picture was given",))


def checked(values: Tensor) -> Tensor:
    """Values over two axes of space.

    Raises:
        Unsupported: signals or volumes.
    """
    if values.ndim != 4:
        raise no_picture(values.shape[2:])
    return values


NO_PICTURE = "use eyeshot see and eyeshot explain for signals and volumes"


def no_picture(sides: Sequence[int]) -> Unsupported:
    """The refusal of signals and volumes."""
    size = "×".join(str(n) for n in sides)
    return Unsupported(f"an input of {size}: the studio shows pictures", cure=NO_PICTURE)


def as_colors(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W, C) as (H, W, 3): gray repeated, the first three of more channels."""
    count = samples.shape[2]
    if count >= 3:
        return np.ascontiguousarray(samples[..., :3])
    return np.ascontiguousarray(np.repeat(samples[..., :1], 3, axis=2))
