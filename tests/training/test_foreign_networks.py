"""Networks that nobody here wrote learn; their packages are optional, and not needed afterwards."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.runs import WEIGHTS
from eyeshot.training import train

from .blobs import blobs
from .cells import write_cells


def _package(name: str) -> Any:
    """A package, or a test that is skipped by its name."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision beside another torch
        pytest.skip(f"{name} cannot be imported ({error})")


def _smp(kind: str) -> nn.Module:
    made: nn.Module = getattr(_package("segmentation_models_pytorch"), kind)(
        "resnet18", encoder_weights=None, in_channels=1, classes=2
    )
    return made


def _monai(kind: str, **arguments: Any) -> nn.Module:
    made: nn.Module = getattr(_package("monai.networks.nets"), kind)(2, 1, 2, **arguments)
    return made


def _timm() -> nn.Module:
    made: nn.Module = _package("timm").create_model("resnet10t", num_classes=3, in_chans=1)
    return made


def _torchvision() -> nn.Module:
    net: Any = _package("torchvision").models.resnet18(weights=None, num_classes=3)
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return net  # type: ignore[no-any-return]


MASKS: dict[str, Callable[[], nn.Module]] = {
    "smp-unet": lambda: _smp("Unet"),
    "smp-fpn": lambda: _smp("FPN"),
    "monai-unet": lambda: _monai("UNet", channels=(8, 16, 32), strides=(2, 2)),
    "monai-basicunet": lambda: _monai("BasicUNet", features=(8, 8, 16, 16, 32, 8)),
}
CLASSES = {"timm-resnet": _timm, "torchvision-resnet": _torchvision}
FRESH = """
import sys, numpy as np, eyeshot
run = eyeshot.load(sys.argv[1])
np.save(sys.argv[3], eyeshot.run(run, np.load(sys.argv[2]), output_format="argmax"))
assert not {"monai", "timm", "torchvision", "segmentation_models_pytorch"} & set(sys.modules)
"""


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, tmp_path: Path) -> None:
    net = MASKS[name]()
    cells = write_cells(tmp_path / "cells", ((64, 64),) * 4)
    run = train(
        cells,
        task="segment",
        net=net,
        out=tmp_path / "run",
        epochs=1,
        steps=2,
        batch_size=2,
        progress=False,
    )
    eyeshot.runs.load_weights(net, run.path / WEIGHTS)
    picture = np.random.default_rng(0).integers(0, 255, (1, 320, 256), dtype=np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    places = [str(tmp_path / one) for one in ("run", "picture.npy", "mask.npy")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FRESH, *places], check=True)
    with torch.no_grad():
        expected = net.eval()(run.normalize(torch.from_numpy(picture)[None])).argmax(1).numpy()
    # Scores that are equal to rounding may differ in which is larger.
    assert (np.load(tmp_path / "mask.npy") == expected).mean() > 0.999


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name: str, tmp_path: Path) -> None:
    net = CLASSES[name]()
    run = train(blobs(), net=net, out=tmp_path, epochs=1, batch_size=48, progress=False)
    eyeshot.runs.load_weights(net, run.path / WEIGHTS)
    pictures = torch.randn(3, 1, 40, 40)
    with torch.no_grad():
        assert torch.allclose(run.net(pictures), net.eval()(pictures), atol=1e-5)
