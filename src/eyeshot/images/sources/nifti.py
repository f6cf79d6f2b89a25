"""NIfTI volumes (``.nii``, ``.nii.gz``), read by windows with nibabel.

Voxels stay in the order of the file: (X, Y, Z) becomes (D, H, W) = (Z, Y, X), and nothing is
turned or mirrored. A further axis is time (``--index T=3``), the fifth is channels.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue
from eyeshot.extras import extra
from eyeshot.images.layouts import Layout, Span
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sources.source import OpenFile, Selection, Source

SUFFIXES = (".nii", ".nii.gz")
_AXES = "XYZTC"
_SPACE = 3
_MEANING = {"X": "W", "Y": "H", "Z": "D"}
_UNITS = {1: "meter", 2: "millimeter", 3: "micrometer"}
"""By the code in the header (NIfTI-1, xyzt_units)."""
_DAMAGED = (OSError, EOFError, ValueError, TypeError, KeyError, struct.error, zlib.error)


class NiftiSource(Source):
    """Windows of a NIfTI volume: (C, d, h, w), in the file's own unit, such as Hounsfield units.

    Samples are floats: what 32767 would mean for a file of 16 bits says nothing of its voxels, and
    the same scan may be stored as whole numbers or with a slope. Masks keep their whole numbers.

    A ``.nii.gz`` is decompressed from its beginning whenever a window lies before the one read
    last: in one strip, once.
    """

    def __init__(
        self, path: Path, volume: Any, file: OpenFile, layout: Layout, *, codes: bool
    ) -> None:
        stored = np.dtype(volume.get_data_dtype()).newbyteorder("=")
        proxy = volume.dataobj
        scaled = (proxy.slope, proxy.inter) != (1, 0)
        unchanged = codes and not scaled and stored.kind in "iu"
        dtype = stored if unchanged else np.dtype(np.int64 if codes else _float_for(stored))
        super().__init__(str(path), layout, dtype)
        self._path, self._proxy, self._file, self._codes = (
            path,
            proxy,
            file,
            codes and not unchanged,
        )
        self.grid = _grid(volume.header, layout)
        self.directions = _directions(volume)[::-1]
        towards = ", ".join(letter or "?" for letter in self.directions)
        self.notes = (
            f"voxels as stored: axes Z, Y, X towards {towards}"
            + (", scaled by the header's slope and intercept" if scaled else ""),
        )
        self.memory = 2 * math.prod(layout.stored[:2]) * stored.itemsize

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """Scaled samples stand as float64 before they are float32."""
        return super().window_memory(shape) * 4

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._file.check_unchanged()
        box = self._layout.box(spans)
        try:
            block = np.asarray(self._proxy[tuple(slice(lo, hi) for lo, hi in box)])
        except _DAMAGED as error:
            raise _damaged(self._path, error) from error
        if self._codes and not (np.isfinite(block).all() and (block == np.rint(block)).all()):
            raise BadFile(
                f"{self._path}: holds numbers that are not whole, and a mask is expected",
                cure="save the classes as whole numbers",
            )
        return self._layout.arrange(block.astype(self.dtype, copy=False))

    def identity(self) -> dict[str, Any]:
        """The file's."""
        return self._file.identity()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_nifti(path: Path) -> bool:
    """Whether a file's name says that it is a NIfTI volume."""
    return suffix_of(path).lower() in SUFFIXES


def suffix_of(path: Path) -> str:
    """A file's suffix, where ``.nii.gz`` is one."""
    both = "".join(path.suffixes[-2:])
    return both if both.lower() in SUFFIXES else path.suffix


def open_nifti(path: Path, selection: Selection) -> Source:
    """A source over a NIfTI file.

    Raises:
        BadFile: damaged, truncated, or not an array of real numbers.
        BadValue: no such level, series or position.
        Failure: nibabel is not installed.
    """
    selection.check_flat(path)
    with extra("nifti"):
        import nibabel
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError
    file = OpenFile(path)
    try:
        try:
            volume = nibabel.load(path, keep_file_open=True)
            shape = tuple(int(n) for n in volume.shape)
            dtype = np.dtype(volume.get_data_dtype())
        except (ImageFileError, HeaderDataError, *_DAMAGED) as error:
            raise _damaged(path, error) from error
        if min(shape, default=0) < 1:
            raise _damaged(path, ValueError(f"a shape of {shape}"))
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise BadFile(
                f"{path}: holds {dtype.name} voxels", cure="save them as whole numbers or float32"
            )
        if not 2 <= len(shape) <= len(_AXES):
            raise BadFile(f"{path}: has {len(shape)} axes", cure="a volume has 3, 4 or 5")
        _check_length(path, file, volume, math.prod(shape) * dtype.itemsize)
        layout = _layout(path, shape, selection)
        return NiftiSource(path, volume, file, layout, codes=selection.indices)
    except BaseException:
        file.close()
        raise


def _float_for(stored: np.dtype[Any]) -> type[np.floating[Any]]:
    """The float that holds the stored numbers."""
    return np.float64 if stored.itemsize > (2 if stored.kind in "iu" else 4) else np.float32


def _check_length(path: Path, file: OpenFile, volume: Any, size: int) -> None:
    """Refuse a header that promises more than an uncompressed file holds."""
    needed = volume.dataobj.offset + size
    if path.name.lower().endswith(".nii") and file.size < needed:
        raise BadFile(
            f"{path}: has {file.size} bytes and its header promises {needed}",
            cure="it is truncated; copy it again",
        )


def _layout(path: Path, shape: tuple[int, ...], selection: Selection) -> Layout:
    """What the axes mean: X, Y and Z are never taken for channels.

    Raises:
        BadFile: there is a time or a slice to choose.
        BadValue: a layout is given, or an index that does not fit.
    """
    extents = dict(zip(_AXES, shape, strict=False))
    if selection.layout is not None:
        raise BadValue(
            f"{path}: layout {selection.layout}",
            cure=f"leave it out: its axes are {''.join(extents)}",
        )
    index = dict(selection.index)
    if extents.get("T") == 1:
        index.setdefault("T", 0)
    elif "T" in extents and "T" not in index:
        raise BadFile(
            f"{path}: holds {extents['T']} times (axes {''.join(extents)}), and one is read",
            cure=f"choose one by --index: T=0 to T={extents['T'] - 1}",
        )
    if extents.get("Z") == 1 and selection.space != _SPACE:
        index.setdefault("Z", 0)
    if selection.space == 2 and "Z" in extents and "Z" not in index:
        raise BadFile(
            f"{path}: a volume of {' x '.join(map(str, shape[:_SPACE]))} voxels, and a picture is "
            "expected",
            cure=f"choose a slice by --index, Z=0 to Z={extents['Z'] - 1}, or use --per-slice",
        )
    letters = "".join(axis if axis in index else _MEANING.get(axis, axis) for axis in extents)
    layout = replace(selection, layout=letters, index=index).understand(path, shape, None)
    return replace(layout, why=f"the file names its axes {''.join(extents)}")


def _grid(header: Any, layout: Layout) -> PixelGrid | None:
    """Voxel sizes along the axes of space that are read; None if they cannot be meant."""
    named = dict(zip(layout.axes, header.get_zooms()[:_SPACE], strict=False))
    code = int(header["xyzt_units"]) % 8  # of space; time has the bits above
    sizes = tuple(float(named[axis]) for axis in "DHW" if axis in named)
    if not sizes or not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    unit = _UNITS.get(code)
    return PixelGrid(sizes, (0.0,) * len(sizes), (unit,) * len(sizes))


def _directions(volume: Any) -> tuple[str | None, ...]:
    """The side of the body towards which X, Y and Z run: R or L, A or P, S or I."""
    import nibabel

    try:
        found: tuple[str | None, ...] = nibabel.aff2axcodes(volume.affine)
    except (np.linalg.LinAlgError, ValueError):  # the affine holds NaN
        return (None,) * _SPACE
    return found


def _damaged(path: Path, error: Exception) -> BadFile:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BadFile(f"{path}: truncated or damaged ({reason})", cure="copy or export it again")
