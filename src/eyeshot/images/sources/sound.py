"""Sound: ``.wav`` files of whole numbers, as signals (C, L) with a channel for each microphone."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error
from eyeshot.images.layouts import Span, understand
from eyeshot.images.sources.selection import Selection
from eyeshot.images.sources.source import Source

_BITS = {1: 8, 2: 16, 3: 24, 4: 32}  # by the bytes of a sample
_SIGNED_FROM = 2  # bytes a sample: fewer are unsigned


class SoundSource(Source):
    """A ``.wav`` file read by windows: float32 (C, hi − lo) in −1 … 1.

    Args:
        path: of the file.

    Raises:
        BadFile: not a ``.wav`` of whole numbers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = wave.open(str(path), "rb")  # noqa: SIM115 - close() does it
        except (wave.Error, EOFError) as error:
            raise BadFile(
                f"{path}: not a .wav that can be read ({error})",
                cure="save it as PCM of 16 bits, or as .npy",
            ) from None
        except OSError as error:
            raise explain_os_error(error, path) from error
        self._bytes, channels = self._file.getsampwidth(), self._file.getnchannels()
        shape = (channels, self._file.getnframes())
        if self._bytes not in _BITS or not shape[1]:
            self._file.close()
            raise BadFile(f"{path}: holds no samples that can be read", cure="save it as .npy")
        super().__init__(str(path), understand(shape, layout="CL"), np.dtype(np.float32))
        self.notes = (f"{self._file.getframerate():,} samples a second, scaled to −1 … 1",)

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        ((lo, hi),) = spans
        self._file.setpos(lo)
        raw = self._file.readframes(hi - lo)
        channels = self.shape[0]
        if len(raw) != (hi - lo) * channels * self._bytes:
            raise BadFile(f"{self._path}: is cut short", cure="copy it again")
        return _decoded(raw, self._bytes).reshape(-1, channels).T

    def identity(self) -> dict[str, Any]:
        """The file, and when it was written."""
        found = self._path.stat()
        return {"path": str(self._path.resolve()), "size": found.st_size, "time": found.st_mtime_ns}

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _decoded(raw: bytes, width: int) -> NDArray[np.float32]:
    """Samples of so many bytes as float32 in −1 … 1."""
    if width < _SIGNED_FROM:
        unsigned = np.frombuffer(raw, np.uint8).astype(np.float32)
        return np.asarray((unsigned - 128) / 128, np.float32)
    if width == 3:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        whole = np.zeros((len(parts), 4), np.uint8)
        whole[:, 1:] = parts  # the highest bytes of 32 bits
        return np.asarray(whole.view("<i4")[:, 0] / 2**31, np.float32)
    scaled = np.frombuffer(raw, f"<i{width}") / 2 ** (8 * width - 1)
    return np.asarray(scaled, np.float32)


def open_sound(path: Path, selection: Selection) -> Source:
    """Open a ``.wav`` file.

    Raises:
        BadFile: it cannot be read, or a picture is expected.
    """
    if selection.space not in (None, 1):
        raise BadFile(
            f"{path}: is a sound, and an image is expected", cure="use a network of signals"
        )
    return SoundSource(path)
