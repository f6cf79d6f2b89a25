"""A run on one page that needs no other file: how it learned, where it errs, what it sees.

For a classifier the page shows single pictures and their predicted classes; for a network that
returns masks or pictures, whole pictures next to their targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from eyeshot.data import Data
from eyeshot.data.pairs import Pairs
from eyeshot.errors import BadValue
from eyeshot.evaluation import load_learned
from eyeshot.files import check_page, write_aside
from eyeshot.pages import Fact, Section, render_page
from eyeshot.report.classifier import (
    Material,
    confusion_section,
    gather,
    kernels_section,
    learning_section,
    mistakes_section,
    parameters_section,
    photograph_section,
    steps_section,
)
from eyeshot.report.curves import curves_section, levels_section
from eyeshot.report.generated import generator_facts, generator_sections
from eyeshot.report.pairs import (
    MaskMaterial,
    RestoredMaterial,
    classes_section,
    errors_section,
    filters_section,
    gather_masks,
    gather_restored,
    mask_pictures_section,
    restored_pictures_section,
)
from eyeshot.runs import Run, load

__all__ = [
    "FILE",
    "SECTIONS",
    "Material",
    "PairsMaterial",
    "Section",
    "gather",
    "gather_pairs",
    "render",
    "render_pairs",
    "write_report",
]

FILE = "report.html"

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
"""The sections of a classifier's report, in reading order. Each takes the material and returns its
section, or None if there is nothing to show."""


def write_report(
    run: Run | str | Path,
    path: str | Path | None = None,
    *,
    data: Data | Pairs | None = None,
    more: Sequence[Section] = (),
) -> Path:
    """Write the report of a run as one HTML file; the same run gives the same bytes.

    Args:
        run: a run, or the path of its folder.
        path: the file to write; by default ``report.html`` in the run folder.
        data: the test data; by default the part of the training data that was set aside.
        more: sections to add at the end.

    Returns:
        The path of the file.

    Raises:
        BadFile: the run or its data cannot be read, or the file cannot be written.
        BadValue: ``data`` has other classes than the network, or is for another task; or the file's
            name does not end in .html.
        Failure: the disk is full.
    """
    run = run if isinstance(run, Run) else load(run)
    target = run.path / FILE if path is None else Path(path)
    check_page(target)
    page = _render_by_task(run, data, more)
    with write_aside(target) as aside:
        aside.write_text(page, encoding="utf-8", errors="replace")
    return target


def _render_by_task(run: Run, data: Data | Pairs | None, more: Sequence[Section]) -> str:
    if run.config.task == "generate" and not isinstance(data, Pairs):
        return _render_generator(run, load_learned(run) if data is None else data, more)
    of_classes = run.config.task == "classify"
    if of_classes and not isinstance(data, Pairs):
        return render(gather(run, data), more)
    if run.config.task in ("segment", "restore") and not isinstance(data, Data):
        return render_pairs(gather_pairs(run, data), more)
    raise BadValue(
        f"{run.path}: was trained to {run.config.task}, and the data is for another task",
        cure="judge it by data like that it was trained on",
    )


def render(material: Material, more: Sequence[Section] = ()) -> str:
    """The page of a classifier as HTML, with the sections ``more`` at its end."""
    return _fill(
        material.run,
        _facts(material),
        material.evaluation.notes,
        [*_sections(material), *more],
    )


def render_pairs(material: PairsMaterial, more: Sequence[Section] = ()) -> str:
    """The page of a network for masks or pictures as HTML, with ``more`` at its end."""
    return _fill(
        material.run,
        pairs_facts(material),
        material.evaluation.notes,
        [*pairs_sections(material), *more],
    )


def _render_generator(run: Run, data: Data, more: Sequence[Section]) -> str:
    facts, notes = generator_facts(run, data)
    return _fill(run, facts, notes, [*generator_sections(run, data), *more])


def _fill(
    run: Run, facts: Sequence[Fact], notes: Sequence[str], sections: Sequence[Section]
) -> str:
    return render_page(
        f"{run.config.model} on {Path(run.config.data).name}",
        kicker=f"Eyeshot · {run.path.resolve().name}",
        facts=facts,
        notes=notes,
        sections=sections,
    )


def _facts(material: Material) -> list[Fact]:
    evaluation, config = material.evaluation, material.run.config
    parameters = sum(p.numel() for p in material.run.net.parameters())
    high, wide = config.size
    color = "gray" if config.channels == 1 else "color"
    wrong = len(evaluation.mistakes())
    return [
        Fact(f"{evaluation.accuracy:.2%}", f"of {evaluation.count:,} held-out pictures right"),
        Fact(f"{wrong:,}", "mistake" if wrong == 1 else "mistakes"),
        Fact(f"{parameters:,}", "numbers learned"),
        *_learned(material, f"{high}×{wide}, {color}"),
        Fact(f"{len(config.classes)}", "classes"),
    ]


def _learned(material: Material, kind: str) -> list[Fact]:
    """The number of training pictures, if they are known: if it is tested on its own data."""
    count = len(material.data.train)
    return [Fact(f"{count:,}", f"pictures to learn from, {kind}")] if count else []


def _sections(material: Material) -> list[Section]:
    """All sections that have something to show."""
    built = (build(material) for build in SECTIONS)
    return [section for section in built if section is not None]


PairsMaterial = MaskMaterial | RestoredMaterial


def gather_pairs(run: Run, data: Pairs | None = None) -> PairsMaterial:
    """Evaluate a run for masks or pictures, and keep the data that the page shows.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they differ in kind from the training pairs.
    """
    return gather_masks(run, data) if run.config.task == "segment" else gather_restored(run, data)


def pairs_sections(material: PairsMaterial) -> list[Section]:
    """The sections, in the order in which they are read.

    Raises:
        BadFile: ``metrics.csv`` is damaged.
    """
    sections = [curves_section(material.run)]
    if isinstance(material, MaskMaterial):
        sections.append(classes_section(material))
        if material.pictures:
            sections += [mask_pictures_section(material), errors_section(material)]
    else:
        sections += [build(material) for build in (filters_section, restored_pictures_section)]
    if material.levels is not None:
        sections.append(levels_section(material.levels))
    return sections


def pairs_facts(material: PairsMaterial) -> Sequence[Fact]:
    """The figures at the head of the page."""
    config = material.run.config
    parameters = sum(p.numel() for p in material.run.net.parameters())
    return [
        *(
            _mask_facts(material)
            if isinstance(material, MaskMaterial)
            else _restored_facts(material)
        ),
        Fact(f"{parameters:,}", "numbers learned"),
        *_learned_pairs(material, f"in crops of at most {'×'.join(map(str, config.size))}"),
    ]


def _learned_pairs(material: PairsMaterial, kind: str) -> list[Fact]:
    """The number of training pictures, if they are known: if it is tested on its own data."""
    count = len(material.pairs.train)
    return [Fact(f"{count:,}", f"pictures to learn from, {kind}")] if count else []


def _mask_facts(material: MaskMaterial) -> list[Fact]:
    evaluation = material.evaluation
    count = len(evaluation.pictures)
    whole = "1 whole held-out picture" if count == 1 else f"{count} whole held-out pictures"
    return [
        Fact(f"{evaluation.dice:.2%}", f"Dice, the mean of {len(material.pairs.classes)} classes"),
        Fact(f"{evaluation.accuracy:.2%}", f"of the pixels of {whole} right"),
        Fact(f"{evaluation.boundary_f1:.2%}", f"boundary F1, within {evaluation.tolerance} pixels"),
    ]


def _restored_facts(material: RestoredMaterial) -> list[Fact]:
    evaluation = material.evaluation
    count = len(evaluation.pictures)
    mean_before = sum(one.given_psnr for one in evaluation.pictures) / count
    return [
        Fact(f"{evaluation.psnr:.2f} dB", f"PSNR on {count} whole held-out pictures"),
        Fact(f"{mean_before:.2f} dB", "PSNR of the input pictures"),
        Fact(f"{evaluation.ssim:.4f}", "SSIM, 1 for the very same picture"),
    ]
