"""Draw the pictures of ``docs/streaming.md``: from the loops it shows, and from a real plan.

Run ``make figures``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.engine.networks import CHANNELS, make_network
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import NDArray

from eyeshot.engine.job import make_job
from eyeshot.images import open_source
from eyeshot.planning import BandPlan

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
HEIGHT, LAYERS, TILE = 24, 4, 8
NOT_YET, FORGOTTEN, HELD, TWICE = range(4)
COLORS = {
    NOT_YET: ("#f4f4f4", "not computed yet"),
    FORGOTTEN: ("#b9d3ea", "computed once, forgotten"),
    HELD: ("#2b6cb0", "computed once, held now"),
    TWICE: ("#dd6b20", "computed more than once"),
}
SIDE = 2048
SIZE = (9.6, 4.2)  # inches, at 100 dots


def whole_half_way() -> NDArray[np.int64]:
    """(rows, picture and layers): the third layer is half done; only its input is still needed."""
    state = np.full((HEIGHT, LAYERS + 1), NOT_YET)
    state[:, 0] = state[:, 1] = FORGOTTEN
    state[:, 2] = HELD
    state[: HEIGHT // 2, 3] = HELD
    return state


def tiles_half_way() -> NDArray[np.int64]:
    """The second of three tiles has just been finished: its halo had been computed before."""
    times = np.zeros((HEIGHT, LAYERS + 1), int)
    state = np.full((HEIGHT, LAYERS + 1), NOT_YET)
    for top in (0, TILE):
        for place in range(LAYERS + 1):
            halo = LAYERS - place
            rows = slice(max(0, top - halo), min(HEIGHT, top + TILE + halo))
            times[rows, place] += 1
            if top:
                state[: rows.stop, place] = FORGOTTEN
    state[(times > 1) & (np.arange(LAYERS + 1) > 0)] = TWICE
    state[TILE : 2 * TILE, LAYERS] = HELD
    return state


def stream_half_way() -> NDArray[np.int64]:
    """The row in the middle has just left: every layer holds the three rows it works on."""
    state = np.full((HEIGHT, LAYERS + 1), NOT_YET)
    for place in range(LAYERS + 1):
        done = HEIGHT // 2 + LAYERS - place
        state[:done, place] = FORGOTTEN
        state[max(0, done - 3 + 2 * (place == LAYERS)) : done, place] = HELD
    return state


def draw_ways(path: Path) -> None:
    """The three ways, half-way down."""
    figure, panels = plt.subplots(1, 3, figsize=SIZE, dpi=100, layout="constrained")
    ways = {
        "whole: 1.00 × the work": whole_half_way(),
        "tiles with a halo: 1.25 ×": tiles_half_way(),
        "line buffers: 1.00 ×": stream_half_way(),
    }
    for axes, (title, state) in zip(panels, ways.items(), strict=True):
        _draw_grid(axes, title, state)
    panels[0].set_ylabel("rows, from the top down")
    handles = [Patch(color=color, label=label) for color, label in COLORS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    _save(path)


def _draw_grid(axes: Axes, title: str, state: NDArray[np.int64]) -> None:
    colors = ListedColormap([color for color, _ in COLORS.values()])
    axes.pcolormesh(state, cmap=colors, vmin=0, vmax=3, edgecolors="white", linewidth=1)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=11)
    names = ["picture", *(f"{place}" for place in range(1, LAYERS + 1))]
    axes.set_xticks(np.arange(LAYERS + 1) + 0.5, names)
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def unet_plan(side: int = SIDE) -> BandPlan:
    """Of the U-Net that the benchmark runs."""
    picture = np.zeros((CHANNELS, side, side), np.float32)
    return make_job(make_network(), [open_source(picture, space=2)]).plan


def skips_of(plan: BandPlan) -> list[str]:
    """Nodes whose oldest row waits for a join, though their own next layer comes sooner."""
    return [
        buffer.name
        for buffer in plan.buffers
        if buffer.waits_for.startswith("join.") and buffer.name.startswith(("first", "down"))
    ]


def draw_skips(path: Path) -> None:
    """What each node of the U-Net holds."""
    plan = unet_plan()
    skips = skips_of(plan)
    figure, axes = plt.subplots(figsize=SIZE, dpi=100, layout="constrained")
    heights = [buffer.nbytes / 1e6 for buffer in plan.buffers]
    colors = ["#dd6b20" if buffer.name in skips else "#2b6cb0" for buffer in plan.buffers]
    bars = axes.bar(range(len(heights)), heights, color=colors)
    labels = [f"{b.rows} rows" if b.name in skips else "" for b in plan.buffers]
    axes.bar_label(bars, labels, fontsize=9, padding=2)
    names = [buffer.name for buffer in plan.buffers]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_ylabel("held, MB")
    share = sum(b.nbytes for b in plan.buffers if b.name in skips) / 1e6 / sum(heights)
    axes.set_title(
        f"line buffers of a U-Net, {SIDE} wide, bands of {plan.band} rows: "
        f"{sum(heights):.0f} MB, of which skips (orange) {share:.0%}",
        fontsize=11,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.align_labels()
    _save(path)


def _save(path: Path) -> None:
    plt.savefig(path, metadata={"Software": None})
    plt.close()


def main() -> None:
    """Draw both."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, draw in (("ways", draw_ways), ("skips", draw_skips)):
        path = PICTURES / f"streaming_{name}.png"
        draw(path)
        print(f"{path.name}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
