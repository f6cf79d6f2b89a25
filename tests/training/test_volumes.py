"""Volumes and signals learn by the loop of pictures, and run equal to one whole pass."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from torch import nn

import eyeshot
from eyeshot.cli import main
from eyeshot.data import CropSampler, load_pairs
from eyeshot.errors import BadFile, BadValue, EyeshotError
from eyeshot.runs.inputs import SEEN_SIDE, prepare_input
from eyeshot.training import OwnNet
from eyeshot.training.configuration import Request, describe_pairs
from eyeshot.training.progress import tell
from tests.training.test_resume import Stop, StopAt, weights

SIZES = [(12, 20, 24), (10, 24, 20), (12, 24, 24), (14, 20, 20), (12, 22, 20)]
RATE = 2000
_VOLUME = 3


def ball(size: tuple[int, ...], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A bright ball in noise, and where it is."""
    random = np.random.default_rng(seed)
    center = [random.uniform(4, n - 4) for n in size]
    axes = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    apart = np.sum([(axis - c) ** 2 for axis, c in zip(axes, center, strict=True)], axis=0)
    inside: NDArray[np.bool_] = apart < random.uniform(3, 5) ** 2
    volume = np.where(inside, 170, 90) + random.normal(0, 12, size)
    return volume.clip(0, 255).astype(np.uint8), (255 * inside).astype(np.uint8)


def write(path: Path, array: NDArray[Any]) -> None:
    """As the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".gz":  # X is first in a file of NIfTI, and samples are as they are
        voxels = array.transpose(2, 1, 0)
        voxels = voxels if path.parent.name == "label" else voxels / np.float32(255)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    elif path.suffix == ".zarr":
        zarr.create_array(str(path), data=array, chunks=(4, 16, 16))
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack")
    else:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(np.rint(32767 * array).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five volumes, stored in four ways."""
    folder = tmp_path_factory.mktemp("scans")
    suffixes = (".npy", ".zarr", ".tif", ".nii.gz", ".npy")
    for number, (size, suffix) in enumerate(zip(SIZES, suffixes, strict=True)):
        volume, mask = ball(size, number)
        write(folder / "image" / f"{number}{suffix}", volume)
        write(folder / "label" / f"{number}{suffix}", mask)
    return folder


SETTINGS: dict[str, Any] = {
    "task": "segment",
    "dims": 3,
    "model_arguments": {"base": 4, "depth": 1},
    "epochs": 3,
    "steps": 12,
    "batch_size": 2,
    "average": 0.8,
    "learning_rate": 1e-2,
    "precision": "32-true",
    "progress": False,
}


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> eyeshot.Run:
    return eyeshot.train(scans, out=tmp_path_factory.mktemp("run") / "run", **SETTINGS)


def test_a_volume_is_learned_and_judged_whole(run: eyeshot.Run) -> None:
    assert len(run.config.size) == 3
    found = eyeshot.evaluate(run)
    assert isinstance(found, eyeshot.MaskEvaluation)
    assert found.dice > 0.8
    assert found.per_class[1].boundary_f1 is not None


def test_a_run_over_a_volume_is_the_whole_pass(run: eyeshot.Run, tmp_path: Path) -> None:
    volume, _ = ball((31, 26, 22), 9)
    write(tmp_path / "large.zarr", volume)
    out = tmp_path / "scores.npy"
    streamed = eyeshot.run(run, tmp_path / "large.zarr", band=4)
    eyeshot.run(run, tmp_path / "large.zarr", out, band=5)
    mean, std = run.config.mean[0], run.config.std[0]
    with torch.no_grad():
        samples = torch.from_numpy(volume / np.float32(255))[None, None]
        whole = run.net((samples - mean) / std)[0].numpy()
    assert np.abs(streamed - whole).max() <= 1e-5 * np.abs(whole).max()
    assert np.abs(np.load(out) - whole).max() <= 1e-5 * np.abs(whole).max()


def test_hounsfield_units_are_learned_and_run(tmp_path: Path) -> None:
    """As int16, the usual type of NIfTI; the mask as floats, as medical tools write it."""
    for number in range(3):
        volume, mask = ball(SIZES[number], number)
        for name, array in (("image", volume.astype(np.int16) * 6 - 700), ("label", mask / 255.0)):
            path = tmp_path / "scans" / name / f"{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), path)
    found = eyeshot.train(tmp_path / "scans", out=tmp_path / "run", **{**SETTINGS, "epochs": 2})
    assert abs(found.config.mean[0]) > 10
    actual = eyeshot.run(found, tmp_path / "scans" / "image" / "1.nii.gz", output_format="argmax")
    assert set(np.unique(actual)) <= {0, 1}
    assert isinstance(eyeshot.evaluate(found), eyeshot.MaskEvaluation)
    # An ensemble has no mean of its own that would tell the scale.
    both = eyeshot.ensemble([found, found], tmp_path / "both")
    again = eyeshot.run(both, tmp_path / "scans" / "image" / "1.nii.gz", output_format="argmax")
    np.testing.assert_array_equal(again, actual)
    # Elsewhere whole numbers would be divided by 32767: the same scan, and another answer.
    whole = (ball(SIZES[1], 1)[0].astype(np.int16) * 6 - 700).astype(np.int16)
    write(tmp_path / "scan.npy", whole)
    match = r"scan.npy: holds int16 samples, .* learned from floats outside 0…1; .* with --raw"
    with pytest.raises(BadValue, match=match):
        eyeshot.run(found, tmp_path / "scan.npy", tmp_path / "out.npy")
    assert not list(tmp_path.glob("out.npy*"))
    with pytest.raises(BadValue, match="holds int16 samples"):
        prepare_input(found, tmp_path / "scan.npy")
    raw = eyeshot.run(found, tmp_path / "scan.npy", output_format="argmax", raw=True)
    np.testing.assert_array_equal(raw, actual)


@pytest.mark.parametrize(
    ("mean", "std", "own", "in_unit"),
    [
        (0.3, 0.2, None, True),
        (1e-9, 0.9999999, None, False),  # standardized: no samples in 0…1 vary by so much
        (-3.0, 0.2, None, False),
        (0.3, 0.2, True, False),
        (0.0, 1.0, False, True),  # an ensemble
    ],
)
def test_the_scale_that_a_run_learned_from(
    run: eyeshot.Run, mean: float, std: float, own: bool | None, in_unit: bool
) -> None:
    assert run.config.own_scale is False
    config = replace(run.config, mean=(mean,), std=(std,), own_scale=own)
    assert config.in_unit is in_unit


@pytest.mark.parametrize("flipped", [True, False])
def test_a_mask_of_another_orientation_is_refused(tmp_path: Path, flipped: bool) -> None:
    """Voxels are read as stored, so a mask whose X runs the other way lies mirrored."""
    for number in range(2):
        volume, mask = ball(SIZES[number], number)
        for name, array in (("image", volume / np.float32(255)), ("label", mask)):
            affine = np.diag([-1.0 if flipped and name == "label" else 1.0, 1, 1, 1])
            path = tmp_path / name / f"{number}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    if flipped:
        with pytest.raises(BadFile, match=r"has axes towards S, A, L, and .* towards S, A, R"):
            load_pairs(tmp_path, dims=3)
    else:
        assert load_pairs(tmp_path, dims=3).train


def test_whole_numbers_and_floats_of_another_scale_are_not_mixed(tmp_path: Path) -> None:
    for number, kind in enumerate((np.uint8, np.float32)):
        volume, mask = ball(SIZES[number], number)
        write(tmp_path / "image" / f"{number}.npy", volume.astype(kind))
        write(tmp_path / "label" / f"{number}.npy", mask)
    with pytest.raises(EyeshotError, match=r"holds floats outside 0…1, and .*0\.npy whole numbers"):
        load_pairs(tmp_path, dims=3)


def test_stopped_and_resumed_it_gives_the_same_weights(
    run: eyeshot.Run, scans: Path, tmp_path: Path
) -> None:
    stopped = {**SETTINGS, "progress": StopAt(17), "checkpoint_seconds": 0}
    with pytest.raises(Stop):
        eyeshot.train(scans, out=tmp_path / "cut", **stopped)
    eyeshot.train(scans, out=tmp_path / "cut", resume=True, **SETTINGS)
    assert weights(tmp_path / "cut") == weights(run.path)


def test_crops_of_three_axes_cover_each_voxel_once(scans: Path) -> None:
    pairs = load_pairs(scans, dims=3)
    assert pairs.dims == 3
    sampler = CropSampler(pairs, (8, 14, 14), 3, 0, alignment=2)
    seen = [np.zeros(pair.size, int) for pair in pairs.train]
    for step in range(sampler.steps(4)):
        batch = sampler.batch(0, step, 4)
        assert batch.images.shape[1:] == (1, *batch.valid.shape[1:])
        for valid, (pair, *start) in zip(batch.valid.numpy(), batch.places, strict=True):
            window = tuple(slice(lo, lo + n) for lo, n in zip(start, valid.shape, strict=True))
            seen[pair][window] += valid
    assert all((count == 1).all() for count in seen)


def test_a_volume_is_seen_explained_and_its_fields_are_drawn(
    run: eyeshot.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a volume that the middle is taken of, places count from there."""
    volume, _ = ball((66, 20, 24), 3)
    np.save(tmp_path / "scan.npy", volume)
    ready = prepare_input(run, tmp_path / "scan.npy", side=SEEN_SIDE)
    assert "slices 0:64, rows 0:20 and columns 0:24 are looked at" in ready.notes[-1]
    samples = torch.from_numpy(volume[:64] / np.float32(255))[None, None]
    expected = (samples - run.config.mean[0]) / run.config.std[0]
    torch.testing.assert_close(ready.values, expected)
    expected.requires_grad_()
    score = run.net(expected)[0, 1, 20, 3, 4]
    (slope,) = torch.autograd.grad(score, expected)
    slices = slope[0, 0].abs().amax((1, 2)).nonzero()
    named = [str(run.path), str(tmp_path / "scan.npy")]
    assert main(["explain", *named, "--layer", "head", "--unit", "1,20,3,4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == pytest.approx(
        float(score.detach()), abs=1e-5
    )
    sheet, field = tmp_path / "sheet.png", tmp_path / "field.png"
    assert main(["see", *named, "-o", str(sheet)]) == 0
    assert main(["see", *named, "--field", "head:20,3,4", "-o", str(field)]) == 0
    seen = f"sees [{int(slices.min())}, {int(slices.max()) + 1}) ×"
    assert seen in capsys.readouterr().out
    assert sheet.exists()
    assert field.exists()


def test_flat_levels_keep_the_first_axis(scans: Path, tmp_path: Path) -> None:
    short = {**SETTINGS, "epochs": 1, "steps": 1, "model_arguments": {"depth": 2, "flat": 1}}
    thick = eyeshot.train(scans, out=tmp_path / "flat", **short)
    assert thick.net.get_submodule("down1.pool").kernel_size == (1, 2, 2)
    assert thick.config.model_arguments["flat"] == 1
    assert thick.config.recipe.augment == "flips,turns"


def tone(length: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Noise with tones in it, and where they are."""
    random = np.random.default_rng(seed)
    sound, there = random.normal(0, 0.1, length), np.zeros(length, np.uint8)
    for start in range(200, length - 400, 700):
        there[start : start + 300] = 1
    return (sound + 0.4 * there * np.sin(np.arange(length) * 0.6)).clip(-1, 1), there


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(5):
        sound, there = tone(3000 + 100 * number, number)
        write(folder / "image" / f"{number}.wav", sound)
        write(folder / "label" / f"{number}.npy", there)
    return folder


def test_a_signal_is_learned_from_wav_and_run_over_any_length(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "run")
    asked = ["train", str(sounds), "--task", "segment", "--dims", "1", "--depth", "2", "-o", place]
    asked += ["--base", "8", "--steps", "10", "--batch-size", "4", "--epochs", "3", "--lr", "0.01"]
    assert main(asked) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    capsys.readouterr()
    run = eyeshot.load(place)
    found = eyeshot.evaluate(run)
    assert isinstance(found, eyeshot.MaskEvaluation)
    assert found.dice > 0.8
    sound, _ = tone(9001, 7)
    write(tmp_path / "long.wav", sound)
    answer = tmp_path / "answer.npy"
    assert main(["run", place, str(tmp_path / "long.wav"), "-o", str(answer)]) == 0
    samples = (np.rint(32767 * sound) / 32768).astype(np.float32)
    with torch.no_grad():
        x = torch.from_numpy(samples)[None, None]
        whole = run.net((x - run.config.mean[0]) / run.config.std[0])[0].numpy()
    assert np.abs(np.load(answer) - whole).max() <= 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize(("width", "kind"), [(1, "<u1"), (2, "<i2"), (4, "<i4")])
def test_wav_of_other_depths(width: int, kind: str, tmp_path: Path) -> None:
    scale = 2 ** (8 * width - 1)
    sound = np.linspace(-1, 0.99, 50)
    stored = np.rint(sound * scale) + (128 if width == 1 else 0)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, width, RATE, 0, "NONE", ""))
        file.writeframes(np.stack([stored, stored[::-1]], 1).astype(kind).tobytes())
    with eyeshot.images.open_source(tmp_path / "a.wav") as source:
        assert source.shape == (2, 50)
        assert np.abs(source.read()[0] - sound).max() <= 0.6 / scale + 1e-6
        assert np.array_equal(source.read((3, 9)), source.read()[:, 3:9])
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:60])
    with (
        pytest.raises(BadFile, match=r"b\.wav"),
        eyeshot.images.open_source(tmp_path / "b.wav") as cut,
    ):
        cut.read()
    damaged = bytearray((tmp_path / "a.wav").read_bytes())
    damaged[16:20] = (2**31).to_bytes(4, "little")  # the length of its format
    (tmp_path / "c.wav").write_bytes(damaged)
    with pytest.raises(BadFile, match=r"c\.wav: .*length in it is damaged"):
        eyeshot.images.open_source(tmp_path / "c.wav")


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, dims: int, padding: int, stride: int | list[int]) -> None:
        conv, steps = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1], stride
        if isinstance(stride, list):
            steps = tuple(stride)
        super().__init__(
            conv(1, 6, 3, steps, padding), nn.ReLU(), conv(6, 6, 3, 1, padding), nn.ReLU(),
            conv(6, 2, 3, 1, padding),
        )
"""


@pytest.mark.parametrize(
    ("dims", "padding", "stride"), [(3, 1, [1, 2, 2]), (3, 0, 1), (3, 1, 1), (1, 1, 1), (1, 0, 2)]
)
def test_a_network_of_ones_own_learns_volumes_and_signals(
    dims: int,
    padding: int,
    stride: int | list[int],
    scans: Path,
    sounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the run opens without its file, resumes to the same weights, and runs as a whole pass."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(OWN)
    given = json.dumps({"dims": dims, "padding": padding, "stride": stride})
    data = str(scans if dims == _VOLUME else sounds)
    asked = ["train", data, "--task", "segment", "--dims", str(dims), "--net", "my_net.py:Net"]
    asked += ["--net-args", given, "--epochs", "1", "--steps", "3", "--batch-size", "2"]
    if dims == 1:
        asked += ["--crop", "400"]
    assert main([*asked, "-o", "run"]) == 0
    kept = weights(tmp_path / "run")
    assert main([*asked, "-o", "run", "--resume"]) == 0
    assert weights(tmp_path / "run") == kept
    (tmp_path / "my_net.py").unlink()
    run = eyeshot.load("run")
    assert len(run.config.size) == dims
    assert dims > 1 or run.config.size == (400,)
    random = np.random.default_rng(3)
    for size in ((40, 37, 51), (22, 24, 47)) if dims == _VOLUME else ((5003,), (901,)):
        values = random.random(size, np.float32)
        write(tmp_path / "large.npy", values)
        actual = eyeshot.run(run, tmp_path / "large.npy", band=5)
        with torch.no_grad():
            x = torch.from_numpy(values)[None, None]
            whole = run.net((x - run.config.mean[0]) / run.config.std[0])[0].numpy()
        assert actual.shape == whole.shape
        assert np.abs(actual - whole).max() <= 1e-5 * np.abs(whole).max()
    assert isinstance(eyeshot.evaluate(run), eyeshot.MaskEvaluation)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((40, 48, 44), (32, 32, 32)),
        ((150, 140), (128, 128)),
        ((150, 60), (128, 60)),  # no larger than the pictures
        ((9000,), (4096,)),
    ],
)
def test_crops_of_a_network_that_sees_little(
    shape: tuple[int, ...], sides: tuple[int, ...], tmp_path: Path
) -> None:
    """They are no smaller than the data allow, and notes name pictures, samples and voxels."""
    dims = len(shape)
    for number in range(3):
        array = np.random.default_rng(number).integers(0, 255, shape, np.uint8)
        write(tmp_path / "image" / f"{number}.npy", array)
        write(tmp_path / "label" / f"{number}.npy", (array > 127).astype(np.uint8))
    pairs = load_pairs(tmp_path, dims=dims)
    conv, norm = {
        1: (nn.Conv1d, nn.InstanceNorm1d),
        2: (nn.Conv2d, nn.InstanceNorm2d),
        3: (nn.Conv3d, nn.InstanceNorm3d),
    }[dims]
    own = OwnNet(nn.Sequential(conv(1, 2, 3, padding=1)))
    asked = Request("segment", pairs, None, {}, {}, own=own, dims=dims)
    assert describe_pairs(asked, pairs).size == sides
    wide = OwnNet(nn.Sequential(norm(1), conv(1, 2, 9, padding=4)))
    asked = replace(asked, own=wide, crop=(12,) * dims)
    notes = list(tell(describe_pairs(asked, pairs), pairs, wide))
    one, points = {1: ("signal", "samples"), 2: ("picture", "pixels"), 3: ("volume", "voxels")}[
        dims
    ]
    assert any(f"depend on all of a {one}, or" in note for note in notes)
    assert any(f"sees up to 4 {points} to each side" in note for note in notes)
    assert any(note.startswith(f"one {one} is all") for note in notes)
    others = {"signal", "picture", "volume"} - {one}
    assert not any(other in note for other in others for note in notes[-4:])


def mistakes() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"dims": 4}, "dims is 4; use 2 for pictures"
    yield {"crop": (8, 8)}, "crop is 8×8, and the data has 3 axes of space"
    yield {"augment": "elastic"}, "augment is elastic, and the data has 3 axes"
    yield {"task": "classify"}, "dims is for the task segment"
    own: dict[str, Any] = {"model": None, "model_arguments": None}
    match = r"Conv2d takes pictures \(2-D\), and the data are volumes \(3-D\); give a network"
    yield {**own, "net": nn.Conv2d(1, 2, 3)}, match
    match = "Conv3d takes 3 channels, and the volumes have 1"
    yield {**own, "net": nn.Conv3d(3, 2, 3)}, match
    yield {**own, "net": nn.Conv3d(1, 4, 3)}, "Conv3d gives 4 channels, and the classes are 2"


@pytest.mark.parametrize(("wrong", "said"), list(mistakes()))
def test_mistakes_are_named(wrong: dict[str, Any], said: str, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=said):
        eyeshot.train(scans, out=tmp_path / "none", **{**SETTINGS, **wrong})
