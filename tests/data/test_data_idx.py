"""IDX files: what is written is read, and whatever is wrong with one is one clear line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eyeshot.data import mnist
from eyeshot.errors import BadFile
from tests.networks import examples

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)


def header(magic: int, *sizes: int) -> bytes:
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes)


@examples(30)
@given(hnp.arrays(np.uint8, SHAPES), st.sampled_from(["a-idx3-ubyte", "a-idx3-ubyte.gz"]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, name: str
) -> None:
    path = tmp_path_factory.mktemp("idx") / name
    mnist.write(path, array)
    assert np.array_equal(mnist.read_images(path), array)
    # independently of our writer: the header by struct, the pixels by position
    content = path.read_bytes()
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    assert plain == header(0x00000803, *array.shape) + array.tobytes()


def test_gzipped_files_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    mnist.write(tmp_path / "a.gz", array)
    mnist.write(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == b"\0\0\0\0", "no time stamp"


def test_a_gzipped_file_needs_no_gz_in_its_name(tmp_path: Path) -> None:
    plain = header(0x00000801, 3) + bytes([7, 8, 9])
    (tmp_path / "labels").write_bytes(gzip.compress(plain, mtime=0))
    assert mnist.read_labels(tmp_path / "labels").tolist() == [7, 8, 9]


IMAGES = header(0x803, 2, 3, 4) + bytes(24)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing, expected 00 00 08 03"),
        (header(0x801, 24) + bytes(24), "starts with 00 00 08 01, expected 00 00 08 03"),
        (b"\x89PNG\r\n\x1a\n", "starts with 89 50 4e 47, expected 00 00 08 03"),
        (header(0x803, 2), "ends after 8 bytes, expected a header of 16"),
        (IMAGES[:-1], "holds only 23 bytes after its header, expected 24 for 2×3×4"),
        (IMAGES + b"\0", "holds more bytes after its header, expected 24 for 2×3×4"),
        (header(0x803, 0, 28, 28), "its header says 0×28×28 pictures, expected at least one"),
        (
            header(0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(9),
            f"holds only 9 bytes after its header, expected {(2**32 - 1) ** 3}",
        ),
        (gzip.compress(IMAGES, mtime=0)[:-3], "the gzip data is damaged"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), "the gzip data is damaged"),
        (b"\x1f\x8b" + b"nonsense", "the gzip data is damaged"),
        (gzip.compress(IMAGES[:-1], mtime=0), "holds only 23 bytes after its header, expected 24"),
    ],
)
def test_each_damage_has_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        mnist.read_images(path)
    assert f"{path}: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="none: no such file"):
        mnist.read_images(tmp_path / "none")
    with pytest.raises(BadFile, match="is a folder"):
        mnist.read_images(tmp_path)


def test_pictures_and_labels_must_be_equally_many(tmp_path: Path) -> None:
    mnist.write(tmp_path / "images", np.zeros((3, 2, 2), np.uint8))
    mnist.write(tmp_path / "labels", np.zeros(4, np.uint8))
    with pytest.raises(BadFile, match=r"labels: holds 4 labels, expected 3, one for each .*images"):
        mnist.read_pair(tmp_path / "images", tmp_path / "labels")


@examples(60)
@given(
    base=st.sampled_from([IMAGES, gzip.compress(IMAGES, mtime=0)]),
    edits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 60),
)
def test_no_damage_gets_past_unseen(
    tmp_path_factory: pytest.TempPathFactory,
    base: bytes,
    edits: list[tuple[int, int]],
    cut: int,
) -> None:
    """Whatever is done to the bytes: a BadFile of one line, or pictures that fit their header."""
    content = bytearray(base)
    for place, value in edits:
        if place < len(content):
            content[place] = value
    path = tmp_path_factory.mktemp("idx") / "images"
    path.write_bytes(bytes(content[: max(cut, len(content) - cut)]))
    found: np.ndarray | str
    try:
        found = mnist.read_images(path)
    except BadFile as error:
        found = str(error)
    if isinstance(found, str):
        assert found.startswith(str(path))
        assert "\n" not in found
        return
    plain = bytes(content)
    if plain[:2] == b"\x1f\x8b":
        plain = gzip.decompress(plain)
    assert plain[:4] == b"\0\0\x08\x03"
    assert found.shape == struct.unpack(">3I", plain[4:16])
    assert found.tobytes() == plain[16 : 16 + found.size]
