"""Exact tiles in the words of other people's tools."""

from __future__ import annotations

from collections.abc import Sequence

from eyeshot.geometry.output_geometry import OutputGeometry
from eyeshot.tiling.advice import Remedy

_MONAI = """\
import torch.nn.functional as F
def right(x, where):  # a tile's answer, and 1 where it is that of the whole pass
    y, mask = {answer}, torch.ones_like(x[:, :1])
    for axis, place in enumerate(where[0][2:], 2):
        if place.start > 0:
            mask.narrow(axis, 0, {halo}).zero_()
        if place.stop < image.shape[axis]:
            mask.narrow(axis, mask.shape[axis] - {halo}, {halo}).zero_()
    mask = F.interpolate(mask, y.shape[2:])
    return y * mask, mask
inferer = SlidingWindowInferer(roi_size={tile}, overlap={ratio}, with_coord=True)
total, count = inferer(image, right)
answer = {result}  # its own blending would mix wrong borders in"""


def ratios_of(tile: Sequence[int], overlap: Sequence[int]) -> tuple[float, ...]:
    """The overlap as a share of the tile, such that tools which cut ``tile·(1 − share)`` off to a
    whole number arrive at the step that is meant."""
    found = []
    for side, shared in zip(tile, overlap, strict=True):
        ratio = shared / side
        if int(side * (1 - ratio)) != side - shared:
            ratio = (shared - 0.5) / side
        found.append(ratio)
    return tuple(found)


def settings_of(remedy: Remedy | None, geometry: OutputGeometry | None) -> dict[str, str]:
    """Tiles that are exact, spelled for each tool; why there are none where there are none.

    Tools of pictures alone are left out for a network of another number of axes.
    """
    if remedy is None or geometry is None:
        tools = ("MONAI", "BioImage.IO", "QuPath InstanSeg", "SAHI", "napari")
        return dict.fromkeys(tools, "no tile size and overlap are exact")
    tile, overlap = remedy.tile, remedy.overlap
    ratios = ratios_of(tile, overlap)
    halo = _cut_off(remedy)
    told = {
        "MONAI": _monai(remedy, ratios, geometry),
        "BioImage.IO": (
            f"halo: {halo} for each axis of space of the output, input blocks of {by(tile)}; exact "
            f"but for {halo} pixels at the image's border, which the library pads by itself"
        ),
    }
    if len(tile) == 2:
        centered = "it centers its tiles, maybe off the grid, and" if remedy.grid > 1 else "it"
        told["QuPath InstanSeg"] = (
            f".tileDims({max(tile)}).interTilePadding({halo}); {centered} joins objects by rules "
            "of its own"
        )
        told["SAHI"] = (
            f"slice_height={tile[0]}, slice_width={tile[1]}, overlap_height_ratio="
            f"{ratios[0]:.6g}, overlap_width_ratio={ratios[1]:.6g}; a box is that of the whole "
            f"pass if all that it depends on lies {halo} pixels or more inside its slice"
        )
    blends = "exact too" if not remedy.halo else "never exact"
    told["napari"] = (
        f"CAREamics and others that crop: tile {by(tile)}, overlap {by(overlap)}; Cellpose and "
        f"others that blend: tile_overlap={max(ratios):.6g}, {blends}"
    )
    return told


def _cut_off(remedy: Remedy) -> int:
    """One number for all sides, such that steps without it stay on the grid."""
    halo = max(-(-shared // 2) for shared in remedy.overlap)
    while any((side - 2 * halo) % remedy.grid for side in remedy.tile) and halo % remedy.grid:
        halo += 1
    return halo


def _monai(remedy: Remedy, ratios: tuple[float, ...], geometry: OutputGeometry) -> str:
    tile, margin, axes = remedy.tile, geometry.margin, len(remedy.tile)
    if margin and any(stride != 1 for stride in geometry.stride):
        return "it stretches an output that is smaller than its tile: no settings are exact"
    if not remedy.halo and not margin:
        return f"SlidingWindowInferer(roi_size={tile}, overlap={_told(ratios)})"
    inner = ", ".join(["...", *[f"{margin}:-{margin}"] * axes])
    return _MONAI.format(
        halo=max(remedy.halo, margin),
        tile=tile,
        ratio=_told(ratios),
        answer=f"F.pad(net(x), [{margin}] * {2 * axes})" if margin else "net(x)",
        result=f"(total / count)[{inner}]" if margin else "total / count",
    )


def by(sizes: Sequence[int]) -> str:
    """``512x480``."""
    return "x".join(str(n) for n in sizes)


def _told(ratios: tuple[float, ...]) -> str:
    return repr(ratios[0]) if len(set(ratios)) == 1 else repr(ratios)
