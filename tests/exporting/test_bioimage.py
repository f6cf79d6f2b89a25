"""A package that BioImage.IO's own libraries open, test, and run by blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eyeshot
from eyeshot.errors import BadValue, Failure
from eyeshot.extras import is_installed

HAVE = is_installed("bioimageio.core")
needs = pytest.mark.skipif(not HAVE, reason="bioimageio.core is not installed")


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return eyeshot.nets.unet(in_channels=1, classes=2, base=2, depth=1).eval()


def test_a_license_is_required(net: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="license"):
        eyeshot.export(net, tmp_path / "model.zip", size=(1, 32, 32))


@pytest.mark.skipif(HAVE, reason="bioimageio.core is installed")
def test_a_missing_library_is_named(net: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"eyeshot\[bioimageio\]"):
        eyeshot.export(net, tmp_path / "model.zip", size=(1, 32, 32), license="MIT")


@needs
def test_the_package_passes_and_blocks_are_the_whole_pass_inside(
    net: torch.nn.Module, tmp_path: Path
) -> None:
    import bioimageio.core as core
    from bioimageio.core.digest_spec import create_sample_for_model

    path = tmp_path / "model.zip"
    exported = eyeshot.export(net, path, size=(1, 32, 32), license="MIT", authors=["A. Reader"])
    assert "tested by bioimageio.core" in exported.kind
    model: Any = core.load_model_description(path)
    y = next(axis for axis in model.outputs[0].axes if axis.id == "y")
    assert y.halo >= model.config.eyeshot["halo_before"]
    x = torch.rand(1, 1, 100, 90)
    with torch.no_grad():
        whole = net(x).numpy()
    with core.create_prediction_pipeline(model, weight_format="onnx") as pipeline:
        sample = create_sample_for_model(model, inputs={"image": x.numpy()})
        answer = pipeline.predict_sample_with_blocking(sample, ns=8)
    apart = np.abs(next(iter(answer.members.values())).data.values - whole)
    inner = apart[:, :, y.halo : -y.halo, y.halo : -y.halo]
    assert inner.max() <= 1e-5 * np.abs(whole).max()
    assert apart.max() > inner.max(), "at its border the library pads the image itself"
