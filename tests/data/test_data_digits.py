"""The digits of the package: they are MNIST's own, and the two parts share none."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from eyeshot import data
from eyeshot.data import mnist
from eyeshot.data.mnist import BUNDLED

ROOT = Path(__file__).resolve().parents[2]


def rows(examples: data.Examples) -> list[bytes]:
    return [picture.tobytes() for picture in examples.images.numpy()]


def test_there_are_8000_and_2000_of_28_by_28() -> None:
    digits = data.load("digits")
    assert digits.train.shape == (8000, 1, 28, 28)
    assert digits.test.shape == (2000, 1, 28, 28)
    assert digits.classes == tuple("0123456789")
    assert (digits.channels, digits.size) == (1, (28, 28))


def test_the_parts_share_no_digit_and_none_is_there_twice() -> None:
    digits = data.load("digits")
    assert len({*rows(digits.train), *rows(digits.test)}) == 10_000


def test_every_class_is_split_four_to_one() -> None:
    digits = data.load("digits")
    train, test = digits.train.labels.bincount(), digits.test.labels.bincount()
    assert test.tolist() == [round(int(total) / 5) for total in train + test]


def test_mean_and_deviation_are_those_of_the_training_part() -> None:
    digits = data.load("digits")
    scaled = digits.train.images.numpy() / 255
    assert digits.mean == pytest.approx((scaled.mean(),), rel=1e-12)
    assert digits.std == pytest.approx((scaled.std(),), rel=1e-12)


def test_the_files_are_those_that_the_provenance_names() -> None:
    note = (BUNDLED / "PROVENANCE.md").read_text()
    named = re.findall(r"`(\S+-ubyte\.gz)` \| \S+ \| `(\w{64})`", note)
    assert sorted(name for name, _ in named) == sorted(p.name for p in BUNDLED.glob("*.gz"))
    for name, digest in named:
        content = gzip.decompress((BUNDLED / name).read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest, name


def test_they_are_the_first_10000_training_digits_of_mnist(mnist_folder: Path) -> None:
    """And so none is among MNIST's test digits, which may judge a network trained on them."""
    pictures, labels = mnist.read_pair(
        mnist_folder / "train-images-idx3-ubyte.gz", mnist_folder / "train-labels-idx1-ubyte.gz"
    )
    expected = {
        (picture.tobytes(), int(label))
        for picture, label in zip(pictures[:10_000], labels[:10_000], strict=True)
    }
    digits = data.load("digits")
    found = {
        (pixels, int(label))
        for part in (digits.train, digits.test)
        for pixels, label in zip(rows(part), part.labels, strict=True)
    }
    assert found == expected
    test = mnist.read_images(mnist_folder / "t10k-images-idx3-ubyte.gz")
    assert not {pixels for pixels, _ in found} & {picture.tobytes() for picture in test}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_digits", ROOT / "tools" / "make_digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_byte_survives_three_decimal_places(script: ModuleType) -> None:
    every = np.resize(np.arange(256, dtype=np.uint8), 784)
    values = np.round(every / 255, 3).tolist()
    assert np.array_equal(script.to_bytes(values)[0], every)
    with pytest.raises(SystemExit, match="three places"):
        script.to_bytes([0.0015, *values[1:]])


def test_the_split_does_not_depend_on_the_order_it_is_given(script: ModuleType) -> None:
    digits = data.load("digits")
    train = list(zip(rows(digits.train), digits.train.labels.tolist(), strict=True))
    test = list(zip(rows(digits.test), digits.test.labels.tolist(), strict=True))
    assert script.split(test[::-1] + train[::-1]) == (train, test)


def test_another_package_is_refused(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="expected 3fb5bb119c55"):
        script.read_package(tmp_path / "other.tgz")
