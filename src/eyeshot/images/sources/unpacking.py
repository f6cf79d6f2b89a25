"""Decompression of Zarr's chunks, limited to the grid's size and to known codecs.

A codec that unpickles runs code from the file; a codec without a size limit can use all memory.
So each codec of an array is checked here before a chunk is read: codecs that only rearrange numbers
are kept, decompression is limited, and any other codec is refused by name.
"""

from __future__ import annotations

import asyncio
import bz2
import dataclasses
import lzma
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eyeshot.errors import BadFile
from eyeshot.extras import extra

with extra("images"):
    import imagecodecs
    import zarr
    from numcodecs.abc import Codec
    from zarr.abc.codec import BytesBytesCodec
    from zarr.codecs import ShardingCodec
    from zarr.core.metadata import ArrayV2Metadata

_SLACK = 2**16  # bytes: checksums, and what a codec adds to the samples
_LZMA_MEMORY = 2**28
_SAFE = {
    "bytes", "endian", "transpose", "crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3",
    "astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle",
}  # fmt: skip
"""Codecs whose output is at most eight times their input."""


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, with the decompression of its chunks limited to the grid's size.

    Raises:
        BadFile: it uses an unknown codec.
    """
    meta: Any = array.metadata
    itemsize = max(8, array.dtype.itemsize)
    if isinstance(meta, ArrayV2Metadata):
        most = math.prod(array.chunks) * itemsize + _SLACK
        changed: Any = dataclasses.replace(
            meta,
            compressor=_bounded_v2(meta.compressor, most) if meta.compressor else None,
            filters=tuple(_bounded_v2(one, most) for one in meta.filters or ()) or None,
        )
    else:
        shape = array.shards or array.chunks
        changed = dataclasses.replace(meta, codecs=_bounded_v3(meta.codecs, shape, itemsize))
    inner: Any = array._async_array  # the public name for it is younger than zarr 3.1
    return zarr.Array(type(inner)(changed, inner.store_path))


def _bounded_v3(codecs: Any, shape: tuple[int, ...], itemsize: int) -> tuple[Any, ...]:
    most = math.prod(shape) * itemsize + _SLACK
    kept: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner = _bounded_v3(codec.codecs, codec.chunk_shape, itemsize)
            index = _bounded_v3(codec.index_codecs, (2 * math.prod(shape),), 8)
            kept.append(dataclasses.replace(codec, codecs=inner, index_codecs=index))
            continue
        name = str(codec.to_dict()["name"]).removeprefix("numcodecs.")
        kept.append(codec if name in _SAFE else _BoundedBytes(codec, _unpacker(name), most))
    return tuple(kept)


def _bounded_v2(codec: Any, most: int) -> Any:
    name = str(codec.codec_id)
    return codec if name in _SAFE else _BoundedCodec(codec, _unpacker(name), most)


Unpack = Callable[[bytes, int, Any], bytes]
"""Decompress bytes, up to a limit, with the array's codec."""


def _unpacker(name: str) -> Unpack:
    if name not in _UNPACKERS:
        raise BadFile(
            f"is stored by the codec {name!r}, which is not decoded",
            cure="store it with blosc, zstd, gzip or without compression",
        )
    return _UNPACKERS[name]


@dataclass(frozen=True)
class _BoundedBytes(BytesBytesCodec):
    """A codec of version 3."""

    codec: Any
    unpack: Unpack
    most: int
    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        packed = chunk_bytes.to_bytes()
        native = getattr(self.codec, "_codec", None) or _native(self.codec)
        data = await asyncio.to_thread(self.unpack, packed, self.most, native)
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        raise NotImplementedError("arrays opened here are only read")

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As the array names it."""
        found: dict[str, Any] = self.codec.to_dict()
        return found


def _native(codec: Any) -> Any:
    """The codec of numcodecs that does the work of one of zarr's own."""
    return getattr(codec, "_blosc_codec", None)


class _BoundedCodec(Codec):  # type: ignore[misc]
    """A codec of version 2."""

    codec_id = "bounded"

    def __init__(self, codec: Any, unpack: Unpack, most: int) -> None:
        self._codec, self._unpack, self._most = codec, unpack, most

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The bytes that ``buf`` was packed from."""
        return self._unpack(bytes(np.asarray(buf).data), self._most, self._codec)

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError("arrays opened here are only read")

    def get_config(self) -> dict[str, Any]:
        """As the array names it."""
        found: dict[str, Any] = self._codec.get_config()
        return found


def _refuse(most: int) -> ValueError:
    return ValueError(f"unpacks into more than the {most} bytes that its grid promises")


def _by_zlib(packed: bytes, most: int, _: Any) -> bytes:
    """One member of gzip or zlib after the other, as they are written by appending."""
    parts, have = [], 0
    while packed:
        unpacker = zlib.decompressobj(wbits=47)
        part = unpacker.decompress(packed, most + 1 - have)
        have += len(part)
        if have > most:
            raise _refuse(most)
        if not unpacker.eof:
            raise ValueError("ends early")
        parts.append(part)
        packed = unpacker.unused_data
    return b"".join(parts)


def _by_bz2(packed: bytes, most: int, _: Any) -> bytes:
    return _whole(bz2.BZ2Decompressor(), packed, most)


def _by_lzma(packed: bytes, most: int, codec: Any) -> bytes:
    if codec.format == lzma.FORMAT_RAW:
        raise ValueError("raw LZMA, whose size nothing bounds")
    return _whole(lzma.LZMADecompressor(codec.format, memlimit=_LZMA_MEMORY), packed, most)


def _whole(unpacker: Any, packed: bytes, most: int) -> bytes:
    data: bytes = unpacker.decompress(packed, most + 1)
    if len(data) > most:
        raise _refuse(most)
    if not unpacker.eof:
        raise ValueError("ends early")
    return data


def _by_zstd(packed: bytes, most: int, _: Any) -> bytes:
    return bytes(imagecodecs.zstd_decode(packed, out=most))


def _by_stated_size(at: int) -> Unpack:
    """For codecs that write the size before the data, as four bytes at ``at``."""

    def unpack(packed: bytes, most: int, codec: Any) -> bytes:
        stated = int.from_bytes(packed[at : at + 4], "little")
        if len(packed) < at + 4 or stated > most:
            raise _refuse(most)
        return bytes(codec.decode(packed))

    return unpack


_UNPACKERS: dict[str, Unpack] = {
    "gzip": _by_zlib,
    "zlib": _by_zlib,
    "bz2": _by_bz2,
    "lzma": _by_lzma,
    "zstd": _by_zstd,
    "blosc": _by_stated_size(4),
    "lz4": _by_stated_size(0),
}
