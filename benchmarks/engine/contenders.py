"""Every way to run the network, each as one call that gives the whole answer.

What can be done once and for all before the first picture (folding, exporting, compiling, tracing,
planning) is done before; ``eyeshot.run`` alone has its own preparation inside the call.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eyeshot
from benchmarks.engine.filtering import filter_by_bands, filter_whole
from benchmarks.engine.folding import FusedConvolution, folded, fused
from benchmarks.engine.networks import make_network, make_picture, network_of, picture_of
from benchmarks.engine.settings import Settings
from benchmarks.engine.tiles import aligned_halo, run_tiles
from eyeshot.engine.executing import execute
from eyeshot.engine.job import make_job
from eyeshot.images import open_sink, open_source

Pass = Callable[[], Any]
"""Runs the network over the picture; gives (1, C, …) or (C, …)."""

PICTURE = "noise.tif"
"""In the folder, for the filters."""
BANDS = (16, 32, 64, 128, 256)
"""Rows of a band, to compare with those that Eyeshot chooses."""
LIMIT = (256, 32, 256)
"""Channels, rows and columns of a convolution that oneDNN runs at the processor's limit."""
LIMIT_MULTIPLY_ADDS = 9 * 256**2 * 32 * 256


def prepare(name: str, settings: Settings, folder: Path) -> Pass:
    """The contender of that name, ready to run; files it needs go into ``folder``."""
    call: Pass = _TABLE[name](settings, folder)
    return call


def is_installed(name: str) -> bool:
    """Whether the library that a contender needs is there."""
    return all(importlib.util.find_spec(package) for package in _NEEDS.get(name, ()))


def _whole(net: nn.Module, picture: Tensor) -> Pass:
    def call() -> Tensor:
        with torch.inference_mode():
            answer: Tensor = net(picture)
        return answer

    return call


def _plain(settings: Settings, folder: Path) -> Pass:
    picture = picture_of(settings)
    if settings.piece:
        picture = picture[..., : settings.piece].clone()
    return _whole(network_of(settings), picture)


def _plain_deep(settings: Settings, folder: Path) -> Pass:
    return _whole(make_network(settings.deep, settings.base), picture_of(settings))


def _folded(settings: Settings, folder: Path) -> Pass:
    picture = picture_of(settings).contiguous(memory_format=torch.channels_last)
    return _whole(folded(network_of(settings)), picture)


def _fused(settings: Settings, folder: Path) -> Pass:
    picture = picture_of(settings).contiguous(memory_format=torch.channels_last)
    return _whole(fused(network_of(settings)), picture)


def _monai(settings: Settings, folder: Path) -> Pass:
    from monai.inferers.inferer import SlidingWindowInferer

    side = (settings.tile, settings.tile)
    inferer = SlidingWindowInferer(roi_size=side, sw_batch_size=1, overlap=0.25)
    picture, net = picture_of(settings), network_of(settings)

    def call() -> Any:
        with torch.inference_mode():
            return inferer(picture, net)

    return call


def _tiles(settings: Settings, folder: Path) -> Pass:
    net = fused(make_network(settings.deep, settings.base))
    halo, picture = aligned_halo(settings.deep), picture_of(settings)

    def call() -> Tensor:
        with torch.inference_mode():
            return run_tiles(net, picture, settings.tile, halo)

    return call


def _export(settings: Settings, folder: Path, name: str) -> Path:
    """The network as an ONNX file of any size; batch norms are folded by the exporter."""
    path = folder / f"{name}.onnx"
    axes = {2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network_of(settings),
            (make_picture(64, 64),),
            path,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes, "y": axes},
        )
    return path


def _onnxruntime(settings: Settings, folder: Path) -> Pass:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    picture = picture_of(settings).numpy()
    for name, extent in zip(("height", "width"), picture.shape[2:], strict=True):
        options.add_free_dimension_override_by_name(name, extent)
    path = _export(settings, folder, "onnxruntime")
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": picture})[0]


def _openvino(settings: Settings, folder: Path) -> Pass:
    import openvino

    core = openvino.Core()
    model = core.read_model(_export(settings, folder, "openvino"))
    picture = picture_of(settings).numpy()
    model.reshape(list(picture.shape))
    hints = {"INFERENCE_NUM_THREADS": settings.threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hints)
    return lambda: compiled(picture)[0]


def _eyeshot(net: nn.Module, picture: Tensor, band: int | None = None) -> Pass:
    """The pass alone: the network traced and the run planned before."""
    job = make_job(net, [open_source(picture[0].numpy(), space=picture.ndim - 2)], band=band)
    (name,) = job.forms

    def call() -> Any:
        sink = open_sink(None, job.shape(name), job.forms[name].dtype)
        execute(job, {name: sink})
        return sink.finish()

    return call


def _eyeshot_pass(settings: Settings, folder: Path) -> Pass:
    return _eyeshot(network_of(settings), picture_of(settings))


def _eyeshot_band(band: int, settings: Settings, folder: Path) -> Pass:
    return _eyeshot(network_of(settings), picture_of(settings), band)


def _eyeshot_deep(settings: Settings, folder: Path) -> Pass:
    return _eyeshot(make_network(settings.deep, settings.base), picture_of(settings))


def _eyeshot_run(settings: Settings, folder: Path) -> Pass:
    return partial(eyeshot.run, network_of(settings), picture_of(settings)[0].numpy())


def _eyeshot_file(settings: Settings, folder: Path, height: int) -> Pass:
    """From a TIFF to an ``.npy``, so that neither is in memory."""
    import tifffile

    source, target = folder / f"{height}.tif", folder / f"{height}.npy"
    shape = (height, settings.size, 3)
    picture = tifffile.memmap(source, shape=shape, dtype=np.uint8, photometric="rgb")
    draw = np.random.default_rng(0)
    for top in range(0, height, 256):
        # By bands, so that what the process holds before the run is the same for every height.
        picture[top : top + 256] = draw.integers(0, 256, picture[top : top + 256].shape, np.uint8)
    picture.flush()
    del picture
    net = network_of(settings)
    eyeshot.run(net, np.zeros((3, 64, 64), np.float32))  # torch's tracer is loaded once for all
    return partial(eyeshot.run, net, source, target, force=True)


def _limit(settings: Settings, folder: Path) -> Pass:
    """Many 3×3 convolutions of one small map, which stays in the cache."""
    channels, height, width = LIMIT
    layer = FusedConvolution(nn.Conv2d(channels, channels, 3, padding=1))
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    picture = make_picture(height, width, channels=channels)
    return _whole(layer, picture.contiguous(memory_format=torch.channels_last))


_TABLE: dict[str, Callable[[Settings, Path], Pass]] = {
    "net(x)": _plain,
    "net(x), deeper": _plain_deep,
    "folded": _folded,
    "fused": _fused,
    "MONAI": _monai,
    "tiles": _tiles,
    "onnxruntime": _onnxruntime,
    "OpenVINO": _openvino,
    "eyeshot": _eyeshot_pass,
    "eyeshot, deeper": _eyeshot_deep,
    "eyeshot.run": _eyeshot_run,
    **{f"band {height}": partial(_eyeshot_band, height) for height in BANDS},
    "square file": lambda settings, folder: _eyeshot_file(settings, folder, settings.size),
    "tall file": lambda settings, folder: _eyeshot_file(settings, folder, 4 * settings.size),
    "one convolution": _limit,
    "filter": lambda settings, folder: filter_by_bands(folder / PICTURE, folder / "bands.tif"),
    "OpenCV": lambda settings, folder: filter_whole(folder / PICTURE, folder / "whole.tif"),
}

NAMES = tuple(_TABLE)

_NEEDS = {
    "MONAI": ("monai",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "OpenVINO": ("onnx", "openvino"),
}
