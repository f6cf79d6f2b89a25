"""The plan of a run, before it starts: bands, strips, buffered rows, delay, memory. Plain data."""

from eyeshot.planning.band_plan import BandPlan, Strip, make_plan
from eyeshot.planning.holding import BufferPlan, Costs
from eyeshot.planning.schedule import ENDLESS, Cut, Progress, Schedule, cut_from, first_rows, pushes

__all__ = [
    "ENDLESS",
    "BandPlan",
    "BufferPlan",
    "Costs",
    "Cut",
    "Progress",
    "Schedule",
    "Strip",
    "cut_from",
    "first_rows",
    "make_plan",
    "pushes",
]
