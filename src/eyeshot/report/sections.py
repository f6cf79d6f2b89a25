"""The sections of the report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eyeshot.pages.parts import Section
from eyeshot.report.judgment import confusion_section, learning_section, mistakes_section
from eyeshot.report.layers import (
    kernels_section,
    parameters_section,
    photograph_section,
    steps_section,
)
from eyeshot.report.material import Material

Builder = Callable[[Material], Section | None]

SECTIONS: Sequence[Builder] = (
    learning_section,
    confusion_section,
    mistakes_section,
    kernels_section,
    steps_section,
    parameters_section,
    lambda _: photograph_section(),
)
"""Each takes the material and returns its section, or None if there is nothing to show."""


def build_sections(material: Material) -> list[Section]:
    """All sections that have something to show."""
    built = (build(material) for build in SECTIONS)
    return [section for section in built if section is not None]
