"""Workers of a Dask cluster against threads of one process, and what a block costs that is empty.

Both runs of a round read the same Zarr and write one, one after the other; workers are started
before. The empty job has blocks of one chunk of nothing but zeros, and a network of one ReLU.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

import eyeshot
from eyeshot.engine import blocks as blocks_of
from eyeshot.engine import cluster_plan
from eyeshot.engine.blocks import BlockPlan, Blocks, priced_as_begun
from eyeshot.engine.cluster_workers import local_cluster
from eyeshot.nets.unet import unet

SIDE = 8192
ROUNDS = 3
CORES = 2
EMPTY = 100
"""Blocks along each side of the empty job."""
CHUNK = 512


def make_image(path: Path, side: int, *, empty: bool = False) -> Path:
    """A Zarr of one channel, of noise or of chunks that are not there."""
    made = zarr.create_array(str(path), shape=(1, side, side), chunks=(1, CHUNK, CHUNK), dtype="u1")
    rng = np.random.default_rng(0)
    for top in range(0, 0 if empty else side, CHUNK):
        rows = min(CHUNK, side - top)
        made[:, top : top + rows] = rng.integers(0, 256, (1, rows, side), dtype=np.uint8)
    return path


def compare(client: Any, side: int, rounds: int) -> dict[str, Any]:
    """One process of two threads, and two workers of one: the seconds of each round.

    Returns:
        ``process`` and ``workers``: seconds, a number a round; ``ratio``: the median of process
        over workers; ``processor``: the same of processor time, all threads of all processes;
        ``blocks``, ``redundancy``; ``difference``: relative to the largest score.
    """
    torch.manual_seed(0)
    net = eyeshot.trace(unet(in_channels=1, base=16, depth=3).eval())
    found: dict[str, Any] = {"process": [], "workers": []}
    spent: dict[str, list[float]] = {"process": [], "workers": []}
    plans: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        image = make_image(Path(folder, "image.zarr"), side)
        outs = {name: Path(folder, f"{name}.zarr") for name in ("process", "workers")}

        def process() -> None:
            torch.set_num_threads(CORES)
            eyeshot.run(net, image, outs["process"], force=True, blank=False)
            torch.set_num_threads(1)

        def workers() -> None:
            eyeshot.run(
                net,
                image,
                outs["workers"],
                client=client,
                force=True,
                blank=False,
                planned=plans.append,
            )

        calls: dict[str, Callable[[], None]] = {"process": process, "workers": workers}
        for number in range(rounds):
            for name in sorted(calls, reverse=bool(number % 2)):
                started, before = time.perf_counter(), _processor(client)
                calls[name]()
                found[name].append(time.perf_counter() - started)
                spent[name].append(_processor(client) - before)
        one, other = (np.asarray(zarr.open_array(str(path), mode="r")) for path in outs.values())
    return {
        **found,
        "ratio": _ratio(found),
        "processor": _ratio(spent),
        "blocks": plans[-1].cluster.blocks,
        "redundancy": plans[-1].cluster.redundancy,
        "difference": float(np.abs(one - other).max() / np.abs(one).max()),
    }


def _processor(client: Any) -> float:
    """Seconds of the processor that this process and all workers have taken."""
    workers: dict[str, float] = client.run(time.process_time)
    return time.process_time() + sum(workers.values())


def _ratio(seconds: Mapping[str, Sequence[float]]) -> float:
    """The median over the rounds of process over workers."""
    pairs = zip(seconds["process"], seconds["workers"], strict=True)
    return float(statistics.median(a / b for a, b in pairs))


def empty_job(client: Any, along: int, *, asked: bool) -> float:
    """A job of ``along`` squared blocks of one chunk each; the seconds of a block.

    Args:
        client: of the workers.
        along: blocks along each side.
        asked: compute the zeros of all blocks; otherwise only the first one is asked for, and
            nothing is read or computed of the others.
    """
    plan_blocks = blocks_of.plan_blocks

    def one_chunk_each(graph: Any, regions: Any, chunks: Any, workers: int, priced: Any) -> Any:
        edges = tuple(range(0, along * CHUNK + 1, CHUNK))
        blocks = Blocks(dict.fromkeys(regions, (edges, edges)))
        made: BlockPlan = priced_as_begun(graph, regions, blocks, priced)
        return made

    where = None if asked else np.zeros((along, along), np.uint8)
    if where is not None:
        where[0, 0] = 1
    with tempfile.TemporaryDirectory() as folder:
        image = make_image(Path(folder, "image.zarr"), along * CHUNK, empty=True)
        cluster_plan.plan_blocks = one_chunk_each  # type: ignore[attr-defined]
        try:
            started = time.perf_counter()
            eyeshot.run(
                nn.ReLU().eval(),
                image,
                Path(folder, "out.zarr"),
                client=client,
                output_format="uint8",
                blank=False,
                where=where,
            )
            return (time.perf_counter() - started) / along**2
        finally:
            cluster_plan.plan_blocks = plan_blocks  # type: ignore[attr-defined]


def main() -> None:
    """Print the ratio and the overhead."""
    with local_cluster(CORES) as client:
        empty_job(client, 4, asked=True)  # imports, and warms
        for asked, told in ((False, "nothing is asked of them"), (True, "zeros through a ReLU")):
            each = empty_job(client, EMPTY, asked=asked)
            print(f"{EMPTY**2:,} blocks, {told}: {1000 * each:.2f} ms a block (reach 10, aim 2)")
        found = compare(client, SIDE, ROUNDS)
    print(f"{SIDE}×{SIDE}, U-Net (base 16, depth 3), {found['blocks']} blocks,")
    print(f"{found['redundancy']:.3f} x the work of one pass")
    for name, told in (("process", f"one process of {CORES} threads"), ("workers", "two workers")):
        print(f"{told}: " + ", ".join(f"{one:.1f}" for one in found[name]) + " s")
    print(f"ratio {found['ratio']:.2f} (reach 0.85, aim 1.0), difference {found['difference']:.1e}")
    print(f"ratio of processor time {found['processor']:.2f}")


if __name__ == "__main__":
    main()
