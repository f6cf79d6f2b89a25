"""The devices a training runs on, by Lightning Fabric; and torch's own state, left as it was."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from eyeshot.errors import BadValue, UnknownName
from eyeshot.extras import extra
from eyeshot.runs import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed")


def choose_device(name: str) -> str:
    """What "auto" means on this machine; any other name as it is.

    Raises:
        UnknownName: no such kind of device.
        BadValue: this machine has none.
    """
    if name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(kind for kind, is_there in there.items() if is_there)
    if not there[name]:
        raise BadValue(f"device is {name!r}, and there is none here", cure="use auto or cpu")
    return name


def choose_precision(name: str, task: str, device: str) -> str:
    """What "auto" means for a task on a device; any other name as it is.

    A network that answers with a picture spends all its time in convolutions, and where the
    processor multiplies matrices of bfloat16 (AMX on x86) they take a fraction of the time. Sums
    and weights stay in float32, and so does all judging. Classifiers of small pictures gain
    nothing.

    Raises:
        UnknownName: no such precision.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    if name != "auto":
        return name
    if task == "classify" or device not in ("cpu", "cuda"):
        return "32-true"
    if device == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_units = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return "bf16-mixed" if has_units else "32-true"


def make_fabric(recipe: Recipe) -> Fabric:
    """Fabric for the recipe's device, number of devices and precision, none of them "auto".

    Raises:
        BadValue: more devices than there are, or a batch that they cannot share.
    """
    if recipe.device == "cuda" and recipe.devices > torch.cuda.device_count():
        raise BadValue(
            f"devices is {recipe.devices}, and there are {torch.cuda.device_count()}",
            cure="use as many as there are, or fewer",
        )
    if recipe.batch_size % recipe.devices:
        raise BadValue(
            f"batch_size is {recipe.batch_size}, which {recipe.devices} devices cannot share",
            cure=f"use a multiple of {recipe.devices}",
        )
    with extra("train"):
        from lightning_fabric import Fabric  # takes seconds to import: only when it trains

    return Fabric(
        accelerator=recipe.device,
        devices=recipe.devices,
        precision="bf16-mixed" if recipe.precision == "bf16-mixed" else "32-true",
    )


@contextmanager
def torch_state_kept() -> Iterator[None]:
    """Torch's random numbers and cuDNN's choices are our own inside, and the caller's again after.

    So is how much Fabric logs. cuDNN is held to algorithms that give the same bits every time.
    """
    devices = list(range(torch.cuda.device_count()))
    with (
        _fabric_quiet(),
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        warnings.catch_warnings(),
    ):
        yield


@contextmanager
def _fabric_quiet() -> Iterator[None]:
    """Fabric logs errors alone inside."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    with extra("train"):
        import lightning_fabric  # noqa: F401 - sets the level itself when it is first imported

    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
