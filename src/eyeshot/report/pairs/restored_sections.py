"""The sections of a report on restored pictures: beside filters, and from the worst to the best."""

from __future__ import annotations

from collections.abc import Iterator

from eyeshot.pages.parts import Image, Section, Strip, Table
from eyeshot.pages.parts import Part as PagePart
from eyeshot.pictures import data_uri
from eyeshot.report.pairs.restored import (
    AMPLIFIED,
    SHOWN,
    WHOLE_VIEWS,
    RestoredMaterial,
    RestoredMaterialPicture,
)
from eyeshot.report.pairs.shots import Shot


def filters_section(material: RestoredMaterial) -> Section:
    """PSNR and SSIM of the network beside filters that nobody trained."""
    evaluation, classics = material.evaluation, material.classics
    pictures = evaluation.pictures
    given = [
        sum(values) / len(pictures)
        for values in zip(*((one.given_psnr, one.given_ssim) for one in pictures), strict=True)
    ]
    rows = [
        ["as given", f"{given[0]:.2f} dB", f"{given[1]:.4f}"],
        *([one.title, f"{one.psnr:.2f} dB", f"{one.ssim:.4f}"] for one in classics),
    ]
    total = ["the network", f"{evaluation.psnr:.2f} dB", f"{evaluation.ssim:.4f}"]
    best = max(one.psnr for one in classics)
    says = (
        f"The mean over {len(pictures)} held-out pictures, each filtered and passed through the "
        "network whole; of each filter the size that does best. The network is "
        f"{abs(evaluation.psnr - best):.1f} dB {'above' if evaluation.psnr >= best else 'below'} "
        "the better filter: 6 dB are half the error."
    )
    table = Table(["", "PSNR", "SSIM"], rows, total=total)
    return Section("filters", "Beside filters that nobody trained", says, [table])


def pictures_section(material: RestoredMaterial) -> Section:
    """Given, restored and wanted pictures side by side, from the worst to the best."""
    count, shown = len(material.evaluation.pictures), material.pictures
    names = ("given", *(one.title for one in material.classics), "the network")
    parts: list[PagePart] = []
    for place, picture in enumerate(shown):
        kind = "" if count <= 2 * SHOWN else " (worst)" if place < SHOWN else " (best)"
        parts += _strips(picture, kind, names)
    which = (
        f"All {count} held-out pictures"
        if len(shown) == count
        else f"The {SHOWN} worst and the {len(shown) - SHOWN} best of {count} held-out pictures"
    )
    says = (
        f"{which}, the one with the lowest PSNR first, with the part in which the network errs "
        f"most. Differences are {AMPLIFIED} times as large as they are: mid-grey is right, lighter "
        "is too bright, darker too dark."
    )
    return Section("pictures", "Given, restored and wanted", says, parts)


def _strips(picture: RestoredMaterialPicture, kind: str, names: tuple[str, ...]) -> Iterator[Strip]:
    score, (height, width) = picture.score, picture.size
    title = (
        f"Picture {score.name}{kind}: from {score.given_psnr:.2f} to {score.psnr:.2f} dB, "
        f"SSIM from {score.given_ssim:.3f} to {score.ssim:.3f}"
    )
    whole, words = picture.whole, (*names, "target", f"difference × {AMPLIFIED}")
    made = f", shown {whole.factor} times smaller, which hides noise" if whole.factor > 1 else ""
    note = f"{height:,}×{width:,} pixels{made}."
    shots = [part.shot for part in picture.parts]
    alone = [(shot.rows, shot.columns) for shot in shots] == [(whole.rows, whole.columns)]
    if not alone:
        yield Strip(title, _views(whole, WHOLE_VIEWS, score.name), note)
    for part, shot in zip(picture.parts, shots, strict=True):
        told = [f"{word}: {psnr:.1f} dB" for word, psnr in zip(words, part.psnr, strict=False)]
        views = _views(shot, [*told, *words[len(told) :]], f"{score.name}, {shot.place}")
        heading = (title, note) if alone else (f"Pixel by pixel: {shot.place}", "")
        yield Strip(heading[0], views, heading[1], columns=3)


def _views(shot: Shot, words: tuple[str, ...] | list[str], name: str) -> list[tuple[str, Image]]:
    return [
        (word, Image(data_uri(view, photo=True), f"{name}: {word}", sharp=False))
        for word, view in zip(words, shot.views, strict=True)
    ]
