"""Which network runs over which image into which output."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

_SHAPES = {
    "gray": (640, 4096),
    "color": (768, 3072, 3),
    "small": (256, 2048),
    "volume": (48, 256, 192),
    "signal": (2_000_000,),
}


@dataclass(frozen=True)
class Case:
    """One network over one image.

    Attributes:
        network: its name in :data:`benchmarks.memory.networks.NETWORKS`.
        shape: of the image, a name in ``_SHAPES``.
        source: kind of its file; ``array`` for one in memory.
        sink: suffix of the output; ``array`` for one in memory.
        form: of the output.
        band: rows at a time; None where they are chosen.
        scratch: whether maps may go to disk, into the folder of the output; else no byte may.
    """

    network: str
    shape: str
    source: str
    sink: str
    form: str = "float32"
    band: int | None = None
    scratch: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        band = f", bands of {self.band}" if self.band else ""
        disk = ", on disk" * self.scratch
        return f"{self.network}: {self.source} {self.shape} to {self.sink}{band}{disk}"

    @property
    def outputs(self) -> int:
        """How many outputs it has."""
        return 2 if self.network == "pyramid" else 1


CASES = {
    case.name: case
    for case in (
        Case("unet of 8 classes", "gray", "npy", "zarr"),
        Case("unet", "gray", "tif tiles", "npy"),
        Case("unet", "gray", "npy", "npy", band=256),
        Case("unet, 3 channels", "color", "png", "png", "uint8"),
        Case("volume", "volume", "npy", "zarr"),
        Case("softmax, gelu", "gray", "array", "array"),
        Case("response norm", "gray", "tif strips", "tif"),
        Case("layer norm", "gray", "zarr", "npy"),
        Case("bicubic", "small", "npy", "tif"),
        Case("bilinear", "gray", "array", "zarr"),
        Case("float64", "gray", "npy", "array"),
        Case("mobile", "color", "jpg", "png", "argmax"),
        Case("dilated", "gray", "png in one chunk", "npy"),
        Case("gated", "gray", "npy", "npy"),
        Case("pyramid", "gray", "tif in one strip", "npy"),
        Case("filter", "gray", "npy", "tif", "uint8"),
        Case("filter, 3 channels", "color", "jpg, turned", "npy"),
        Case("classifier", "color", "png", "array"),
        Case("classifier", "color", "png in one chunk", "array"),
        Case("classifier", "color", "jpg, turned", "array"),
        Case("signal", "signal", "npy", "npy"),
        Case("softmax, gelu", "gray", "npy", "png", "uint8"),
        Case("response norm", "gray", "zarr in one chunk", "zarr"),
        Case("attention", "small", "npy", "npy"),
        Case("attention", "gray", "npy", "tif"),
        Case("flatten, linear", "small", "png", "array"),
        Case("instance norm unet", "small", "npy", "npy"),
        Case("instance norm unet", "small", "npy", "npy", scratch=True),
        Case("instance norm unet", "gray", "tif tiles", "zarr", scratch=True),
        Case("gated", "gray", "npy", "npy", scratch=True),
    )
}


def write_image(folder: Path, source: str, shape: str) -> Path:
    """The image of a case, made once; its path. An array in memory is read from an ``.npy``."""
    path = folder / f"{shape} {source}{_suffix(source)}"
    if not path.exists():
        samples = _samples(_SHAPES[shape])
        if source in ("npy", "array"):
            np.save(path, samples)
        else:
            _write_other(path, samples, source)
    return path


def _suffix(source: str) -> str:
    return "." + ("npy" if source == "array" else source.replace(",", "").split()[0])


def _samples(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Steps with a little noise: what packs neither to nothing nor not at all."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 32, shape, np.uint8)
    steps = np.arange(shape[0], dtype=np.uint32) // 16 % 200
    return noise + steps.astype(np.uint8).reshape(-1, *(1 for _ in shape[1:]))


def _write_other(path: Path, samples: NDArray[np.uint8], source: str) -> None:
    pieces: dict[str, Any] = {
        "tif tiles": {"tile": (256, 256)},
        "tif strips": {"rowsperstrip": 64},
        "tif in one strip": {"rowsperstrip": samples.shape[0]},
    }
    if source in pieces:
        options = pieces[source]
        tifffile.imwrite(path, samples, compression="zlib", metadata=None, **options)
    elif source.startswith("zarr"):
        chunks = samples.shape if "one chunk" in source else (512, 512, *samples.shape[2:])
        zarr.create_array(str(path), data=samples, chunks=chunks)
    elif source == "png in one chunk":
        _write_png_in_one_chunk(path, samples)
    elif source == "png":
        Image.fromarray(samples).save(path, compress_level=1)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6 if "turned" in source else 1
        Image.fromarray(samples).save(path, quality=95, exif=exif)


def _write_png_in_one_chunk(path: Path, samples: NDArray[np.uint8]) -> None:
    height, width = samples.shape[:2]
    color = 2 if samples.ndim == 3 else 0
    rows = samples.reshape(height, -1)
    packed = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 1)
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))
