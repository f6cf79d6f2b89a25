"""A photograph under the named filters: what one kernel can do before anything is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot import filters, images
from eyeshot.extras import extra
from eyeshot.pages.parts import Card, Cards, Image, Section
from eyeshot.pictures import data_uri, reduce_picture

with extra("report"):
    from matplotlib import cbook

_HEIGHT = 232  # of the reduced photograph: small enough that a 3×3 kernel is seen to do something
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_LEAST = 1 / 255  # of an answer that is drawn white: anything below is rounding
_MOST = 0.995  # the quantile that is drawn white, so that one bright speck darkens nothing


def photograph_section() -> Section:
    """matplotlib's portrait of Grace Hopper, filtered by each name that Eyeshot knows."""
    photo = read_photograph()
    cards = [
        Card(
            [Image(data_uri(apply(photo, name), photo=True), _alt(name), sharp=False)],
            name,
            recipe.about,
        )
        for name, recipe in filters.RECIPES.items()
    ]
    says = (
        "A filter is a kernel that somebody chose instead of learned: here is every one that "
        "eyeshot filter knows by name, on one photograph (mid-grey is 0 where sums may be "
        "negative)."
    )
    return Section("photograph", "A photograph under the named filters", says, [Cards(cards, 172)])


def read_photograph() -> NDArray[np.uint8]:
    """Grace Hopper (H, W, 3), from matplotlib's own sample data, reduced."""
    whole = images.read(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    return reduce_picture(np.asarray(whole, np.uint8), height=_HEIGHT)


def apply(photo: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) under a named filter, as it can be looked at.

    A kernel whose weights add up to 0 answers to change, not to light: it is applied to the grey
    picture, and drawn with 0 as mid-grey, or as black where no answer is negative.
    """
    kernels = filters.resolve(name).kernels
    if any(abs(float(kernel.sum())) > 1e-9 for kernel in kernels):
        return np.asarray(filters.filter(photo, name, padding="replicate"), np.uint8)
    grey = (photo @ _GREY / 255).astype(np.float32)
    answer: NDArray[Any] = filters.filter(grey, name, padding="replicate", range="keep")
    most = max(float(np.quantile(np.abs(answer), _MOST)), _LEAST)
    unit = answer / most if len(kernels) > 1 else answer / most / 2 + 0.5
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _alt(name: str) -> str:
    return f"The photograph under {name}"
