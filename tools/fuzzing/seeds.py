"""Small valid files of every kind that Eyeshot reads, to be damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import ExifTags, Image
from torch import nn
from zarr.codecs import BloscCodec, GzipCodec

from eyeshot import images
from eyeshot.data import mnist
from eyeshot.runs import CONFIG, WEIGHTS, Recipe, RunConfig, build_net, save_tensors
from eyeshot.training import checkpoint
from eyeshot.training.optimization import make_optimizer

SIZE = (70, 52)


def _turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif.tobytes()


_PILLOW: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gray.png": ("L", "PNG", {}),
    "color.png": ("RGB", "PNG", {}),
    "palette.png": ("P", "PNG", {"transparency": 3}),
    "alpha.png": ("LA", "PNG", {}),
    "bits.png": ("1", "PNG", {}),
    "color.jpg": ("RGB", "JPEG", {"exif": _turned()}),
    "gray.jpg": ("L", "JPEG", {"progressive": True}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "color.webp": ("RGB", "WEBP", {"lossless": True}),
    "color.bmp": ("RGB", "BMP", {}),
    "palette.gif": ("P", "GIF", {}),
}
_TIFF: dict[str, dict[str, Any]] = {
    "plain.tif": {},
    "strips.tif": {"compression": "zlib", "rowsperstrip": 16, "predictor": True},
    "tiles.tif": {"compression": "lzw", "tile": (32, 32)},
    "jpeg.tif": {"compression": "jpeg", "tile": (32, 32), "photometric": "rgb"},
    "webp.tif": {"compression": "webp", "tile": (32, 32), "photometric": "rgb"},
    "zstd.tif": {"compression": "zstd", "bigtiff": True, "tile": (32, 32)},
    "stack.tif": {"stack": 3, "compression": "packbits"},
    "imagej.tif": {"stack": 3, "imagej": True},
    "planes.ome.tif": {"stack": 3, "metadata": {"axes": "CYX"}, "tile": (32, 32)},
    "white.tif": {"photometric": "miniswhite"},
    "pyramid.tif": {"levels": 2, "tile": (16, 16)},
}
_ZARR: dict[str, dict[str, Any]] = {
    "gzip.zarr": {"compressors": GzipCodec()},
    "zstd.zarr": {},
    "blosc.zarr": {"compressors": BloscCodec()},
    "plain.zarr": {"compressors": None},
    "shards.zarr": {"shards": (64, 64)},
    "two.zarr": {"zarr_format": 2},
}


def make_seeds(folder: Path, *, programs: bool = True) -> list[Path]:
    """Write them below ``folder``; a seed is a file, or a folder whose files are damaged."""
    made = [*_pictures(folder), *_tiffs(folder), *_zarrs(folder), *_arrays(folder)]
    made += [*_runs(folder), *_parts(folder), _legend(folder)]
    return [*made, *(_programs(folder) if programs else ())]


def _noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    chance = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return chance.random(shape).astype(dtype)
    return chance.integers(0, 200, shape).astype(dtype)


def _pictures(folder: Path) -> Iterator[Path]:
    for name, (mode, kind, options) in _PILLOW.items():
        Image.fromarray(_noise(*SIZE, 3)).convert(mode).save(folder / name, kind, **options)
        yield folder / name
    for name, shape in (("deep.png", (*SIZE, 3)), ("deep gray.png", SIZE)):
        images.write(folder / name, _noise(*shape, dtype=np.uint16))
        yield folder / name


def _tiffs(folder: Path) -> Iterator[Path]:
    for name, given in _TIFF.items():
        options = {"photometric": "minisblack", **given}
        stack, levels = options.pop("stack", 0), options.pop("levels", 0)
        color = options.get("photometric") == "rgb"
        shape = (*([stack] if stack else []), *SIZE, *([3] if color else []))
        with tifffile.TiffWriter(
            folder / name,
            **{key: options.pop(key) for key in ("imagej", "bigtiff") if key in options},
        ) as tiff:
            array = _noise(*shape)
            tiff.write(array, subifds=levels, **options)
            for level in range(levels):
                tiff.write(array[:: 2 << level, :: 2 << level], subfiletype=1, **options)
        yield folder / name


def _zarrs(folder: Path) -> Iterator[Path]:
    for name, options in _ZARR.items():
        array = zarr.create_array(folder / name, shape=SIZE, chunks=(32, 32), dtype="u2", **options)
        array[...] = _noise(*SIZE, dtype=np.uint16)
        yield folder / name
    group = zarr.create_group(folder / "ome.zarr")
    group.create_array("0", shape=(2, *SIZE), chunks=(1, 40, 40), dtype="u1")[...] = _noise(
        2, *SIZE
    )
    axes: Any = [{"name": "c", "type": "channel"}, {"name": "y"}, {"name": "x"}]
    multiscales: Any = [{"axes": axes, "datasets": [{"path": "0"}], "version": "0.5"}]
    group.attrs["ome"] = {"multiscales": multiscales}
    yield folder / "ome.zarr"


def _arrays(folder: Path) -> Iterator[Path]:
    np.save(folder / "floats.npy", _noise(2, *SIZE, dtype=np.float32))
    np.save(folder / "turned.npy", np.asfortranarray(_noise(*SIZE, dtype=np.int16)))
    yield from (folder / "floats.npy", folder / "turned.npy")
    for name, array in (("pictures", _noise(9, 12, 12)), ("labels", _noise(9))):
        for suffix in ("idx", "idx.gz"):
            mnist.write(folder / f"{name}.{suffix}", array)
            yield folder / f"{name}.{suffix}"


def _config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        **{"model": "digit_cnn", "data": "nowhere", "fingerprint": "0", "channels": 1},
        **{"classes": ("a", "[b]", "c"), "size": (12, 12), "mean": (0.1,), "std": (0.3,)},
        **{"recipe": Recipe(1, 8, 0.01), "model_arguments": {"width": 2}},
    }
    return RunConfig(**{**values, **changes})


def _runs(folder: Path) -> Iterator[Path]:
    for name, config in {
        "classes.run": _config(),
        "masks.run": _config(model="unet", task="segment", model_arguments={"depth": 1, "base": 2}),
    }.items():
        place = folder / name
        place.mkdir()
        torch.manual_seed(0)
        net = build_net(config)
        config.save(place / CONFIG)
        save_tensors(place / WEIGHTS, net.state_dict())
        yield place
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3)).state_dict(), folder / "conv.pt")
    yield folder / "conv.pt"
    optimizer = make_optimizer(net, config.recipe)
    torch.stack([p.sum() for p in net.parameters()]).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    state = folder / "state.checkpoint"
    state.mkdir()
    row = {"epoch": 1.0, "loss": 0.5, "accuracy": 0.9, "dice": 0.8}
    sums = {"loss": 4.0, "accuracy": 7.0, "dice": 6.0}
    position = checkpoint.Position(1, 3, sums, 8, 0.1, 0.8, [row])
    checkpoint.save(state, net, None, optimizer, position)
    yield state


def _parts(folder: Path) -> Iterator[Path]:
    """Unfinished outputs with their journals."""
    for suffix in ("npy", "tif", "png", "zarr"):
        place = folder / f"{suffix}.part"
        place.mkdir()
        array = _noise(1, 530, 20)
        with images.open_sink(place / f"out.{suffix}", array.shape, np.uint8) as sink:
            sink.write(0, array[:, :520])
        yield place


def _legend(folder: Path) -> Path:
    place = folder / "legend"
    place.mkdir()
    (place / "classes.yaml").write_text("cell: 128\nedge: 255\nignore: 7\n")
    return place


def _programs(folder: Path) -> Iterator[Path]:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))
    program = torch.export.export(net.eval(), (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, folder / "net.pt2")
    yield folder / "net.pt2"
    kernel = numpy_helper.from_array(_noise(2, 1, 3, 3, dtype=np.float32), "kernel")
    sides = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "sides")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Shape", ["b"], ["s"]),
            helper.make_node("Reshape", ["b", "s"], ["c"]),
            helper.make_node("Resize", ["c", "", "sides"], ["y"], mode="nearest"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 16, 16])],
        [kernel, sides],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "net.onnx")
    yield folder / "net.onnx"
