"""A slice mosaicked to 16,384² and streamed by a trained U-Net: every tile beside the whole pass.

The mosaic repeats one slice of ``../shared/data/membranes``, whose side is a multiple of the
network's grid and larger than its halo. So the whole pass over 3 × 3 slices, which fits in memory,
holds what the whole pass over 32 × 32 would give: corners and edges where the picture ends, and one
kind of tile inside. All 268 million pixels are compared with it, those along the tiles' borders
apart from those inside: a seam would be a larger difference along the borders. Beside it the same
for tiles that are run one by one, which is what a seam looks like.

``python -m benchmarks mosaic`` trains for one epoch first, since exactness does not depend on how
good the network is; ``python -m benchmarks.mosaic RUN`` takes a trained run.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

import eyeshot
from eyeshot.engine.executing import RunReport
from eyeshot.errors import BadFile, BadValue
from eyeshot.runs import Run, load
from eyeshot.runs.inputs import geometry_of

MEMBRANES = Path(__file__).resolve().parents[2] / "shared" / "data" / "membranes"
COPIES = 32
MEMORY = "2GB"

Scores = NDArray[np.float32]


@dataclass
class Differences:
    """The largest difference from the whole pass, along the tiles' borders and inside."""

    border: float = 0.0
    inside: float = 0.0

    def take(self, difference: Scores) -> None:
        """One tile's |streamed − whole|, (classes, side, side)."""
        inside = difference[:, 1:-1, 1:-1]
        edges = (difference[:, 0], difference[:, -1], difference[:, :, 0], difference[:, :, -1])
        self.border = max(self.border, *(float(edge.max()) for edge in edges))
        self.inside = max(self.inside, float(inside.max()))

    def told(self, scale: float) -> str:
        """Relative to the largest score."""
        return f"{self.border / scale:.1e} along borders, {self.inside / scale:.1e} inside"


def whole_pass(run: Run, slice_: NDArray[np.uint8]) -> Scores:
    """The network's scores (classes, H, W) for one picture, in one pass."""
    picture = torch.from_numpy(slice_.astype(np.float32) / 255)[None, None]
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (run.config.mean, run.config.std))
    with torch.inference_mode():
        scores: Scores = run.net((picture - mean) / std)[0].numpy()
    return scores


def compare(streamed: NDArray[Any], whole: Scores, side: int) -> Differences:
    """Each tile of ``streamed`` with the tile of the 3 × 3 ``whole`` that stands as it stands."""
    copies = streamed.shape[1] // side
    found = Differences()
    for row in range(copies):
        for column in range(copies):
            like = [0 if at == 0 else 2 if at == copies - 1 else 1 for at in (row, column)]
            tile = streamed[:, row * side :, column * side :][:, :side, :side]
            found.take(np.abs(tile - whole[:, like[0] * side :, like[1] * side :][:, :side, :side]))
    return found


def tile_by_tile(run: Run, slice_: NDArray[np.uint8], whole: Scores) -> Differences:
    """A tile run alone, as if nothing were around it, beside the middle tile of the whole pass."""
    side = len(slice_)
    found = Differences()
    found.take(np.abs(whole_pass(run, slice_) - whole[:, side : 2 * side, side : 2 * side]))
    return found


def mosaic(run: Run, slice_: NDArray[np.uint8], copies: int, folder: Path) -> None:
    """Write the mosaic, stream it, compare and print."""
    side = len(slice_)
    _check(run, side)
    source, out = folder / "mosaic.tif", folder / "scores.npy"
    page = np.tile(slice_, (copies, copies))
    tifffile.imwrite(source, page, tile=(512, 512), bigtiff=True)
    del page
    last: list[RunReport] = []
    eyeshot.run(
        run,
        source,
        out,
        memory=MEMORY,
        progress=lambda report: last.__setitem__(slice(None), [report]),
    )
    report = last[0]
    print(
        f"{copies * side}² in {report.seconds:.0f} s, {report.speed:.3f} MP/s, peak "
        f"{report.peak / 1e9:.2f} GB of {MEMORY} (the scores: {out.stat().st_size / 1e9:.1f} GB)"
    )
    whole = whole_pass(run, np.tile(slice_, (3, 3)))
    scale = float(np.abs(whole).max())
    streamed = compare(np.load(out, mmap_mode="r"), whole, side)
    print(f"streamed, all {copies**2} tiles, of the largest score: {streamed.told(scale)}")
    print(f"tiles run alone:  {tile_by_tile(run, slice_, whole).told(scale)}")


def _check(run: Run, side: int) -> None:
    spec = geometry_of(run).output
    if side % spec.alignment or side < spec.halo:
        raise BadValue(
            f"a slice of {side}² for halo {spec.halo} and grid {spec.alignment}",
            cure="train a network of less depth",
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mosaic", description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder; else one epoch is trained")
    parser.add_argument("--copies", type=int, default=COPIES, help="slices each way")
    options = parser.parse_args([] if arguments is None else arguments)
    if not MEMBRANES.is_dir():
        raise BadFile(f"{MEMBRANES}: no such folder", cure="put the membranes there")
    slice_ = eyeshot.images.read(sorted((MEMBRANES / "image").iterdir())[0])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        run = load(options.run) if options.run else _train(Path(folder))
        mosaic(run, slice_, options.copies, Path(folder))


def _train(folder: Path) -> Run:
    return eyeshot.train(MEMBRANES, task="segment", epochs=1, out=folder / "run", progress=False)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
