"""Every sink: bands and strips give the very bytes of one whole write; nothing is overwritten."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from eyeshot import files, images
from eyeshot.errors import BadFile, BadValue, Failure, UnknownName
from tests.networks import examples

from .conftest import Array, noise

# name -> suffix, shape, dtype, squeeze
KINDS: dict[str, tuple[str, tuple[int, ...], Any, bool]] = {
    "npy": (".npy", (3, 530, 61), np.float32, False),
    "npy of one channel": (".npy", (1, 530, 61), np.uint8, True),
    "npy volume": (".npy", (2, 31, 12, 9), np.float64, False),
    "npy signal": (".npy", (2, 530), np.float32, False),
    "png gray": (".png", (1, 90, 61), np.uint8, False),
    "png deep color": (".png", (3, 90, 61), np.uint16, False),
    "tiff gray": (".tif", (1, 530, 610), np.uint8, False),
    "tiff color": (".tif", (3, 530, 300), np.uint16, False),
    "tiff color and alpha": (".tif", (4, 90, 300), np.uint8, False),
    "tiff planes": (".tiff", (5, 290, 300), np.float32, False),
    "zarr": (".zarr", (3, 1030, 600), np.uint8, False),
    "zarr planes": (".zarr", (6, 530, 30), np.float32, False),
    "zarr of one channel": (".zarr", (1, 530, 61), np.uint8, True),
    "zarr volume": (".zarr", (2, 70, 66, 65), np.uint8, False),
    "OME-Zarr": (".ome.zarr", (3, 1030, 600), np.uint8, False),
    "OME-Zarr planes": (".ome.zarr", (5, 530, 40), np.float16, False),
    "OME-Zarr volume": (".ome.zarr", (2, 70, 70, 65), np.float32, False),
    "OME-TIFF": (".ome.tif", (1, 1030, 600), np.uint8, False),
    "OME-TIFF color": (".ome.tif", (3, 60, 530), np.uint8, False),
    "OME-TIFF planes": (".ome.tiff", (5, 530, 40), np.float32, False),
    "OME-TIFF volume": (".ome.tif", (2, 3, 40, 530), np.uint16, False),
    "OME-Zarr of a pixel": (".ome.zarr", (1, 1, 1), np.int32, False),
    "zarr signal": (".zarr", (2, 70000), np.float32, False),
}


def put(
    path: Path,
    array: Array,
    squeeze: bool,
    bands: list[int],
    cuts: list[int],
    *,
    by_turns: bool = False,
) -> None:
    """Write ``array`` by bands between ``bands``, in strips between ``cuts``."""
    blocks = [(top, left) for left in pairwise(cuts) for top in pairwise(bands)]
    if by_turns:
        blocks.sort()
    with images.open_sink(path, array.shape, array.dtype, squeeze=squeeze) as sink:
        for (top, bottom), (left, right) in blocks:
            part = array[:, top:bottom]
            sink.write(top, part[:, :, left:right] if array.ndim > 2 else part, left)
        assert sink.finish() == path


def content(path: Path) -> dict[str, bytes]:
    """Every byte of a file or folder."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    inner = st.integers(1, max(1, length - 1))
    return sorted({0, length, *draw(st.lists(inner, max_size=6))})


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    suffix, shape, dtype, squeeze = KINDS[name]
    array, path = noise(shape, dtype), tmp_path / f"out{suffix}"
    put(path, array, squeeze, [0, shape[1]], [0, shape[2] if len(shape) > 2 else 1])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with images.open_source(path, space=len(shape) - 1) as source:
        assert source.shape == shape
        np.testing.assert_array_equal(source.read(), array)


@pytest.mark.parametrize("name", KINDS)
@examples(6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bands_and_strips_give_the_bytes_of_one_whole_write(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix, shape, dtype, squeeze = KINDS[name]
    folder, array = tmp_path_factory.mktemp("sinks"), noise(shape, dtype)
    width = shape[2] if len(shape) > 2 else 1
    put(folder / f"whole{suffix}", array, squeeze, [0, shape[1]], [0, width])
    bands, strips = data.draw(cuts(shape[1])), data.draw(cuts(width))
    put(folder / f"parts{suffix}", array, squeeze, bands, strips, by_turns=data.draw(st.booleans()))
    assert content(folder / f"parts{suffix}") == content(folder / f"whole{suffix}")


def test_tiff_is_read_by_tifffile_as_it_was_meant(tmp_path: Path) -> None:
    for shape, meant in [((3, 300, 270), (300, 270, 3)), ((5, 300, 270), (5, 300, 270))]:
        path, array = tmp_path / f"{shape[0]}.tif", noise(shape)
        put(path, array, False, [0, 300], [0, 270])
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_bigtiff
            assert tiff.pages.first.is_tiled
            expected = array.transpose(1, 2, 0) if len(meant) == 3 and meant[-1] == 3 else array
            np.testing.assert_array_equal(tiff.asarray(), expected)


@pytest.mark.parametrize(("shape", "dtype"), [((3, 90, 61), np.uint8), ((2, 90, 61), np.uint16)])
def test_png_is_read_by_others(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    path, array = tmp_path / "out.png", noise(shape, dtype)
    put(path, array, False, [0, 41, 90], [0, 61])
    np.testing.assert_array_equal(images.read(path), array.transpose(1, 2, 0))


def test_an_array_is_filled_or_made(tmp_path: Path) -> None:
    array = noise((2, 9, 7))
    mapped = np.lib.format.open_memmap(tmp_path / "m.npy", "w+", array.dtype, array.shape)
    for target in (None, np.empty_like(array), mapped):
        sink = images.open_sink(target, array.shape, array.dtype)
        sink.write(0, array[:, :4])
        sink.write(4, array[:, 4:])
        np.testing.assert_array_equal(sink.finish(), array)
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), array)


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".zarr", ".ome.zarr", ".ome.tif"])
def test_an_output_that_exists_is_replaced_only_when_asked(suffix: str, tmp_path: Path) -> None:
    path, old, new = tmp_path / f"out{suffix}", noise((1, 9, 7)), noise((1, 9, 7), seed=1)
    put(path, old, False, [0, 9], [0, 7])
    before = content(path)
    with pytest.raises(BadFile, match="exists already; --force"):
        images.open_sink(path, (1, 9, 7), np.uint8)
    with images.open_sink(path, (1, 9, 7), np.uint8, force=True) as sink:
        sink.write(0, new)
        assert content(path) == before, "the old output stays until the new one is complete"
        sink.finish()
    np.testing.assert_array_equal(images.open_source(path).read(), new)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_old_file_is_freed_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name has the new bytes at once; who has it open reads the old ones as long as needed."""
    monkeypatch.setattr(files, "_LARGE", 1)
    closed: list[int] = []
    monkeypatch.setattr(files, "Thread", _at_once(closed))
    for old in ("plain", "link", "folder", None):
        new, target = tmp_path / "new", tmp_path / "old"
        new.write_bytes(b"new")
        if old == "plain":
            target.write_bytes(b"old")
        elif old == "link":
            target.symlink_to(tmp_path / "elsewhere")
        elif old == "folder":
            target.mkdir()
            with pytest.raises(IsADirectoryError):
                files.replace_file(new, target)
            target.rmdir()
            continue
        files.replace_file(new, target)
        assert target.read_bytes() == b"new"
        assert not target.is_symlink()
        assert not new.exists()
        assert len(closed) == (old == "plain")
        for handle in closed:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(handle)
        closed.clear()
        target.unlink()


def _at_once(closed: list[int]) -> Any:
    class Closing:
        def __init__(self, target: Any, args: tuple[int], **_: Any) -> None:
            self._target, self._args = target, args

        def start(self) -> None:
            assert os.pread(self._args[0], 9, 0) == b"old"
            self._target(*self._args)
            closed.extend(self._args)

    return Closing


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_an_output_on_the_inputs_path_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"in{suffix}"
    put(path, noise((1, 9, 7)), False, [0, 9], [0, 7])
    other = tmp_path / f"same{suffix}"
    other.symlink_to(path)
    for target in (path, other):
        with pytest.raises(BadValue, match="is the input itself"):
            images.open_sink(target, (1, 9, 7), np.uint8, force=True, inputs=[path])


def test_folders_that_are_not_ours_are_never_replaced(tmp_path: Path) -> None:
    for suffix in (".npy", ".zarr", ".ome.zarr"):
        folder = tmp_path / f"mine{suffix}"
        folder.mkdir()
        with pytest.raises(BadFile, match="choose another name"):
            images.open_sink(folder, (1, 9, 7), np.uint8, force=True)
    with pytest.raises(BadFile, match="no such folder"):
        images.open_sink(tmp_path / "absent" / "out.npy", (1, 9, 7), np.uint8)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("out.png", (5, 9, 7), np.uint8),
        ("out.png", (1, 9, 7), np.float32),
        ("out.tif", (1, 9, 7, 5), np.uint8),
        ("out.npy", (1, 9, 7), np.complex64),
        ("out.ome.zarr", (2, 70000), np.uint8),
        ("out.ome.tif", (2, 70000), np.uint8),
        ("out.ome.tif", (2, 70, 70), np.float16),
        ("out.ome.tif", (2, 70, 70), np.int64),
    ],
)
def test_what_a_kind_cannot_hold_is_refused(
    name: str, shape: tuple[int, ...], dtype: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadValue):
        images.open_sink(tmp_path / name, shape, dtype)
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"did you mean '\.zarr'"):
        images.open_sink(tmp_path / "out.zar", (1, 9, 7), np.uint8)


def test_blocks_out_of_order_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    sink = images.open_sink(tmp_path / "out.npy", (1, 9, 7), np.uint8)
    wrong: list[tuple[int, Array, int]] = [
        (1, np.zeros((1, 2, 7), np.uint8), 0),
        (0, np.zeros((1, 10, 7), np.uint8), 0),
        (0, np.zeros((1, 2, 7), np.uint8), 1),
        (0, np.zeros((2, 2, 7), np.uint8), 0),
        (0, np.zeros((1, 2, 7), np.float32), 0),
        (0, np.zeros((2, 7), np.uint8), 0),
    ]
    for row, block, column in wrong:
        with pytest.raises(BadValue):
            sink.write(row, block, column)
    with pytest.raises(BadValue, match="finished with 0 of 63"):
        sink.finish()
    sink.abort()


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif"])
def test_a_disk_too_full_for_a_row_keeps_nothing_and_does_not_say_so(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with (
        pytest.raises(Failure, match=r"full; free some space; nothing was overwritten$"),
        images.open_sink(tmp_path / f"out{suffix}", (1, 9, 7), np.uint8) as sink,
    ):
        sink.write(0, noise((1, 9, 7)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif"])
def test_a_full_disk_is_one_line_and_keeps_what_was_finished(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, array = tmp_path / f"out{suffix}", noise((1, 9, 7))
    real, calls = os.pwrite, []

    def full(handle: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    done = 0
    with (
        pytest.raises(Failure, match=r"the disk is full.*--resume"),
        images.open_sink(path, array.shape, np.uint8) as sink,
    ):
        for row in range(9):
            sink.write(row, array[:, row : row + 1])
            done = row + 1
    monkeypatch.undo()
    assert 0 < done < 9
    with images.open_sink(path, array.shape, np.uint8, resume=True) as sink:
        assert sink.durable_rows() == done
        sink.write(done, array[:, done:])
        sink.finish()
    np.testing.assert_array_equal(images.open_source(path).read(), array)


def test_an_output_larger_than_the_disk_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"needs .* are free"):
        images.open_sink(tmp_path / "out.npy", (10**6, 10**5, 10**5), np.float32)
    assert not list(tmp_path.iterdir())
