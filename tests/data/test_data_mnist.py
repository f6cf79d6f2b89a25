"""MNIST from a folder under either naming, and fetched from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from eyeshot import data
from eyeshot.data import mnist
from eyeshot.data.mnist import FILES, Published, cache_folder, fetch, load_mnist
from eyeshot.errors import BadFile, BadValue, Failure, UnknownName


def quiet(what: str, done: int, total: int) -> None:
    assert 0 < done <= total, what


def write_set(folder: Path, joint: str = "-", suffix: str = ".gz") -> None:
    """A small set in MNIST's four files: 6 digits to learn from, 3 to test with."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("t10k", 3)):
        pictures = random.integers(0, 256, (count, 28, 28), np.uint8)
        mnist.write(folder / f"{part}-images{joint}idx3-ubyte{suffix}", pictures)
        labels = np.arange(count, dtype=np.uint8)
        mnist.write(folder / f"{part}-labels{joint}idx1-ubyte{suffix}", labels)


@pytest.mark.parametrize("joint", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_under_either_naming(tmp_path: Path, joint: str, suffix: str) -> None:
    write_set(tmp_path, joint, suffix)
    found = data.load("mnist", folder=tmp_path)
    assert found.train.shape == (6, 1, 28, 28)
    assert found.test.labels.tolist() == [0, 1, 2]
    assert found.name == "mnist"
    assert found.classes == tuple("0123456789")


def test_all_of_mnist(mnist_folder: Path) -> None:
    found = data.load("mnist", folder=mnist_folder)
    assert found.train.shape == (60_000, 1, 28, 28)
    assert found.test.shape == (10_000, 1, 28, 28)
    assert found.mean == pytest.approx((0.1307,), abs=5e-5)  # the figures everyone uses
    assert found.std == pytest.approx((0.3081,), abs=5e-5)


def test_the_checksums_are_those_of_mnist(mnist_folder: Path) -> None:
    for file in FILES:
        content = gzip.decompress((mnist_folder / file.name).read_bytes())
        assert hashlib.sha256(content).hexdigest() == file.sha256
        assert len(content) == file.size


def test_what_is_missing_or_wrong_in_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="nowhere: no such folder"):
        data.load("mnist", folder=tmp_path / "nowhere")
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadFile, match="has no t10k-labels-idx1-ubyte, gzipped or not"):
        data.load("mnist", folder=tmp_path)
    mnist.write(tmp_path / "t10k-labels-idx1-ubyte", np.array([1, 2, 10], np.uint8))
    with pytest.raises(BadFile, match="holds a label 10, expected 0 to 9"):
        data.load("mnist", folder=tmp_path)
    mnist.write(tmp_path / "t10k-labels-idx1-ubyte", np.array([1, 2, 3], np.uint8))
    mnist.write(tmp_path / "t10k-images-idx3-ubyte", np.zeros((3, 28, 27), np.uint8))
    with pytest.raises(BadFile, match="training pictures are 28×28 and test pictures 28×27"):
        data.load("mnist", folder=tmp_path)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder in silence, and cuts what is asked for below ``/short/``."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith("/short/"):
            return super().do_GET()
        content = (Path(self.directory) / self.path.removeprefix("/short/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        return None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A mirror on this machine: its address, and the folder that it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    write_set(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()
        thread.join()


def published(folder: Path) -> list[Published]:
    files = []
    for path in sorted(folder.glob("*.gz")):
        content = gzip.decompress(path.read_bytes())
        files.append(Published(path.name, hashlib.sha256(content).hexdigest(), len(content)))
    return files


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_set_is_fetched_once(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, folder = server
    monkeypatch.setenv("EYESHOT_DATA", str(tmp_path / "cache"))
    reported: list[str] = []
    files = published(folder)
    found = load_mnist(
        None, progress=lambda what, *_: reported.append(what), mirrors=[mirror + "/"], files=files
    )
    assert found.train.shape == (6, 1, 28, 28)
    assert {f"fetching {file.name}" for file in files} == set(reported)
    again = load_mnist(None, progress=quiet, mirrors=["http://127.0.0.1:1"], files=files)
    assert again.train.images.equal(found.train.images), "no mirror is asked again"


def test_the_next_mirror_is_tried(
    server: tuple[str, Path], tmp_path: Path, closed_port: int
) -> None:
    mirror, folder = server
    file = published(folder)[0]
    mirrors = [f"http://127.0.0.1:{closed_port}", f"{mirror}/none", f"{mirror}/short", mirror]
    fetch([file], mirrors, tmp_path / "got", quiet)
    assert (tmp_path / "got" / file.name).read_bytes() == (folder / file.name).read_bytes()


@pytest.mark.parametrize("fault", ["refused", "missing", "short", "other", "no gzip", "too long"])
def test_a_bad_mirror_leaves_nothing_and_says_what_to_do(
    server: tuple[str, Path], tmp_path: Path, closed_port: int, fault: str
) -> None:
    mirror, folder = server
    file = published(folder)[0]
    place = folder / file.name
    if fault == "other":
        mnist.write(place, np.zeros((3, 28, 28), np.uint8))
    elif fault == "no gzip":
        place.write_bytes(b"<html>please sign in</html>")
    elif fault == "too long":
        place.write_bytes(bytes(file.size + 200_000))
    addresses = {"refused": f"http://127.0.0.1:{closed_port}", "missing": f"{mirror}/none"}
    addresses["short"] = f"{mirror}/short"
    reported = {
        "refused": "Connection refused",
        "missing": "404 File not found",
        "short": "sent only [0-9]+ of [0-9]+ bytes",
        "other": f"sent another file: sha256 [0-9a-f]+, expected {file.sha256}",
        "no gzip": "sent a file that is not gzip",
        "too long": "sent more than [0-9]+ bytes",
    }
    with pytest.raises(Failure, match=reported[fault]) as caught:
        fetch([file], [addresses.get(fault, mirror)], tmp_path / "got", lambda *_: None)
    assert "name their folder by --data DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "got").iterdir()) == [], "neither the file nor a part of it"


def test_only_the_web_is_fetched_from(tmp_path: Path, server: tuple[str, Path]) -> None:
    _, folder = server
    with pytest.raises(Failure, match="only http and https"):
        fetch(published(folder), [folder.as_uri()], tmp_path / "got", quiet)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadFile, match=r"file/mnist: a part of the path is a file"):
        fetch(FILES, [], tmp_path / "file" / "mnist", quiet)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EYESHOT_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("EYESHOT_DATA")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "eyeshot"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "eyeshot"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "eyeshot"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "eyeshot" / "Cache"


def test_what_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        data.load("digit")
    with pytest.raises(BadFile, match="no such folder; name a folder of classes"):
        data.load(tmp_path / "none")
    (tmp_path / "file.png").write_text("x")
    with pytest.raises(BadFile, match="is a file; name a folder of classes"):
        data.load(tmp_path / "file.png")
    with pytest.raises(BadValue, match="is for mnist, and the source is digits"):
        data.load("digits", folder=tmp_path)
    with pytest.raises(BadValue, match="seed is -1"):
        data.load("digits", seed=-1)
    with pytest.raises(BadValue, match="10000 pictures of 28×29 take more than 100 bytes"):
        data.load("digits", size=(28, 29), budget=100)


def test_digits_of_another_size() -> None:
    plain, larger = data.load("digits"), data.load("digits", size=(56, 28))
    assert larger.train.shape == (8000, 1, 56, 28)
    assert larger.size == (56, 28)
    scaled = larger.train.images.numpy() / 255
    assert larger.mean == pytest.approx((scaled.mean(),))
    assert larger.mean == pytest.approx(plain.mean, rel=0.01)
