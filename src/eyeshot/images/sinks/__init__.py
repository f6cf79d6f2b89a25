"""Images written band by band; a run can be resumed, and files are replaced only on request.

:func:`open_sink` opens the sink for a path or an array.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.images.sinks.file_sink import FileSink, Place
from eyeshot.images.sinks.journal import Journal
from eyeshot.images.sinks.sink import (
    STORED_PLAINLY,
    Arrangement,
    ArraySink,
    Sink,
    SinkMemory,
    Storage,
    laid_canonically,
)

SUFFIXES = (".npy", ".png", ".tif", ".tiff", ".zarr")


def open_sink(
    target: Any,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    force: bool = False,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    inputs: Iterable[Path | str] = (),
    squeeze: bool = False,
    arrangement: Arrangement | None = None,
    storage: Storage = STORED_PLAINLY,
) -> Sink:
    """Open an output to be written band by band.

    Args:
        target: a path (``.npy``, ``.png``, ``.tif``, ``.tiff``, ``.zarr``; ``.ome.zarr`` and
            ``.ome.tif`` for a pyramid), an array of that shape and dtype, or None for a new array.
        shape: of the written samples: (C, H, W); (C, L) for a signal, (C, D, H, W) for a volume.
        dtype: the type of the samples.
        force: replace an older output, and delete an unfinished run.
        resume: continue an unfinished run with the same settings, if there is one.
        settings: plain data that determines the samples; a different setting is named and refused.
        inputs: paths of the inputs, which are never overwritten.
        squeeze: store a single channel of ``.npy`` or Zarr without an axis, as PNG and TIFF do.
        arrangement: the order of dimensions, if it is not channels first and then the axes.
        storage: what the samples mean, and how Zarr stores them.

    Raises:
        UnknownName: the suffix is unknown.
        BadValue: the format cannot hold this, or a resumed run had other settings.
        BadFile: the output exists, or its folder does not.
        Failure: the disk is too full.
    """
    kind = np.dtype(dtype)
    if len(shape) not in (2, 3, 4) or min(shape) < 1 or kind.kind not in "biuf":
        raise BadValue(f"an output of {shape} {kind}", cure="give (C, H, W) and a real dtype")
    if target is None or isinstance(target, np.ndarray):
        return ArraySink(shape, kind, target, arrangement)
    if not isinstance(target, str | os.PathLike):
        raise BadValue(f"an output of {type(target).__name__}", cure="give a path or an array")
    place = Place(
        Path(target), force, resume, dict(settings or {}), tuple(Path(path) for path in inputs)
    )
    sink = _choose(
        place, shape, kind, arrangement or laid_canonically(shape, squeeze=squeeze), storage
    )
    sink.open()
    return sink


def sink_memory(
    target: Any,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    arrangement: Arrangement | None = None,
    storage: Storage = STORED_PLAINLY,
) -> Callable[[int], SinkMemory]:
    """A function from the number of columns written at a time to the memory of an output.

    The arguments, and the errors for a wrong suffix or type, are those of :func:`open_sink`;
    nothing is opened.
    """
    kind = np.dtype(dtype)
    if isinstance(target, str | os.PathLike):
        laid = arrangement or laid_canonically(shape, squeeze=False)
        sink = _choose(Place(Path(target)), shape, kind, laid, storage)
        return lambda columns: sink.memory_in_strips(columns)._replace(behind=sink.behind)
    # A new array may not have its memory yet; the pages of a memory map are released.
    size = 0 if isinstance(target, np.memmap) else math.prod(shape) * kind.itemsize
    return lambda columns: SinkMemory(size)


def check_target(
    target: Path, *, force: bool = False, resume: bool = False, inputs: Iterable[Path] = ()
) -> None:
    """Refuse early an output that :func:`open_sink` would refuse for any samples.

    Raises:
        UnknownName: the suffix is unknown.
        BadValue: the output is an input.
        BadFile: it exists, or its folder does not.
    """
    place = Place(target, force, resume, inputs=tuple(inputs))
    if target.suffix.lower() not in SUFFIXES:
        raise _unknown(target)
    place.check()
    # The sink checks a folder in place of a file, and an unfinished run.
    if not place.journal.exists() and (target.suffix.lower() == ".zarr" or not target.is_dir()):
        place.check_free(unfinished=False)


def unfinished(target: Any) -> Mapping[str, Any] | None:
    """The settings of the unfinished run at an output's path, or None."""
    if not isinstance(target, str | os.PathLike):
        return None
    journal = Place(Path(target)).journal
    try:
        return Journal.load(journal).settings if journal.exists() else None
    except (BadFile, OSError):
        return None  # opening the output reports this with its cause


def _choose(
    place: Place,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
    arrangement: Arrangement,
    storage: Storage,
) -> FileSink:
    name, suffix = place.target.name.lower(), place.target.suffix.lower()
    if storage.shard is not None and suffix != ".zarr":
        raise BadValue(f"{place.target}: shards", cure="write .zarr or .ome.zarr")
    if suffix == ".npy":
        from eyeshot.images.sinks.png import NpySink

        return NpySink(place, shape, kind, arrangement)
    if suffix == ".png":
        from eyeshot.images.sinks.png import PngSink

        return PngSink(place, shape, kind, turned=_turned(place, arrangement))
    if name.endswith((".ome.tif", ".ome.tiff")):
        from eyeshot.images.sinks.pyramids import OmeTiffSink

        _turned(place, arrangement)
        return OmeTiffSink(place, shape, kind, storage)
    if suffix in (".tif", ".tiff"):
        from eyeshot.images.sinks.tiff import TiffSink

        turned = _turned(place, arrangement)
        return TiffSink(place, shape, kind, turned=turned, grid=storage.grid)
    if name.endswith(".ome.zarr"):
        from eyeshot.images.sinks.pyramids import OmeZarrSink

        _turned(place, arrangement)
        return OmeZarrSink(place, shape, kind, storage)
    if suffix == ".zarr":
        from eyeshot.images.sinks.zarrays import ZarrSink

        return ZarrSink(place, shape, kind, arrangement, storage)
    raise _unknown(place.target)


def _turned(place: Place, arrangement: Arrangement) -> bool:
    """Whether the rows of the written samples are the columns of a picture.

    Raises:
        BadValue: the array is not a picture: it has several feature dimensions.
    """
    if len(arrangement.features) > 1:
        sizes = " x ".join(map(str, arrangement.sizes))
        raise BadValue(
            f"{place.target}: a picture has one channel dimension, and the output is {sizes}",
            cure="write .npy or .zarr",
        )
    return arrangement.space == (1, 0)


def _unknown(target: Path) -> UnknownName:
    return UnknownName("output suffix", target.suffix.lower(), SUFFIXES).at(str(target))
