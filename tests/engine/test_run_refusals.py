"""What must not break: one clear line each, the right exit code, and what was finished stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import nn

import eyeshot
from eyeshot.engine.executing import RunReport
from eyeshot.errors import BadFile, BadValue, EyeshotError, Failure
from tests.engine import runner
from tests.engine.law import noise, whole

HEIGHT, WIDTH = 512, 64


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return runner.network()


def one_line(error: EyeshotError, code: int) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 400
    assert error.exit_code == code


def poisoned() -> nn.Module:
    net = runner.network()
    with torch.no_grad():
        next(net.parameters())[0] = float("nan")
    return net


def training() -> nn.Module:
    return runner.network().train()


class Nothing(nn.Module):
    """Takes some rows or channels of a map, which may be none."""

    def __init__(self, *part: slice, mean: bool = False) -> None:
        super().__init__()
        self.layer, self.part, self.mean = nn.Conv2d(1, 4, 3, padding=1), part, mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)[(slice(None), *self.part)]
        return y.mean((2, 3)) if self.mean else y


class Backwards(nn.Module):
    """Declares its last layer first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.stem = nn.Conv2d(16, 2, 1), nn.Conv2d(1, 16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.stem(x))
        return y


class Waves(nn.Module):
    """Takes samples without an axis of channels, (N, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(1, 2, 9, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x[:, None])
        return y


def exported() -> nn.Module:
    return torch.export.export(runner.network(), (torch.rand(1, 1, 32, 24),)).module()


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any], str]] = {
    "NaN in the weights": (poisoned, (1, 32, 24), {}, "NaN"),
    "training mode": (training, (1, 32, 24), {}, "training mode"),
    "an exported program's module": (exported, (1, 32, 24), {}, "torch.export.save"),
    "no numbers": (lambda: runner.network().to("meta"), (1, 32, 24), {}, "on the meta device"),
    "too narrow": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 9)).eval(),
        (1, 32, 5),
        {},
        "is 32x5: the map is too small: a window of 9×9 does not fit into the 32×5 map of input; "
        "the nearest it takes: 32x9",
    ),
    "too narrow to be mirrored": (
        lambda: nn.Sequential(nn.ReflectionPad2d(4), nn.Conv2d(1, 1, 3)).eval(),
        (1, 32, 3),
        {},
        "the nearest it takes: 32x5",
    ),
    "a size it cannot take": (
        runner.network,
        (1, 30, 23),
        {},
        "is 30x23: sizes do not match: down.1.3 is 15×11 and up.0 is 14×10",
    ),
    "what it takes instead": (runner.network, (1, 30, 23), {}, "it takes: 28x20 or 32x24"),
    "a classifier of another size": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)).eval(),
        (1, 9, 9),
        {},
        "layer 2 was built for 72 features and gets 98",
    ),
    "more channels": (runner.network, (3, 32, 24), {}, "3 channels"),
    "more channels than the first layer takes": (
        lambda: Backwards().eval(),
        (3, 32, 24),
        {},
        "has 3 channels ((C, H, W) read as 3 channels of 32 x 24: its first axis is at most 4 "
        "long) and the network's first layer takes 1; ",
    ),
    "a size, and not the channels of the layer declared first": (
        lambda: Backwards().eval(),
        (1, 4, 24),
        {},
        "is 4x24: the map is too small: a window of 7×7 does not fit into the 4×24 map",
    ),
    "no axis of channels": (
        lambda: Waves().eval(),
        (1, 64),
        {"layout": "CL"},
        "wrap it in a module whose forward returns self.net(x[:, 0])",
    ),
    "a volume": (runner.network, (1, 4, 32, 24), {}, "axes"),
    "a line": (runner.network, (32,), {}, "axes"),
    "a region outside": (runner.network, (1, 32, 24), {"region": ((0, 33), (0, 24))}, "0:33"),
    "an empty region": (runner.network, (1, 32, 24), {"region": ((5, 5), (0, 24))}, "5:5 is empty"),
    "a region backwards": (runner.network, (1, 32, 24), {"region": ((9, 5), (0, 24))}, "9:5"),
    "a region of one axis": (runner.network, (1, 32, 24), {"region": ((0, 3),)}, "axes"),
    "a form unheard of": (
        runner.network,
        (1, 32, 24),
        {"output_format": "jpeg"},
        "output format 'jpeg'",
    ),
    "a threshold of 2": (
        runner.network,
        (1, 32, 24),
        {"output_format": "threshold:2"},
        "threshold:2",
    ),
    "memory that is no size": (runner.network, (1, 32, 24), {"memory": "much"}, "much"),
    "too little memory": (runner.network, (1, 32, 24), {"memory": "1MB"}, "least that can"),
    "a band of zero": (runner.network, (1, 32, 24), {"band": 0}, "band"),
    "an unknown device": (runner.network, (1, 32, 24), {"device": "abacus"}, "abacus"),
    "an output without channels": (
        lambda: Nothing(slice(0, 0)).eval(),
        (1, 32, 24),
        {},
        "output slice is empty at this size: (1, 0, 32, 24)",
    ),
    "an output without rows": (
        lambda: Nothing(slice(None), slice(40, None)).eval(),
        (1, 32, 24),
        {},
        "output slice is empty at this size: (1, 4, 0, 24)",
    ),
    "a mean over no rows": (
        lambda: Nothing(slice(None), slice(40, None), mean=True).eval(),
        (1, 32, 24),
        {},
        "mean reads slice, which is empty at this size: (1, 4, 0, 24)",
    ),
    "two outputs named": (runner.network, (1, 32, 24), {"out": [None, None]}, "2 outputs"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    make, shape, options, reported = REFUSED[name]
    options = {"out": tmp_path / "out.npy", **options}
    with pytest.raises(EyeshotError) as caught:
        eyeshot.run(make(), noise(*shape), **options)
    one_line(caught.value, 2)
    assert reported in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_two_images_for_one_input(net: nn.Module) -> None:
    with pytest.raises(EyeshotError) as caught:
        eyeshot.run(net, [noise(1, 32, 24), noise(1, 32, 24)])
    one_line(caught.value, 2)


def test_an_output_that_exists_is_kept(net: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    out.write_bytes(b"dear to somebody")
    with pytest.raises(BadFile, match="exists already; --force") as caught:
        eyeshot.run(net, noise(1, 32, 24), out)
    one_line(caught.value, 2)
    assert out.read_bytes() == b"dear to somebody"
    eyeshot.run(net, noise(1, 32, 24), out, force=True)
    assert np.load(out).shape == (2, 32, 24)


def test_an_output_on_its_input_is_refused_even_with_force(net: nn.Module, tmp_path: Path) -> None:
    image = tmp_path / "image.npy"
    np.save(image, noise(1, 32, 24).numpy())
    before = image.read_bytes()
    (tmp_path / "other.npy").symlink_to(image)
    for out in (image, tmp_path / "other.npy"):
        with pytest.raises(BadValue, match="the input itself") as caught:
            eyeshot.run(net, image, out, force=True)
        one_line(caught.value, 2)
    assert image.read_bytes() == before


def bad_tile(path: Path) -> Path:
    tiff = path.with_suffix(".tif")
    tifffile.imwrite(tiff, noise(HEIGHT, WIDTH).numpy(), tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tiff) as file:
        offset, count = file.pages.first.dataoffsets[5], file.pages.first.databytecounts[5]
    code = bytearray(tiff.read_bytes())
    code[offset + 2 : offset + count] = b"\xff" * (count - 2)
    tiff.write_bytes(code)
    return tiff


def bad_chunk(path: Path) -> Path:
    folder = path.with_suffix(".zarr")
    kept = zarr.create_array(str(folder), shape=(HEIGHT, WIDTH), chunks=(64, 64), dtype="f4")
    kept[...] = noise(HEIGHT, WIDTH).numpy()
    piece = folder / "c" / "5" / "0"
    piece.write_bytes(piece.read_bytes()[:-100])
    return folder


@pytest.mark.parametrize(
    ("damage", "piece"), [(bad_tile, "tile 5"), (bad_chunk, "chunk 5/0")], ids=["tiff", "zarr"]
)
def test_damage_in_the_middle(
    damage: Callable[[Path], Path], piece: str, net: nn.Module, tmp_path: Path
) -> None:
    image, out = damage(tmp_path / "slide"), tmp_path / "out.npy"
    with pytest.raises(BadFile, match=f"{image.name}: {piece}") as caught:
        eyeshot.run(net, image, out, band=32)
    one_line(caught.value, 2)
    part = np.load(out.with_name("out.npy.part"))
    (truth,) = whole(net, noise(HEIGHT, WIDTH)[None])
    done = 5 * 64 - 32  # the last band before it, and a halo
    np.testing.assert_allclose(part[:, :done], truth[:, :done], atol=1e-4)


@pytest.mark.parametrize("grown", [-1000, 1000])
def test_a_source_that_changes_size(grown: int, net: nn.Module, tmp_path: Path) -> None:
    image, out = tmp_path / "image.npy", tmp_path / "out.npy"
    np.save(image, noise(1, HEIGHT, WIDTH).numpy())
    size = image.stat().st_size

    def change(report: RunReport) -> None:
        if report.rows > 100:
            with image.open("r+b") as file:
                file.truncate(size + grown)

    with pytest.raises(
        BadFile, match=r"image\.npy: had .* bytes when opened and now has"
    ) as caught:
        eyeshot.run(net, image, out, band=32, progress=change)
    one_line(caught.value, 2)
    assert out.with_name("out.npy.part").exists()
    assert not out.exists()


def test_a_boastful_file_is_refused(net: nn.Module, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.npy"
    np.save(bomb, noise(9, 7).numpy())
    bomb.write_bytes(bomb.read_bytes().replace(b"(9, 7)", b"(100000, 70000)"))
    with pytest.raises(BadFile, match=r"bomb\.npy") as caught:
        eyeshot.run(net, bomb, tmp_path / "out.npy")
    one_line(caught.value, 2)


def test_a_sky_too_wide_to_hold_is_refused_with_what_would(net: nn.Module, tmp_path: Path) -> None:
    """A million by a million, in a folder of a few bytes: planned, and never allocated."""
    sky = tmp_path / "sky.zarr"
    zarr.create_array(str(sky), shape=(10**6, 10**6), chunks=(256, 256), dtype="u1", fill_value=3)
    region = ((500_000, 500_020), (700_000, 700_030))
    part = eyeshot.run(net, sky, region=region)
    field = eyeshot.run(
        net, torch.full((1, 160, 160), 3, dtype=torch.uint8), region=((60, 80), (60, 90))
    )
    np.testing.assert_allclose(part, field, atol=1e-5)
    with pytest.raises(EyeshotError) as caught:
        eyeshot.run(net, sky, tmp_path / "out.npy", memory="2GB")
    one_line(caught.value, caught.value.exit_code)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sky.zarr"]


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    image = tmp_path / "image.npy"
    np.save(image, noise(1, 1104, 64).numpy())
    outs = [tmp_path / f"out{suffix}" for suffix in (".npy", ".tif", ".zarr")]
    process, reported = runner.fork(runner.run_where_files_stay_small, image, outs)
    heard = runner.listen(reported)
    process.join()
    assert process.exitcode == 0
    for out, (code, line) in zip(outs, heard, strict=True):
        assert code == 1
        assert line.startswith(f"{out}: larger than this disk or user may hold")
        assert not out.exists()


def test_a_disk_that_fills_up(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, image = tmp_path / "out.npy", noise(1, HEIGHT, WIDTH)
    write = os.pwrite
    room = [150_000]

    def pwrite(handle: int, data: Any, offset: int) -> int:
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(
        Failure, match=r"out\.npy: the disk is full; free some space, then continue with --resume"
    ):
        eyeshot.run(net, image, out, band=32)
    monkeypatch.undo()
    assert not out.exists()
    eyeshot.run(net, image, out, band=32, resume=True)
    (truth,) = whole(net, image)
    np.testing.assert_allclose(np.load(out), truth, atol=1e-4)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")],
    ids=["Python", "torch"],
)
def test_memory_that_runs_out_is_a_failure(
    error: Exception, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> RunReport:
        raise error

    monkeypatch.setattr("eyeshot.engine.running.execute", full)
    with pytest.raises(Failure, match=r"out of memory, in a run that plans \d+.*memory="):
        eyeshot.run(net, noise(1, 32, 24))
