"""NIfTI volumes are read as nibabel reads them, axis by axis, by windows, from .nii and .nii.gz."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

import eyeshot
from eyeshot.errors import BadFile, BadValue
from eyeshot.images import open_source
from eyeshot.images.sources.nifti import open_nifti
from eyeshot.images.sources.source import Selection

from .conftest import noise

SHAPE = (7, 11, 5)
"""X, Y, Z."""


def write(path: Path, voxels: NDArray[Any], **header: Any) -> Path:
    volume = nibabel.Nifti1Image(voxels, np.diag([-0.5, 0.75, 2.0, 1.0]))
    volume.header.set_xyzt_units("mm")
    if header:
        volume.header.set_slope_inter(header["slope"], header["inter"])
    nibabel.save(volume, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "uint16", "float32", "float64"])
def test_voxels_are_those_of_nibabel_with_x_last(dtype: str, suffix: str, tmp_path: Path) -> None:
    voxels = noise(SHAPE, np.uint8).astype(dtype)
    path = write(tmp_path / f"a{suffix}", voxels)
    with open_source(path, space=3) as source:
        assert source.shape == (1, 5, 11, 7)
        assert source.dtype == ("float64" if dtype == "float64" else "float32")
        np.testing.assert_array_equal(source.read()[0], voxels.transpose(2, 1, 0))
        for window in [((1, 3),), ((0, 5), (4, 9), (2, 3)), ((0, 1), (0, 11), (6, 7))]:
            cut = tuple(slice(*span) for span in window)
            np.testing.assert_array_equal(
                source.read(*window)[0], voxels.transpose(2, 1, 0)[cut], str(window)
            )
        assert source.grid is not None
        assert source.grid.size == (2.0, 0.75, 0.5)
        assert source.grid.units == ("millimeter",) * 3
        assert source.notes == ("voxels as stored: axes Z, Y, X towards S, A, L",)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    stored = noise(SHAPE, np.uint8)
    volume = nibabel.Nifti1Image(stored.astype(np.float64) * 0.5 - 1000, np.eye(4))
    volume.header.set_data_dtype(np.int16)
    nibabel.save(volume, tmp_path / "ct.nii")
    assert nibabel.load(tmp_path / "ct.nii").dataobj.slope != 1
    with open_source(tmp_path / "ct.nii", space=3) as source:
        assert source.dtype == np.float32
        right = nibabel.load(tmp_path / "ct.nii").get_fdata().transpose(2, 1, 0)
        np.testing.assert_allclose(source.read()[0], right, rtol=1e-6)
        assert "slope" in source.notes[0]


def test_a_scan_has_the_same_values_however_it_is_stored(tmp_path: Path) -> None:
    """Hounsfield units as int16, as uint16 with an intercept, and as floats."""
    units = np.random.default_rng(0).integers(-1024, 1500, SHAPE).astype(np.int16)
    plain = write(tmp_path / "int16.nii", units)
    floats = write(tmp_path / "floats.nii.gz", units.astype(np.float64))
    shifted = nibabel.Nifti1Image((units + 1024).astype(np.uint16), np.eye(4))
    shifted.header.set_slope_inter(1, -1024)
    shifted.to_filename(tmp_path / "shifted.nii")
    (tmp_path / "shifted.nii").write_bytes(
        _with_slope((tmp_path / "shifted.nii").read_bytes(), 1.0, -1024.0)
    )
    net = nn.Conv3d(1, 1, 1, bias=False).eval()
    nn.init.ones_(net.weight)
    for path in (plain, floats, tmp_path / "shifted.nii"):
        np.testing.assert_array_equal(eyeshot.run(net, path)[0], units.transpose(2, 1, 0))


def _with_slope(data: bytes, slope: float, intercept: float) -> bytes:
    return data[:112] + struct.pack("<ff", slope, intercept) + data[120:]


def test_masks_are_whole_numbers_whatever_holds_them(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 3, SHAPE)
    selection = Selection(space=3, indices=True)
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        with open_nifti(write(tmp_path / "mask.nii", codes.astype(kind)), selection) as mask:
            assert mask.dtype.kind in "iu"
            np.testing.assert_array_equal(mask.read()[0], codes.transpose(2, 1, 0))
    with (
        open_nifti(write(tmp_path / "soft.nii", codes / 2), selection) as soft,
        pytest.raises(BadFile, match="holds numbers that are not whole, and a mask is expected"),
    ):
        soft.read()


def test_odd_headers(tmp_path: Path) -> None:
    voxels = noise(SHAPE, np.uint8)
    whole = write(tmp_path / "a.nii", voxels).read_bytes()
    for name, data in {
        "unit": whole[:123] + b"\x07" + whole[124:],
        "affine": whole[:280] + struct.pack("<f", float("nan")) + whole[284:],
    }.items():
        (tmp_path / f"{name}.nii").write_bytes(data)
        with open_source(tmp_path / f"{name}.nii", space=3) as source:
            np.testing.assert_array_equal(source.read()[0], voxels.transpose(2, 1, 0))
    for name, data in {
        "slope": _with_slope(whole, 2.0, float("nan")),
        "type": whole[:70] + struct.pack("<h", 9999) + whole[72:],
        "rank": whole[:40] + struct.pack("<h", 9) + whole[42:],
        "length": whole[:42] + struct.pack("<h", -7) + whole[44:],
    }.items():
        (tmp_path / f"{name}.nii").write_bytes(data)
        with pytest.raises(BadFile, match=rf"{name}\.nii: truncated or damaged"):
            open_source(tmp_path / f"{name}.nii", space=3)


def test_axes_of_length_one(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.nii", noise((6, 8, 1), np.uint8))
    for space, shape in ((3, (1, 1, 8, 6)), (2, (1, 8, 6)), (None, (1, 8, 6))):
        with open_source(flat, space=space) as source:
            assert source.shape == shape
    once = write(tmp_path / "once.nii", noise((6, 8, 5, 1), np.uint8))
    with open_source(once, space=3) as source:
        assert source.shape == (1, 5, 8, 6)
    with pytest.raises(BadFile, match="choose a slice by --index, Z=0 to Z=4"):
        open_source(once, space=2)


def test_time_is_chosen_and_the_fifth_axis_is_channels(tmp_path: Path) -> None:
    moving = write(tmp_path / "time.nii", noise((*SHAPE, 3), np.uint8))
    with pytest.raises(BadFile, match="choose one by --index: T=0 to T=2"):
        open_source(moving, space=3)
    with open_source(moving, space=3, index="T=2") as source:
        right = nibabel.load(moving).get_fdata()[..., 2].transpose(2, 1, 0)
        np.testing.assert_array_equal(source.read()[0], right)
    field = write(tmp_path / "field.nii.gz", noise((*SHAPE, 1, 2), np.float32))
    with open_source(field, space=3) as source:
        right = nibabel.load(field).get_fdata()[..., 0, :].transpose(3, 2, 1, 0)
        np.testing.assert_array_equal(source.read(), right.astype(np.float32))


def test_a_network_of_pictures_takes_a_slice_and_never_guesses(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", noise((20, 24, 4), np.uint8))
    net = nn.Conv2d(1, 1, 3).eval()
    with pytest.raises(BadFile, match="choose a slice by --index, Z=0 to Z=3, or use --per-slice"):
        eyeshot.run(net, path)
    whole = eyeshot.run(net, path, index="Z=2")
    plane = np.ascontiguousarray(nibabel.load(path).dataobj[..., 2].T)
    expected = eyeshot.run(net, plane.astype(np.float32))
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    stack = eyeshot.run(net, path, per_slice=True)
    np.testing.assert_allclose(stack[:, 2], expected, rtol=1e-6)
    with pytest.raises(BadValue, match="leave it out: its axes are XYZ"):
        eyeshot.run(net, path, layout="DHW")


def test_a_volume_is_streamed_with_its_voxel_sizes(tmp_path: Path) -> None:
    voxels = noise((12, 14, 30), np.float32)
    path, out = write(tmp_path / "a.nii.gz", voxels), tmp_path / "out.ome.zarr"
    net = nn.Conv3d(1, 2, 3, padding=1).eval()
    found = eyeshot.run(net, path, band=4)
    whole = eyeshot.run(net, np.ascontiguousarray(voxels.transpose(2, 1, 0))[None])
    np.testing.assert_allclose(found, whole, atol=1e-6)
    eyeshot.run(net, path, out)
    with open_source(out, space=3) as source:
        assert source.grid is not None
        assert source.grid.size == (2.0, 0.75, 0.5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damaged_files_are_named(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", noise(SHAPE, np.uint8))
    whole = path.read_bytes()
    for data in (whole[:200], whole[:-40], b"\0" * 400, whole[:30]):
        path.write_bytes(data)
        with pytest.raises(BadFile, match=r"a\.nii.*: (truncated or damaged|has \d+ bytes)"):
            open_source(path, space=3).read()
    complex_ = write(tmp_path / f"b{suffix}", noise(SHAPE, np.float32).astype(np.complex64))
    with pytest.raises(BadFile, match="holds complex64 voxels"):
        open_source(complex_, space=3)
