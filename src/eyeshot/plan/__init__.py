"""What a run will do, before it runs: bands, strips, rows held, delay, memory. Plain data."""

from eyeshot.plan.planning import BufferPlan, Plan, Strip, make_plan
from eyeshot.plan.schedule import ENDLESS, Progress, Schedule

__all__ = ["ENDLESS", "BufferPlan", "Plan", "Progress", "Schedule", "Strip", "make_plan"]
