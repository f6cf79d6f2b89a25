"""A plan as people read it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table

from eyeshot.findings.wording import counted
from eyeshot.planning.band_plan import BandPlan, megabytes


def render(
    plan: BandPlan, seconds: float | None = None, answers: Mapping[str, str] | None = None
) -> RenderableType:
    """The plan in words, and the rows that each node holds; ``answers`` describe the outputs."""
    words = Table.grid(padding=(0, 2))
    for name, region in plan.regions.items():
        sides = " x ".join(f"{side.lo}:{side.hi}" for side in region)
        words.add_row("output", (answers or {}).get(name, f"{name}, {sides}"))
    words.add_row("bands", f"{plan.band} rows at a time")
    again = f"{plan.redundancy:.2f} x the work of one"
    words.add_row("strips", f"{len(plan.strips)}, {again}" if len(plan.strips) > 1 else "1 (1.00)")
    words.add_row("delay", f"{plan.delay} rows enter before the first leaves")
    words.add_row("work", f"{plan.multiply_adds / 1e9:,.2f} G multiply-adds")
    if plan.stages > 1:
        words.add_row(
            "stages", f"{plan.stages}: {plan.stages - 1} times, all rows must have passed"
        )
    if plan.spilled:
        words.add_row("on disk", f"{megabytes(plan.disk)} for {counted(len(plan.spilled), 'map')}")
    words.add_row("peak memory", f"{megabytes(plan.peak)}, the process itself included")
    if seconds is not None:
        words.add_row("time", f"about {seconds:.1f} s, by a short trial on noise")
    held = Table(box=None, padding=(0, 2), title="What is held, and for whom", title_justify="left")
    held.add_column("node", overflow="fold")
    held.add_column("rows", justify="right")
    held.add_column("memory", justify="right")
    held.add_column("waits for", overflow="fold")
    for buffer in plan.buffers:
        where = "on disk" if buffer.name in plan.spilled else megabytes(buffer.nbytes)
        held.add_row(buffer.name, str(buffer.rows), where, buffer.waits_for)
    return Group(words, "", held)
