"""Nothing is decoded beyond what a header or a grid promises, and nothing is run."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from zarr import codecs

from eyeshot import images
from eyeshot.errors import BadFile
from eyeshot.images.limits import claimed_size
from eyeshot.images.whole import FORMATS

from .conftest import noise

SIDE = 3000
FLAT = np.zeros((SIDE, SIDE), np.uint8)


def _lying_jpeg() -> bytes:
    code = bytearray(imagecodecs.jpeg8_encode(FLAT[:16, :16]))
    at = code.index(b"\xff\xc0")
    code[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(code)


CODES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg": ("jpeg", _lying_jpeg),
    "webp": ("webp", lambda: bytes(imagecodecs.webp_encode(np.zeros((SIDE, SIDE, 3), np.uint8)))),
    "jpeg2000": ("jpeg2000", lambda: bytes(imagecodecs.jpeg2k_encode(FLAT))),
    "jpegxl": ("jpegxl", lambda: bytes(imagecodecs.jpegxl_encode(FLAT))),
    "jpegxr": ("jpegxr", lambda: bytes(imagecodecs.jpegxr_encode(FLAT))),
    "png": ("png", lambda: bytes(imagecodecs.png_encode(FLAT))),
    "lerc": ("lerc", lambda: bytes(imagecodecs.lerc_encode(FLAT))),
    "zlib": ("zlib", lambda: zlib.compress(FLAT.tobytes())),
    "zstd": ("zstd", lambda: bytes(imagecodecs.zstd_encode(FLAT.tobytes()))),
}


@pytest.mark.parametrize("name", CODES)
def test_a_tile_that_claims_more_than_its_page_is_refused(name: str, tmp_path: Path) -> None:
    compression, encode = CODES[name]
    path = tmp_path / "bomb.tif"
    color = name == "webp"
    tifffile.imwrite(
        path,
        iter([encode()]),
        shape=(64, 64, 3) if color else (64, 64),
        dtype=np.uint8,
        tile=(64, 64),
        compression=compression,
        photometric="rgb" if color else "minisblack",
    )
    with (
        images.open_source(path) as source,
        pytest.raises(BadFile, match=r"bomb\.tif: tile 0: truncated or damaged"),
    ):
        source.read()


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3), (120, 9, 3)])
@pytest.mark.parametrize("codec", ["jpeg8", "jpeg2k", "jpegxl", "jpegxr", "png", "webp", "lerc"])
def test_claims_are_read_from_headers(codec: str, shape: tuple[int, ...]) -> None:
    if codec == "webp" and len(shape) == 2:
        shape = (*shape, 3)  # it holds color alone
    code = getattr(imagecodecs, f"{codec}_encode")(noise(shape))
    claim = claimed_size(code)
    assert claim is not None
    assert claim[:2] == shape[:2]
    for cut in range(len(code)):
        try:
            claimed_size(code[:cut])
        except ValueError:
            continue


def test_boxes_around_a_codestream_are_followed() -> None:
    samples = noise((37, 53, 3))
    for code in (
        imagecodecs.jpeg2k_encode(samples, codecformat="jp2"),
        imagecodecs.jpegxl_encode(samples, usecontainer=True),
        imagecodecs.webp_encode(samples, lossless=True),
    ):
        claim = claimed_size(bytes(code))
        assert claim is not None
        assert claim[:2] == (37, 53)
    assert claimed_size(b"no picture") is None


def test_directories_that_go_round_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "round.tif"
    with tifffile.TiffWriter(path) as file:
        for number in range(150):
            text = "ImageJ=1.11a\nimages=100000000\nslices=100000000\n" if number == 0 else None
            file.write(FLAT[:2, :2], metadata=None, description=text, photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        offsets = [page.offset for page in tiff.pages]
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", data, offsets[-1])
    struct.pack_into("<I", data, offsets[-1] + 2 + 12 * count, offsets[120])
    path.write_bytes(data)
    with pytest.raises(BadFile, match="page 149 is followed by page 120"):
        images.open_source(path)


def test_a_webp_is_refused_before_its_canvas_is_made(tmp_path: Path) -> None:
    path = tmp_path / "bomb.webp"
    code = bytearray(imagecodecs.webp_encode(np.zeros((8, 8, 3), np.uint8), lossless=True))
    assert code[12:16] == b"VP8L"
    code[21:25] = (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
    path.write_bytes(code)
    with pytest.raises(BadFile, match="claims 16384 x 16384 x 4 samples"):
        images.read(path)


def test_postscript_called_a_photograph_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(BadFile, match="not a picture format that Eyeshot reads"):
        images.read(path)
    assert not {"EPS", "WMF", "PSD", "FITS", "HDF5"} & set(FORMATS)


PACKED: dict[str, tuple[Any, Any, Callable[[bytes], bytes]]] = {
    "2 gzip": (2, numcodecs.GZip(), numcodecs.GZip().encode),
    "2 zlib": (2, numcodecs.Zlib(), numcodecs.Zlib().encode),
    "2 bz2": (2, numcodecs.BZ2(), numcodecs.BZ2().encode),
    "2 lzma": (2, numcodecs.LZMA(), numcodecs.LZMA().encode),
    "2 lz4": (2, numcodecs.LZ4(), numcodecs.LZ4().encode),
    "2 zstd": (2, numcodecs.Zstd(), numcodecs.Zstd().encode),
    "2 blosc": (2, numcodecs.Blosc(), numcodecs.Blosc().encode),
    "3 gzip": (3, codecs.GzipCodec(), numcodecs.GZip().encode),
    "3 zstd": (3, codecs.ZstdCodec(), numcodecs.Zstd().encode),
    "3 blosc": (3, codecs.BloscCodec(), numcodecs.Blosc().encode),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_zarr_chunk_unpacks_into_no_more_than_its_grid(name: str, tmp_path: Path) -> None:
    version, codec, encode = PACKED[name]
    path = tmp_path / "packed.zarr"
    samples = noise((40, 50))
    array = zarr.create_array(
        str(path), shape=(40, 50), chunks=(40, 50), dtype="u1", zarr_format=version,
        compressors=codec, fill_value=0,
    )  # fmt: skip
    array[...] = samples
    with images.open_source(path) as source:
        np.testing.assert_array_equal(source.read()[0], samples)
    (path / ("0.0" if version == 2 else "c/0/0")).write_bytes(encode(bytes(2**25)))
    tracemalloc.start()
    try:
        with (
            images.open_source(path) as source,
            pytest.raises(BadFile, match=r"packed\.zarr: chunk 0/0"),
        ):
            source.read()
        assert tracemalloc.get_traced_memory()[1] < 2**24  # LZMA's dictionary takes half of it
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stated", [b"\x20\x0b\x07\x55", b"\xff\xff\xff\x7f"])
@pytest.mark.parametrize("name", ["2 blosc", "3 blosc"])
def test_blosc_reads_no_further_than_its_chunk(name: str, stated: bytes, tmp_path: Path) -> None:
    """It believed the header's size of what is packed, and ended the process beyond it."""
    version, codec, encode = PACKED[name]
    path = tmp_path / "packed.zarr"
    array = zarr.create_array(
        str(path), shape=(40, 50), chunks=(40, 50), dtype="u1", zarr_format=version,
        compressors=codec, fill_value=0,
    )  # fmt: skip
    array[...] = noise((40, 50))
    packed = encode(bytes(range(250)) * 8)
    chunk = path / ("0.0" if version == 2 else "c/0/0")
    for damaged in (packed[:12] + stated + packed[16:], packed[:10], packed[:-40]):
        chunk.write_bytes(damaged)
        with (
            images.open_source(path) as source,
            pytest.raises(BadFile, match=r"packed\.zarr: chunk 0/0.*ends early"),
        ):
            source.read()


def test_chunks_inside_shards_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "shards.zarr"
    samples = noise((64, 64))
    array = zarr.create_array(
        str(path), shape=(64, 64), chunks=(16, 16), shards=(32, 32), dtype="u1",
        compressors=codecs.GzipCodec(), fill_value=0,
    )  # fmt: skip
    array[...] = samples
    with images.open_source(path) as source:
        np.testing.assert_array_equal(source.read()[0], samples)


@pytest.mark.parametrize("codec", [{"id": "pickle", "protocol": 5}, {"id": "base64"}])
def test_codecs_that_are_not_known_are_refused(codec: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "odd.zarr"
    array = zarr.create_array(
        str(path), shape=(8, 8), chunks=(8, 8), dtype="u1", zarr_format=2, compressors=None
    )
    array[...] = 7
    text = json.loads((path / ".zarray").read_text())
    for place in ("compressor", "filters"):
        changed = {**text, place: codec if place == "compressor" else [codec]}
        (path / ".zarray").write_text(json.dumps(changed))
        with pytest.raises(BadFile, match=codec["id"]):
            images.open_source(path)
