"""What a run will do, before it runs: bands, strips, rows held, delay, memory. Plain data."""

from eyeshot.plan.cutting import Cut, cut_from
from eyeshot.plan.holding import BufferPlan, Costs
from eyeshot.plan.planning import Plan, Strip, make_plan
from eyeshot.plan.restarting import first_rows
from eyeshot.plan.schedule import ENDLESS, Progress, Schedule
from eyeshot.plan.walking import pushes

__all__ = [
    "ENDLESS",
    "BufferPlan",
    "Costs",
    "Cut",
    "Plan",
    "Progress",
    "Schedule",
    "Strip",
    "cut_from",
    "first_rows",
    "make_plan",
    "pushes",
]
