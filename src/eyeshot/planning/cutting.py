"""How the work of a run is cut up: bands of rows, strips of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eyeshot.axes import Interval
from eyeshot.geometry import Region


@dataclass(frozen=True, slots=True)
class Cut:
    """What a run that goes on keeps of the plan of the run that began.

    Attributes:
        band: rows of the input that enter at a time.
        strips: from left to right, the region of each output.
        spilled: maps that are held on disk.
    """

    band: int
    strips: tuple[Mapping[str, Region], ...]
    spilled: tuple[str, ...] = ()

    def suits(self, regions: Mapping[str, Region]) -> bool:
        """Whether the strips, side by side, are these regions."""
        if not self.strips or any(strip.keys() != regions.keys() for strip in self.strips):
            return False
        return all(
            _tile(box, [part[name] for part in self.strips]) for name, box in regions.items()
        )


def cut_from(settings: Mapping[str, Any]) -> Cut | None:
    """The strips and bands in the settings of a run, or None."""
    try:
        strips = tuple(
            {str(name): tuple(Interval(int(lo), int(hi)) for lo, hi in box) for name, box in each}
            for each in (strip.items() for strip in settings["strips"])
        )
        band = int(settings["band"])
        spilled = tuple(str(name) for name in settings.get("spilled", ()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return Cut(band, strips, spilled) if band > 0 else None


def _tile(box: Region, parts: list[Region]) -> bool:
    """Whether the parts are adjacent along the columns and together equal the box."""
    if any(len(part) != len(box) for part in parts):
        return False
    if len(box) < 2:
        return parts == [box]
    ends = [box[1].lo, *(part[1].hi for part in parts)]
    return ends[-1] == box[1].hi and all(
        (part[0], *part[2:]) == (box[0], *box[2:]) and part[1].lo == before < part[1].hi
        for part, before in zip(parts, ends, strict=False)
    )
