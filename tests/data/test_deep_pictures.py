"""Pictures of cameras with 10 and 12 bits keep them: in a folder, in training, when asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from eyeshot import data, images
from eyeshot.data import pixels
from eyeshot.data.folder import load_judged_folder
from eyeshot.errors import BadFile
from eyeshot.runs.config import Recipe, RunConfig, normalize


def _stripes(number: int, *, across: bool, dtype: Any = np.uint16) -> NDArray[Any]:
    """Stripes of 280 and 360, which one level of 8 bits holds both."""
    field = np.full((16, 16), 280, dtype)
    phase = number % 4
    (field[:, phase::4] if across else field[phase::4])[...] = 360
    field[number // 4 % 16, 0] = 281 + number  # no two alike
    return field


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("across", "down"):
        (tmp_path / name).mkdir()
        for number in range(10):
            picture = _stripes(number, across=name == "across")
            images.write(tmp_path / name / f"{number}.png", picture)
    return tmp_path


@pytest.mark.parametrize("budget", [2**20, 0])
def test_sixteen_bits_are_kept(budget: int, folder: Path) -> None:
    loaded = data.load(folder, budget=budget)
    pictures, _ = loaded.train.take([0])
    assert pictures.dtype == torch.uint16
    np.testing.assert_array_equal(pictures[0, 0].numpy() // 40, _first(loaded, folder) // 40)
    assert not [note for note in loaded.notes if "too" in note]  # no false twins
    assert loaded.std[0] == pytest.approx(_all(loaded).std(), rel=1e-9)
    assert loaded.mean[0] == pytest.approx(_all(loaded).mean(), rel=1e-9)
    values = normalize(pictures, loaded.mean, loaded.std)
    assert float(values.std()) > 0.5  # and not one level


def _first(loaded: data.Data, folder: Path) -> NDArray[Any]:
    files = sorted((folder / loaded.classes[0]).iterdir())
    expected = loaded.train.take([0])[0][0, 0].numpy()
    return next(read for read in map(images.read, files) if (read == expected).all())


def _all(loaded: data.Data) -> NDArray[np.float64]:
    return loaded.train.take(range(len(loaded.train)))[0].numpy() / 65535


@pytest.mark.parametrize("budget", [2**20, 0])
def test_eight_bits_beside_sixteen_keep_their_share_of_the_range(budget: int, folder: Path) -> None:
    for name in ("across", "down"):
        for number in range(10, 20):
            images.write(folder / name / f"{number}.png", np.full((16, 16), 200 + number, np.uint8))
    loaded = data.load(folder, budget=budget)
    found = set(np.unique(loaded.test.take(range(len(loaded.test)))[0].numpy()))
    found |= set(np.unique(loaded.train.take(range(len(loaded.train)))[0].numpy()))
    assert {257 * (200 + number) for number in range(10, 20)} <= found


def test_few_bits_in_sixteen_beside_eight_are_noted(tmp_path: Path) -> None:
    for name in ("across", "down"):
        (tmp_path / name).mkdir()
        for number in range(6):
            top = 4095 if number % 2 else 255
            picture = np.linspace(0, top - number, 256).reshape(16, 16)
            kind = np.uint16 if number % 2 else np.uint8
            images.write(tmp_path / name / f"{number}.png", picture.astype(kind))
    loaded = data.load(tmp_path)
    assert [note for note in loaded.notes if "pictures of 16 bits use 12 of them" in note]
    known = RunConfig(
        model="digit_cnn",
        data="elsewhere",
        fingerprint="",
        classes=loaded.classes,
        channels=1,
        size=(16, 16),
        mean=(0.5,),
        std=(0.2,),
        recipe=Recipe(epochs=1, batch_size=1, learning_rate=1.0),
    )
    judged = load_judged_folder(tmp_path, known, part=None, budget=2**20, progress=lambda *_: None)
    assert any("the network saw at most 6.2% of white" in note for note in judged.notes)


def test_a_folder_of_eight_bits_stays_in_bytes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            images.write(tmp_path / name / f"{number}.png", np.full((4, 4), number, np.uint8))
    assert data.load(tmp_path).train.images.dtype == torch.uint8


def test_transparency_and_color_in_sixteen_bits() -> None:
    seen = pixels.to_samples(
        np.array([[[1000, 2000, 3000, 0], [1000, 2000, 3000, 65535]]], np.uint16)
    )
    np.testing.assert_array_equal(seen, [[[65535] * 3, [1000, 2000, 3000]]])
    assert pixels.to_channels(seen, 1).dtype == np.uint16
    assert pixels.resize(seen, (3, 5)).dtype == np.uint16


def test_a_band_that_is_no_opacity_is_no_picture_to_learn_from(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            tifffile.imwrite(
                tmp_path / name / f"{number}.tif",
                np.full((4, 4, 4), number, np.uint8),
                photometric="rgb",
                extrasamples=["unspecified"],
            )
    with pytest.raises(BadFile, match=r"0\.tif: holds 4 bands, none of them opacity"):
        data.load(tmp_path)


def test_notes_of_files_are_reported_once(tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            first = Image.new("L", (4, 4), 10 * number + (name == "b"))
            first.save(
                tmp_path / name / f"{number}.gif",
                save_all=True,
                append_images=[Image.new("L", (4, 4), 255)],
            )
    reported = [note for note in data.load(tmp_path).notes if "frames" in note]
    assert len(reported) == 1
    assert reported[0].endswith("the first is read, and the same of 9 more")
