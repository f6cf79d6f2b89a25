"""Zarr by URL: in a ZIP file, in memory, on a server of our own."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
import numpy as np
import pytest
import zarr
from torch import nn

import eyeshot
from eyeshot import images
from eyeshot.cli import main
from eyeshot.errors import BadFile, BadValue, Failure
from eyeshot.images.sources import remote

from .conftest import noise

IMAGE = noise((1, 700, 530))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Parts of files, too."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        first, last, content = int(asked[1]), int(asked[2]), path.read_bytes()
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """An OME-Zarr of two levels."""
    path = tmp_path / "served" / "slide.ome.zarr"
    path.parent.mkdir()
    with images.open_sink(path, IMAGE.shape, np.uint8) as sink:
        sink.write(0, IMAGE)
        sink.finish()
    return path


@pytest.fixture
def server(slide: Path) -> Iterator[ThreadingHTTPServer]:
    handler = partial(Quiet, directory=str(slide.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def _address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_server_is_read_by_windows_and_levels(server: ThreadingHTTPServer) -> None:
    with images.open_source(f"{_address(server)}/slide.ome.zarr") as source:
        np.testing.assert_array_equal(source.read((500, 600)), IMAGE[:, 500:600])
        assert source.grid is not None
    with images.open_source(f"{_address(server)}/slide.ome.zarr", level=1) as source:
        assert source.shape == (1, 350, 265)
    with images.open_source(f"{_address(server)}/slide.ome.zarr/0") as source:
        assert source.shape == IMAGE.shape


def test_a_zip_file_and_memory(slide: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "slide"), "zip", slide.parent, slide.name)
    for url in (f"zip://slide.ome.zarr::{packed}", f"zip://slide.ome.zarr::file://{packed}"):
        with images.open_source(url) as source:
            np.testing.assert_array_equal(source.read(), IMAGE)
    with images.open_source(f"file://{slide}") as source:
        np.testing.assert_array_equal(source.read(), IMAGE)
    memory = fsspec.filesystem("memory")
    memory.put(str(slide), "/eyeshot-test/slide.ome.zarr", recursive=True)
    try:
        with images.open_source("memory://eyeshot-test/slide.ome.zarr") as source:
            np.testing.assert_array_equal(source.read(), IMAGE)
    finally:
        memory.rm("/eyeshot-test", recursive=True)


def test_a_zip_file_on_a_server(server: ThreadingHTTPServer, slide: Path) -> None:
    shutil.make_archive(str(slide.parent / "slide"), "zip", slide.parent, slide.name)
    with images.open_source(f"zip://slide.ome.zarr::{_address(server)}/slide.zip") as source:
        np.testing.assert_array_equal(source.read((3, 50)), IMAGE[:, 3:50])


def test_the_command_runs_over_a_url(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\nNet = lambda: nn.Conv2d(1, 2, 3)\n")
    monkeypatch.chdir(tmp_path)
    url = f"{_address(server)}/slide.ome.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = ["eyeshot", "run", "net.py:Net", url, "-o", "out.ome.zarr", "--as", "argmax"]
        monkeypatch.setattr(sys, "argv", words)
        assert main() == 0
    assert images.open_source("out.ome.zarr").shape == (1, 698, 528)


def test_a_server_that_does_not_answer_is_said(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    net, url = nn.Conv2d(1, 1, 3).eval(), f"{_address(server)}/slide.ome.zarr"

    def stop(_: Any) -> None:
        server.shutdown()
        server.server_close()

    with pytest.raises(Failure, match=r"the server did not answer.*--resume continues"):
        eyeshot.run(net, url, tmp_path / "out.npy", band=64, progress=stop)
    assert not (tmp_path / "out.npy").exists()
    with pytest.raises(Failure, match=r"slide\.ome\.zarr: the server did not answer"):
        images.open_source(url)


def test_a_run_over_a_url_is_resumed(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    net, url = nn.Conv2d(1, 1, 3).eval(), f"{_address(server)}/slide.ome.zarr"
    calls = []

    def stop(report: eyeshot.RunReport) -> None:
        calls.append(report)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, url, tmp_path / "a.npy", band=64, progress=stop)
    eyeshot.run(net, url, tmp_path / "a.npy", resume=True)
    eyeshot.run(net, url, tmp_path / "b.npy", band=64)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_what_is_not_there_or_not_zarr_is_said(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no Zarr array or group is there"):
        images.open_source(f"{_address(server)}/other.zarr")
    with pytest.raises(BadFile, match="no such file"):
        images.open_source(f"zip://a.zarr::{tmp_path}/absent.zip")
    (tmp_path / "bad.zip").write_bytes(b"not a zip file")
    with pytest.raises(BadFile, match="not a zip file"):
        images.open_source(f"zip://a.zarr::{tmp_path}/bad.zip")


@pytest.mark.parametrize(
    "url",
    [
        "reference://::a.json", "ftp://host/a.zarr", "zip://a::ssh://b",
        "reference::file:///refs.json", "simplecache::file:///a.zarr", "zip://a::arrow_hdfs",
    ],
)  # fmt: skip
def test_other_protocols_are_not_followed(url: str) -> None:
    with pytest.raises(BadValue, match="use file, memory, zip"):
        images.open_source(url)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(BadValue) as caught:
        images.open_source("ftp://me:secret@host/a.zarr?X-Signature=secret")
    assert "secret" not in str(caught.value)
    assert "ftp://host/a.zarr" in str(caught.value)


def test_a_password_with_an_at_sign_is_not_shown_in_part() -> None:
    with pytest.raises(BadValue) as caught:
        images.open_source("ftp://me:secret@word@host/a@b.zarr")
    assert "ftp://host/a@b.zarr: " in str(caught.value)
    assert "word" not in str(caught.value)


class Forbidden(Quiet):
    def do_GET(self) -> None:
        """Refuse."""
        self.send_error(403)


def test_a_server_that_refuses_is_said_without_the_password(slide: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidden) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        url = f"http://me:secret@127.0.0.1:{one.server_port}/slide.ome.zarr"
        with pytest.raises(Failure, match="403") as caught:
            images.open_source(url)
        one.shutdown()
    assert "secret" not in str(caught.value)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", aiohttp.ClientTimeout(total=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/slide.ome.zarr"
        with pytest.raises(Failure, match="the server did not answer"):
            images.open_source(url)


def test_s3_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(Failure, match=r"s3fs is not installed; pip install 'eyeshot\[remote\]'"):
        images.open_source("s3://bucket/a.zarr")


@pytest.mark.parametrize("place", ["../other.zarr", "http://127.0.0.1:9/other.zarr", "/etc"])
def test_addresses_inside_a_file_are_not_followed(
    place: str, server: ThreadingHTTPServer, slide: Path
) -> None:
    other = zarr.create_array(str(slide.parent / "other.zarr"), shape=(9, 9), dtype="u1")
    other[...] = 7
    group = zarr.open_group(str(slide), mode="r+")
    attributes: Any = group.attrs.asdict()
    attributes["ome"]["multiscales"][0]["datasets"][0]["path"] = place
    group.attrs.update(attributes)
    for url in (f"{_address(server)}/slide.ome.zarr", f"file://{slide}"):
        with pytest.raises(BadFile, match="level 0"):
            images.open_source(url)


def test_a_chunk_that_takes_more_than_it_promises_is_not_fetched(
    server: ThreadingHTTPServer, slide: Path
) -> None:
    (slide / "0" / "c" / "0" / "0" / "0").write_bytes(bytes(10**7))
    with (
        images.open_source(f"{_address(server)}/slide.ome.zarr") as source,
        pytest.raises(BadFile, match="takes 10000000 bytes"),
    ):
        source.read((0, 3))


def test_a_group_on_a_server_is_not_listed(server: ThreadingHTTPServer, slide: Path) -> None:
    zarr.create_group(str(slide.parent / "plain.zarr"))
    with pytest.raises(BadFile, match="name one array's URL"):
        images.open_source(f"{_address(server)}/plain.zarr")
