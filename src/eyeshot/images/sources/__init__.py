"""Images that are read by windows; each stored sample is decoded once.

:func:`open_source` opens the source for a path, a URL or an array.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, TypeGuard

from eyeshot.images.layouts import Index
from eyeshot.images.limits import NPY_START, PNG_START, TIFF_STARTS, first_bytes
from eyeshot.images.sources.arrays import open_array
from eyeshot.images.sources.nifti import is_nifti, open_nifti
from eyeshot.images.sources.source import Selection, Source, select


def open_source(
    image: Any,
    *,
    level: int = 0,
    layout: str | None = None,
    space: int | None = None,
    series: int | None = None,
    index: Index | None = None,
) -> Source:
    """Open an image to be read by windows.

    Args:
        image: a path, a URL of Zarr, a NumPy array or memory map, a CPU tensor, a Pillow image, or
            a Source, which is returned.
            Files: PNG, TIFF (BigTIFF, OME-TIFF), ``.npy``, Zarr (OME-Zarr), NIfTI and
            ``.wav`` are streamed; JPEG and other pictures are decoded whole, within
            ``WHOLE_LIMIT``. Zarr also as ``https://…``, ``s3://…`` or
            ``zip://INSIDE::FILE.zip``.
        level: which level of a pyramid, 0 the largest.
        layout: what the axes mean (``"HWC"``, ``"CHW"``, ``"HW"``, ``"DHW"``, …); without it,
            see :func:`eyeshot.images.layouts.understand`.
        space: the expected number of spatial axes.
        series: the number of an image in a file with several, or of a frame; None for the first,
            and the source's notes list the others.
        index: positions along the other axes of a stack, by the file's letters: ``"T=3"``,
            ``"T=3,C=0"`` or ``{"T": 3, "C": 0}``.

    Raises:
        BadFile: the file is missing, damaged, truncated, not an image, or too large.
        BadValue: the layout, level, series or position is unknown, or the URL's protocol.
        Failure: a server did not answer.
    """
    if isinstance(image, Source):
        return image
    if not isinstance(image, str | os.PathLike):
        return open_array(image, layout=layout, space=space, index=index)
    selection = select(series, level, index, layout, space)
    return open_file(image if is_url(image) else Path(image), selection)


def is_url(image: Any) -> TypeGuard[str]:
    """Whether an image is named by a URL, or by a chained URL of fsspec."""
    return isinstance(image, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:[:/]", image) is not None


def open_file(path: Path | str, selection: Selection) -> Source:
    """Open the image in a file or folder, or behind a URL; see :func:`open_source`."""
    source = _opened(path, selection)
    if source.pages:
        note = selection.page_note(source.pages, source.shape[0])
        source.notes = (*source.notes, note)
    return source


def _opened(path: Path | str, selection: Selection) -> Source:
    if isinstance(path, str) or path.is_dir():
        from eyeshot.images.sources.zarr_chunks import open_zarr

        return open_zarr(path, selection)
    start = first_bytes(path)
    if is_nifti(path):
        return open_nifti(path, selection)
    if start.startswith(TIFF_STARTS):
        from eyeshot.images.sources.tiff_segments import open_tiff

        return open_tiff(path, selection)
    if start.startswith(b"RIFF") and start[8:12] == b"WAVE":
        from eyeshot.images.sources.arrays import open_sound

        return open_sound(path, selection)
    if start.startswith(NPY_START):
        from eyeshot.images.sources.arrays import open_npy

        return open_npy(path, selection)
    if start.startswith(PNG_START):
        from eyeshot.images.sources.png_rows import open_png

        streamed = open_png(path, selection)
        if streamed is not None:
            return streamed
    from eyeshot.images.sources.converted import open_decoded

    return open_decoded(path, selection)
