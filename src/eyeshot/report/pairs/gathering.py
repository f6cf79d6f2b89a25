"""The report of a run by its task: its data and its sections."""

from __future__ import annotations

from collections.abc import Sequence

from eyeshot.data.pairs import Pairs
from eyeshot.pages import Fact, Section
from eyeshot.report.pairs.curves import curves_section, levels_section
from eyeshot.report.pairs.masks import MaskMaterial, classes_section, errors_section, gather_masks
from eyeshot.report.pairs.masks import pictures_section as masks_section
from eyeshot.report.pairs.restored import RestoredMaterial, filters_section, gather_restored
from eyeshot.report.pairs.restored import pictures_section as restored_section
from eyeshot.runs import Run

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
            sections += [masks_section(material), errors_section(material)]
    else:
        sections += [build(material) for build in (filters_section, restored_section)]
    if material.levels is not None:
        sections.append(levels_section(material.levels))
    return sections


def pairs_facts(material: PairsMaterial) -> Sequence[Fact]:
    """The figures at the head of the page."""
    config = material.run.config
    parameters = sum(p.numel() for p in material.run.net.parameters())
    return [
        *(_mask_facts(material) if isinstance(material, MaskMaterial) else _facts(material)),
        Fact(f"{parameters:,}", "numbers learned"),
        *_learned(material, f"in crops of at most {'×'.join(map(str, config.size))}"),
    ]


def _learned(material: PairsMaterial, kind: str) -> list[Fact]:
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


def _facts(material: RestoredMaterial) -> list[Fact]:
    evaluation = material.evaluation
    count = len(evaluation.pictures)
    mean_before = sum(one.given_psnr for one in evaluation.pictures) / count
    return [
        Fact(f"{evaluation.psnr:.2f} dB", f"PSNR on {count} whole held-out pictures"),
        Fact(f"{mean_before:.2f} dB", "PSNR of the input pictures"),
        Fact(f"{evaluation.ssim:.4f}", "SSIM, 1 for the very same picture"),
    ]
