"""A run on one page that needs no other file: how it learned, where it errs, what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from eyeshot.data import Data
from eyeshot.files import write_aside
from eyeshot.report.material import Material, gather
from eyeshot.report.parts import Section
from eyeshot.report.sections import SECTIONS, build_sections
from eyeshot.runs import Run, load

__all__ = ["FILE", "SECTIONS", "Material", "Section", "gather", "render", "write_report"]

FILE = "report.html"


@dataclass(frozen=True)
class Fact:
    """A figure at the head of the page, and what it is."""

    figure: str
    what: str


def write_report(
    run: Run | str | Path,
    path: str | Path | None = None,
    *,
    data: Data | None = None,
    more: Sequence[Section] = (),
) -> Path:
    """Write the report of a run as one HTML file; the same run gives the same bytes.

    Args:
        run: a run, or the path of its folder.
        path: the file to write; by default ``report.html`` in the run folder.
        data: what to judge it by; by default the test part of what it was trained on.
        more: sections to stand at the end.

    Returns:
        The path of the file.

    Raises:
        BadFile: the run or its data cannot be read, or the file cannot be written.
        BadValue: ``data`` has other classes than the network.
        Failure: the disk is full.
    """
    run = run if isinstance(run, Run) else load(run)
    target = run.path / FILE if path is None else Path(path)
    page = render(gather(run, data), more)
    with write_aside(target) as aside:
        aside.write_text(page, encoding="utf-8", errors="replace")
    return target


def render(material: Material, more: Sequence[Section] = ()) -> str:
    """The page as text; ``more`` sections stand at its end."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("eyeshot.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    config = material.run.config
    return template.render(
        title=f"{config.model} on {Path(config.data).name}",
        run=material.run.path.resolve().name,
        facts=_facts(material),
        notes=material.evaluation.notes,
        sections=[*build_sections(material), *more],
    )


def _facts(material: Material) -> list[Fact]:
    evaluation, config = material.evaluation, material.run.config
    parameters = sum(p.numel() for p in material.run.net.parameters())
    high, wide = config.size
    colour = "grey" if config.channels == 1 else "colour"
    wrong = len(evaluation.mistakes())
    return [
        Fact(f"{evaluation.accuracy:.2%}", f"of {evaluation.count:,} held-out pictures right"),
        Fact(f"{wrong:,}", "mistake" if wrong == 1 else "mistakes"),
        Fact(f"{parameters:,}", "numbers learned"),
        Fact(f"{len(material.data.train):,}", f"pictures to learn from, {high}×{wide}, {colour}"),
        Fact(f"{len(config.classes)}", "classes"),
    ]
