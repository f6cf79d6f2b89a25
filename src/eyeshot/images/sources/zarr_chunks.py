"""Zarr versions 2 and 3, plain or OME-Zarr, read by chunks.

A chunk is decompressed only with known codecs, and never to more bytes than its shape allows.
"""

from __future__ import annotations

import asyncio
import bz2
import dataclasses
import hashlib
import lzma
import math
import os
import warnings
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.extras import extra
from eyeshot.files import explain_os_error
from eyeshot.images.layouts import Layout
from eyeshot.images.limits import WHOLE_LIMIT, damage_named
from eyeshot.images.pixel_grid import grid_of_ome_zarr
from eyeshot.images.sources.source import ChunkIndex, GridSource, Selection, Source

if TYPE_CHECKING:
    from eyeshot.images.sources.remote import RemoteZarr

with extra("images"):
    import imagecodecs
    import zarr
    from numcodecs.abc import Codec
    from zarr.abc.codec import BytesBytesCodec
    from zarr.codecs import ShardingCodec
    from zarr.core.metadata import ArrayV2Metadata

_LZMA_MEMORY = 2**28
_BLOSC_HEADER = 16  # bytes: versions, flags, and three sizes
_SAFE = {
    "bytes", "endian", "transpose", "crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3",
    "astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle",
}  # fmt: skip
"""Codecs whose output is at most eight times their input."""


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, with the decompression of its chunks limited to their size.

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
    inner: Any = array._async_array  # it has no public name before zarr 3.1
    return zarr.Array(type(inner)(changed, inner.store_path))


def _bounded_v3(codecs: Any, shape: tuple[int, ...], itemsize: int) -> tuple[Any, ...]:
    most = math.prod(shape) * itemsize + _SLACK
    bounded: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner = _bounded_v3(codec.codecs, codec.chunk_shape, itemsize)
            index = _bounded_v3(codec.index_codecs, (2 * math.prod(shape),), 8)
            bounded.append(dataclasses.replace(codec, codecs=inner, index_codecs=index))
            continue
        name = str(codec.to_dict()["name"]).removeprefix("numcodecs.")
        bounded.append(codec if name in _SAFE else _BoundedBytes(codec, _unpacker(name), most))
    return tuple(bounded)


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
        """The configuration of the array's own codec."""
        found: dict[str, Any] = self.codec.to_dict()
        return found


def _native(codec: Any) -> Any:
    """The numcodecs codec behind one of zarr's own codecs."""
    return getattr(codec, "_blosc_codec", None)


class _BoundedCodec(Codec):  # type: ignore[misc]
    """A codec of version 2."""

    codec_id = "bounded"

    def __init__(self, codec: Any, unpack: Unpack, most: int) -> None:
        self._codec, self._unpack, self._most = codec, unpack, most

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The decompressed bytes of ``buf``."""
        return self._unpack(bytes(np.asarray(buf).data), self._most, self._codec)

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError("arrays opened here are only read")

    def get_config(self) -> dict[str, Any]:
        """The configuration of the array's own codec."""
        found: dict[str, Any] = self._codec.get_config()
        return found


def _refuse(most: int) -> ValueError:
    return ValueError(f"unpacks into more than the {most} bytes that its grid promises")


def _by_zlib(packed: bytes, most: int, _: Any) -> bytes:
    """Decompress all members of gzip or zlib data; appending to a file writes several."""
    parts, count = [], 0
    while packed:
        unpacker = zlib.decompressobj(wbits=47)
        part = unpacker.decompress(packed, most + 1 - count)
        count += len(part)
        if count > most:
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
        raise ValueError("raw LZMA, whose decompressed size cannot be limited")
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


def _by_blosc(packed: bytes, most: int, codec: Any) -> bytes:
    """Decompress, but check the stated length first: Blosc reads beyond the end of the data."""
    if len(packed) < _BLOSC_HEADER or int.from_bytes(packed[12:16], "little") > len(packed):
        raise ValueError("ends early")
    return _by_stated_size(4)(packed, most, codec)


_UNPACKERS: dict[str, Unpack] = {
    "gzip": _by_zlib,
    "zlib": _by_zlib,
    "bz2": _by_bz2,
    "lzma": _by_lzma,
    "zstd": _by_zstd,
    "blosc": _by_blosc,
    "lz4": _by_stated_size(0),
}


with extra("images"):
    import zarr

_SLACK = 2**16  # bytes
_METADATA = ("zarr.json", ".zarray", ".zgroup")


class ZarrSource(GridSource):
    """One Zarr array, chunk by chunk; a missing chunk is its fill value, as Zarr defines."""

    def __init__(self, place: ZarrPlace, array: zarr.Array[Any], layout: Layout) -> None:
        super().__init__(str(place), layout, array.dtype, array.chunks)
        if np.prod(self._chunk, dtype=float) * self.dtype.itemsize > WHOLE_LIMIT:
            raise BadFile(f"{place}: claims chunks of {self._chunk}", cure="store smaller chunks")
        self._where = place
        self._array = array
        self._stamp = place.stamp()

    def _decode(self, index: ChunkIndex) -> NDArray[Any]:
        if self._where.stamp() != self._stamp:
            raise BadFile(
                f"{self._where}: its metadata changed while it was read",
                cure="wait until it is written, then start again",
            )
        extent = [self._extent(index, axis) for axis in range(len(index))]
        with damage_named(self.name, f"chunk {'/'.join(map(str, index))}"), self._where.asked():
            self._check_stored(index)
            block = np.asarray(self._array[tuple(slice(lo, hi) for lo, hi in extent)])
        return block.astype(self.dtype, copy=False)

    def _check_stored(self, index: ChunkIndex) -> None:
        """Refuse a chunk that is larger compressed than decompressed: zarr would read all of it."""
        shape = self._array.shards or self._array.chunks
        inner = (side // own for side, own in zip(shape, self._array.chunks, strict=True))
        outer = tuple(place // count for place, count in zip(index, inner, strict=True))
        key = self._array.metadata.encode_chunk_key(outer)
        stored = self._where.stored_bytes(f"{self._array.path}/{key}".lstrip("/"))
        promised = math.prod(shape) * max(8, self.dtype.itemsize)
        if stored > 2 * promised + _SLACK:
            raise ValueError(f"takes {stored} bytes and promises {promised}")

    def identity(self) -> dict[str, Any]:
        """The place, the array, and the state of the stored data."""
        return {
            **self._where.identity(self._array),
            "array": self._array.path,
            "shape": list(self._array.shape),
        }


def _stamp(path: Path) -> list[int]:
    """Length and time of change of the metadata files at the top of the folder."""
    found: list[int] = []
    for name in _METADATA:
        file = path / name
        if file.exists():
            status = file.stat()
            found += [status.st_size, status.st_mtime_ns]
    return found


def _chunks_stamp(folder: Path) -> str:
    """A digest of the name, length and time of change of every file in an array's folder."""
    digest = hashlib.blake2b(digest_size=16)
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            status = (Path(place) / name).stat()
            digest.update(os.fsencode(f"{place}/{name}"))
            digest.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class LocalZarr:
    """A Zarr array or group in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def open(self) -> Any:
        """The array or the group.

        Raises:
            BadFile: there is none.
        """
        if not self._path.is_dir():
            raise explain_os_error(FileNotFoundError(), self._path)
        if not any((self._path / name).exists() for name in _METADATA):
            raise BadFile(
                f"{self._path}: a folder without Zarr metadata", cure="name a Zarr folder"
            )
        return zarr.open(str(self._path), mode="r")

    def asked(self) -> nullcontext[None]:
        """A context for reading files; local files need none."""
        return nullcontext()

    def stamp(self) -> list[int]:
        """The state of the metadata files."""
        return _stamp(self._path)

    def stored_bytes(self, key: str) -> int:
        """The length of a file in bytes; 0 if it does not exist."""
        file = self._path / key
        return file.stat().st_size if file.is_file() else 0

    def identity(self, array: zarr.Array[Any]) -> dict[str, Any]:
        """The folder, and the state of all files of an array."""
        return {
            "path": str(self._path.resolve()),
            "metadata": self.stamp(),
            "chunks": _chunks_stamp(self._path / array.path),
        }


ZarrPlace: TypeAlias = "LocalZarr | RemoteZarr"


def open_zarr(path: Path | str, selection: Selection) -> Source:
    """A source over a Zarr array, or over one level of an OME-Zarr image.

    Args:
        path: the path of a folder, or a URL as text.
        selection: the requested part.

    Raises:
        BadFile: the folder is not Zarr, is damaged, uses a codec that is not supported, or is a
            group in which no single image can be identified.
        BadValue: there is no such series, level or position, or the protocol is not supported.
        Failure: a server did not answer.
    """
    place: ZarrPlace
    if isinstance(path, str):
        from eyeshot.images.sources.remote import RemoteZarr

        place = RemoteZarr(path)
    else:
        place = LocalZarr(path)
    path = str(place)
    with damage_named(path), place.asked():
        opened = place.open()
    notes: tuple[str, ...] = ()
    image: dict[str, Any] | None = None
    if isinstance(opened, zarr.Group):
        with place.asked():
            array, names, image, notes = _choose_from_group(place, opened, selection)
    else:
        array = opened
        names = _dimension_names(array)
        selection.check_flat(path)
    if array.dtype.kind not in "biuf":
        raise BadFile(f"{path}: holds {array.dtype}", cure="an image holds real numbers")
    order = selection.understand(path, tuple(array.shape), names)
    try:
        source = ZarrSource(place, bounded(array), order)
    except BadFile as error:
        raise error if path in error.fact else error.at(path) from None
    source.part = selection.part(selection.series or 0)
    source.notes = notes
    if image is not None:
        source.grid = grid_of_ome_zarr(image, selection.level, order, names)
    return source


def _choose_from_group(
    place: ZarrPlace, group: zarr.Group, selection: Selection
) -> tuple[zarr.Array[Any], str | None, dict[str, Any] | None, tuple[str, ...]]:
    """The array of a level of an OME image, its axes, its metadata and notes; without OME images,
    the group's only array."""
    path = str(place)
    with damage_named(path, "its attributes"):
        images = _images_of(group)
    if not images:
        return _only_array(place, group), None, None, ()
    series = selection.check_series(path, len(images))
    owner, image = images[series]
    with damage_named(path, "its attributes"):
        levels = [entry["path"] for entry in image["datasets"]]
        axes = image.get("axes", "TCZYX")  # the default before version 0.4
        names = "".join(axis["name"] if isinstance(axis, dict) else axis for axis in axes)
    level = selection.check_level(path, len(levels))
    with damage_named(path, f"level {level}"):
        array = owner[levels[level]]
        if not isinstance(array, zarr.Array):
            raise ValueError(f"{levels[level]!r} is not an array")
    notes: tuple[str, ...] = ()
    if len(images) > 1 and selection.series is None:
        more = ", --series N reads N" if selection.offered else ""
        notes = (f"holds {len(images)} images; series 0 is read{more}",)
    return array, names if len(names) == len(array.shape) else None, image, notes


def _images_of(group: zarr.Group) -> list[tuple[zarr.Group, dict[str, Any]]]:
    """The OME images of a group: its own, or those of the groups 0, 1, 2 … in it."""
    own = _multiscales(group)
    if own:
        return [(group, image) for image in own]
    found: list[tuple[zarr.Group, dict[str, Any]]] = []
    while str(len(found)) in group:
        inner = group[str(len(found))]
        if not isinstance(inner, zarr.Group) or not (images := _multiscales(inner)):
            break
        found.append((inner, images[0]))
    return found


def _multiscales(group: zarr.Group) -> list[dict[str, Any]]:
    attributes: dict[str, Any] = group.attrs.asdict()
    scales: list[dict[str, Any]] = attributes.get("ome", attributes).get("multiscales", [])
    return scales


def _only_array(place: ZarrPlace, group: zarr.Group) -> zarr.Array[Any]:
    if not isinstance(place, LocalZarr):
        raise BadFile(f"{place}: a group without OME metadata", cure="name one array's URL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that do not belong to Zarr
        arrays = dict(group.arrays())
    if len(arrays) != 1:
        listed = ", ".join(sorted(arrays)[:_MOST_LISTED]) or "none"
        raise BadFile(f"{place}: a group with the arrays {listed}", cure="name one array's folder")
    return next(iter(arrays.values()))


_MOST_LISTED = 20

_WORDS = {"channel": "C", "c": "C", "z": "Z", "depth": "D", "y": "Y", "h": "H", "height": "H",
          "x": "X", "w": "W", "width": "W", "t": "T", "time": "T"}  # fmt: skip


def _dimension_names(array: zarr.Array[Any]) -> str | None:
    """The names that a version 3 array gives its axes, as letters; None unless all are known."""
    names = getattr(array.metadata, "dimension_names", None)
    if not names or not all(name and name.lower() in _WORDS for name in names):
        return None
    return "".join(_WORDS[name.lower()] for name in names)
