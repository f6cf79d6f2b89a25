"""Looking into a run of masks: see, explain, inspect, on pictures of any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eyeshot
from eyeshot import cli, images, runs
from eyeshot.errors import BadFile, BadValue
from eyeshot.nets import DoubleConv, unet
from eyeshot.nets.unet import place_of
from eyeshot.runs import inputs
from eyeshot.runs.inputs import prepare_input

from .pairs import cells, write_masks, write_pictures, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeing")


@pytest.fixture(scope="module")
def run(place: Path) -> runs.Run:
    return runs.load(write_run(place / "run", write_masks(place / "cells", [(40, 40)]), "segment"))


@pytest.fixture(scope="module")
def picture(place: Path) -> Path:
    """Of no size that the network was trained on, nor of its grid."""
    images.write(place / "new.png", cells((43, 57), 5)[0])
    return place / "new.png"


@given(
    size=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    kind=st.sampled_from(["uint8", "uint16", "float32"]),
    seed=st.integers(0, 9),
)
def test_a_network_sees_what_run_gives_it(
    run: runs.Run, size: tuple[int, int], kind: str, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    array: Any = generator.random(size, np.float32)
    if kind != "float32":
        array = (array * np.iinfo(kind).max).astype(kind)
    ready = prepare_input(run, array)
    assert ready.values.shape == (1, 1, *size)
    assert ready.notes == ()
    with torch.no_grad():
        scores = run.net(ready.values)[0].numpy()
    if size == (20, 30) or seed == 0:  # a new size is traced again, which takes a while
        whole = eyeshot.run(run, array)
        np.testing.assert_allclose(scores, whole, rtol=0, atol=1e-5 * abs(whole).max())
    config = run.config
    top = 1 if kind == "float32" else np.iinfo(kind).max
    expected = (array / top - config.mean[0]) / config.std[0]
    np.testing.assert_allclose(ready.values[0, 0], expected, atol=1e-5)
    assert ready.picture.shape == (*size, 1)


def test_of_a_large_picture_the_middle_is_looked_at(run: runs.Run) -> None:
    array = np.arange(101 * 99, dtype=np.float32).reshape(101, 99) / 10_000
    ready = prepare_input(run, array, side=32)
    (note,) = ready.notes
    assert note.startswith("of 101×99 pixels, rows 34:66 and columns 32:64 are looked at")
    # Rows and columns begin where the network's grid of 2 does.
    shown = ready.values[0, 0] * run.config.std[0] + run.config.mean[0]
    np.testing.assert_allclose(shown, array[34:66, 32:64], atol=1e-5)


def test_a_picture_too_large_for_one_pass_is_refused(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_MOST_PIXELS", 1000)
    with pytest.raises(BadValue, match="40×40 pixels, too many"):
        prepare_input(run, np.zeros((40, 40), np.uint8))


def test_a_network_without_padding_gets_a_size_that_it_takes(place: Path) -> None:
    folder = write_masks(place / "valid", [(60, 60)])
    bare = runs.load(write_run(place / "bare", folder, "segment", padding="valid"))
    ready = prepare_input(bare, np.zeros((61, 75), np.uint8))
    with torch.no_grad():
        assert bare.net(ready.values).shape[2] > 0
    assert ready.values.shape[2:] == (60, 74)
    with pytest.raises(BadValue, match="takes none below"):
        prepare_input(bare, np.zeros((5, 75), np.uint8))


def test_color_for_a_gray_network_is_one_line(
    run: runs.Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write(place / "color.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(BadFile, match="3 channels, and the network takes 1"):
        prepare_input(run, place / "color.png")
    assert cli.main(["see", str(run.path), str(place / "color.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_see_lists_levels(run: runs.Run, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["see", str(run.path), str(picture)]) == 0
    output = capsys.readouterr().out
    assert "level 0, on the way down:\n  first.conv1" in output
    assert "level 1, the deepest:\n  down1.pool" in output
    assert "level 0, on the way up:\n  up1.transpose" in output
    assert "the answer:\n  head" in output
    assert cli.main(["see", str(run.path), str(picture), "--layer", "up1.cat", "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["place"] == "level 0, on the way up"
    assert layer["shape"] == [8, 44, 58]  # padded to the grid


@pytest.mark.parametrize("name", ["maps.png", "maps.html"])
def test_see_draws_the_levels(run: runs.Run, picture: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    command = ["see", str(run.path), str(picture), "-o", str(out), "--layer", "down1.relu2"]
    assert cli.main(command) == 0
    if name.endswith("html"):
        assert "level 1, the deepest" in out.read_text()
    else:
        assert np.ptp(images.read(out)) > 100


def test_a_field_is_drawn_on_the_run_s_own_pixels(
    run: runs.Run, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "field.png"
    command = ["see", str(run.path), str(picture), "--field", "up1.conv2:20,21", "-o", str(out)]
    assert cli.main(command) == 0
    assert "unit (20, 21) sees [" in capsys.readouterr().out
    assert np.ptp(images.read(out)) > 100


@pytest.mark.parametrize(
    ("layer", "unit"),
    [
        ("first.conv1", (3, 0, 56)),
        ("down1.pool", (1, 21, 0)),
        ("up1.transpose", (2, 43, 57)),
        ("up1.conv1", (0, 20, 20)),
        ("head", (2, 42, 56)),
    ],
)
def test_the_sum_behind_a_number(
    run: runs.Run, picture: Path, layer: str, unit: tuple[int, int, int]
) -> None:
    trace = eyeshot.explain(run, picture, layer=layer, unit=unit)
    assert trace.total == pytest.approx(trace.network_value, abs=1e-4)
    maps = eyeshot.see(run.net, prepare_input(run, picture).values, [layer])
    assert trace.network_value == pytest.approx(float(maps[layer][unit]), abs=1e-5)


def test_explain_and_inspect_speak_of_a_run(
    run: runs.Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--layer", "up1.conv1", "--unit", "0,20,20"]
    assert cli.main(["explain", str(run.path), str(picture), *where]) == 0
    output = capsys.readouterr()
    assert "up1.conv1: level 0, on the way up" in output.err
    assert "total" in output.out
    assert cli.main(["inspect", str(run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert cli.main(["inspect", str(run.path), "--layer", "up1.conv2", "--unit", "9,9"]) == 0
    assert "sees" in capsys.readouterr().out


def test_a_run_of_restored_pictures_in_color(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(place / "photos", [(30, 30)])
    restoring = runs.load(write_run(place / "restoring", folder, "restore"))
    photo = folder / "val" / "image" / "photo 0.png"
    assert prepare_input(restoring, photo).picture.shape == (30, 30, 3)
    np.testing.assert_array_equal(prepare_input(restoring, photo).picture, images.read(photo))
    assert cli.main(["see", str(restoring.path), str(photo), "--layer", "head"]) == 0
    assert "3 x 30 x 30" in capsys.readouterr().out
    trace = eyeshot.explain(restoring, photo, layer="first.conv1", unit=(0, 3, 3))
    assert len(trace.parts) == 3
    command = ["explain", str(restoring.path), str(photo), "--layer", "head", "--unit", "0,1,2"]
    assert cli.main(command) == 0


def test_places_in_words() -> None:
    net = unet(depth=3, base=2)
    assert place_of(net, "down2.conv1") == "level 2, on the way down"
    assert place_of(net, "down3.relu2") == "level 3, the deepest"
    assert place_of(net, "up3.cat") == "level 2, on the way up"
    assert place_of(net, "crop") == place_of(net, "head") == "the answer"
    assert place_of(net, "pad") == ""
    assert place_of(DoubleConv(1, 2), "conv1") == ""
